"""What the ends of several workers make together, by what Kubernetes says of each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from vidpipe.errors import UsageError
from vidpipe.orchestration.pod_end import EXITED, LOST, OUT_OF_MEMORY, TIMED_OUT
from vidpipe.orchestration.resources import load_resources
from vidpipe.orchestration.workers import CAUSE_WITHIN_S, end_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(workers: int = 2, **status: Any) -> dict[str, Any]:
    return {"spec": {"completions": workers}, "status": status}


def worker(
    number: int,
    exit_code: int | None = None,
    *,
    ago_s: float = 1,
    reason: str = "Error",
    leaving: bool = False,
) -> dict[str, Any]:
    """A pod, as the API has it; it runs where it has no exit code."""
    labels = {"batch.kubernetes.io/job-completion-index": str(number)}
    when = (NOW - timedelta(seconds=ago_s)).isoformat()
    ended = {"exitCode": exit_code, "reason": reason, "finishedAt": when}
    state = {"running": {}} if exit_code is None else {"terminated": ended}
    phase = {None: "Running", 0: "Succeeded"}.get(exit_code, "Failed")
    return {
        "metadata": {"labels": labels, **({"deletionTimestamp": when} if leaving else {})},
        "status": {"phase": phase, "containerStatuses": [{"name": "stage", "state": state}]},
    }


@pytest.mark.parametrize(
    ("pods", "status", "expected"),
    [
        ([worker(0), worker(1)], {}, None),
        ([worker(0), worker(1, 0)], {"succeeded": 1}, None),
        ([worker(0, 0), worker(1)], {"succeeded": 1}, (EXITED, 0, 0)),
        # An ordinary failure waits for what may have caused it, but not for ever.
        ([worker(0, 1), worker(1)], {"failed": 1}, None),
        ([worker(0, 1, ago_s=CAUSE_WITHIN_S + 1), worker(1)], {}, (EXITED, 1, 0)),
        ([worker(0, 1), worker(1, 0, ago_s=CAUSE_WITHIN_S + 1)], {}, (EXITED, 1, 0)),
        ([worker(0, 1), worker(1, 3, ago_s=2)], {}, (EXITED, 3, 1)),
        # What is no consequence is seen at once.
        ([worker(0, 1, ago_s=9), worker(1, 65)], {}, (EXITED, 65, 1)),
        ([worker(0), worker(1, 65)], {}, (EXITED, 65, 1)),
        ([worker(0, 1, ago_s=9), worker(1, 75, leaving=True)], {}, (LOST, 75, 1)),
        ([worker(0), worker(1, 137, reason="OOMKilled")], {}, (OUT_OF_MEMORY, 137, 1)),
        ([worker(0, 1, ago_s=9)], {"failed": 2}, (LOST, None, 0)),
        # Not made yet, or drained after its work was done.
        ([worker(0)], {}, None),
        ([worker(0)], {"succeeded": 1}, None),
        (
            [worker(0, 75, leaving=True)],
            {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]},
            (TIMED_OUT, None, 0),
        ),
    ],
)
def test_end_is_that_of_the_worker_that_caused_it(
    pods: list[dict[str, Any]], status: dict[str, Any], expected: tuple | None
):
    for listed in (pods, pods[::-1]):
        end = end_of(job(**status), listed, NOW)
        assert (end and (end.kind, end.exit_code, end.worker)) == expected


def test_lost_worker_is_named():
    end = end_of(job(), [worker(0), worker(1, 75, leaving=True)], NOW)
    assert end.told == "worker 1: it was deleted"


def test_only_a_training_has_several_workers():
    assert load_resources("", "train", {"workers": 4}).workers == 4
    assert load_resources("", "label").workers == 1
    with pytest.raises(UsageError, match="workers of label must be 1, or more for train"):
        load_resources("", "label", {"workers": 2})
    with pytest.raises(UsageError, match="workers of train must be 1.* Received: 0"):
        load_resources("", "train", {"workers": 0})
