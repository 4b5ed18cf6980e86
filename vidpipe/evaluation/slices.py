"""Slices: whether a model is as good on short videos, small pictures, one source … as on the rest.

The bounds are fixed, so that the slices of two evaluations are the same.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidpipe.evaluation.intervals import Interval, bootstrap
from vidpipe.evaluation.metrics import Evaluation
from vidpipe.evaluation.several import SeveralLabels

ALL = "all"
IMPUTED = "imputed frames"
SOUND, THERE, MISSING = "sound", "there", "missing"  # of models that hear
_DURATIONS_S = (10.0, 60.0, 600.0)
_DURATION_NAMES = ("below 10 s", "10 s to 1 min", "1 to 10 min", "above 10 min")
_SIDES = (360, 720, 1080)
_SIDE_NAMES = ("below 360", "360 to 719", "720 to 1079", "1080 and above")


@dataclass(frozen=True)
class Slice:
    """How good a model is on some of the videos, or of their moments.

    Attributes:
        name: What they have in common, such as `duration`.
        value: Which one, such as `below 10 s`.
        videos: How many there are; moments of one count as one.
        metric: The headline metric of the evaluation: the share that is right, or the mean average
            precision.
        interval: Of the metric.
    """

    name: str
    value: str
    videos: int
    metric: float
    interval: Interval


def describe(video: Mapping[str, Any]) -> dict[str, str]:
    """The slices that a video is in.

    Args:
        video: Its row of the table `videos`.
    """
    made_up = (video["repeated_frames"] or 0) + (video["interpolated_frames"] or 0)
    bucket, *folders = video["source_uri"].removeprefix("s3://").split("/")[:-1]
    side = min(video["width"], video["height"])
    return {
        "duration": _DURATION_NAMES[bisect.bisect_right(_DURATIONS_S, video["duration_s"])],
        "short side": _SIDE_NAMES[bisect.bisect_right(_SIDES, side)],
        "source": "/".join([bucket, *folders[:1]]),
        IMPUTED: "some" if made_up else "none",
    }


def is_imputed(described: Mapping[str, str]) -> bool:
    """Whether something stood in for a part of what a model was given of a video."""
    return described[IMPUTED] != "none" or described.get(SOUND) == MISSING


def slice_up(
    evaluation: Evaluation | SeveralLabels,
    described: Sequence[Mapping[str, str]],
    videos: Sequence[str],
    groups: Sequence[str],
) -> list[Slice]:
    """Evaluates each slice, all items first; what all items have in common is none.

    Args:
        evaluation: Of the items: videos, or moments of them.
        described: What `describe` says of the video of each.
        videos: The video of each.
        groups: The group of each, for the intervals.

    Returns:
        Those in which something can be measured.
    """
    found = {(ALL, ALL): list(range(len(described)))}
    for row, of_item in enumerate(described):
        for name, value in of_item.items():
            found.setdefault((name, value), []).append(row)
    slices = []
    for (name, value), rows in sorted(found.items(), key=lambda entry: entry[0][0] != ALL):
        if name != ALL and len(rows) == len(described):
            continue
        of = evaluation.take(np.array(rows))
        if not math.isnan(of.value):
            interval = bootstrap(
                lambda chosen, of=of: of.take(chosen).value, [groups[row] for row in rows]
            )
            count = len({videos[row] for row in rows})
            slices.append(Slice(name, value, count, of.value, interval))
    return slices
