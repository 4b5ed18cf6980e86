"""How well scores agree with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


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
        return float(np.mean([row["f1"] for row in self.per_class()]))

    def metrics(self) -> dict[str, float]:
        """The numbers by name; top-k only where it says more than the accuracy."""
        metrics = {"accuracy": self.accuracy, "macro_f1": self.macro_f1}
        if self.top_k > 1:
            metrics[f"top_{self.top_k}_accuracy"] = self.top_k_accuracy
        return metrics


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
