"""The demo at reduced size: the four DAGs whole, in a running Airflow, through its REST API."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from click.testing import CliRunner

from tests.runs import rows
from vidpipe import tracking
from vidpipe.cli import cli
from vidpipe.lake.query import run_query
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api
from vidpipe.local.demo import _upload
from vidpipe.local.demo_data import DemoData, make_demo_videos
from vidpipe.stages import by_hand
from vidpipe.stages.by_hand import upload_annotations

CLIPS = 24


@contextlib.contextmanager
def killing(stack, stage: str, after_s: float) -> Iterator[list[int]]:
    """Kills with -9 the first process of a stage's shard, so long after it began."""
    config = str(stack.root / "vidpipe.toml")
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set() and not killed:
            for process in psutil.process_iter(["cmdline"]):
                if [stage, "--shard"] != (process.info["cmdline"] or [])[3:5]:
                    continue
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.environ().get("VIDPIPE_CONFIG") == config:
                        time.sleep(after_s)
                        process.kill()
                        killed.append(process.pid)
                        return
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield killed
    finally:
        over.set()
        watcher.join()


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return make_demo_videos(tmp_path_factory.mktemp("loop"), clips=CLIPS, seed=3)


def counted(sql: str) -> dict[str, int]:
    return {name: count for name, count in (row.values() for row in run_query(sql).to_pylist())}


def run(stack, dag: str, *params: str) -> str:
    return airflow_api.run_dag(dag, params, root=stack.root)


def test_from_a_bucket_to_labels(stack, media):
    _upload(media.folder, "loop")
    with killing(stack, "extract", after_s=0.7) as killed:
        assert run(stack, "ingest", "fps=6", "short_side=64") == "success"
    assert killed, "no extraction was at work to be killed"
    outcomes = counted("select status, count(*) from outcomes where stage = 'extract' group by 1")
    assert outcomes == {"done": CLIPS, "quarantined": len(media.broken)}
    videos = rows(Lake(), "videos")
    assert len(videos) == CLIPS
    assert all(".manual" in row["run_key"] for row in videos), "the schedule's run came first"

    assert run(stack, "label_nightly", "task=motion") == "success", "no champion is no failure"
    assert rows(Lake(), "labels") == []

    file = upload_annotations(Lake(), media.motion_csv)
    assert run(stack, "annotate", "task=motion", f"file={file}") == "success"
    assert len(rows(Lake(), "annotations")) == CLIPS

    assert run(stack, "train", "task=motion", "architectures=attention", "epochs=2") == "success"
    if tracking.champion("motion") is None:  # two epochs may be no better than guessing
        by_hand.promote("motion", "1", "to go on")
    champion = tracking.champion("motion")
    client = tracking.connect()
    (promotion,) = rows(Lake(), "promotions")
    assert (promotion["task"], promotion["model_version"]) == ("motion", champion.version)
    found = client.get_run(champion.run_id)
    assert found.info.status == "FINISHED"
    assert {"test_accuracy", "test_macro_f1"} <= set(found.data.metrics)
    pictures = {artifact.path for artifact in client.list_artifacts(champion.run_id)}
    assert {"confusion.png", "misclassified.png"} <= pictures
    assert {row["split"] for row in rows(Lake(), "splits")} == {"train", "validation", "test"}

    with killing(stack, "label", after_s=3.0) as killed:
        assert run(stack, "label_nightly", "task=motion", "threshold=0.99") == "success"
    assert killed, "no labelling was at work to be killed"
    labels = rows(Lake(), "labels")
    assert len({row["video_id"] for row in labels}) == len(labels) == CLIPS
    assert {row["model_version"] for row in labels} == {champion.version}
    assert not all(row["accepted"] for row in labels), "a low score is marked and kept"
    before = rows(Lake(), "outcomes")
    assert run(stack, "label_nightly", "task=motion") == "success"
    assert rows(Lake(), "labels") == labels, "a second run the same night labels nothing"
    assert rows(Lake(), "outcomes") == before


def test_someone_asks_to_try_again(stack, media, monkeypatch):
    (truncated,) = (path for path, reason in media.broken.items() if reason == "truncated")
    Lake().store.upload(truncated, "s3://videos/asked/broken.mp4")
    assert run(stack, "ingest", "prefix=asked/") == "success"
    monkeypatch.chdir(stack.root.parent)
    asked = CliRunner().invoke(cli, ["retry", "--video", "s3://videos/asked/broken.mp4"])
    assert asked.exit_code == 0
    assert re.search(r"[1-9]\d* retried", asked.output)
    tried = rows(Lake(), "outcomes")
    assert [row["reason"] for row in tried if "/asked/" in str(row["source_uri"])] == [
        "truncated",
        "truncated",
    ]


def test_a_failing_run_ends_as_failed_and_says_why(stack, capsys):
    assert run(stack, "train", "task=nothing_of_the_kind") == "failed"
    assert "has no annotation" in capsys.readouterr().out
    (path, told), *others = [post for post in stack.posts if "nothing_of_the_kind" in str(post)]
    assert (path, told["dag"], others) == ("/hook", "train", [])
    assert "has no annotation" in told["message"]
