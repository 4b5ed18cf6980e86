"""How well scores agree with the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

BINS = 10
# A threshold that no score reaches. One is reached: float32 rounds a sure score to it. JSON has no
# infinity.
NEVER = 2.0


class Bin(NamedTuple):
    """Predictions that are about equally confident.

    Attributes:
        videos: How many there are.
        confidence: Mean score of the predicted classes.
        accuracy: Share that is right.
    """

    videos: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation:
    """Scores beside the truth.

    Attributes:
        labels: All classes: those of the truth, then those that only the model knows.
        truth: Class of each video, as an index of `labels`.
        scores: `(videos, classes)` in the order of `labels`; zero where the model knows no such
            class.
    """

    labels: list[str]
    truth: np.ndarray
    scores: np.ndarray

    headline = "accuracy"

    @property
    def value(self) -> float:
        """The metric by which models are compared."""
        return self.accuracy

    @property
    def by_chance(self) -> float:
        """The accuracy of always naming the most frequent class."""
        return float(np.bincount(self.truth).max() / len(self.truth))

    @property
    def is_true(self) -> np.ndarray:
        """Whether a video is of a class, `(videos, classes)`."""
        return self.truth[:, None] == np.arange(len(self.labels))

    @cached_property
    def predicted(self) -> np.ndarray:
        """The class with the highest score, for each video."""
        return self.scores.argmax(axis=1)

    @cached_property
    def confusion(self) -> np.ndarray:
        """Videos by class (rows) and predicted class (columns)."""
        counts = np.zeros((len(self.labels), len(self.labels)), int)
        np.add.at(counts, (self.truth, self.predicted), 1)
        return counts

    @property
    def accuracy(self) -> float:
        """Share of the videos whose class is predicted."""
        return float((self.predicted == self.truth).mean())

    @property
    def top_k(self) -> int:
        """Half of the classes, at most five: below the number of classes, so that it can fail."""
        return min(5, (len(self.labels) + 1) // 2)

    @property
    def top_k_accuracy(self) -> float:
        """Share of the videos whose class is among the `top_k` with the highest scores."""
        best = np.argsort(-self.scores, axis=1, kind="stable")[:, : self.top_k]
        return float((best == self.truth[:, None]).any(axis=1).mean())

    def per_class(self) -> list[dict[str, float | int | str]]:
        """Label, videos, precision, recall and F1 of each class that has videos."""
        rows = []
        for index, label in enumerate(self.labels):
            hits, videos = self.confusion[index, index], self.confusion[index].sum()
            predicted = self.confusion[:, index].sum()
            if videos:
                rows.append(
                    {
                        "label": label,
                        "videos": int(videos),
                        "precision": float(hits / predicted) if predicted else 0.0,
                        "recall": float(hits / videos),
                        "f1": float(2 * hits / (videos + predicted)),
                    }
                )
        return rows

    @property
    def macro_f1(self) -> float:
        """Mean of the F1 of the classes that have videos."""
        classes = len(self.labels)
        videos = np.bincount(self.truth, minlength=classes)
        predicted = np.bincount(self.predicted, minlength=classes)
        hits = np.bincount(self.truth[self.predicted == self.truth], minlength=classes)
        there = videos > 0
        return float(np.mean(2 * hits[there] / (videos + predicted)[there]))

    def reliability(self) -> list[Bin]:
        """Bins of predictions by their confidence, each a tenth wide; those without are left out.

        The reliability diagram of Guo et al. 2017 (On Calibration of Modern Neural Networks).
        """
        return reliability_bins(self.confidence, self.predicted == self.truth)

    @property
    def confidence(self) -> np.ndarray:
        """The score of the predicted class, for each video."""
        return self.scores[np.arange(len(self.truth)), self.predicted]

    @property
    def ece(self) -> float:
        """Expected calibration error: how far confidence and accuracy are apart, on average."""
        return calibration_error(self.reliability())

    def metrics(self) -> dict[str, float]:
        """The numbers by name; top-k only where it says more than the accuracy."""
        metrics = {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "ece": self.ece}
        if self.top_k > 1:
            metrics[f"top_{self.top_k}_accuracy"] = self.top_k_accuracy
        return metrics

    def take(self, rows: np.ndarray) -> Evaluation:
        """The evaluation of these videos alone, of which some may be there several times."""
        return dataclasses.replace(self, truth=self.truth[rows], scores=self.scores[rows])

    def accepting_thresholds(self, precision: float) -> dict[str, float]:
        """For each class the lowest score from which on its predictions are right often enough.

        To be asked of videos that the model did not learn from, nor are its metrics told of.

        Args:
            precision: Share of the predictions with such a score or a higher one that are right.

        Returns:
            The threshold by label; `NEVER` where no score is high enough, or none was predicted.
        """
        right, thresholds = self.predicted == self.truth, {}
        for index, label in enumerate(self.labels):
            rows = np.flatnonzero(self.predicted == index)
            thresholds[label] = lowest_accepted(self.confidence[rows], right[rows], precision)
        return thresholds

    def mistakes(self) -> np.ndarray:
        """The misclassified videos, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.truth)
        return wrong[np.argsort(-self.confidence[wrong])]

    def told(self, row: int) -> tuple[str, str]:
        """In words the truth of a video, and what it is taken for."""
        predicted = self.predicted[row]
        return (
            self.labels[self.truth[row]],
            f"{self.labels[predicted]} {self.scores[row, predicted]:.2f}",
        )

    def suspects(self) -> np.ndarray:
        """Videos whose label is doubtful, the most doubtful first.

        Another class has a score as high as those that do belong to it have on average (confident
        learning, Northcutt et al. 2021); they are ranked by how much it is above that of the label.
        """
        of_label = self.scores[np.arange(len(self.truth)), self.truth]
        videos = np.bincount(self.truth, minlength=len(self.labels))
        usual = np.bincount(self.truth, of_label, minlength=len(self.labels)) / np.maximum(
            videos, 1
        )
        best = self.confidence
        doubtful = (self.predicted != self.truth) & (best >= usual[self.predicted])
        # Of a class without a video nothing is usual.
        doubtful &= videos[self.predicted] > 0
        rows = np.flatnonzero(doubtful)
        return rows[np.argsort((of_label - best)[rows], kind="stable")]


def evaluate(scores: np.ndarray, model_labels: Sequence[str], truth: Sequence[str]) -> Evaluation:
    """Brings scores and truth to the same classes; a model may know others than the data have.

    Args:
        scores: `(videos, classes)`, at least one video.
        model_labels: Name of each class of the scores.
        truth: The class of each video.
    """
    labels = sorted(set(truth))
    labels += [label for label in model_labels if label not in labels]
    aligned = np.zeros((len(scores), len(labels)), np.float32)
    aligned[:, [labels.index(label) for label in model_labels]] = scores
    return Evaluation(labels, np.array([labels.index(label) for label in truth]), aligned)


# === What other evaluations have as well ===


def lowest_accepted(scores: np.ndarray, right: np.ndarray, precision: float) -> float:
    """The lowest score from which on so large a share is right; `NEVER` where there is none."""
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    good = right.cumsum() / np.arange(1, len(scores) + 1) >= precision
    # Of equal scores all are accepted or none.
    ends = np.append(np.diff(scores) != 0, True)[: len(scores)]
    last = np.flatnonzero(good & ends)
    return float(scores[last[-1]]) if len(last) else NEVER


def reliability_bins(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Bins of predictions by their confidence, each a tenth wide; those without are left out."""
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        Bin(int(of.sum()), float(confidence[of].mean()), float(right[of].mean()))
        for of in (number == bin_ for bin_ in range(BINS))
        if of.any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """How far confidence and accuracy are apart, on average."""
    videos = sum(bin_.videos for bin_ in bins)
    return sum(bin_.videos * abs(bin_.confidence - bin_.accuracy) for bin_ in bins) / videos


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Area below the curve of precision over recall, as steps; NaN where nothing is true.

    As scikit-learn has it: nothing is smoothed, and of equal scores all come at once.

    Args:
        truth: Whether each item is of the class.
        scores: Of each item.
    """
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = truth[order].cumsum()
    ends = np.append(np.diff(scores[order]) != 0, True)
    precision = (hits / np.arange(1, len(hits) + 1))[ends]
    recall = (hits / hits[-1])[ends]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))
