"""The accounts of pods: what they take is noted in the lake, and held against the ceilings.

See `vidpipe/lake/usage.py` for what is noted. Of pods whose end is not noted the cluster is asked:
one that waits for a node takes nothing, one that runs counts with its time so far, and one that is
gone, when nobody looked, has its end noted now.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from vidpipe.config import Settings
from vidpipe.errors import VidpipeError
from vidpipe.lake.store import open_store
from vidpipe.lake.usage import Ledger, Use, spent
from vidpipe.orchestration.ceilings import DAY, RUN, Ceilings
from vidpipe.orchestration.pod_end import time_on_node
from vidpipe.stages.manifest import now

log = logging.getLogger(__name__)

# What is younger may just be on its way: a pod is noted before it is there, and is there before its
# task waits for it.
LEFT_AFTER = timedelta(minutes=10)
USE = "vidpipe.io/use"

Pod = dict[str, Any]


class Accounts:
    """What the pods of this deployment take.

    Args:
        settings: Of the deployment.
        list_pods: Gives its pods that are there, as the API has them (JSON).
    """

    def __init__(self, settings: Settings, list_pods: Callable[[], Iterable[Pod]]):
        self._deployment = settings.deployment
        self._ledger = Ledger(open_store(settings), settings.lake.uri)
        self._list_pods = list_pods

    def require_below(self, run_key: str, ceilings: Ceilings, gpus: int) -> None:
        """Refuses one more pod of a run where a ceiling is reached.

        Raises:
            CeilingError: A ceiling is reached.
        """
        if ceilings.concern(RUN, gpus):
            uses = self._seen(self._ledger.of_run(run_key))
            ceilings.require_below(RUN, spent(uses, now()), gpus)
        if ceilings.concern(DAY, gpus):
            today = now().replace(hour=0, minute=0, second=0, microsecond=0)
            uses = self._seen(self._ledger.of_day(self._deployment, today))
            ceilings.require_below(DAY, spent(uses, now(), since=today), gpus)

    @contextlib.contextmanager
    def beginning(self, pod: Pod, use: Use, is_there: Callable[[], bool]) -> Iterator[None]:
        """Notes a pod that is started while this lasts; the pod says where it is noted.

        Args:
            pod: Its manifest.
            use: What it takes.
            is_there: Tells, where its start failed, whether it began all the same: an answer may
                have been lost.
        """
        meta = pod["metadata"]
        meta["annotations"] = {**meta["annotations"], USE: use.path}
        self._ledger.note(use)
        try:
            yield
        except VidpipeError:
            with contextlib.suppress(VidpipeError):
                if not is_there():
                    self._ledger.note(use.end(now(), now()))
            raise

    def end(self, pods: Iterable[Pod]) -> None:
        """Notes the end of pods that were removed, as they were seen before."""
        for path, (since, until) in _times(pods).items():
            use = Use.parse(path).end(since, until)
            try:
                self._ledger.note(use)
            except VidpipeError as error:
                # It counts on, until somebody sees that it is gone.
                log.warning("What %s took is not noted: %s", use.name, error)

    def settle(self) -> None:
        """Notes the ends of today's pods that are gone."""
        self._seen(self._ledger.of_day(self._deployment, now()))

    def _seen(self, noted: Iterable[Use]) -> list[Use]:
        uses = list(noted)
        ended = {use.name for use in uses if use.ended}
        there = _times(self._list_pods())
        return [
            use if use.name in ended else self._look_at(use, there.get(use.path)) for use in uses
        ]

    def _look_at(self, use: Use, seen: tuple[datetime, datetime] | None) -> Use:
        if seen:
            return dataclasses.replace(use.end(*seen), ended=False)
        begun, at_most = (datetime.fromtimestamp(s, UTC) for s in (use.since_s, use.until_s))
        if begun < now() - LEFT_AFTER:
            use = use.end(begun, min(now(), at_most))
            self._ledger.note(use)
        return use


def _times(pods: Iterable[Pod]) -> dict[str, tuple[datetime, datetime]]:
    """From when to when pods took places, by where that is noted; several may be one use."""
    times = collections.defaultdict(list)
    for pod in pods:
        if path := (pod["metadata"].get("annotations") or {}).get(USE):
            times[path].append(time_on_node(pod, now()))
    return {path: (min(of)[0], max(until for _, until in of)) for path, of in times.items()}
