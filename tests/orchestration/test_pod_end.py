"""How a pod ended, from what Kubernetes says of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vidpipe.orchestration.pod_course import Course
from vidpipe.orchestration.pod_end import (
    EXITED,
    GONE_AFTER_S,
    LOST,
    OUT_OF_DISK,
    OUT_OF_MEMORY,
    TIMED_OUT,
    UNABLE,
    PodEnd,
    of_any_version,
    pod_end,
)
from vidpipe.orchestration.resources import load_resources

NOW = datetime(2026, 1, 31, tzinfo=UTC)
DRAINED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
SCRATCH_FULL = 'Usage of EmptyDir volume "scratch" exceeds the limit "10Gi".'
POD_FULL = "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi."
CONTAINER_FULL = 'Container stage exceeded its local ephemeral storage limit "10Gi".'
NODE_FULL = "The node was low on resource: ephemeral-storage. Container stage was using 9Gi."


def pod(state: dict[str, Any] | None = None, leaving_s: float = 0, **status: Any) -> dict[str, Any]:
    """A pod as the API has it; told to go so many seconds ago."""
    leaving = {"deletionTimestamp": (NOW - timedelta(seconds=leaving_s)).isoformat()}
    if state is not None:
        status["containerStatuses"] = [{"name": "stage", "state": state}]
    return {"metadata": {"name": "pod", **(leaving if leaving_s else {})}, "status": status}


def exited(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": "why"}}


@pytest.mark.parametrize(
    ("seen", "kind", "exit_code"),
    [
        (pod(exited(0, "Completed"), phase="Succeeded"), EXITED, 0),
        (pod(exited(65), phase="Failed"), EXITED, 65),
        # What it says itself holds, though it was told to go while it ended.
        (pod(exited(0, "Completed"), leaving_s=1, conditions=DRAINED), EXITED, 0),
        (pod(exited(75), leaving_s=1), LOST, 75),
        (pod(exited(75), conditions=DRAINED), LOST, 75),
        (pod(exited(137), reason="NodeShutdown"), LOST, 137),
        (pod(phase="Failed", reason="UnexpectedAdmissionError"), LOST, None),
        (pod(exited(137, "OOMKilled")), OUT_OF_MEMORY, 137),
        # A child was killed, and the stage went on.
        (pod(exited(0, "OOMKilled")), OUT_OF_MEMORY, 0),
        (pod(exited(143), reason="DeadlineExceeded", phase="Failed"), TIMED_OUT, 143),
        (pod(phase="Failed", reason="DeadlineExceeded"), TIMED_OUT, None),
        # Its own files would fill the next one, too; those of others on its node may not.
        (pod(exited(137), reason="Evicted", message=SCRATCH_FULL), OUT_OF_DISK, 137),
        (pod(phase="Failed", reason="Evicted", message=POD_FULL), OUT_OF_DISK, None),
        (pod(exited(137), reason="Evicted", message=CONTAINER_FULL), OUT_OF_DISK, 137),
        (pod(exited(137), reason="Evicted", message=NODE_FULL), LOST, 137),
        (pod({"running": {}}, leaving_s=GONE_AFTER_S + 1), LOST, None),
        (pod(waiting("InvalidImageName")), UNABLE, None),
    ],
)
def test_kind_of_end(seen: dict[str, Any], kind: str, exit_code: int | None):
    end = pod_end(seen, NOW)
    assert (end.kind, end.exit_code, end.may_mend) == (kind, exit_code, False)


@pytest.mark.parametrize(
    "seen",
    [
        pod(phase="Pending"),
        pod(waiting("ContainerCreating")),
        pod({"running": {}}, phase="Running"),
        pod({"running": {}}, leaving_s=GONE_AFTER_S - 1),
    ],
)
def test_no_end_yet(seen: dict[str, Any]):
    assert pod_end(seen, NOW) is None


@pytest.mark.parametrize(
    "reason",
    [
        "ErrImagePull",
        "ImagePullBackOff",
        "CreateContainerError",
        # "failed to sync configmap cache: timed out waiting for the condition", on a busy node.
        "CreateContainerConfigError",
    ],
)
def test_what_may_mend_is_no_end_at_once(reason: str):
    end = pod_end(pod(waiting(reason)), NOW)
    assert (end.kind, end.may_mend, end.told) == (UNABLE, True, f"{reason}: why")


def test_items_at_work_are_told_by_whom_memory_ran_out():
    assert pod_end(pod(exited(137, "OOMKilled", "[3, 5]")), NOW).working == [3, 5]
    assert pod_end(pod(exited(137, "OOMKilled", "Traceback …")), NOW).working == []


def test_what_a_stage_left_comes_before_its_log():
    """Which may be lost, and ends with lines of libraries."""
    end = pod_end(pod(exited(75, message='"S3 does not answer."')), NOW)
    assert end.saying("I0000 oneDNN is on").last_line == "S3 does not answer."
    assert pod_end(pod(exited(75, message="[3]")), NOW).saying("the log").last_line == "the log"


def test_ends_and_courses_that_another_version_told():
    """While Airflow is upgraded its parts are of two."""
    told = {"kind": LOST, "told": "NodeShutdown", "of_tomorrow": 1}
    assert of_any_version(PodEnd, told) == PodEnd(LOST, told="NodeShutdown")
    course = {"until": "2026-01-31T06:00:00+00:00", "pod": "pod", "of_tomorrow": 1}
    assert of_any_version(Course, course) == Course(until=course["until"], pod="pod")


def test_lost_pods_are_replaced_up_to_a_bound():
    course, resources = Course("2026-01-31T06:00:00+00:00"), load_resources("", "extract")
    for number in (1, 2):
        course, why = course.after(PodEnd(LOST, told="NodeShutdown"), resources, 2)
        assert why == f"Its pod was lost (NodeShutdown): started again, {number} of 2."
    assert course.after(PodEnd(LOST), resources, 2) is None


@pytest.mark.parametrize("kind", [OUT_OF_DISK, TIMED_OUT, UNABLE, EXITED])
def test_other_ends_are_final(kind: str):
    course = Course("2026-01-31T06:00:00+00:00")
    assert course.after(PodEnd(kind), load_resources("", "extract"), 5) is None


def test_a_try_that_older_code_began_keeps_the_version_of_its_pod():
    """Which is that of its image, as nothing told it another."""
    assert Course(until="2026-01-31T06:00:00+00:00", pod="pod").environment == {}
