"""A server that goes away in the middle of a run: tried again, a clear failure, nothing lost."""

from __future__ import annotations

import contextlib
import csv
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.airflow_runs import run_dag
from tests.mlflow_server import MlflowServer
from tests.runs import audit_and_publish, ingest, rows, shards, stage
from tests.servers import S3Server
from vidpipe import tracking
from vidpipe.lake.tables import Lake
from vidpipe.local.demo_data import DemoData, make_demo_videos
from vidpipe.stages.by_hand import upload_annotations

PREFIX = "servers-gone/"


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return make_demo_videos(tmp_path_factory.mktemp("gone"), clips=12, seed=5)


@contextlib.contextmanager
def gone_during(stage_name: str, server: S3Server | MlflowServer) -> Iterator[None]:
    """Stops a server as soon as a shard of a stage is at work, until the context ends."""
    over, stopped = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if [stage_name, "--shard"] == process.cmdline()[3:5]:
                        server.stop()
                        stopped.set()
                        return
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        if stopped.is_set():
            server.start()
    assert stopped.is_set(), f"no shard of {stage_name} was seen at work"


def upload(lake: Lake, media: DemoData) -> None:
    for path in (*media.videos, *media.broken):
        lake.store.upload(path, f"s3://videos/{PREFIX}{path.name}")


def test_s3_gone_while_videos_are_extracted(
    airflow_home: Path, configured: Lake, s3_server: S3Server, media: DemoData, capfd
):
    upload(configured, media)
    with gone_during("extract", s3_server):
        run = run_dag(airflow_home, "ingest", prefix=PREFIX)
    assert run.state == "failed"
    assert (run.tasks["discover"], run.tasks["extract[0]"]) == ("success", "failed")
    assert run.tries["extract[0]"] == 3, "tried again before it failed"
    assert "does not answer" in "".join(capfd.readouterr())
    assert rows(configured, "videos") == []

    assert run_dag(airflow_home, "ingest", prefix=PREFIX).state == "success"
    done = [row for row in rows(configured, "outcomes") if row["status"] == "done"]
    assert sorted(Path(row["source_uri"]).name for row in done) == sorted(
        path.name for path in media.videos
    )
    assert len(rows(configured, "videos")) == len(media.videos)


def test_mlflow_gone_while_a_model_is_trained(
    airflow_home: Path,
    configured: Lake,
    mlflow: MlflowServer,
    media: DemoData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd,
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # MLflow's own, before Airflow's
    upload(configured, media)
    ingest(configured, "ingest", prefix=PREFIX, fps=4.0, short_side=64)
    labels = tmp_path / "labels.csv"
    with labels.open("w", newline="") as opened:
        csv.writer(opened).writerows(
            [("video", "label"), *((path.name, "ab"[n % 2]) for n, path in enumerate(media.videos))]
        )
    plan = stage(
        configured, "annotate", "annotate", task="gone", file=upload_annotations(configured, labels)
    )
    audit_and_publish(configured, "annotate", plan)
    conf = {"task": "gone", "architectures": ["cnn_rnn"], "epochs": 1, "test_share": 0.3}

    with gone_during("train", mlflow):
        run = run_dag(airflow_home, "train", **conf)
    assert (run.state, run.tasks["train[0]"], run.tries["train[0]"]) == ("failed", "failed", 3)
    assert "MLflow" in "".join(capfd.readouterr())
    assert tracking.champion("gone") is None
    assert rows(configured, "promotions") == []

    plan = stage(configured, "again", "snapshot", **conf, seed=0)
    shards(configured, plan)
    audit_and_publish(configured, "again", plan)
    (model,) = tracking.list_models("gone")
    assert model["version"] == "1" and model["decision"]
