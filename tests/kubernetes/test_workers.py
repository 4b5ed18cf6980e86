"""A training on several pods: what becomes of all, by how one of them ends."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.airflow_runs import run_dag
from tests.kubernetes.cluster import TestCluster
from tests.kubernetes.conftest import PodStages, RunningAirflow
from tests.kubernetes.test_airflow import Running
from tests.kubernetes.test_operator import in_background
from vidpipe.config import load_settings
from vidpipe.local import processes
from vidpipe.local import stack as local_stack

pytestmark = pytest.mark.kubernetes

TOGETHER = {"workers": 2}


def wait_until_nothing_is_left(cluster: TestCluster) -> None:
    """Waits until pods, Jobs and Services are gone."""
    batch = client.BatchV1Api(cluster.core.api_client)
    deadline = time.monotonic() + 60
    lists = (
        cluster.core.list_namespaced_pod,
        batch.list_namespaced_job,
        cluster.core.list_namespaced_service,
    )
    while left := [it.metadata.name for ls in lists for it in ls(cluster.namespace).items]:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def tell(stages: PodStages, *workers: list[Any]) -> None:
    """Says what each of the workers does."""
    stages.tell(**{f"train/worker-{number}": steps for number, steps in enumerate(workers)})


def test_workers_find_each_other(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    capfd: pytest.CaptureFixture[str],
):
    tell(
        pod_stages,
        [[["meet"], ["say", 3], ["sleep", 4], ["report"]]],
        [[["meet"], ["say", 3]]],
    )

    run = run_dag(airflow_home, "together", **TOGETHER)

    assert run.tasks["train"] == "success"
    assert run.xcoms["train"] == {"summary": "done"}
    out = capfd.readouterr().out
    assert [out.count(f"worker 1: line {n}") for n in range(3)] == [1, 1, 1]
    assert [out.count(f"line {n}") for n in range(3)] == [2, 2, 2]
    first, second = pod_stages.calls("train")
    hosts = first["environment"]["VIDPIPE_WORKER_HOSTS"]
    assert hosts == second["environment"]["VIDPIPE_WORKER_HOSTS"]
    assert [host.partition(".")[0] for host in hosts.split(",")] == [first["pod"], second["pod"]]
    wait_until_nothing_is_left(namespace)


def test_lost_worker_restarts_all(
    airflow_home: Path, pod_stages: PodStages, namespace: TestCluster
):
    """Within the try, though the other fails by itself, and first."""
    tell(
        pod_stages,
        [[["meet"], ["depend", 0]], [["meet"], ["report"]]],
        [[["meet"], ["sleep", 600]], [["meet"]]],
    )

    def delete_second() -> None:
        namespace.wait_for_pod(lambda pod: len(pod_stages.calls("train")) == 2, within_s=120)
        time.sleep(3)
        pod = namespace.wait_for_pod(lambda pod: "-1-" in pod["metadata"]["name"])
        namespace.core.delete_namespaced_pod(pod["metadata"]["name"], namespace.namespace)

    with in_background(delete_second):
        run = run_dag(airflow_home, "together", **TOGETHER)

    assert (run.tasks["train"], run.tries["train"]) == ("success", 1)
    assert [len(pod_stages.calls(f"train/worker-{n}")) for n in range(2)] == [2, 2]
    wait_until_nothing_is_left(namespace)


def test_memory_is_doubled_for_all(airflow_home: Path, pod_stages: PodStages):
    tell(
        pod_stages,
        [[["meet"], ["depend", 0]], [["meet"], ["report"]]],
        [[["meet"], ["eat", 900]], [["meet"]]],
    )

    run = run_dag(airflow_home, "together", **TOGETHER)

    assert (run.tasks["train"], run.tries["train"]) == ("success", 1)
    for number in range(2):
        calls = pod_stages.calls(f"train/worker-{number}")
        assert [call["limit_bytes"] >> 20 for call in calls] == [128, 256]


@pytest.mark.parametrize(("code", "tries"), [(65, 1), (3, 2)])
def test_exit_code_of_any_worker_decides(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    capfd: pytest.CaptureFixture[str],
    code: int,
    tries: int,
):
    tell(pod_stages, [[["meet"], ["depend", 2]]], [[["meet"], ["exit", code]]])

    run = run_dag(airflow_home, "together", **TOGETHER)

    assert (run.tasks["train"], run.tries["train"]) == ("failed", tries)
    assert len(pod_stages.calls("train/worker-0")) == tries
    out = capfd.readouterr().out
    assert f"train ended with {code}: train/worker-1 ends with {code}" in out
    wait_until_nothing_is_left(namespace)


@pytest.mark.parametrize(
    ("gpus", "told"),
    [
        (3, "It asks for 3 of nvidia.com/gpu; the largest node offers 2."),
        (2, "The nodes take 1 of 2 such pods at a time."),
    ],
)
def test_more_gpus_than_there_are(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    capfd: pytest.CaptureFixture[str],
    gpus: int,
    told: str,
):
    # As workers do, which cannot be done before all are there.
    pod_stages.tell(train=[[["meet"], ["report"]]])
    began = time.monotonic()

    run = run_dag(airflow_home, "together", gpus=gpus, **TOGETHER)

    assert (run.tasks["train"], run.tries["train"]) == ("failed", 1)
    assert time.monotonic() - began < 120
    assert told in capfd.readouterr().out
    wait_until_nothing_is_left(namespace)


def test_workers_that_never_come_together_are_given_up(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    capfd: pytest.CaptureFixture[str],
):
    quota = {"metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}}
    namespace.core.create_namespaced_resource_quota(namespace.namespace, quota)
    pod_stages.tell(train=[[["meet"], ["report"]]])

    run = run_dag(airflow_home, "together", max_wait_hours=15 / 3600, **TOGETHER)

    assert (run.tasks["train"], run.tries["train"]) == ("failed", 1)
    told = capfd.readouterr().out
    assert "It was waited for during" in told
    assert "exceeded quota: one" in told
    wait_until_nothing_is_left(namespace)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SERVICE_ACCOUNT": "nobody"}, 'serviceaccount \\"nobody\\" not found'),
        ({"WORKER_IMAGE": "localhost:5000/no-such-image:1"}, "ImagePull"),
    ],
)
def test_what_cannot_start_fails_with_its_reason(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    settings: dict[str, str],
    told: str,
):
    for name, value in settings.items():
        monkeypatch.setenv(f"VIDPIPE_KUBERNETES_{name}", value)
    load_settings.cache_clear()

    run = run_dag(airflow_home, "together", **TOGETHER)

    assert (run.tasks["train"], run.tries["train"]) == ("failed", 1)
    assert told in capfd.readouterr().out
    wait_until_nothing_is_left(namespace)


def test_job_of_an_earlier_try_is_found(
    airflow_home: Path, pod_stages: PodStages, namespace: TestCluster
):
    """Unless it is being removed, failed, or does other work."""
    from vidpipe.lake.store import open_store
    from vidpipe.orchestration.pods import Cluster, PodRequest
    from vidpipe.orchestration.resources import load_resources
    from vidpipe.stages.manifest import Manifest

    settings = load_settings()
    cluster = Cluster(settings)
    pod_stages.tell(train=[[["sleep", 600]]])
    resources = load_resources(settings.kubernetes.resources_file, "train", TOGETHER)
    uri = f"{settings.lake.uri}/found.json"
    Manifest("found", "train").write(open_store(settings), uri)
    arguments = ["train", "--shard", uri]
    request = PodRequest(
        *("train", arguments),
        **{"task": "task", "work": "work", "deployment": "tests", "run_key": "found"},
        deadline_s=600,
        max_wait_s=600,
    )
    other = dataclasses.replace(request, work="other")

    started = cluster.start_or_find(request, resources)
    assert started[1:] == (2, False)
    assert cluster.start_or_find(request, resources) == (started[0], 2, True)
    replaced = cluster.start_or_find(other, resources)
    assert replaced[2] is False
    cluster.remove(replaced[0], 2)
    again = cluster.start_or_find(other, resources)
    assert again[2] is False
    assert again[0] != replaced[0]
    cluster.remove_all("task")
    wait_until_nothing_is_left(namespace)


# --- A running Airflow ----------------------------------------------------------------------------


def test_marked_task_loses_its_job(airflow: RunningAirflow):
    run = Running(airflow, "together", [[["sleep", 600]]], "train", "train", **TOGETHER)
    run.wait_until_called(2)

    run.change(f"/dags/together/dagRuns/{run.run_id}/taskInstances/train", new_state="failed")

    wait_until_nothing_is_left(airflow.cluster)
    assert len(run.calls) == 2


def test_task_that_takes_too_long_loses_its_job(airflow: RunningAirflow):
    run = Running(airflow, "brief_together", [[["sleep", 600]]], "train", "train")

    assert run.wait_until_ended() == "failed"
    wait_until_nothing_is_left(airflow.cluster)


def test_job_outlives_the_triggerer(airflow: RunningAirflow):
    steps = [[["sleep", 25], ["report"]]]
    run = Running(airflow, "together", steps, "train", "train", **TOGETHER)
    run.wait_until_called(2)
    for process in processes.find(airflow.root.resolve())["triggerer"]:
        process.kill()
    time.sleep(2)
    local_stack.up(airflow.root, dags_folder=airflow.dags_folder)

    assert run.wait_until_ended() == "success"
    assert run.task["try_number"] == 1
    assert len(run.calls) == 2
    wait_until_nothing_is_left(airflow.cluster)
