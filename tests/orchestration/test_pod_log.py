"""The log of a pod, from a server that breaks off and sends lines again, as Kubernetes' does."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api

from vidpipe.orchestration import pod_log
from vidpipe.orchestration.pod_log import PodLog

LINES = 300
# Several in the very same moment, many in the same second.
EVERY = timedelta(milliseconds=20)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What broke off is asked for without a pause."""
    monkeypatch.setattr(pod_log, "AGAIN_S", 0.05)


class Node:
    """Keeps the log of a pod that wrote in the last seconds; breaks off at given lines.

    Args:
        zone: What its stamps are in.
        breaks: How many lines each answer has; in the middle of the one after them it ends. The
            last answer is whole.
        hangs: Whether an answer that breaks off stays open, without a word.
    """

    def __init__(self, zone: timezone, breaks: tuple[int, ...], hangs: bool = False):
        began = datetime.now(UTC) - LINES * EVERY
        self.lines = [(began + n // 3 * 3 * EVERY, f"line {n}") for n in range(LINES)]
        self.zone = zone
        self.breaks = list(breaks)
        self.hangs = hangs
        self.asked = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        since_s = request.query.get("sinceSeconds")
        lines = self.lines
        if since_s:
            since = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=int(since_s))
            lines = [line for line in lines if line[0] >= since]
        text = "".join(f"{self._stamp(when)} {line}\n" for when, line in lines).encode()
        response = web.StreamResponse()
        await response.prepare(request)
        if not self.breaks:
            await response.write(text)
            return response
        whole = text.splitlines(keepends=True)
        number = self.breaks.pop(0)
        await response.write(b"".join(whole[:number]) + whole[number][:40])
        while self.hangs and request.transport:
            await asyncio.sleep(0.05)
        if request.transport:
            request.transport.close()
        return response

    def _stamp(self, when: datetime) -> str:
        # Nine digits, and Z for UTC.
        local = when.astimezone(self.zone).isoformat(timespec="microseconds")
        return f"{local[:26]}000{local[26:]}".replace("+00:00", "Z")


async def shown_of(node: Node, log: logging.Logger) -> str:
    """Follows the log to its end; returns the last line said."""
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/work/pods/pod/log", node.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    try:
        async with ApiClient(Configuration(host=f"http://127.0.0.1:{port}")) as client:
            followed = PodLog(CoreV1Api(client), "work", "pod", log)
            while node.breaks:
                await asyncio.sleep(0.05)
            await followed.show_rest()
            followed.stop()
            return str(followed.said)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("hours", [0, 2, -7])
@pytest.mark.parametrize("breaks", [(), (100,), (1, 200, 30), (299,)])
def test_each_line_is_shown_once(
    caplog: pytest.LogCaptureFixture, hours: int, breaks: tuple[int, ...]
):
    node = Node(timezone(timedelta(hours=hours)), breaks)
    with caplog.at_level(logging.INFO, "pod"):
        said = asyncio.run(shown_of(node, logging.getLogger("pod")))
    shown = [record.getMessage() for record in caplog.records if record.name == "pod"]
    assert shown == [f"line {n}" for n in range(LINES)]
    assert said.endswith(f"line {LINES - 1}")
    assert node.asked >= len(breaks) + 1


def test_connection_that_says_nothing_is_made_anew(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pod_log, "QUIET_S", 0.5)
    node = Node(UTC, (100,), hangs=True)
    with caplog.at_level(logging.INFO, "pod"):
        asyncio.run(shown_of(node, logging.getLogger("pod")))
    shown: list[Any] = [r.getMessage() for r in caplog.records if r.name == "pod"]
    assert shown == [f"line {n}" for n in range(LINES)]
