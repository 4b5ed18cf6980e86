"""What pods took: the pod hours and GPU hours of runs and of days, in the lake.

For each pod two empty objects, whose names say it all, so that a listing sums what was spent:

    usage/DAY/RUN/POD~begun~SINCE~UNTIL~PODS~GPUS    before it is started; UNTIL: at the latest
    usage/DAY/RUN/POD~ended~SINCE~UNTIL~PODS~GPUS    when it was removed, or was seen to be gone

A pod is known by its name, and counts once however often it is noted. No pod is started that is not
noted first: one whose end nobody noted (its task was marked or cleared, Airflow died) counts as if
it still ran, until somebody who looks into the cluster finds it gone, but not beyond UNTIL.
So too much may be counted for a while, and nothing is lost. DAY is that on which it was begun;
hours after midnight (UTC) count to the next day all the same.

Light on purpose (no pyarrow): Airflow's operator reads it too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from vidpipe.lake import layout

if TYPE_CHECKING:
    from vidpipe.lake.store import ObjectStore

_STATES = ("begun", "ended")


@dataclass(frozen=True)
class Use:
    """What one pod takes, or several that are started as one.

    Attributes:
        day: On which it was begun (UTC), such as 2026-01-31.
        run_key: The run that it works for.
        name: Of the pod; no other ever has it.
        since_s: From when (seconds since 1970).
        until_s: To when; while it has not ended, at the latest.
        pods: How many there are.
        gpus: That all of them have together.
        ended: Whether it has.
    """

    day: str
    run_key: str
    name: str
    since_s: int
    until_s: int
    pods: int = 1
    gpus: int = 0
    ended: bool = False

    @property
    def path(self) -> str:
        """Where it is noted, below the folder of all of them; `parse` reads it."""
        values = (_STATES[self.ended], self.since_s, self.until_s, self.pods, self.gpus)
        return f"{self.day}/{self.run_key}/{'~'.join(map(str, (self.name, *values)))}"

    @classmethod
    def begun(cls, run_key: str, name: str, most_s: int, *, pods: int = 1, gpus: int = 0) -> Use:
        """Of what is about to be started, and ends within `most_s`."""
        moment = datetime.now(UTC)
        since_s = int(moment.timestamp())
        return cls(f"{moment:%F}", run_key, name, since_s, since_s + most_s, pods, gpus)

    @classmethod
    def parse(cls, path: str) -> Use:
        """Reads what `path` says."""
        day, run_key, told = path.split("/")
        name, state, *numbers = told.split("~")
        return cls(day, run_key, name, *map(int, numbers), ended=state == "ended")

    def end(self, since: datetime, until: datetime) -> Use:
        """The same when it has ended."""
        since_s, until_s = int(since.timestamp()), int(until.timestamp())
        return dataclasses.replace(self, since_s=since_s, until_s=until_s, ended=True)


@dataclass(frozen=True)
class Spent:
    """What pods took together.

    Attributes:
        pods: How many there were.
    """

    pods: int
    pod_hours: float
    gpu_hours: float

    def __str__(self) -> str:
        return f"{self.pod_hours:.3f} pod hours and {self.gpu_hours:.3f} GPU hours"


def spent(uses: Iterable[Use], now: datetime, *, since: datetime | None = None) -> Spent:
    """Sums what pods took.

    Args:
        uses: Of the pods, each once or more often.
        now: To when; what has not ended counts up to then.
        since: From when; None: from the beginning.
    """
    known: dict[str, Use] = {}
    for use in uses:
        # Of several ends the first is right: those who came later only saw that it is gone.
        before = known.setdefault(use.name, use)
        if (not use.ended, use.until_s - use.since_s) < (
            not before.ended,
            before.until_s - before.since_s,
        ):
            known[use.name] = use
    now_s, from_s = now.timestamp(), since.timestamp() if since else 0.0
    took_s = {
        use: max(0.0, min(use.until_s, now_s) - max(use.since_s, from_s)) for use in known.values()
    }
    return Spent(
        sum(use.pods for use in took_s),
        sum(use.pods * seconds for use, seconds in took_s.items()) / 3600,
        sum(use.gpus * seconds for use, seconds in took_s.items()) / 3600,
    )


class Ledger:
    """Where it is noted what pods take.

    Args:
        store: Where the lake is.
        lake_uri: The lake.
    """

    def __init__(self, store: ObjectStore, lake_uri: str):
        self._store = store
        self._lake_uri = lake_uri
        self._folder = layout.usage_uri(lake_uri)

    def note(self, use: Use) -> None:
        """Notes that a pod is about to begin, or has ended."""
        if not use.ended:
            self._store.put(layout.usage_days_uri(self._lake_uri, use.run_key) + use.day, b"")
        self._store.put(self._folder + use.path, b"")

    def of_run(self, run_key: str) -> Iterator[Use]:
        """Yields what the pods of a run took."""
        days = layout.usage_days_uri(self._lake_uri, run_key)
        for found in list(self._store.list(days)):
            yield from self._below(f"{found.uri.removeprefix(days)}/{run_key}/")

    def of_day(self, deployment: str, day: datetime) -> Iterator[Use]:
        """Yields what pods of a deployment took that were begun on a day or on the day before.

        No pod of a shard may run for longer.
        """
        for begun in (day - timedelta(days=1), day):
            yield from self._below(f"{begun:%F}/{layout.run_keys_begin(deployment)}")

    def _below(self, prefix: str) -> Iterator[Use]:
        for found in self._store.list(self._folder + prefix):
            yield Use.parse(found.uri.removeprefix(self._folder))
