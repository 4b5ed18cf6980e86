"""From the scores of clips to an evaluation: of whole videos, or of their moments."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vidpipe.datasets.clips import average_clips
from vidpipe.datasets.consensus import Span
from vidpipe.datasets.labelled import Dataset, LabelledVideo
from vidpipe.datasets.windows import Segment, Window
from vidpipe.evaluation.metrics import Evaluation, evaluate
from vidpipe.evaluation.several import SeveralLabels, evaluate_several
from vidpipe.evaluation.timeline import (
    OVERLAPS,
    average_precision_at,
    find_segments,
    moments_of,
    score_moments,
)


class Item(NamedTuple):
    """What is judged: a video, or a moment of one.

    Attributes:
        video: It.
        clip: The number of a clip that shows it.
        at_s: The moment; None: the whole video.
    """

    video: LabelledVideo
    clip: int
    at_s: float | None = None


@dataclass(frozen=True)
class Judgement:
    """Scores of items beside the truth.

    Attributes:
        items: In the order of the evaluation; those of one video follow each other.
        evaluation: Of them.
    """

    items: list[Item]
    evaluation: Evaluation | SeveralLabels

    def metrics(self) -> dict[str, float]:
        """Those of the evaluation; of moments also the mean average precision of the segments that
        they are merged to, at some intersections over union."""
        metrics = self.evaluation.metrics()
        if any(item.at_s is not None for item in self.items):
            metrics |= _of_segments(self)
        return metrics


def headline(dataset: Dataset) -> str:
    """The name of the metric by which models of a dataset are compared."""
    return (SeveralLabels if dataset.several else Evaluation).headline


def is_measurable(dataset: Dataset, videos: Sequence[LabelledVideo]) -> bool:
    """Whether it can be measured on these videos: something is true of one, or of a moment."""
    if not dataset.timed:
        return any(video.labels for video in videos)
    return any(any(video.labels_at(moments_of(video.duration_s))) for video in videos)


def judge(
    dataset: Dataset,
    videos: Sequence[LabelledVideo],
    windows: Sequence[Window],
    scores: np.ndarray,
    labels: Sequence[str],
    thresholds: Mapping[str, float] | None = None,
) -> Judgement:
    """Puts scores of clips beside the truth of a dataset.

    Args:
        dataset: Says what is told of what.
        videos: The video of each clip; those of one follow each other.
        windows: What of it each clip shows.
        scores: `(clips, classes)`, at least one clip.
        labels: Name of each class.
        thresholds: The score from which on a label is accepted, where there are any.
    """
    clips_of = [
        list(clips)
        for _, clips in itertools.groupby(range(len(videos)), lambda clip: videos[clip].video_id)
    ]
    if not dataset.timed:
        items = [Item(videos[clips[0]], clips[0]) for clips in clips_of]
        of_items = average_clips(scores, [video.video_id for video in videos])
        truth = [item.video.labels for item in items]
        if not dataset.several:
            return Judgement(items, evaluate(of_items, labels, [label for (label,) in truth]))
        return Judgement(items, evaluate_several(of_items, labels, truth, thresholds or {}))
    items, of_items, truth = [], [], []
    for clips in clips_of:
        video, shown = videos[clips[0]], [windows[clip] for clip in clips]
        moments_s = moments_of(video.duration_s)
        middles_s = np.array([(window.start_s + window.end_s) / 2 for window in shown])
        nearest = np.abs(moments_s[:, None] - middles_s).argmin(axis=1)
        items += [
            Item(video, clips[row], float(at_s))
            for row, at_s in zip(nearest, moments_s, strict=True)
        ]
        of_items.append(score_moments(moments_s, shown, scores[clips]))
        truth += video.labels_at(moments_s)
    of_all = np.concatenate(of_items)
    return Judgement(items, evaluate_several(of_all, labels, truth, thresholds or {}))


def _of_segments(judgement: Judgement) -> dict[str, float]:
    evaluation = judgement.evaluation
    found: dict[str, dict[str, list[Segment]]] = collections.defaultdict(dict)
    truth: dict[str, dict[str, list[Span]]] = collections.defaultdict(dict)
    for video, rows in _rows_of_videos(judgement.items):
        scores = evaluation.scores[rows]
        for segment in find_segments(
            video.duration_s, scores, evaluation.labels, evaluation.decisions
        ):
            found[segment.label].setdefault(video.video_id, []).append(segment)
        for span in video.spans:
            truth[span.label].setdefault(video.video_id, []).append(span)
    return {
        f"map_at_{overlap}": float(
            np.mean([average_precision_at(overlap, truth[label], found[label]) for label in truth])
        )
        for overlap in OVERLAPS
        if truth
    }


def _rows_of_videos(items: Sequence[Item]) -> Iterator[tuple[LabelledVideo, list[int]]]:
    numbered = enumerate(items)
    for _, group in itertools.groupby(numbered, lambda entry: entry[1].video.video_id):
        rows, of = zip(*group, strict=True)
        yield of[0].video, list(rows)
