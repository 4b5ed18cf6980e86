"""What `maintain` removes from a cluster, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.airflow_runs import run_dag
from tests.kubernetes.cluster import TestCluster
from tests.kubernetes.conftest import PodStages
from vidpipe.lake.usage import Ledger, Use
from vidpipe.stages.manifest import now

pytestmark = pytest.mark.kubernetes


def of(run_id: str, task: str = "plan[-1]", **more: str) -> dict[str, str]:
    """Annotations that name a task."""
    told = {"dag": "probe", "run": run_id, "task": task}
    return {f"vidpipe.io/{name}": value for name, value in told.items()} | more


def set_state(run_id: str, state: str) -> None:
    """Changes what Airflow knows of a task, as if it were at work now."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(TaskInstance).filter_by(run_id=run_id, task_id="plan")
        found.update({"state": state})


def test_what_no_task_waits_for_is_removed(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
):
    from vidpipe.orchestration import accounts, pods

    ours, others = ({pods.DEPLOYMENT: pods.label(name)} for name in ("tests", "others"))
    over, deferred, cleared = (run_dag(airflow_home, "probe").run_id for _ in range(3))
    set_state(deferred, "deferred")
    set_state(cleared, None)
    namespace.wait_until_empty()
    use = Use.begun("tests.probe.over.0", "over", 3600)
    for name, labels, told in (
        ("over", ours, of(over, **{accounts.USE: use.path})),
        ("unknown-run", ours, of("deleted")),
        ("unknown-shard", ours, of(over, "work[7]")),
        ("deferred", ours, of(deferred)),
        ("cleared", ours, of(cleared)),
        ("nobodys", ours, {}),
        ("another-deployments", others, of(over)),
        ("strangers", {}, of(over)),
    ):
        namespace.create_waiting_pod(name, labels, annotations=told)
    namespace.create_job("over", ours, of(over))
    namespace.create_job("deferred", ours, of(deferred))

    run = run_dag(airflow_home, "maintain")

    assert run.tasks == {"sweep": "success", "maintain": "success"}
    assert run.xcoms["sweep"] == {"pods": 3, "Jobs": 1}
    stay = {"deferred", "cleared", "nobodys", "another-deployments", "strangers"}
    assert {name for kind, name in namespace.names() if kind == "pods"} == stay
    assert {name for kind, name in namespace.names() if kind != "pods"} == {"deferred"}
    noted = Ledger(pod_stages.lake.store, pod_stages.lake.uri).of_day("tests", now())
    (ended,) = (use for use in noted if use.name == "over")
    assert ended.ended and ended.since_s == ended.until_s, "it never had a place"
