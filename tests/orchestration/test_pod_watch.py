"""Which pods are removed beside the scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.airflow_runs import PretendStages, run_dag, wait_for_end

SCHEDULER = """
import sys
from airflow.jobs.job import Job
from airflow.sdk.execution_time.task_runner import TaskRunnerMarker
from vidpipe.orchestration import pod_watch
sys.argv = ["airflow", "{part}"]
pod_watch.on_starting({component})
print("started", flush=True)
sys.stdin.read()
"""


def annotations(run_id: str, max_tries: int | None = None) -> dict[str, str]:
    """What a pod says of the task that started it."""
    names = {"dag": "probe", "run": run_id, "task": "plan[-1]"}
    if max_tries is not None:
        names["max-tries"] = str(max_tries)
    return {f"vidpipe.io/{name}": value for name, value in names.items()}


def test_a_pod_is_over_when_its_task_is_over_unknown_or_cleared(
    airflow_home: Path, stages: PretendStages
):
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.utils.session import create_session

    from vidpipe.orchestration.pod_watch import is_over

    stages.tell(discover={"shards": []})
    run_id = run_dag(airflow_home, "probe").run_id

    def task(session) -> TaskInstance:
        return session.query(TaskInstance).filter_by(run_id=run_id, task_id="plan").one()

    with create_session() as session:
        max_tries = task(session).max_tries
    assert is_over(annotations(run_id, max_tries))
    assert is_over(annotations("deleted", max_tries))
    assert not is_over({}), "nobody knows whose it is"
    for state in ("deferred", "running", "queued", "up_for_retry"):
        with create_session() as session:
            task(session).state = state
        assert not is_over(annotations(run_id, max_tries)), state
        assert not is_over(annotations(run_id)), "pods of an older version do not say it"

    with create_session() as session:
        task(session).state = "deferred"
    with create_session() as session:
        clear_task_instances([task(session)], session)

    assert is_over(annotations(run_id, max_tries))


def test_the_process_ends_with_its_scheduler_and_no_other_part_has_one(tmp_path: Path):
    environment = os.environ | {
        "VIDPIPE_KUBERNETES_WORKER_IMAGE": "any",
        "KUBECONFIG": str(tmp_path / "none"),
        "AIRFLOW_HOME": str(tmp_path),
    }
    job, task = "Job.__new__(Job)", "TaskRunnerMarker()"
    for part, component, count in (
        ("triggerer", job, 0),
        ("scheduler", task, 0),  # tasks are forked from the scheduler, with its arguments
        ("scheduler", job, 1),
    ):
        with subprocess.Popen(
            [sys.executable, "-c", SCHEDULER.format(part=part, component=component)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as parent:
            while b"started" not in parent.stdout.readline():
                assert parent.poll() is None
            children = psutil.Process(parent.pid).children()
            assert len(children) == count
            parent.kill()
        for child in children:
            wait_for_end(child.pid)
