"""How sure a number is: intervals by bootstrap over groups, and of a share of an even sample.

Clips of one flight, scene or person are alike: were single clips drawn, a metric would seem surer
than it is. So whole groups are drawn (Davison & Hinkley 1997, cluster bootstrap).

Of few groups a bootstrap makes too much: four videos that are all right are right in each resample.
So below `FEW_GROUPS` it is held against what is exact for any number of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

SAMPLES = 1_000
CONFIDENCE = 0.95
FEW_GROUPS = 30
FLIPS = 20_000


class Interval(NamedTuple):
    """Where a metric lies, with a confidence of 95 %."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


def bootstrap(
    metric: Callable[[np.ndarray], float],
    groups: Sequence[str],
    *,
    lowest: float = 0.0,
    seed: int = 0,
) -> Interval:
    """The interval of a metric, by the percentiles of what it is on resampled groups.

    Of few groups, and at its ends, as where all items are right and so are those of all resamples,
    it is no narrower than that of a share of which each group were one draw.

    Args:
        metric: Of the items with these numbers, among which some are there several times.
        groups: The group of each item.
        lowest: What the metric can be; its highest is 1.
        seed: The same seed gives the same interval.
    """
    values = [metric(rows) for rows in _resamples(groups, seed)]
    tail = (1 - CONFIDENCE) / 2
    # Where nothing that was drawn is of any class, there is nothing to measure.
    low, high = (float(end) for end in np.nanquantile(values, [tail, 1 - tail]))
    count, value = len(set(groups)), metric(np.arange(len(groups)))
    if (count < FEW_GROUPS or value in (lowest, 1)) and not math.isnan(value):
        span = 1 - lowest
        widest = wilson((value - lowest) / span * count, count)
        low, high = min(low, lowest + span * widest.low), max(high, lowest + span * widest.high)
    return Interval(low, high)


def wilson(hits: float, of: int) -> Interval:
    """The interval of a share, of which a sample was drawn evenly (Wilson 1927).

    It holds for few items, and where all or none of them are hits, which a bootstrap does not.

    Args:
        hits: Items of the sample that are hits.
        of: Items of the sample; at least one.
    """
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = (hits + z**2 / 2) / (of + z**2)
    spread = z * math.sqrt(hits * (of - hits) / of + z**2 / 4) / (of + z**2)
    return Interval(max(0.0, centre - spread), min(1.0, centre + spread))


def sureness(
    difference: Callable[[np.ndarray], float], groups: Sequence[str], bound: float, *, seed: int = 0
) -> float:
    """How sure it is that a difference between two models on the same items is larger than a bound.

    The share of resamples in which it is. The two are compared on the same groups each time, so
    that what makes an item hard for both is no part of the difference (paired bootstrap).

    Of few groups, one less the p-value of a randomization test is the most that it can be: how
    often the difference would be smaller, were it chance to which of the two each group is
    favourable (Fisher 1935). What a group does to it is the pseudo-value of the jackknife (Tukey
    1958), which for a difference of shares is the difference in this group.
    """
    values = [difference(rows) for rows in _resamples(groups, seed)]
    share = float(np.mean(np.asarray(values) > bound))
    members = _members(groups)
    if (count := len(members)) >= FEW_GROUPS:
        return share
    everything = np.arange(len(groups))
    whole = difference(everything)
    without = [difference(np.setdiff1d(everything, rows)) for rows in members if count > 1]
    effects = count * whole - (count - 1) * np.array(without or [whole]) - bound
    signs = np.random.default_rng(seed).choice([-1, 1], (FLIPS, count))
    # Rounding makes no difference of what is equal, and what cannot be measured is not sure.
    smaller = signs @ effects < effects.sum() - 1e-9
    return min(share, float(smaller.mean()))


def _members(groups: Sequence[str]) -> list[np.ndarray]:
    """The items of each group."""
    _, group_of = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    return np.split(np.argsort(group_of, kind="stable"), np.bincount(group_of).cumsum()[:-1])


def _resamples(groups: Sequence[str], seed: int) -> list[np.ndarray]:
    members = _members(groups)
    random = np.random.default_rng(seed)
    return [
        np.concatenate(
            [members[number] for number in random.integers(0, len(members), len(members))]
        )
        for _ in range(SAMPLES)
    ]
