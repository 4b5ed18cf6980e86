"""Waits for a pod, or the Job of several, in Airflow's triggerer.

No worker of Airflow is held meanwhile, and lines are seen as they come. The provider's own trigger
shows no line before the end, or some of them twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import ApiClient, ApiException, BatchV1Api, CoreV1Api

from vidpipe.orchestration.links import MlflowRunLink
from vidpipe.orchestration.pod_end import LOST, UNABLE, PodEnd, ended_at, has_started, waits_for
from vidpipe.orchestration.pod_log import AWAY, PodLog
from vidpipe.orchestration.resources import quantity
from vidpipe.orchestration.workers import JOB, end_of, have_started, worker_number
from vidpipe.stages.manifest import now

POLL_S = 2.0
TELL_EVERY_S = 60.0
# What is wrong with a pod may be over in a moment.
MEND_WITHIN_S = 60.0


class PodTrigger(BaseTrigger):
    """Fires when it has ended, with its `end` (a `PodEnd`) and its `course` as dictionaries.

    Args:
        course: The `Course` of the try; names the pod or the Job.
        namespace: Of the pod.
        in_cluster: Whether Airflow runs in the cluster itself.
        max_wait_s: What has not started after so long is given up, all workers together.
        autoscaling: Whether a pod that fits no node is waited for.
    """

    def __init__(
        self,
        course: dict[str, Any],
        namespace: str,
        in_cluster: bool,
        max_wait_s: float,
        autoscaling: bool,
    ):
        super().__init__()
        self.course = course
        self.name = course["pod"]
        self.workers = course.get("workers", 1)
        self.namespace = namespace
        self.in_cluster = in_cluster
        self.max_wait_s = max_wait_s
        self.autoscaling = autoscaling
        self._told_s = self._looked_s = float("-inf")
        self._wrong_since_s: float | None = None
        self._logs: dict[int, PodLog] = {}
        self._mlflow_url: str | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("course", "namespace", "in_cluster", "max_wait_s", "autoscaling")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        end = None
        try:
            while end is None:
                async with self._connected() as client:
                    end = await self._wait(CoreV1Api(client), BatchV1Api(client))
        finally:
            for log in self._logs.values():
                log.stop()
        yield TriggerEvent(
            {
                "end": dataclasses.asdict(end),
                "course": self.course,
                "mlflow_url": self._mlflow_url,
            }
        )

    async def on_kill(self) -> None:
        """Somebody marked the task, or cleared it: its pods go, whatever they do."""
        async with self._connected() as client:
            with contextlib.suppress(ApiException):
                if self.workers > 1:
                    await BatchV1Api(client).delete_namespaced_job(
                        self.name, self.namespace, propagation_policy="Background"
                    )
                else:
                    await CoreV1Api(client).delete_namespaced_pod(self.name, self.namespace)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[ApiClient]:
        hook = AsyncKubernetesHook(in_cluster=self.in_cluster or None)
        async with hook.get_conn() as client:
            yield client

    async def _wait(self, core: CoreV1Api, batch: BatchV1Api) -> PodEnd | None:
        """Returns its end, or None where the login is over: that of a cloud lasts an hour or so."""
        for log in self._logs.values():
            log.core = core
        while (seen := await self._read(core, batch)) is not None:
            workload, pods = seen
            self._follow(core, pods)
            await self._link_to_run()
            end = await self._look_at(core, workload, pods)
            if end is not None:
                return await self._with_last_words(end, pods)
            await asyncio.sleep(POLL_S)
        return None

    async def _read(
        self, core: CoreV1Api, batch: BatchV1Api
    ) -> tuple[dict[str, Any] | None, list[dict[str, Any]]] | None:
        """The pod or the Job, None where there is none, and its pods; None for a new login.

        Waits as long as nobody answers.
        """
        as_json = core.api_client.sanitize_for_serialization
        while True:
            try:
                if self.workers == 1:
                    pod = as_json(await core.read_namespaced_pod(self.name, self.namespace))
                    return pod, [pod]
                pods = await core.list_namespaced_pod(
                    self.namespace, label_selector=f"{JOB}={self.name}"
                )
                job = await batch.read_namespaced_job(self.name, self.namespace)
                return as_json(job), as_json(pods.items)
            except ApiException as error:
                if error.status == 404:
                    return None, []
                if error.status == 403:
                    raise  # that does not mend itself, and says what is not allowed
                self._tell("Kubernetes answers %s; asking again.", error.status)
                if error.status == 401:
                    await asyncio.sleep(POLL_S)
                    return None
            except AWAY as error:
                self._tell("Kubernetes does not answer (%s); asking again.", type(error).__name__)
            await asyncio.sleep(POLL_S)

    async def _look_at(
        self, core: CoreV1Api, workload: dict[str, Any] | None, pods: list[dict[str, Any]]
    ) -> PodEnd | None:
        if workload is None:
            return PodEnd(LOST, told="it is gone")
        end = end_of(workload, pods, now())
        if end is not None and end.may_mend:
            self._wrong_since_s = self._wrong_since_s or time.monotonic()
            if time.monotonic() - self._wrong_since_s < MEND_WITHIN_S:
                self._tell("%s does not start yet: %s", self.name, end.told)
                return None
        else:
            self._wrong_since_s = None
        if end is not None or have_started(workload, pods):
            return end
        waiting = next(filter(None, map(waits_for, pods)), None)
        # There may be many nodes.
        if waiting and not self.autoscaling and time.monotonic() - self._looked_s > TELL_EVERY_S:
            self._looked_s = time.monotonic()
            if why := await self._fits_no_node(core, pods[0]):
                return PodEnd(UNABLE, told=f"{waiting} {why}")
        if not waiting and len(pods) < self.workers:
            waiting = await self._why_without_pods(core)
        created = workload["metadata"]["creationTimestamp"]
        waited_s = (now() - datetime.fromisoformat(created)).total_seconds()
        if waited_s > self.max_wait_s:
            return PodEnd(
                UNABLE, told=f"It was waited for during {waited_s:.0f} s. {waiting or ''}".strip()
            )
        self._tell("%s waits: %s", self.name, waiting or "it is being started")
        return None

    async def _why_without_pods(self, core: CoreV1Api) -> str | None:
        """What keeps a Job from making its pods, such as a quota that is used up."""
        with contextlib.suppress(ApiException, *AWAY):
            events = await core.list_namespaced_event(
                self.namespace, field_selector=f"involvedObject.name={self.name},type=Warning"
            )
            return next((event.message for event in reversed(events.items)), None)

    async def _fits_no_node(self, core: CoreV1Api, pod: dict[str, Any]) -> str | None:
        """What the nodes could not give it, even if they were idle."""
        try:
            # As the API server has them at hand.
            listed = await core.list_node(resource_version="0")
            nodes = [node.status.allocatable for node in listed.items]
        except (ApiException, *AWAY):
            return None  # that is known only where one may look at nodes
        asked = pod["spec"]["containers"][0]["resources"]["requests"]
        for name, amount in asked.items():
            most = max((node.get(name, "0") for node in nodes), key=quantity, default="0")
            if quantity(amount) > quantity(most):
                return f"It asks for {amount} of {name}; the largest node offers {most}."
        fit = sum(_how_often(asked, node) for node in nodes)
        if fit < self.workers:
            return f"The nodes take {fit} of {self.workers} such pods at a time."
        return None

    def _tell(self, message: str, *values: object) -> None:
        """Says what is waited for, now and then."""
        if time.monotonic() - self._told_s > TELL_EVERY_S:
            self._told_s = time.monotonic()
            self.log.info(message, *values)

    # --- Lines ------------------------------------------------------------------------------------

    def _follow(self, core: CoreV1Api, pods: list[dict[str, Any]]) -> None:
        """Shows what pods say that have started; those after the first by their number."""
        for pod in pods:
            number, name = worker_number(pod), pod["metadata"]["name"]
            if number not in self._logs and has_started(pod):
                self.log.info("Pod %s runs on node %s.", name, pod["spec"]["nodeName"])
                prefix = f"worker {number}: " if number else ""
                self._logs[number] = PodLog(core, self.namespace, name, self.log, prefix)

    async def _link_to_run(self) -> None:
        """Links the task to the run in MLflow that a pod named, while the pod is at work."""
        urls = [log.mlflow_url for log in self._logs.values() if log.mlflow_url]
        if not urls or urls[-1] == self._mlflow_url:
            return
        self._mlflow_url, ti = urls[-1], self.task_instance
        try:
            await XCom.aset(
                MlflowRunLink().xcom_key,
                self._mlflow_url,
                dag_id=ti.dag_id,
                task_id=ti.task_id,
                run_id=ti.run_id,
                map_index=ti.map_index,
            )
        except Exception as error:
            # Only for people; the task has the address when the pod has ended.
            self.log.warning("There is no link to MLflow yet: %s", error)

    async def _with_last_words(self, end: PodEnd, pods: list[dict[str, Any]]) -> PodEnd:
        at_work = {worker_number(pod) for pod in pods if ended_at(pod) is None}
        logs = [log for number, log in self._logs.items() if number not in at_work]
        await asyncio.gather(*(log.show_rest() for log in logs))
        log = self._logs.get(end.worker)
        return end.saying(str(log.said)) if log else end


def _how_often(asked: dict[str, str], node: dict[str, str]) -> int:
    """How many pods that ask for so much an idle node takes."""
    amounts = {name: quantity(amount) for name, amount in asked.items()}
    return min(
        int(quantity(node.get(name, "0")) // amount) for name, amount in amounts.items() if amount
    )
