"""The pods of stages: what they look like, and how they are started, found again and removed.

Beneath is the Kubernetes provider's hook. Its KubernetesPodOperator is not: it adopts pods that are
being deleted, leaves those that were given up while they waited, and knows one kind of failure.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import urllib3
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from kubernetes.client import ApiClient, ApiException
from kubernetes.config import ConfigException

from vidpipe.config import KubernetesSettings, Settings
from vidpipe.errors import TemporaryError, UsageError
from vidpipe.lake.usage import Use
from vidpipe.orchestration import accounts
from vidpipe.orchestration.accounts import Accounts
from vidpipe.orchestration.ceilings import Ceilings
from vidpipe.orchestration.pod_end import CONTAINER, pod_end
from vidpipe.orchestration.resources import Resources
from vidpipe.stages.manifest import now
from vidpipe.version import code_version

log = logging.getLogger(__name__)

USER_ID = 10001
SCRATCH = "/scratch"
# As long as a stage may take to leave its work in order, and a little.
GRACE_S = 25
# Nodes that do not answer are waited for no longer.
UNREACHABLE_S = 30
TASK, WORK = "vidpipe.io/task", "vidpipe.io/work"
DEPLOYMENT = "vidpipe.io/deployment"
MANAGED_BY = {"app.kubernetes.io/managed-by": "vidpipe"}


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
        deadline_s: After so long Kubernetes ends it, whatever became of Airflow.
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
    ceilings: Ceilings = Ceilings()
    annotations: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def label(*parts: object) -> str:
    """A label that stands for something longer."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:40]


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
        "VIDPIPE_CODE_VERSION": code_version(),
        # What it is at work on, should it be killed: Kubernetes keeps it in the pod's status.
        "VIDPIPE_WORKING_FILE": "/dev/termination-log",
        **request.environment,
    }
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": image,
        "args": request.arguments,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
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
            "annotations": request.annotations,
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
        self._accounts = Accounts(settings, lambda: self._list(self._ours))
        self._hook = KubernetesHook()
        try:
            self._core = self._hook.core_v1_client
        except (ConfigException, OSError) as error:
            raise UsageError(
                f"There is no Kubernetes to run pods in: {error}. Run Airflow in the cluster, or"
                " give it a connection kubernetes_default, or a kubeconfig."
            ) from error

    @property
    def in_cluster(self) -> bool:
        """Whether this process runs in the cluster itself."""
        return self._hook.is_in_cluster

    def start_or_find(self, request: PodRequest, resources: Resources) -> tuple[str, bool]:
        """Starts the pod of a request, unless an earlier try left one that is well.

        Other pods of the same task are removed: nobody waits for them any longer.

        Returns:
            Name of the pod, and whether it was found.
        """
        found = None
        for pod in self._list(f"{TASK}={request.task}"):
            meta = pod["metadata"]
            if meta.get("deletionTimestamp"):
                self._accounts.end(pod)
                continue  # it would take with it whoever relied on it
            ended = pod_end(pod, now())
            usable = ended is None or ended.exit_code == 0
            if found is None and usable and meta["labels"].get(WORK) == request.work:
                found = meta["name"]
            else:
                self._remove(pod)
        if found:
            return found, True
        self._accounts.require_below(request.run_key, request.ceilings, resources.gpus)
        manifest = pod_manifest(request, resources, self.settings)
        name = manifest["metadata"]["name"]
        most_s = request.deadline_s + int(self.settings.max_wait_s)
        use = Use.begun(request.run_key, name, most_s, gpus=resources.gpus)
        with self._accounts.beginning(manifest, use, lambda: self._read(name) is not None):
            self._call(
                self._core.create_namespaced_pod, namespace=self.settings.namespace, body=manifest
            )
        return name, False

    def remove(self, name: str, *, at_once: bool = False) -> None:
        """Removes a pod, whatever it does, and notes what it took; none of that name is fine.

        Args:
            name: Of the pod.
            at_once: Without asking its node, which may be gone.
        """
        if pod := self._read(name):
            self._remove(pod, **({"grace_period_seconds": 0} if at_once else {}))

    def remove_all(self, task: str) -> None:
        """Removes all pods of a task."""
        for pod in self._list(f"{TASK}={task}"):
            self._remove(pod)

    def sweep(self, is_over: Callable[[dict[str, str]], bool]) -> dict[str, int]:
        """Removes what was started for tasks that do not wait for it any longer.

        Args:
            is_over: Whether the task that annotations tell of is over. Nobody is asked about what
                began some minutes ago.

        Returns:
            How many of each kind are removed.
        """
        core, batch = self._core, self._hook.batch_v1_client
        # A Job takes its pods with it.
        kinds = {
            "Jobs": (
                batch.list_namespaced_job,
                functools.partial(batch.delete_namespaced_job, propagation_policy="Background"),
            ),
            "Services": (core.list_namespaced_service, core.delete_namespaced_service),
            "pods": (core.list_namespaced_pod, core.delete_namespaced_pod),
        }
        removed = dict.fromkeys(kinds, 0)
        for kind, (list_all, delete) in kinds.items():
            for thing in self._list(self._ours, list_all):
                meta = thing["metadata"]
                age = now() - now().fromisoformat(meta["creationTimestamp"])
                is_going = meta.get("deletionTimestamp") or meta.get("ownerReferences")
                if is_going or age < accounts.LEFT_AFTER:
                    continue
                if is_over(meta.get("annotations") or {}):
                    log.info("%s is removed: its task is over", meta["name"])
                    self._delete(delete, meta["name"])
                    removed[kind] += 1
                    if kind == "pods":
                        self._accounts.end(thing)
        self._accounts.settle()
        return removed

    # --- What the API is asked --------------------------------------------------------------------

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            pod = self._core.read_namespaced_pod(name, self.settings.namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise _meant(error, self.settings) from error
        except urllib3.exceptions.HTTPError as error:
            raise TemporaryError(f"Kubernetes does not answer: {error}") from error
        return ApiClient().sanitize_for_serialization(pod)

    def _remove(self, pod: dict[str, Any], **how: Any) -> None:
        self._delete(self._core.delete_namespaced_pod, pod["metadata"]["name"], **how)
        self._accounts.end(pod)

    def _delete(self, function: Any, name: str, **how: Any) -> None:
        try:
            function(name, self.settings.namespace, **how)
        except ApiException as error:
            if error.status != 404:
                raise _meant(error, self.settings) from error
        except urllib3.exceptions.HTTPError as error:
            raise TemporaryError(f"Kubernetes does not answer: {error}") from error

    def _list(self, selector: str, list_all: Any = None) -> Iterator[dict[str, Any]]:
        found = self._call(
            list_all or self._core.list_namespaced_pod,
            namespace=self.settings.namespace,
            label_selector=selector,
        )
        for thing in found.items:
            yield ApiClient().sanitize_for_serialization(thing)

    def _call(self, function: Any, **how: Any) -> Any:
        # The API server may be away for a moment, and be busy.
        for wait_s in (1, 2, 4, 8, 16, 32, None):
            try:
                return function(**how)
            except ApiException as error:
                if wait_s is None or error.status not in (429, 500, 502, 503, 504):
                    raise _meant(error, self.settings) from error
                log.info("Kubernetes is busy (%s); asking again in %s s", error.status, wait_s)
            except urllib3.exceptions.HTTPError as error:
                if wait_s is None:
                    raise TemporaryError(f"Kubernetes does not answer: {error}") from error
                log.info("Kubernetes does not answer; asking again in %s s", wait_s)
            time.sleep(wait_s)


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
