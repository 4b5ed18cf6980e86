"""What pods took: counted once, cut at midnight, and never lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.lake.usage import Ledger, Use, spent

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOON_S = int(NOON.timestamp())
DAY_S = 86400


@st.composite
def uses(draw: st.DrawFn) -> Use:
    since_s = NOON_S + draw(st.integers(-DAY_S, DAY_S))
    until_s = since_s + draw(st.integers(0, DAY_S))
    day = f"{datetime.fromtimestamp(since_s, UTC):%F}"
    pods, per_pod = draw(st.integers(1, 4)), draw(st.integers(0, 2))
    name = draw(st.uuids().map("vidpipe-{}".format))
    ended = draw(st.booleans())
    return Use(day, "tests.dag.run.0", name, since_s, until_s, pods, pods * per_pod, ended)


def hours(taken: list[Use], now_s: int) -> tuple[float, float]:
    """Pod hours and GPU hours, in the plainest way."""
    seconds = [max(0, min(use.until_s, now_s) - use.since_s) for use in taken]
    return tuple(
        sum(count * s for count, s in zip(counts, seconds, strict=True)) / 3600
        for counts in ([use.pods for use in taken], [use.gpus for use in taken])
    )


@given(uses())
def test_a_name_tells_all(use: Use):
    assert Use.parse(use.path) == use


@given(st.lists(uses(), max_size=8), st.data())
def test_a_pod_counts_once_however_often_it_was_noted(taken: list[Use], data: st.DataObject):
    noted = list(taken)
    for use in taken:
        since = datetime.fromtimestamp(use.since_s, UTC)
        # That it was to begin; and, where it has ended, those who saw later that it is gone.
        noted.append(Use(use.day, use.run_key, use.name, use.since_s - 60, use.until_s + DAY_S))
        if use.ended:
            later_s = use.until_s + data.draw(st.integers(0, DAY_S))
            noted.append(use.end(since, datetime.fromtimestamp(later_s, UTC)))
        else:
            noted.remove(use)
            noted[-1] = use
    now_s = NOON_S + data.draw(st.integers(-DAY_S, 3 * DAY_S))

    found = spent(data.draw(st.permutations(noted)), datetime.fromtimestamp(now_s, UTC))

    assert found.pods == sum(use.pods for use in taken)
    assert (found.pod_hours, found.gpu_hours) == pytest.approx(hours(taken, now_s))


@given(st.lists(uses(), max_size=8))
def test_days_add_up(taken: list[Use]):
    midnight = NOON.replace(hour=0) - timedelta(days=2)
    days = [midnight + timedelta(days=n) for n in range(6)]
    by_day = [spent(taken, day + timedelta(days=1), since=day) for day in days]

    whole = spent(taken, days[-1])

    assert sum(day.pod_hours for day in by_day) == pytest.approx(whole.pod_hours)
    assert sum(day.gpu_hours for day in by_day) == pytest.approx(whole.gpu_hours)


def test_runs_and_days_find_what_was_noted(lake):
    ledger = Ledger(lake.store, lake.uri)
    begun = Use.begun("acme.train.r1.0", "pod-1", 3600, gpus=2)
    other = Use.begun("acme.ingest.r2.0", "pod-2", 3600)
    ended = begun.end(NOON, NOON + timedelta(hours=1))
    for use in (begun, other, Use.begun("acme-2.ingest.r3.0", "pod-3", 3600), ended, ended):
        ledger.note(use)
    today = datetime.now(UTC)

    assert set(ledger.of_run("acme.train.r1.0")) == {begun, ended}
    assert spent(ledger.of_run("acme.train.r1.0"), today).gpu_hours == 2
    assert {use.name for use in ledger.of_day("acme", today)} == {"pod-1", "pod-2"}
    assert {use.name for use in ledger.of_day("acme", today + timedelta(days=1))} == {
        "pod-1",
        "pod-2",
    }
    assert list(ledger.of_day("acme", today + timedelta(days=2))) == []
    assert list(ledger.of_run("acme.train.r1")) == []
