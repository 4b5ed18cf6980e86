"""A stage at work in several pods at once: an Indexed Job, and a Service that gives them names.

What runs a stage, its workload, is one pod or such a Job. The pods are the same but for their
number. They wait for each other, and when one ends, the others fail, too: so all end together.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from vidpipe.orchestration.pod_end import (
    EXITED,
    LOST,
    OUT_OF_MEMORY,
    TIMED_OUT,
    TOLD,
    UNABLE,
    PodEnd,
    condition,
    ended_at,
    has_started,
    pod_end,
)

# Where workers listen to each other.
PORT = 2222
# Labels of Kubernetes: which Job a pod is of, and which of its pods it is.
JOB, INDEX = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"
# A node that died is noticed by Kubernetes a good while after the workers that talked to it.
CAUSE_WITHIN_S = 120.0
# By itself an exit code may tell of nothing but that another worker is gone.
_CAUSES = (OUT_OF_MEMORY, LOST, TIMED_OUT, UNABLE)


def job_manifest(pod: dict[str, Any], workers: int, max_wait_s: int) -> dict[str, Any]:
    """A Job of so many workers, each of which is like the pod, and is told where the others are.

    They wait for each other for `max_wait_s` seconds: as long as the last may wait for a node.
    """
    name, spec = pod["metadata"]["name"], pod["spec"]
    (container,) = spec["containers"]
    hosts = ",".join(f"{name}-{worker}.{name}:{PORT}" for worker in range(workers))
    told = {"VIDPIPE_WORKER_HOSTS": hosts, "VIDPIPE_WORKERS_WAIT_S": str(max_wait_s)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": pod["metadata"],
        "spec": {
            "completionMode": "Indexed",
            "completions": workers,
            "parallelism": workers,
            # None is started again by itself. With a backoffLimit of 0 the Job would also remove
            # the others at once, and nobody could tell any more who was the first.
            "backoffLimitPerIndex": 0,
            "podReplacementPolicy": "Failed",
            # Of the Job, which begins before its pods have nodes.
            "activeDeadlineSeconds": spec["activeDeadlineSeconds"] + max_wait_s,
            "template": {
                "metadata": {key: pod["metadata"][key] for key in ("labels", "annotations")},
                "spec": {
                    **spec,
                    "subdomain": name,
                    "containers": [
                        {
                            **container,
                            "env": [
                                *container["env"],
                                *({"name": name, "value": value} for name, value in told.items()),
                            ],
                        }
                    ],
                },
            },
        },
    }


def service_manifest(job: dict[str, Any]) -> dict[str, Any]:
    """The Service of a Job, which goes with it; it knows workers before they are ready."""
    meta = job["metadata"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            **{key: meta[key] for key in ("name", "labels")},
            "ownerReferences": [owner],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {JOB: meta["name"]},
            "ports": [{"name": "workers", "port": PORT}],
        },
    }


def workers_of(workload: dict[str, Any]) -> int:
    """How many pods it has."""
    return workload["spec"].get("completions", 1)


def worker_number(pod: dict[str, Any]) -> int:
    """Which of the pods it is; a pod by itself is the first."""
    return int(pod["metadata"].get("labels", {}).get(INDEX, 0))


def is_well(workload: dict[str, Any], now: datetime) -> bool:
    """Whether it is at work, or ended well."""
    if workers_of(workload) > 1:
        return not workload["status"].get("failed")
    end = pod_end(workload, now)
    return end is None or end.exit_code == 0


def have_started(workload: dict[str, Any], pods: list[dict[str, Any]]) -> bool:
    """Whether all workers have a node and run, or ran."""
    gone = _gone(workload, pods, "Succeeded")
    return sum(map(has_started, pods)) + gone >= workers_of(workload)


def end_of(workload: dict[str, Any], pods: list[dict[str, Any]], now: datetime) -> PodEnd | None:
    """How it ended, or None while it has not.

    The end of several workers is that of the one which made the others fail. An ordinary failure
    is judged when all have ended, for its cause may show later than what came of it.

    Args:
        workload: A pod or a Job, as the API has it (JSON), read after its pods.
        pods: Its pods.
        now: The time.
    """
    if workers_of(workload) == 1:
        return pod_end(workload, now)
    if late := _deadline(workload):
        return PodEnd(TIMED_OUT, told=late)
    ended, bad = 0, []
    for pod in pods:
        number, end = worker_number(pod), pod_end(pod, now)
        if end is None:
            continue
        ended += 1
        if end.kind != EXITED or end.exit_code:
            told = end.told and f"worker {number}: {end.told}"
            end = dataclasses.replace(end, told=told, worker=number)
            bad.append((_rank(end), ended_at(pod) or now, number, end))
        elif number == 0:
            return end  # it left the report: the others have done their part
    if len(pods) < workers_of(workload) and _gone(workload, pods, "Failed"):
        lost = PodEnd(LOST, told="one of its workers is gone")
        bad.append((_rank(lost), now, -1, lost))
    if not bad:
        return None
    *_, cause = min(bad)
    waited_s = (now - min(when for _, when, *_ in bad)).total_seconds()
    is_certain = cause.kind != EXITED or cause.exit_code in TOLD
    if is_certain or ended == workers_of(workload) or waited_s > CAUSE_WITHIN_S:
        return cause
    return None


def _rank(end: PodEnd) -> int:
    """The lower, the more certain is it that the others failed because of it."""
    if end.kind in _CAUSES:
        return _CAUSES.index(end.kind)
    return len(_CAUSES) + (end.exit_code not in TOLD)


def _deadline(job: dict[str, Any]) -> str | None:
    """What the Job says of its deadline, once that is over: it removes its pods then."""
    for kind in ("FailureTarget", "Failed"):
        failed = condition(job["status"], kind) or {}
        if failed.get("reason") == "DeadlineExceeded":
            return failed.get("message") or failed["reason"]
    return None


def _gone(workload: dict[str, Any], pods: list[dict[str, Any]], phase: str) -> int:
    """How many pods ended in a phase and are not there any more: a Job counts before they go."""
    counted = workload["status"].get(phase.lower()) or 0
    return max(0, counted - sum(pod["status"].get("phase") == phase for pod in pods))
