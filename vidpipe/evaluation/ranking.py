"""Models of one training beside each other, the best first.

They are ranked by what they do on the validation videos: the best of several on the test videos
would look better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from vidpipe.console import Console
from vidpipe.evaluation.intervals import Interval


@dataclass(frozen=True)
class Ranked:
    """A trained model, and what it takes.

    Attributes:
        architecture: Its name.
        headline: The metric by which models are compared, such as accuracy.
        validation: It, on the validation videos; None where there are none.
        validation_loss: On the same.
        test: The headline metric on the test videos.
        test_interval: Of the same.
        test_macro_f1: On the test videos.
        parameters: Weights.
        flops_per_clip: Floating-point operations on a clip.
        cpu_seconds_per_clip: CPU time on a clip, as measured in its evaluation.
        training_seconds: How long it learnt.
        mlflow_run_id: Its run.
    """

    architecture: str
    headline: str
    validation: float | None
    validation_loss: float | None
    test: float
    test_interval: Interval
    test_macro_f1: float
    parameters: float
    flops_per_clip: float
    cpu_seconds_per_clip: float
    training_seconds: float
    mlflow_run_id: str

    @property
    def is_validated(self) -> bool:
        """Whether it was measured on validation videos."""
        return self.validation is not None or self.validation_loss is not None

    @classmethod
    def of(
        cls, architecture: str, evaluated: Mapping[str, Any], logged: Mapping[str, float]
    ) -> Ranked:
        """One of the result of its evaluation and of the metrics of its run in MLflow."""
        headline = evaluated["headline"]
        return cls(
            architecture,
            headline,
            logged.get(f"best_validation_{headline}"),
            logged.get("best_validation_loss"),
            evaluated["metrics"][headline],
            Interval(*evaluated["intervals"][headline]),
            evaluated["metrics"]["macro_f1"],
            logged["parameters"],
            logged["flops_per_clip"],
            evaluated["seconds_per_clip"],
            logged["training_seconds"],
            evaluated["mlflow_run_id"],
        )


def rank(models: Sequence[Ranked]) -> list[Ranked]:
    """Sorts by the validation videos, then by their loss; what is alike keeps its order."""

    def key(model: Ranked) -> tuple[float, float]:
        value = model.validation
        known = value is not None and not math.isnan(value)
        return (
            -value if known else 0.0,
            math.inf if model.validation_loss is None else model.validation_loss,
        )

    return sorted(models, key=key)


def show_ranking(ranking: Sequence[Ranked], *, markdown: bool = False) -> str:
    """The ranking as a table in plain text, or in Markdown."""
    table = Table(box=box.MARKDOWN) if markdown else Table(box=None, pad_edge=False)
    table.add_column("architecture", no_wrap=True)
    for heading in (
        f"validation {ranking[0].headline}",
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
            of.architecture,
            "" if of.validation is None else f"{of.validation:.3f}",
            f"{of.test:.3f}",
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
    return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")
