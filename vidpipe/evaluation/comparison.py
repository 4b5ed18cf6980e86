"""A challenger beside the champion, on the same videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidpipe.evaluation.intervals import Interval, bootstrap, sureness
from vidpipe.evaluation.metrics import Evaluation
from vidpipe.evaluation.several import SeveralLabels
from vidpipe.evaluation.slices import slice_up


@dataclass(frozen=True)
class SlicePair:
    """How good both are on some of the videos; fields as of `vidpipe.evaluation.slices.Slice`."""

    name: str
    value: str
    videos: int
    challenger: float
    champion: float


@dataclass(frozen=True)
class Comparison:
    """By how much a challenger is better.

    Attributes:
        difference: Its headline metric, such as the accuracy, less that of the champion.
        interval: Of the difference.
        sureness: That it is better by more than the margin asked for, in 0 to 1.
        slices: Both on each slice, all videos first.
    """

    difference: float
    interval: Interval
    sureness: float
    slices: list[SlicePair]


def compare(
    challenger: Evaluation | SeveralLabels,
    champion: Evaluation | SeveralLabels,
    described: Sequence[Mapping[str, str]],
    videos: Sequence[str],
    groups: Sequence[str],
    *,
    margin: float,
) -> Comparison:
    """Compares two models on the same videos, by paired bootstrap over their groups.

    Args:
        challenger: Of the items: videos, or moments of them.
        champion: Of the same, in the same order.
        described: What `vidpipe.evaluation.slices.describe` says of the video of each.
        videos: The video of each.
        groups: What each belongs together with.
        margin: By how much it has to be better.
    """

    def difference(rows: np.ndarray) -> float:
        return challenger.take(rows).value - champion.take(rows).value

    slices, of_champion = (
        slice_up(model, described, videos, groups) for model in (challenger, champion)
    )
    pairs = zip(slices, of_champion, strict=True)
    return Comparison(
        challenger.value - champion.value,
        bootstrap(difference, groups, lowest=-1.0),
        sureness(difference, groups, margin),
        [SlicePair(a.name, a.value, a.videos, a.metric, b.metric) for a, b in pairs],
    )
