"""The pods of stages: what they look like, and how they are started, found again and removed.

Beneath is the Kubernetes provider's hook. Its KubernetesPodOperator is not: it adopts pods that are
being deleted, leaves those that were given up while they waited, and knows one kind of failure.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import urllib3
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from kubernetes.client import ApiClient, ApiException
from kubernetes.config import ConfigException

from vidpipe.config import KubernetesSettings, Settings
from vidpipe.errors import TemporaryError, UsageError, VidpipeError
from vidpipe.lake.store import open_store
from vidpipe.lake.usage import Ledger, Use, spent
from vidpipe.orchestration.ceilings import DAY, RUN, Ceilings
from vidpipe.orchestration.pod_end import CONTAINER, pod_end, time_on_node
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
# What is younger may just be on its way: a pod is noted before it is there, and is there before its
# task waits for it.
LEFT_AFTER = timedelta(minutes=10)
TASK, WORK = "vidpipe.io/task", "vidpipe.io/work"
DEPLOYMENT, USE = "vidpipe.io/deployment", "vidpipe.io/use"
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
        self._deployment = settings.deployment
        self._ledger = Ledger(open_store(settings), settings.lake.uri)
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
                self._note_end(pod)
                continue  # it would take with it whoever relied on it
            ended = pod_end(pod, now())
            usable = ended is None or ended.exit_code == 0
            if found is None and usable and meta["labels"].get(WORK) == request.work:
                found = meta["name"]
            else:
                self._remove(pod)
        if found:
            return found, True
        self._require_below_ceilings(request, resources.gpus)
        manifest = pod_manifest(request, resources, self.settings)
        name = manifest["metadata"]["name"]
        most_s = request.deadline_s + int(self.settings.max_wait_s)
        use = Use.begun(request.run_key, name, most_s, gpus=resources.gpus)
        manifest["metadata"]["annotations"] = {**request.annotations, USE: use.path}
        self._ledger.note(use)
        try:
            self._call(
                self._core.create_namespaced_pod, namespace=self.settings.namespace, body=manifest
            )
        except VidpipeError:
            # It may be there all the same, where no answer came.
            with contextlib.suppress(VidpipeError):
                if self._read(name) is None:
                    self._ledger.note(use.end(now(), now()))
            raise
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
                if meta.get("deletionTimestamp") or meta.get("ownerReferences") or age < LEFT_AFTER:
                    continue
                if is_over(meta.get("annotations") or {}):
                    log.info("%s is removed: its task is over", meta["name"])
                    self._delete(delete, meta["name"])
                    removed[kind] += 1
                    if kind == "pods":
                        self._note_end(thing)
        self._seen(self._ledger.of_day(self._deployment, now()))
        return removed

    # --- What pods take ---------------------------------------------------------------------------

    def _require_below_ceilings(self, request: PodRequest, gpus: int) -> None:
        ceilings = request.ceilings
        if ceilings.concern(RUN, gpus):
            uses = self._seen(self._ledger.of_run(request.run_key))
            ceilings.require_below(RUN, spent(uses, now()), gpus)
        if ceilings.concern(DAY, gpus):
            today = now().replace(hour=0, minute=0, second=0, microsecond=0)
            uses = self._seen(self._ledger.of_day(self._deployment, today))
            ceilings.require_below(DAY, spent(uses, now(), since=today), gpus)

    def _seen(self, noted: Iterable[Use]) -> list[Use]:
        """What pods took, with what the cluster knows of those whose end is not noted."""
        uses = list(noted)
        ended = {use.name for use in uses if use.ended}
        there = collections.defaultdict(list)
        for pod in self._list(self._ours):
            path = (pod["metadata"].get("annotations") or {}).get(USE)
            there[path].append(time_on_node(pod, now()))
        seen = []
        for use in uses:
            if use.name not in ended:
                if times := there.get(use.path):
                    since, until = min(times)[0], max(end for _, end in times)
                    use = dataclasses.replace(use.end(since, until), ended=False)
                elif (since := datetime.fromtimestamp(use.since_s, UTC)) < now() - LEFT_AFTER:
                    use = use.end(since, min(now(), datetime.fromtimestamp(use.until_s, UTC)))
                    self._ledger.note(use)
            seen.append(use)
        return seen

    def _note_end(self, pod: dict[str, Any]) -> None:
        if path := (pod["metadata"].get("annotations") or {}).get(USE):
            try:
                self._ledger.note(Use.parse(path).end(*time_on_node(pod, now())))
            except VidpipeError as error:
                # The pod counts on, until somebody sees that it is gone.
                log.warning("What pod %s took is not noted: %s", pod["metadata"]["name"], error)

    # --- What the API is asked --------------------------------------------------------------------

    @property
    def _ours(self) -> str:
        return f"{DEPLOYMENT}={label(self._deployment)}"

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
        self._note_end(pod)

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
