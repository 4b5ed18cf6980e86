"""A running Airflow and its pods: logs, people who act on tasks, and parts that die."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rich.console import Console

from tests.kubernetes.conftest import RunningAirflow
from vidpipe.lake import layout
from vidpipe.lake.usage import Ledger
from vidpipe.local import airflow_api, processes
from vidpipe.local import stack as local_stack

pytestmark = pytest.mark.kubernetes


class Running:
    """A run of a DAG that has one task that matters."""

    def __init__(
        self,
        airflow: RunningAirflow,
        dag_id: str,
        steps: list[Any],
        stage: str = "discover",
        task_id: str = "plan",
        **conf: Any,
    ):
        self._airflow = airflow
        self.task_id = task_id
        airflow.stages.tell(**{stage: steps})
        self.client = airflow_api.connect(airflow.root)
        self.client.unpause(dag_id)
        self.dag_id, self.run_id = dag_id, self.client.trigger(dag_id, conf)

    @property
    def task(self) -> dict[str, Any]:
        """The task, as the API has it."""
        found = self.client.task_instances(self.dag_id, self.run_id)
        return next(task for task in found if task["task_id"] == self.task_id)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls of its stage."""
        return self._airflow.stages.calls()

    def lines(self) -> list[int]:
        """The numbered lines in the task's log, in their order."""
        log = "\n".join(self.client.task_log(self.task))
        if "failed to try resolving symlinks" in log:
            # The node's words: those that share a machine remove each other's logs.
            pytest.skip("the node lost the log of the pod")
        return [int(number) for number in re.findall(r"\bline (\d+)\b", log)]

    def wait(self, is_so: Callable[[], Any], within_s: float = 120) -> None:
        """Waits until something holds."""
        deadline = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() > deadline:
                raise AssertionError("\n".join(self.client.task_log(self.task)[-30:]))
            time.sleep(0.5)

    def wait_until_called(self, times: int = 1) -> None:
        """Waits until its stage runs."""
        self.wait(lambda: len(self.calls) >= times)

    def wait_until_ended(self) -> str:
        """State of the task in the end."""
        self.wait(lambda: self.task["state"] in ("success", "failed"))
        return self.task["state"]

    def change(self, path: str, **what: Any) -> None:
        """Acts on the task, as its page does."""
        self.client._call("PATCH" if "taskInstances" in path else "POST", path, json=what)

    def clear(self) -> None:
        """Has the task done once more."""
        self.change(
            f"/dags/{self.dag_id}/clearTaskInstances",
            dag_run_id=self.run_id,
            task_ids=[self.task_id],
            dry_run=False,
            only_failed=False,
            reset_dag_runs=True,
        )


def test_each_line_is_shown_once_while_the_pod_runs(airflow: RunningAirflow):
    run = Running(airflow, "probe", [[["say", 1000], ["sleep", 30], ["report"]]])
    # Before it begins there is no log.
    run.wait_until_called()
    run.wait(lambda: len(run.lines()) >= 1000)

    assert run.task["state"] == "deferred"
    assert run.wait_until_ended() == "success"
    assert run.lines() == list(range(1000))
    airflow.cluster.wait_until_empty()


def test_run_tells_what_its_pods_took(airflow: RunningAirflow):
    began_s = time.monotonic()
    run = Running(airflow, "probe", [[["sleep", 4], ["plan", []]]])
    console = Console(record=True, width=200)

    assert airflow_api.watch(run.client, "probe", run.run_id, console=console) == "success"

    told = re.search(
        r"pods: 1, which took (\S+) pod hours and 0.000 GPU hours", console.export_text()
    )
    assert 0.001 <= float(told[1]) < (time.monotonic() - began_s) / 3600 + 0.001


def test_marked_task_loses_its_pod(airflow: RunningAirflow):
    run = Running(airflow, "probe", [[["sleep", 600]]])
    run.wait_until_called()

    run.change(f"/dags/probe/dagRuns/{run.run_id}/taskInstances/plan", new_state="failed")

    run.wait(lambda: all(p["metadata"].get("deletionTimestamp") for p in airflow.cluster.pods()))
    airflow.cluster.wait_until_empty()
    assert len(run.calls) == 1


def test_cleared_task_begins_with_a_pod_of_its_own(airflow: RunningAirflow):
    run = Running(airflow, "probe", [[["sleep", 600]], [["report"]]])
    run.wait_until_called()
    assert run.task["state"] == "deferred"

    run.clear()

    run.wait_until_called(2)
    assert run.wait_until_ended() == "success"
    assert len({call["pod"] for call in run.calls}) == 2
    airflow.cluster.wait_until_empty()


def test_task_that_takes_too_long_loses_its_pod(airflow: RunningAirflow):
    run = Running(airflow, "brief", [[["sleep", 600]]])

    assert run.wait_until_ended() == "failed"
    airflow.cluster.wait_until_empty()


@pytest.mark.parametrize("part", ["triggerer", "scheduler"])
def test_pods_outlive_parts_of_airflow(airflow: RunningAirflow, part: str):
    run = Running(airflow, "probe", [[["sleep", 25], ["say", 3], ["report"]]])
    run.wait_until_called()
    for process in processes.find(airflow.root.resolve())[part]:
        process.kill()
    time.sleep(2)
    local_stack.up(airflow.root, dags_folder=airflow.dags_folder)

    assert run.wait_until_ended() == "success"
    assert run.task["try_number"] == 1
    assert len(run.calls) == 1
    assert run.lines() == [0, 1, 2]
    airflow.cluster.wait_until_empty()


@pytest.mark.parametrize("triggerer", ["held", "dead"])
@pytest.mark.parametrize("action", ["marked", "cleared"])
def test_pod_goes_though_no_triggerer_waits_for_it(
    airflow: RunningAirflow, action: str, triggerer: str
):
    """The task is marked or cleared before its trigger began, or when nobody runs it any longer."""
    with without_triggerer(airflow, triggerer):
        run = Running(airflow, "probe", [[["sleep", 600]], [["report"]]])
        run.wait_until_called()
        run.wait(lambda: run.task["state"] == "deferred")
        (pod,) = (pod["metadata"]["name"] for pod in airflow.cluster.pods())

        if action == "marked":
            run.change(f"/dags/probe/dagRuns/{run.run_id}/taskInstances/plan", new_state="failed")
        else:
            run.clear()

        run.wait(lambda: pod not in {name for _, name in airflow.cluster.names()})
        if action == "cleared":
            run.wait_until_called(2)
    if action == "cleared":
        assert run.wait_until_ended() == "success"
        assert len({call["pod"] for call in run.calls}) == 2
    airflow.cluster.wait_until_empty()
    lake = airflow.stages.lake
    run_key = layout.make_run_key("tests", "probe", run.run_id)
    uses = list(Ledger(lake.store, lake.uri).of_run(run_key))
    # An end that two have seen is noted twice, where they saw it at another second.
    begun, ended = ({use.name for use in uses if use.ended is over} for over in (False, True))
    assert begun == ended, "each has begun and ended"


def test_pod_of_a_task_that_waits_stays(airflow: RunningAirflow):
    """Though those that no task waits for are looked for several times meanwhile."""
    run = Running(airflow, "probe", [[["sleep", 40], ["report"]]])

    assert run.wait_until_ended() == "success"
    assert len(run.calls) == 1


@contextlib.contextmanager
def without_triggerer(airflow: RunningAirflow, how: str) -> Iterator[None]:
    """Has triggers wait, or their process dead, while the context lasts."""
    found = processes.find(airflow.root.resolve())["triggerer"]
    for process in found:
        process.suspend() if how == "held" else process.kill()
    try:
        yield
    finally:
        if how == "held":
            for process in found:
                process.resume()
        else:
            local_stack.up(airflow.root, dags_folder=airflow.dags_folder)
