"""Disturbed trainings in pods: the same model, in one MLflow run, as if they had not been."""

from __future__ import annotations

import hashlib
import subprocess
import time
from typing import Any

import pytest

from tests.kubernetes.platform import DagRun, Platform
from vidpipe import tracking
from vidpipe.local.demo_data import make_demo_videos
from vidpipe.models.bundle import Bundle
from vidpipe.stages.by_hand import upload_annotations

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow]

CLIPS = 16
EPOCHS = 150
TRAINING = {"task": "motion", "architectures": ["cnn_rnn"], "epochs": EPOCHS}
METRICS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


@pytest.fixture(scope="module")
def dataset(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """A platform with labelled videos."""
    media = make_demo_videos(tmp_path_factory.mktemp("labelled"), clips=CLIPS, seed=5)
    for path in media.videos:
        platform.lake.store.upload(path, f"s3://videos/labelled/{path.name}")
    assert platform.run("ingest", "fps=6", "short_side=64") == "success"
    file = upload_annotations(platform.lake, media.motion_csv)
    assert platform.run("annotate", "task=motion", f"file={file}") == "success"
    return platform


def what_came_of_it(run: DagRun) -> tuple[str, dict[str, list], float]:
    """A hash of the weights, the metrics by step, and the accuracy in the test."""
    result = run.client.xcom(run.tasks()["train[0]"])
    client = tracking.connect()
    mine = client.search_runs(
        [client.get_run(result["mlflow_run_id"]).info.experiment_id],
        f"tags.`vidpipe.run_key` = '{run.run_key}'",
    )
    assert [found.info.run_id for found in mine] == [result["mlflow_run_id"]], "a twin"
    digest = hashlib.sha256()
    for weight in Bundle.load(result["model_uri"]).model.get_weights():
        digest.update(weight.tobytes())
    metrics = {
        name: sorted(
            (m.step, m.value) for m in client.get_metric_history(mine[0].info.run_id, name)
        )
        for name in METRICS
    }
    for history in metrics.values():
        assert [step for step, _ in history] == list(range(1, EPOCHS + 1)), "a gap or a double step"
    return digest.hexdigest(), metrics, mine[0].data.metrics["test_accuracy"]


def train(platform: Platform, **more: Any) -> DagRun:
    return platform.begin("train", **TRAINING, **more)


def wait_until_it_learns(run: DagRun, number: int = 0) -> dict[str, Any]:
    """Waits until checkpoints are kept; returns the pod, or that of a worker."""
    platform = run.platform
    checkpoints = f"{platform.lake.uri}/runs/{run.run_key}/checkpoints/"
    deadline = time.monotonic() + 300
    while not any(f.uri.endswith(".json") for f in platform.lake.store.list(checkpoints)):
        assert time.monotonic() < deadline, run.log("train[0]")
        time.sleep(0.3)
    index = "batch.kubernetes.io/job-completion-index"
    return platform.wait_for_pod(
        "train", lambda pod: int(pod["metadata"]["labels"].get(index, 0)) == number
    )


def wait_until_well(run: DagRun) -> None:
    assert run.wait() == "success"
    assert run.tasks()["train"]["try_number"] == 1
    assert "goes on after step" in run.log("train[0]")
    run.platform.cluster.wait_until_empty()


@pytest.fixture(scope="module")
def undisturbed(dataset: Platform) -> Any:
    run = train(dataset)
    assert run.wait() == "success"
    return what_came_of_it(run)


def test_drained_node(dataset: Platform, undisturbed: Any):
    run = train(dataset)
    pod = wait_until_it_learns(run)
    node = pod["spec"]["nodeName"]
    pods = ["--pod-selector", "app.kubernetes.io/component=train", "--force"]
    drain = ["kubectl", "drain", node, "--delete-emptydir-data", "--timeout=60s", *pods]
    try:
        subprocess.run(drain, check=True, capture_output=True)
    finally:
        subprocess.run(["kubectl", "uncordon", node], check=True, capture_output=True)

    wait_until_well(run)
    assert what_came_of_it(run) == undisturbed


def test_more_gpus_than_there_are(dataset: Platform):
    began_s = time.monotonic()
    run = train(dataset, gpus=16)

    assert run.wait() == "failed"
    assert time.monotonic() - began_s < 240
    assert "Insufficient nvidia.com/gpu" in run.log("train[0]")
    dataset.cluster.wait_until_empty()


def test_killed_worker_of_two(dataset: Platform):
    quiet = train(dataset, workers=2)
    assert quiet.wait() == "success"
    run = train(dataset, workers=2)
    pod = wait_until_it_learns(run, number=1)
    cluster = dataset.cluster
    name = pod["metadata"]["name"]
    cluster.core.delete_namespaced_pod(name, cluster.namespace, grace_period_seconds=0)

    wait_until_well(run)
    assert what_came_of_it(run) == what_came_of_it(quiet)
