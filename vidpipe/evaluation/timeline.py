"""From the scores of windows to what happens when.

The windows of a model overlap, and another model has others. So a video is looked at in moments
that follow each other, the same for all models: each has the mean of the windows that show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vidpipe.datasets.consensus import Span
from vidpipe.datasets.windows import Segment, Window
from vidpipe.evaluation.metrics import average_precision

MOMENT_S = 0.5
LEAVES = 0.5  # share of the score it begins with, below which a segment ends
OVERLAPS = (0.3, 0.5, 0.7)


def moments_of(duration_s: float) -> np.ndarray:
    """The middles of the moments of a video, in seconds; one at least."""
    count = max(1, round(duration_s / MOMENT_S))
    return (np.arange(count) + 0.5) * (duration_s / count)


def score_moments(
    moments_s: np.ndarray, windows: Sequence[Window], scores: np.ndarray
) -> np.ndarray:
    """Scores of moments: the mean of the windows that show them, or the nearest one's.

    Args:
        moments_s: When.
        windows: Of one video; at least one.
        scores: Of each window, `(windows, classes)`.

    Returns:
        `(moments, classes)`.
    """
    starts, ends = (np.array([getattr(w, name) for w in windows]) for name in ("start_s", "end_s"))
    away_s = np.maximum(starts - moments_s[:, None], moments_s[:, None] - ends)
    shows = away_s <= np.maximum(away_s.min(axis=1, keepdims=True), 0)
    return (shows @ scores) / shows.sum(axis=1, keepdims=True)


def find_segments(
    duration_s: float, scores: np.ndarray, labels: Sequence[str], decisions: np.ndarray
) -> list[Segment]:
    """Merges moments that follow each other, with hysteresis.

    A segment begins around a score that reaches the decision, and goes as far to both sides as the
    scores are at least the share `LEAVES` of it, so that one that wavers is not cut to pieces
    (Canny 1986, of edges).

    Args:
        duration_s: Of the video.
        scores: `(moments, classes)` of the moments of `moments_of`.
        labels: The classes.
        decisions: Of each class the score that is enough.

    Returns:
        By start and label.
    """
    moment_s = duration_s / len(scores)
    found = []
    for label, of_label, decision in zip(labels, scores.T, decisions, strict=True):
        above = np.concatenate([[False], of_label >= decision * LEAVES, [False]])
        starts = np.flatnonzero(~above[:-1] & above[1:])
        ends = np.flatnonzero(above[:-1] & ~above[1:])
        for start, end in zip(starts, ends, strict=True):
            best = float(of_label[start:end].max())
            if best >= decision:
                found.append(Segment(start * moment_s, end * moment_s, label, best))
    return sorted(found)


def average_precision_at(
    overlap: float,
    truth: Mapping[str, Iterable[Span]],
    found: Mapping[str, Iterable[Segment]],
) -> float:
    """Average precision of the segments of one label.

    From the highest score on, each segment is right if its intersection over union with one of the
    true ones of its video, that no other was matched with, is large enough (as ActivityNet has it,
    Caba Heilbron et al. 2015; the curve is not smoothed).

    Args:
        overlap: The least intersection over union.
        truth: The true ones of each video.
        found: The segments of each video.

    Returns:
        NaN where nothing is true.
    """
    left = {video_id: list(spans) for video_id, spans in truth.items()}
    count = sum(map(len, left.values()))
    if not count:
        return float("nan")
    ranked = sorted(
        ((segment, video_id) for video_id, of in found.items() for segment in of),
        key=lambda entry: -entry[0].score,
    )
    right = np.zeros(len(ranked), bool)
    for number, (segment, video_id) in enumerate(ranked):
        spans = left.get(video_id, [])
        overlaps = [_overlap(segment, span) for span in spans]
        if overlaps and max(overlaps) >= overlap:
            right[number] = True
            del spans[int(np.argmax(overlaps))]
    scores = np.array([segment.score for segment, _ in ranked])
    if not right.any():
        return 0.0
    # That of those that are found, as far as the curve goes.
    return average_precision(right, scores) * float(right.sum()) / count


def _overlap(segment: Segment, span: Span) -> float:
    """Intersection over union."""
    shared_s = min(segment.end_s, span.end_s) - max(segment.start_s, span.start_s)
    union_s = max(segment.end_s, span.end_s) - min(segment.start_s, span.start_s)
    return max(shared_s, 0.0) / union_s if union_s > 0 else 0.0
