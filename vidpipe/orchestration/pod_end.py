"""How a pod ended, or why it does not start: read from its status, before it is deleted.

The exit code comes first. A pod that was told to go (drained, evicted, deleted by hand) ends with
codes that mean nothing; one whose memory ran out may even end with 0, where a child was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from vidpipe.errors import EXIT_BAD_INPUT, EXIT_NOTHING_TO_DO, EXIT_USAGE

_T = TypeVar("_T")

CONTAINER = "stage"

EXITED = "exited"  # its exit code tells how
LOST = "lost"  # through no fault of the stage: it may be started again
OUT_OF_MEMORY = "out_of_memory"
OUT_OF_DISK = "out_of_disk"  # it wrote more than it may
TIMED_OUT = "timed_out"  # it ran for longer than a pod may
UNABLE = "unable"  # it cannot start, ever

# The same again would end the same.
FINAL = (UNABLE, OUT_OF_MEMORY, OUT_OF_DISK)
# What there can be more of, as the file of resources calls it.
TO_RAISE = {OUT_OF_MEMORY: "memory_limit", OUT_OF_DISK: "scratch and ephemeral_storage"}

# A node that is gone keeps its pods on paper: they are not waited for after their time is over.
GONE_AFTER_S = 10.0
TOLD = (0, EXIT_USAGE, EXIT_BAD_INPUT, EXIT_NOTHING_TO_DO)
# Of pods whose stage ran. That of one which never did says it by itself.
_LOST = (
    "Evicted", "NodeLost", "NodeShutdown", "Preempting", "Shutdown", "Terminated",
    "TerminationByKubelet",
)  # fmt: skip
# How the node speaks of a pod's own files, in memory of the node or on its disk.
_DISK = re.compile(r"exceeds the (total )?limit|exceeded its local ephemeral storage limit", re.I)
_NEVER = ("ErrImageNeverPull", "InvalidImageName")
# A registry may be away for a moment. A busy node may get ConfigMaps and Secrets too late.
_NOT_NOW = (
    "ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "CreateContainerConfigError",
    "CreateContainerError", "RunContainerError",
)  # fmt: skip


@dataclass(frozen=True)
class PodEnd:
    """What became of a pod.

    Attributes:
        kind: One of the words above.
        exit_code: Of its stage; None where it has none.
        told: What Kubernetes says of it.
        working: Numbers of the items that the stage was at work on.
        last_line: What the stage said last.
        worker: Which of several pods it was.
        may_mend: Whether it is over only if it stays so for a while.
    """

    kind: str
    exit_code: int | None = None
    told: str = ""
    working: list[int] = field(default_factory=list)
    last_line: str = ""
    worker: int = 0
    may_mend: bool = False

    def saying(self, last_line: str) -> PodEnd:
        """The same with what the stage said last, unless that is known."""
        return dataclasses.replace(self, last_line=self.last_line or last_line)


def of_any_version(kind: type[_T], told: dict[str, Any]) -> _T:
    """A dataclass as a triggerer told it, which may run another version of this code."""
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in told.items() if name in known})


def pod_end(pod: dict[str, Any], now: datetime) -> PodEnd | None:
    """How a pod ended, or None while it has not.

    Args:
        pod: As the API has it (JSON).
        now: The time.
    """
    status = pod.get("status", {})
    reason = status.get("reason") or ""
    state = _state(status)
    ended = state.get("terminated")
    leaving = pod["metadata"].get("deletionTimestamp")
    disrupted = condition(status, "DisruptionTarget")
    if ended is not None:
        end = _terminated(ended, reason, status, leaving, disrupted)
        return end.saying(left) if isinstance(left := _left(ended), str) else end
    if status.get("phase") in ("Failed", "Succeeded"):
        if reason == "DeadlineExceeded":
            return PodEnd(TIMED_OUT, told=status.get("message") or reason)
        return _evicted(reason or "Failed", status.get("message"))
    if leaving and (now - _time(leaving)).total_seconds() > GONE_AFTER_S:
        return PodEnd(LOST, told="it was deleted, and its node does not answer")
    return _unable(state)


def _terminated(
    ended: dict[str, Any], reason: str, status: dict[str, Any], leaving: Any, disrupted: Any
) -> PodEnd:
    exit_code = ended["exitCode"]
    working = left if isinstance(left := _left(ended), list) else []
    if exit_code in TOLD and ended.get("reason") != "OOMKilled":
        return PodEnd(EXITED, exit_code)
    if reason == "DeadlineExceeded":
        return PodEnd(TIMED_OUT, exit_code, status.get("message") or reason)
    if disrupted is not None or reason in _LOST:
        disrupted = disrupted or {}
        return _evicted(
            reason or disrupted.get("reason"),
            status.get("message") or disrupted.get("message"),
            exit_code,
        )
    if ended.get("reason") == "OOMKilled":
        return PodEnd(OUT_OF_MEMORY, exit_code, "OOMKilled", working)
    if leaving:
        return PodEnd(LOST, exit_code, "it was deleted")
    return PodEnd(EXITED, exit_code, working=working)


def _evicted(reason: str | None, told: str | None, exit_code: int | None = None) -> PodEnd:
    kind = OUT_OF_DISK if reason == "Evicted" and _DISK.search(told or "") else LOST
    return PodEnd(kind, exit_code, _words(reason, told))


def _unable(state: dict[str, Any]) -> PodEnd | None:
    waiting = state.get("waiting") or {}
    reason, told = waiting.get("reason"), waiting.get("message")
    if reason in _NEVER or reason in _NOT_NOW:
        return PodEnd(UNABLE, told=_words(reason, told), may_mend=reason in _NOT_NOW)
    return None


def waits_for(pod: dict[str, Any]) -> str | None:
    """What the scheduler says of a pod that it has no node for, or None."""
    for found in pod.get("status", {}).get("conditions") or ():
        if (found["type"], found["status"]) == ("PodScheduled", "False"):
            if found.get("reason") == "Unschedulable":
                return found.get("message") or "Unschedulable"
    return None


def has_started(pod: dict[str, Any]) -> bool:
    """Whether its stage runs or ran."""
    return bool({"running", "terminated"} & set(_state(pod.get("status", {}))))


def ended_at(pod: dict[str, Any]) -> datetime | None:
    """When its stage ended, or None while it has not."""
    ended = _state(pod.get("status", {})).get("terminated") or {}
    return _time(ended["finishedAt"]) if ended.get("finishedAt") else None


def time_on_node(pod: dict[str, Any], now: datetime) -> tuple[datetime, datetime]:
    """From when to when a pod took a place on a node; up to now while it does.

    One that never had a place took no time.
    """
    until = ended_at(pod) or now
    since = pod.get("status", {}).get("startTime")
    return (min(_time(since), until), until) if since else (until, until)


def _state(status: dict[str, Any]) -> dict[str, Any]:
    for container in status.get("containerStatuses") or ():
        if container["name"] == CONTAINER:
            return container.get("state") or {}
    return {}


def condition(status: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """The condition of that kind, where it holds."""
    for found in status.get("conditions") or ():
        if (found["type"], found["status"]) == (kind, "True"):
            return found
    return None


def _left(ended: dict[str, Any]) -> list[int] | str | None:
    """What `vidpipe.stages.working` left: items at work, or why it ended."""
    with contextlib.suppress(ValueError):
        found = json.loads(ended.get("message") or "null")
        if isinstance(found, str):
            return found
        if isinstance(found, list) and all(isinstance(number, int) for number in found):
            return found
    return None


def _words(*words: str | None) -> str:
    return ": ".join(word.strip() for word in words if word)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
