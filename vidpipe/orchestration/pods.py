"""The pods of stages: what they look like, and how they are started, found again and removed.

Where a stage asks for several, they are those of a Job, which is treated as one thing.

Beneath is the Kubernetes provider's hook. Its KubernetesPodOperator is not: it adopts pods that are
being deleted, leaves those that were given up while they waited, and knows one kind of failure.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import urllib3
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from kubernetes.client import ApiClient, ApiException
from kubernetes.config import ConfigException

from vidpipe.config import KubernetesSettings, Settings
from vidpipe.errors import TemporaryError, UsageError, VidpipeError
from vidpipe.lake.usage import Use
from vidpipe.orchestration.accounts import Accounts
from vidpipe.orchestration.ceilings import Ceilings
from vidpipe.orchestration.pod_end import CONTAINER
from vidpipe.orchestration.resources import Resources
from vidpipe.orchestration.workers import (
    JOB,
    is_well,
    job_manifest,
    service_manifest,
    workers_of,
)
from vidpipe.stages.manifest import now

log = logging.getLogger(__name__)

USER_ID = 10001
SCRATCH = "/scratch"
# As long as a stage may take to leave its work in order, and a little.
GRACE_S = 25
# Nodes that do not answer are waited for no longer.
UNREACHABLE_S = 30
TASK, WORK = "vidpipe.io/task", "vidpipe.io/work"
DEPLOYMENT = "vidpipe.io/deployment"
# What a pod says of its task: DAG, run, task with its index; and how often that may be tried, which
# changes when somebody clears it.
ANNOTATIONS = ("vidpipe.io/dag", "vidpipe.io/run", "vidpipe.io/task")
MAX_TRIES = "vidpipe.io/max-tries"
MANAGED_BY = {"app.kubernetes.io/managed-by": "vidpipe"}
# Autoscalers take no node away from it while it works.
_LET_WORK = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}


@dataclass(frozen=True)
class PodRequest:
    """A stage that is to run in a pod.

    Attributes:
        stage: The stage.
        arguments: What follows `vidpipe`.
        task: Names the task of Airflow, its tries together.
        work: Names what is to be done; two pods of one work do the same.
        deployment: Whose it is.
        run_key: The run that it works for.
        deadline_s: After so long on a node Kubernetes ends it, whatever became of Airflow.
        max_wait_s: What has no node after so long is given up.
        ceilings: It is not started when one of them is reached.
        annotations: For people, and for `maintain`.
        environment: What the stage is told beside its configuration.
    """

    stage: str
    arguments: list[str]
    task: str
    work: str
    deployment: str
    run_key: str
    deadline_s: int
    max_wait_s: int
    ceilings: Ceilings = Ceilings()
    annotations: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def label(*parts: object) -> str:
    """A label that stands for something longer."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:40]


def _literal(text: str) -> str:
    """Escapes a text for Kubernetes, which reads `$(NAME)` as a variable, also one of a Secret."""
    return text.replace("$", "$$")


def pod_manifest(
    request: PodRequest, resources: Resources, settings: KubernetesSettings
) -> dict[str, Any]:
    """What is sent to Kubernetes: a pod that passes Pod Security `restricted`."""
    image = resources.image or (resources.gpus and settings.gpu_image) or settings.worker_image
    if not image:
        raise UsageError("[kubernetes] worker_image is empty: name the image of docker/ to run.")
    requests = {
        "cpu": resources.cpu,
        "memory": resources.memory,
        "ephemeral-storage": resources.ephemeral_storage,
    }
    limits = {name: requests[name] for name in ("memory", "ephemeral-storage")}
    if resources.cpu_limit:
        limits["cpu"] = resources.cpu_limit
    volumes = [{"name": "scratch", "emptyDir": {"sizeLimit": resources.scratch}}]
    mounts = [{"name": "scratch", "mountPath": SCRATCH}]
    if resources.gpus:
        limits[resources.gpu_resource] = requests[resources.gpu_resource] = str(resources.gpus)
        # Workers of one pod talk through it; its default of 64 MB is too small.
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    environment = {
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": SCRATCH,
        "HOME": SCRATCH,
        # What it is at work on, should it be killed: Kubernetes keeps it in the pod's status.
        "VIDPIPE_WORKING_FILE": "/dev/termination-log",
        **request.environment,
    }
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": image,
        "args": [_literal(argument) for argument in request.arguments],
        "env": [{"name": name, "value": _literal(text)} for name, text in environment.items()],
        "envFrom": [
            {"configMapRef": {"name": settings.config_map, "optional": True}},
            {"secretRef": {"name": settings.secret, "optional": True}},
        ],
        "resources": {"requests": requests, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if settings.image_pull_policy:
        container["imagePullPolicy"] = settings.image_pull_policy
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": request.deadline_s,
        "terminationGracePeriodSeconds": GRACE_S,
        "serviceAccountName": resources.service_account or settings.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
        "nodeSelector": resources.node_selector,
        "tolerations": [
            *resources.tolerations,
            *(
                {
                    "key": f"node.kubernetes.io/{state}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": UNREACHABLE_S,
                }
                for state in ("unreachable", "not-ready")
            ),
        ],
    }
    if resources.priority_class:
        spec["priorityClassName"] = resources.priority_class
    if resources.runtime_class:
        spec["runtimeClassName"] = resources.runtime_class
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"vidpipe-{request.stage}-{request.work[:8]}-{secrets.token_hex(4)}",
            "labels": {
                **MANAGED_BY,
                "app.kubernetes.io/component": request.stage,
                TASK: request.task,
                WORK: request.work,
                DEPLOYMENT: label(request.deployment),
            },
            "annotations": {**_LET_WORK, **request.annotations},
        },
        "spec": spec,
    }


class Cluster:
    """Where the pods of this installation run.

    Raises:
        UsageError: There is no cluster, or it does not let vidpipe in.
        TemporaryError: It does not answer.
    """

    def __init__(self, settings: Settings):
        self.settings = settings.kubernetes
        self._ours = f"{DEPLOYMENT}={label(settings.deployment)}"
        self._accounts = Accounts(settings, lambda: self._pods(self._ours))
        self._hook = KubernetesHook()
        try:
            self._core, self._batch = self._hook.core_v1_client, self._hook.batch_v1_client
        except (ConfigException, OSError) as error:
            raise UsageError(
                f"There is no Kubernetes to run pods in: {error}. Run Airflow in the cluster, or"
                " give it a connection kubernetes_default, or a kubeconfig."
            ) from error

    @property
    def in_cluster(self) -> bool:
        """Whether this process runs in the cluster itself."""
        return self._hook.is_in_cluster

    def start_or_find(self, request: PodRequest, resources: Resources) -> tuple[str, int, bool]:
        """Starts the pod or the Job of a request, unless an earlier try left one that is well.

        Others of the same task are removed: nobody waits for them any longer.

        Returns:
            Its name, how many workers it has, and whether it was found.
        """
        found = None
        for workload in self._workloads(f"{TASK}={request.task}"):
            meta = workload["metadata"]
            if meta.get("deletionTimestamp"):
                self._accounts.end(self._pods_of(workload))
                continue  # it would take with it whoever relied on it
            of_request = request.annotations.get(MAX_TRIES)
            # A task that was cleared since begins anew.
            is_same = meta["labels"].get(WORK) == request.work and of_request == (
                meta.get("annotations") or {}
            ).get(MAX_TRIES, of_request)
            if found is None and is_same and is_well(workload, now()):
                found = workload
            else:
                self._remove(workload)
        workload = found or self._start(request, resources)
        if workers_of(workload) > 1:
            self._name_workers(workload)
        return workload["metadata"]["name"], workers_of(workload), found is not None

    def remove(self, name: str, workers: int = 1, *, at_once: bool = False) -> None:
        """Removes a pod or a Job, whatever it does, and notes what it took; none is fine.

        Args:
            name: Its name.
            workers: How many it has: several are a Job.
            at_once: Without asking the nodes of those that were told to go: they may be gone.
        """
        if workload := self._read(name, workers):
            self._remove(workload, at_once=at_once)

    def remove_all(self, task: str) -> None:
        """Removes all that runs for a task."""
        for workload in self._workloads(f"{TASK}={task}"):
            self._remove(workload)

    def sweep(self, is_over: Callable[[dict[str, str]], bool]) -> dict[str, int]:
        """As `remove_left`, and notes the ends of pods that nobody saw."""
        removed = self.remove_left(is_over)
        self._accounts.settle()
        return removed

    def remove_left(self, is_over: Callable[[dict[str, str]], bool]) -> dict[str, int]:
        """Removes what was started for tasks that do not wait for it any longer.

        Args:
            is_over: Whether the task that annotations tell of is over.

        Returns:
            How many of each kind are removed.
        """
        removed = {"pods": 0, "Jobs": 0}
        for workload in self._workloads(self._ours):
            meta = workload["metadata"]
            if meta.get("deletionTimestamp"):
                continue
            if is_over(meta.get("annotations") or {}):
                log.info("%s is removed: its task is over", meta["name"])
                self._remove(workload)
                removed["pods" if workers_of(workload) == 1 else "Jobs"] += 1
        return removed

    def _start(self, request: PodRequest, resources: Resources) -> dict[str, Any]:
        workers, gpus = resources.workers, resources.gpus
        self._accounts.require_below(request.run_key, request.ceilings, gpus)
        pod = pod_manifest(request, resources, self.settings)
        name = pod["metadata"]["name"]
        most_s = request.deadline_s + request.max_wait_s
        use = Use.begun(request.run_key, name, most_s, pods=workers, gpus=gpus * workers)
        with self._accounts.beginning(pod, use, lambda: bool(self._read(name, workers))):
            if workers == 1:
                return self._create(self._core.create_namespaced_pod, pod, workers)
            # Whatever forbids the pod would else be told to the Job alone, which keeps trying.
            self._call(self._core.create_namespaced_pod, body=pod, dry_run="All")
            job = job_manifest(pod, workers, request.max_wait_s)
            return self._create(self._batch.create_namespaced_job, job, workers)

    def _create(self, create: Any, body: dict[str, Any], workers: int) -> dict[str, Any]:
        name = body["metadata"]["name"]
        if made := self._call(create, fine=409, body=body):
            return _json(made)
        # Nothing else has its name: it was made, and the answer was lost.
        if found := self._read(name, workers):
            return found
        raise TemporaryError(f"Kubernetes answered 409 to {name}, and did not make it.")

    def _remove(self, workload: dict[str, Any], *, at_once: bool = False) -> None:
        name, pods = workload["metadata"]["name"], self._pods_of(workload)
        told_to_go = pods
        if workers_of(workload) > 1:
            told_to_go = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
            # Kubernetes tells its other pods to go, and removes its Service.
            self._call(
                self._batch.delete_namespaced_job,
                fine=404,
                name=name,
                propagation_policy="Background",
            )
        grace = {"grace_period_seconds": 0} if at_once else {}
        for pod in told_to_go:
            pod_name = pod["metadata"]["name"]
            self._call(self._core.delete_namespaced_pod, fine=404, name=pod_name, **grace)
        self._accounts.end(pods)

    def _name_workers(self, job: dict[str, Any]) -> None:
        service = service_manifest(job)
        try:
            self._call(self._core.create_namespaced_service, fine=409, body=service)
        except VidpipeError:
            # Its workers would look for each other until their time is over.
            self.remove(job["metadata"]["name"], workers_of(job))
            raise

    def _workloads(self, selector: str) -> list[dict[str, Any]]:
        """Pods by themselves, and Jobs."""
        jobs = self._call(self._batch.list_namespaced_job, label_selector=selector)
        return [*self._pods(f"{selector},!{JOB}"), *map(_json, jobs.items)]

    def _read(self, name: str, workers: int) -> dict[str, Any] | None:
        """A pod or a Job, or None where there is none."""
        read = self._core.read_namespaced_pod if workers == 1 else self._batch.read_namespaced_job
        found = self._call(read, fine=404, name=name)
        return found and _json(found)

    def _pods_of(self, workload: dict[str, Any]) -> list[dict[str, Any]]:
        if workers_of(workload) == 1:
            return [workload]
        return self._pods(f"{JOB}={workload['metadata']['name']}")

    def _pods(self, selector: str) -> list[dict[str, Any]]:
        pods = self._call(self._core.list_namespaced_pod, label_selector=selector)
        return list(map(_json, pods.items))

    def _call(self, function: Any, fine: int | None = None, **how: Any) -> Any:
        # The API server may be away for a moment, and be busy.
        for wait_s in (1, 2, 4, 8, 16, 32, None):
            try:
                return function(namespace=self.settings.namespace, **how)
            except ApiException as error:
                if error.status == fine:
                    return None
                if wait_s is None or error.status not in (429, 500, 502, 503, 504):
                    raise _meant(error, self.settings) from error
                log.info("Kubernetes is busy (%s); asking again in %s s", error.status, wait_s)
            except urllib3.exceptions.HTTPError as error:
                if wait_s is None:
                    raise TemporaryError(f"Kubernetes does not answer: {error}") from error
                log.info("Kubernetes does not answer; asking again in %s s", wait_s)
            time.sleep(wait_s)


def _json(answer: Any) -> dict[str, Any]:
    return ApiClient().sanitize_for_serialization(answer)


def _meant(error: ApiException, settings: KubernetesSettings) -> UsageError | TemporaryError:
    told = " ".join(str(error.body or error.reason).split())[:500]
    if error.status in (401, 403) and "exceeded quota" in told:
        return TemporaryError(f"The quota of namespace {settings.namespace} is used up: {told}")
    if error.status in (401, 403):
        return UsageError(f"Kubernetes does not let vidpipe do this: {told}")
    if error.status == 404:
        return UsageError(f"[kubernetes] namespace {settings.namespace!r} does not exist: {told}")
    if error.status in (400, 422):
        return UsageError(f"Kubernetes refuses this pod: {told}")
    return TemporaryError(f"Kubernetes answered {error.status}: {told}")
