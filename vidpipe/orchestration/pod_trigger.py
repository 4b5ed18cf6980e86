"""Waits for a pod in Airflow's triggerer: no worker is held, and its lines are seen as they come.

The provider's own trigger shows no line before the end, or some of them twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import ApiException, CoreV1Api

from vidpipe.orchestration.last_words import LastWords
from vidpipe.orchestration.pod_end import (
    CONTAINER,
    LOST,
    UNABLE,
    PodEnd,
    has_started,
    pod_end,
    waits_for,
)
from vidpipe.orchestration.resources import quantity
from vidpipe.stages.manifest import now

POLL_S = 2.0
TELL_EVERY_S = 60.0
LINE_BYTES = 8192
# What was said last may still be on its way when the pod has ended.
LINES_WITHIN_S = 10.0
# When a line was written, which Kubernetes puts before it.
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)")
_AWAY = (aiohttp.ClientError, TimeoutError, OSError)


class PodTrigger(BaseTrigger):
    """Fires when a pod has ended, with its `end` (a `PodEnd`) and its `course` as dictionaries.

    Args:
        course: The `Course` of the try; names the pod.
        namespace: Of the pod.
        in_cluster: Whether Airflow runs in the cluster itself.
        max_wait_s: A pod that has not started after so long is given up.
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
        self.namespace = namespace
        self.in_cluster = in_cluster
        self.max_wait_s = max_wait_s
        self.autoscaling = autoscaling
        self._told_s = float("-inf")
        self._last = LastWords()
        self._is_over = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("course", "namespace", "in_cluster", "max_wait_s", "autoscaling")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        async with self._connected() as core:
            end = await self._wait(core)
        end = dataclasses.asdict(end.saying(str(self._last)))
        yield TriggerEvent({"end": end, "course": self.course})

    async def on_kill(self) -> None:
        """Somebody marked the task, or cleared it: its pod goes, whatever it does."""
        async with self._connected() as core:
            with contextlib.suppress(ApiException):
                await core.delete_namespaced_pod(self.name, self.namespace)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[CoreV1Api]:
        hook = AsyncKubernetesHook(in_cluster=self.in_cluster or None)
        async with hook.get_conn() as client:
            yield CoreV1Api(client)

    async def _wait(self, core: CoreV1Api) -> PodEnd:
        lines: asyncio.Task | None = None
        try:
            while True:
                pod = await self._read(core)
                end = await self._look_at(core, pod) if pod else PodEnd(LOST, told="it is gone")
                if lines is None and pod and has_started(pod):
                    self.log.info("Pod %s runs on node %s.", self.name, pod["spec"]["nodeName"])
                    lines = asyncio.create_task(self._follow(core))
                if end is not None:
                    self._is_over = True
                    if lines is not None:
                        await asyncio.wait({lines}, timeout=LINES_WITHIN_S)
                    return end
                await asyncio.sleep(POLL_S)
        finally:
            if lines is not None:
                lines.cancel()

    async def _read(self, core: CoreV1Api) -> dict[str, Any] | None:
        """The pod, or None where there is none; waits as long as nobody answers."""
        while True:
            try:
                pod = await core.read_namespaced_pod(self.name, self.namespace)
                return core.api_client.sanitize_for_serialization(pod)
            except ApiException as error:
                if error.status == 404:
                    return None
                if error.status == 403:
                    raise  # that does not mend itself, and says what is not allowed
                self._tell("Kubernetes answers %s; asking again.", error.status)
            except _AWAY as error:
                self._tell("Kubernetes does not answer (%s); asking again.", type(error).__name__)
            await asyncio.sleep(POLL_S)

    async def _look_at(self, core: CoreV1Api, pod: dict[str, Any]) -> PodEnd | None:
        end = pod_end(pod, now())
        if end is not None or has_started(pod):
            return end
        waiting = waits_for(pod)
        if waiting and not self.autoscaling and (why := await self._fits_no_node(core, pod)):
            return PodEnd(UNABLE, told=f"{waiting} {why}")
        created = pod["metadata"]["creationTimestamp"]
        waited_s = (now() - now().fromisoformat(created)).total_seconds()
        if waited_s > self.max_wait_s:
            return PodEnd(
                UNABLE, told=f"It was waited for during {waited_s:.0f} s. {waiting or ''}".strip()
            )
        self._tell("Pod %s waits: %s", self.name, waiting or "it is being started")
        return None

    async def _fits_no_node(self, core: CoreV1Api, pod: dict[str, Any]) -> str | None:
        """What no node could give it, even if it were idle."""
        try:
            nodes = [node.status.allocatable for node in (await core.list_node()).items]
        except (ApiException, *_AWAY):
            return None  # that is known only where one may look at nodes
        asked = pod["spec"]["containers"][0]["resources"]["requests"]
        for name, amount in asked.items():
            most = max((node.get(name, "0") for node in nodes), key=quantity, default="0")
            if quantity(amount) > quantity(most):
                return f"It asks for {amount} of {name}; the largest node offers {most}."
        return None

    def _tell(self, message: str, *values: object) -> None:
        """Says what is waited for, now and then."""
        if time.monotonic() - self._told_s > TELL_EVERY_S:
            self._told_s = time.monotonic()
            self.log.info(message, *values)

    # --- Lines ------------------------------------------------------------------------------------

    async def _follow(self, core: CoreV1Api) -> None:
        """Shows each line once, also where the connection breaks."""
        # The time of the last line, and how many had that very time: what is asked for begins with
        # a whole second, so that some lines come again.
        last, of_last, complaint = "", 0, ""
        while True:
            over = self._is_over
            again, of_again = last, of_last
            with contextlib.suppress(ApiException, *_AWAY):
                async for raw in _lines(await self._open_log(core, last)):
                    stamp, _, line = raw.partition(" ")
                    if not _STAMP.fullmatch(stamp):
                        # The node's own words, in place of the log.
                        if raw != complaint:
                            complaint = raw
                            self.log.warning("The log of the pod cannot be read: %s", raw)
                        break
                    if stamp < again:
                        continue
                    if stamp == again and of_again:
                        of_again -= 1
                        continue
                    last, of_last = stamp, of_last + 1 if stamp == last else 1
                    self._show(line)
                if over:
                    return
            await asyncio.sleep(POLL_S / 2)

    async def _open_log(self, core: CoreV1Api, since: str) -> aiohttp.StreamReader:
        response = await core.read_namespaced_pod_log(
            self.name,
            self.namespace,
            container=CONTAINER,
            follow=True,
            timestamps=True,
            _preload_content=False,
            _request_timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            **({"since_seconds": _seconds_since(since)} if since else {}),
        )
        if not response.ok:
            raise ApiException(status=response.status, reason=response.reason)
        return response.content

    def _show(self, line: str) -> None:
        if line := line.rstrip():
            self.log.info("%s", line)
            self._last.add(line)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[str]:
    """Lines of a stream; the rest of one that is too long is left out."""
    begun = b""
    async for chunk in content.iter_any():
        *whole, begun = (begun + chunk).split(b"\n")
        for line in whole:
            yield line[:LINE_BYTES].decode("utf-8", "replace")
        begun = begun[:LINE_BYTES]
    if begun:
        yield begun.decode("utf-8", "replace")


def _seconds_since(stamp: str) -> int:
    # Nanoseconds are more than Python's times hold.
    moment = now().fromisoformat(f"{stamp[:19]}+00:00")
    return max(1, int((now() - moment).total_seconds()) + 2)
