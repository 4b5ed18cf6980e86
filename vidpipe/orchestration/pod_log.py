"""Shows what a pod says, as it comes: each line once, also where the connection breaks."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
from kubernetes_asyncio.client import ApiException, CoreV1Api

from vidpipe.mlflow_pages import find_run_url
from vidpipe.orchestration.last_words import LastWords
from vidpipe.orchestration.pod_end import CONTAINER
from vidpipe.orchestration.startup_lines import is_startup_line
from vidpipe.stages.manifest import now
from vidpipe.text import printable

AGAIN_S = 1.0
QUIET_S = 60.0
LINE_BYTES = 8192
# What was said last may still be on its way when the pod has ended.
LINES_WITHIN_S = 10.0
# When a line was written, which Kubernetes puts before it.
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)")
AWAY = (aiohttp.ClientError, TimeoutError, OSError)


class PodLog:
    """The log of a pod, followed in the background from now on.

    Args:
        core: Where Kubernetes is asked; may be replaced.
        namespace: Of the pod.
        name: Of the pod.
        log: Where its lines are shown.
        prefix: What is put before each.

    Attributes:
        said: What the pod said last.
        mlflow_url: Page of the run in MLflow that a line named last; None: none did.
    """

    def __init__(self, core: CoreV1Api, namespace: str, name: str, log: Any, prefix: str = ""):
        self.core = core
        self.said = LastWords()
        self.mlflow_url: str | None = None
        self._namespace = namespace
        self._name = name
        self._log = log
        self._prefix = prefix
        self._is_over = False
        self._following = asyncio.create_task(self._follow())

    async def show_rest(self) -> None:
        """Waits for the last lines of a pod that has ended."""
        self._is_over = True
        await asyncio.wait({self._following}, timeout=LINES_WITHIN_S)

    def stop(self) -> None:
        """Shows no more."""
        self._following.cancel()

    async def _follow(self) -> None:
        # The time of the last line, and how many had that very time: what is asked for begins with
        # a whole second, so that some lines come again.
        last, of_last, complaint = "", 0, ""
        while True:
            over = self._is_over
            again, of_again = last, of_last
            with contextlib.suppress(ApiException, *AWAY):
                async for raw in _lines(await self._open(last)):
                    stamp, _, line = raw.partition(" ")
                    if not _STAMP.fullmatch(stamp):
                        # The node's own words, in place of the log.
                        if raw != complaint:
                            complaint = raw
                            self._log.warning(
                                "The log of the pod cannot be read: %s", printable(raw)
                            )
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
            await asyncio.sleep(AGAIN_S)

    async def _open(self, since: str) -> aiohttp.StreamReader:
        response = await self.core.read_namespaced_pod_log(
            self._name,
            self._namespace,
            container=CONTAINER,
            follow=True,
            timestamps=True,
            _preload_content=False,
            # A connection that nothing came through may be dead.
            _request_timeout=aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=QUIET_S),
            **({"since_seconds": _seconds_since(since)} if since else {}),
        )
        if not response.ok:
            raise ApiException(status=response.status, reason=response.reason)
        return response.content

    def _show(self, line: str) -> None:
        line = printable(line.rstrip())
        if line and not is_startup_line(line):
            self._log.info("%s%s", self._prefix, line)
            self.said.add(line)
            self.mlflow_url = find_run_url(line) or self.mlflow_url


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
    return max(1, int((now() - datetime.fromisoformat(stamp)).total_seconds()) + 2)
