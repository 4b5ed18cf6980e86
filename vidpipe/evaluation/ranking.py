"""Models of one training beside each other, the best first.

They are ranked by what they do on the validation videos: the best of several on the test videos
would look better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from vidpipe.evaluation.intervals import Interval


@dataclass(frozen=True)
class Ranked:
    """A trained model, and what it takes.

    Attributes:
        family: Its architecture.
        validation_accuracy: Of the epoch whose weights were kept; None where no video validates.
        validation_loss: Of the same epoch.
        test_accuracy: On the test videos.
        test_interval: Of the test accuracy.
        test_macro_f1: On the test videos.
        parameters: Weights.
        flops_per_clip: Floating-point operations on a clip.
        cpu_seconds_per_clip: CPU time on a clip, as measured in its evaluation.
        training_seconds: How long it learnt.
        mlflow_run_id: Its run.
    """

    family: str
    validation_accuracy: float | None
    validation_loss: float | None
    test_accuracy: float
    test_interval: Interval
    test_macro_f1: float
    parameters: float
    flops_per_clip: float
    cpu_seconds_per_clip: float
    training_seconds: float
    mlflow_run_id: str

    @classmethod
    def of(cls, family: str, evaluated: Mapping[str, Any], logged: Mapping[str, float]) -> Ranked:
        """One of the result of its evaluation and of the metrics of its run in MLflow."""
        return cls(
            family,
            logged.get("best_validation_accuracy"),
            logged.get("best_validation_loss"),
            evaluated["metrics"]["accuracy"],
            Interval(*evaluated["intervals"]["accuracy"]),
            evaluated["metrics"]["macro_f1"],
            logged["parameters"],
            logged["flops_per_clip"],
            evaluated["seconds_per_clip"],
            logged["training_seconds"],
            evaluated["mlflow_run_id"],
        )


def rank(models: Sequence[Ranked]) -> list[Ranked]:
    """Sorts by validation accuracy, then by validation loss; what is alike keeps its order."""

    def key(model: Ranked) -> tuple[float, float]:
        accuracy, loss = model.validation_accuracy, model.validation_loss
        return -accuracy if accuracy is not None else 0.0, math.inf if loss is None else loss

    return sorted(models, key=key)


def show_ranking(ranking: Sequence[Ranked]) -> str:
    """The ranking as a table in plain text."""
    table = Table(box=None, pad_edge=False)
    table.add_column("family", no_wrap=True)
    for heading in (
        "validation",
        "test",
        "95 % interval",
        "macro F1",
        "parameters",
        "GFLOP a clip",
        "CPU s a clip",
        "trained s",
    ):
        table.add_column(heading, no_wrap=True, justify="right")
    for of in ranking:
        table.add_row(
            of.family,
            "" if of.validation_accuracy is None else f"{of.validation_accuracy:.3f}",
            f"{of.test_accuracy:.3f}",
            str(of.test_interval),
            f"{of.test_macro_f1:.3f}",
            f"{of.parameters:,.0f}",
            f"{of.flops_per_clip / 1e9:.3g}",
            f"{of.cpu_seconds_per_clip:.4f}",
            f"{of.training_seconds:.0f}",
        )
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
