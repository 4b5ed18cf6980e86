"""How well scores agree with the truth where a video, or a moment, has several labels or none."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from vidpipe.evaluation.metrics import (
    Bin,
    calibration_error,
    lowest_accepted,
    reliability_bins,
)

DECIDED = 0.5  # the score from which on a class is predicted, if it is not accepted from less on
NOTHING = "nothing"


class Ranking(NamedTuple):
    """Items by their scores, which takes long to find, and is the same for all drawn from them.

    Attributes:
        order: From the highest score of each class on, `(items, classes)`.
        is_true: Whether an item is of the class, in this order.
        ends: Of each place the last one with the same score.
    """

    order: np.ndarray
    is_true: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, is_true: np.ndarray, scores: np.ndarray) -> Ranking:
        """Ranks items."""
        order = np.argsort(-scores, axis=0, kind="stable")
        ranked = np.take_along_axis(scores, order, axis=0)
        last = np.ones(scores.shape, bool)
        last[:-1] = ranked[:-1] != ranked[1:]
        places = np.where(last, np.arange(len(scores))[:, None], len(scores))
        ends = np.minimum.accumulate(places[::-1], axis=0)[::-1]
        return cls(order, np.take_along_axis(is_true, order, axis=0), ends)

    def average_precisions(self, counts: np.ndarray) -> np.ndarray:
        """Of each class, where each item is there so often; NaN for one without an item."""
        ranked = counts[self.order]
        true = ranked * self.is_true
        precision = true.cumsum(axis=0) / np.maximum(ranked.cumsum(axis=0), 1)
        of_class = true.sum(axis=0)
        sums = (true * np.take_along_axis(precision, self.ends, axis=0)).sum(axis=0)
        return np.where(of_class > 0, sums / np.maximum(of_class, 1), np.nan)


class Draw(NamedTuple):
    """Where the items of an evaluation were taken from.

    Attributes:
        ranking: Of those that there were.
        counts: How often each of those was taken.
    """

    ranking: Ranking
    counts: np.ndarray


@dataclass(frozen=True)
class SeveralLabels:
    """Scores beside the truth, of items: videos, or moments of them.

    Attributes:
        labels: All classes: those of the truth, then those that only the model knows.
        is_true: Whether an item is of a class, `(items, classes)`.
        scores: `(items, classes)`, each in 0 to 1.
        decisions: The score from which on each class counts as predicted, `(classes,)`.
        draw: What the items were taken from, where they were; it only saves ranking them anew.
    """

    labels: list[str]
    is_true: np.ndarray
    scores: np.ndarray
    decisions: np.ndarray
    draw: Draw | None = None

    headline = "map"

    @property
    def value(self) -> float:
        """The metric by which models are compared; NaN where nothing is true."""
        return self.mean_average_precision

    @property
    def by_chance(self) -> float:
        """The mean average precision of scores that mean nothing; NaN where nothing is true."""
        shares = self.is_true.mean(axis=0)
        return float(shares[shares > 0].mean()) if shares.any() else float("nan")

    @property
    def predicted(self) -> np.ndarray:
        """Whether an item is taken for one of a class, `(items, classes)`."""
        return self.scores >= self.decisions

    @cached_property
    def _ranking(self) -> Ranking:
        return Ranking.of(self.is_true, self.scores)

    @cached_property
    def average_precisions(self) -> np.ndarray:
        """Average precision of each class, see `vidpipe.evaluation.metrics.average_precision`; NaN
        for one without an item."""
        if self.draw:
            return self.draw.ranking.average_precisions(self.draw.counts)
        return self._ranking.average_precisions(np.ones(len(self.scores), int))

    @property
    def mean_average_precision(self) -> float:
        """Mean over the classes that have items; NaN without any."""
        there = self.average_precisions[~np.isnan(self.average_precisions)]
        return float(there.mean()) if len(there) else float("nan")

    def per_class(self) -> list[dict[str, float | int | str]]:
        """Label, items, average precision, and precision, recall and F1 from the decisions on."""
        items, predicted, hits = self._sums()
        return [
            {
                "label": label,
                "videos": int(items[index]),
                "average_precision": float(self.average_precisions[index]),
                "precision": float(hits[index] / max(predicted[index], 1)),
                "recall": float(hits[index] / items[index]),
                "f1": float(2 * hits[index] / (items[index] + predicted[index])),
            }
            for index, label in enumerate(self.labels)
            if items[index]
        ]

    def _sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Items of each class, predicted ones, and those that are both."""
        predicted = self.predicted
        marks = self.is_true, predicted, self.is_true & predicted
        return tuple(of.sum(axis=0) for of in marks)

    @property
    def macro_f1(self) -> float:
        """Mean of the F1 of the classes that have items; NaN without any."""
        items, predicted, hits = self._sums()
        there = items > 0
        f1 = 2 * hits[there] / (items + predicted)[there]
        return float(f1.mean()) if len(f1) else float("nan")

    def reliability(self) -> list[Bin]:
        """As of a single label, of each item and class by itself: `confidence` is its score."""
        return reliability_bins(self.scores.ravel(), self.is_true.ravel())

    @property
    def ece(self) -> float:
        """Expected calibration error of the scores of all items and classes."""
        return calibration_error(self.reliability())

    def metrics(self) -> dict[str, float]:
        """The numbers by name."""
        return {"map": self.mean_average_precision, "macro_f1": self.macro_f1, "ece": self.ece}

    def take(self, rows: np.ndarray) -> SeveralLabels:
        """The evaluation of these items alone, of which some may be there several times."""
        counts = np.bincount(rows, minlength=len(self.scores))
        return dataclasses.replace(
            self,
            is_true=self.is_true[rows],
            scores=self.scores[rows],
            draw=Draw(self._ranking, counts),
        )

    def accepting_thresholds(self, precision: float) -> dict[str, float]:
        """For each class the lowest score from which on so large a share is right, or `NEVER`."""
        columns = zip(self.labels, self.scores.T, self.is_true.T, strict=True)
        return {
            label: lowest_accepted(scores, right, precision) for label, scores, right in columns
        }

    def mistakes(self) -> np.ndarray:
        """Items of which too much or too little is said, those furthest off first."""
        wrong = np.flatnonzero((self.predicted != self.is_true).any(axis=1))
        return wrong[np.argsort(-self._furthest(self.predicted != self.is_true)[wrong])]

    def suspects(self) -> np.ndarray:
        """Items with a label too many or too few, the most doubtful first.

        Confident learning (Northcutt et al. 2021) of each class by itself: the score is as high as
        those that are of the class have on average, though it is not; or as low as those that are
        not have, though it is.
        """
        items = self.is_true.sum(axis=0)
        usual = (self.scores * self.is_true).sum(axis=0) / np.maximum(items, 1)
        unusual = (self.scores * ~self.is_true).sum(axis=0) / np.maximum(
            len(self.scores) - items, 1
        )
        doubtful = np.where(self.is_true, self.scores <= unusual, self.scores >= usual)
        # Where all or none are of a class nothing is usual.
        doubtful &= (items > 0) & (items < len(self.scores))
        rows = np.flatnonzero(doubtful.any(axis=1))
        return rows[np.argsort(-self._furthest(doubtful)[rows], kind="stable")]

    def _furthest(self, among: np.ndarray) -> np.ndarray:
        """By how much the score of each item is off, at most, in these classes."""
        return np.where(among, np.abs(self.scores - self.is_true), 0).max(axis=1)

    def told(self, row: int) -> tuple[str, str]:
        """In words the truth of an item, and what it is taken for."""
        truth = [label for label, of in zip(self.labels, self.is_true[row], strict=True) if of]
        order = np.argsort(-self.scores[row], kind="stable")
        predicted = [
            f"{self.labels[index]} {self.scores[row, index]:.2f}"
            for index in order
            if self.predicted[row, index]
        ]
        return ", ".join(truth) or NOTHING, ", ".join(predicted) or NOTHING


def evaluate_several(
    scores: np.ndarray,
    model_labels: Sequence[str],
    truth: Sequence[Collection[str]],
    thresholds: Mapping[str, float],
) -> SeveralLabels:
    """Brings scores and truth to the same classes; a model may know others than the data have.

    Args:
        scores: `(items, classes)`.
        model_labels: Name of each class of the scores.
        truth: The labels of each item.
        thresholds: The score from which on a label is accepted.
    """
    labels = sorted({label for of in truth for label in of})
    labels += [label for label in model_labels if label not in labels]
    aligned = np.zeros((len(scores), len(labels)), np.float32)
    aligned[:, [labels.index(label) for label in model_labels]] = scores
    is_true = np.array([[label in of for label in labels] for of in truth], bool)
    return SeveralLabels(labels, is_true, aligned, decisions(labels, thresholds))


def decisions(labels: Sequence[str], thresholds: Mapping[str, float]) -> np.ndarray:
    """The score from which on each label is predicted: `DECIDED`, or less if less is accepted."""
    return np.array([min(DECIDED, thresholds.get(label, DECIDED)) for label in labels])
