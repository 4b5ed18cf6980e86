"""How sure a number is: intervals by bootstrap over groups, and of a share of an even sample.

Clips of one flight, scene or person are alike: were single clips drawn, a metric would seem surer
than it is. So whole groups are drawn (Davison & Hinkley 1997, cluster bootstrap).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

SAMPLES = 1_000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Where a metric lies, with a confidence of 95 %."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


def bootstrap(
    metric: Callable[[np.ndarray], float], groups: Sequence[str], *, seed: int = 0
) -> Interval:
    """The interval of a metric, by the percentiles of what it is on resampled groups.

    Args:
        metric: Of the items with these numbers, among which some are there several times.
        groups: The group of each item.
        seed: The same seed gives the same interval.
    """
    values = [metric(rows) for rows in _resamples(groups, seed)]
    tail = (1 - CONFIDENCE) / 2
    # Where nothing that was drawn is of any class, there is nothing to measure.
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))


def wilson(hits: int, of: int) -> Interval:
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


def share_above(
    difference: Callable[[np.ndarray], float], groups: Sequence[str], bound: float, *, seed: int = 0
) -> float:
    """In which share of resamples a difference between two models on the same items is larger.

    The two are compared on the same groups each time, so that what makes an item hard for both is
    no part of the difference (paired bootstrap).
    """
    values = [difference(rows) for rows in _resamples(groups, seed)]
    return float(np.mean(np.asarray(values) > bound))


def _resamples(groups: Sequence[str], seed: int) -> list[np.ndarray]:
    _, group_of = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    members = np.split(np.argsort(group_of, kind="stable"), np.bincount(group_of).cumsum()[:-1])
    random = np.random.default_rng(seed)
    return [
        np.concatenate(
            [members[number] for number in random.integers(0, len(members), len(members))]
        )
        for _ in range(SAMPLES)
    ]
