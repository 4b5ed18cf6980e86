"""What a tuning searches. Light on purpose: forms and plans read it without Optuna.

Ranges lie around what the architectures have if nothing is said, or around what is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vidpipe.datasets.presets import PRESETS
from vidpipe.errors import UsageError
from vidpipe.training.settings import SCHEDULES

# What can be searched, in words for the form; the architecture is as soon as there are several.
SEARCHED = {
    "learning_rate": "from a tenth to ten times of what it would be",
    "batch_size": "from half to twice of what it would be",
    "weight_decay": "0.0001 to 0.3",
    "dropout": "0 to 0.6",
    "label_smoothing": "0 to 0.2",
    "ema": "none, 0.9 or 0.99",
    "schedule": "cosine or constant",
    "augmentation": "none, light, article or strong",
    "balanced": "class weights, with or without",
}
ARCHITECTURE = "architecture"
DIGITS = 4


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `log`: as many from each order of magnitude."""

    low: float
    high: float
    log: bool = False

    def nearest(self, value: float) -> float:
        """The number in it that is nearest to a value."""
        return min(max(float(value), self.low), self.high)

    def rounded(self, value: float) -> float:
        """A number of it, with as many digits as people want to read."""
        return self.nearest(float(f"{value:.{DIGITS}g}"))


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def nearest(self, value: Any) -> Any:
        """The value itself, for it is one of them."""
        return value

    def rounded(self, value: Any) -> Any:
        """The value itself."""
        return value


Space = dict[str, Range | Choice]


def make_space(trainings: Mapping[str, Mapping[str, Any]], searched: Sequence[str]) -> Space:
    """What is searched.

    Args:
        trainings: By architecture, what a training of it would be; see
            `vidpipe.training.settings.complete`.
        searched: Keys of `SEARCHED`.

    Raises:
        UsageError: There is no such thing to search, or nothing is.
    """
    if unknown := sorted(set(searched) - set(SEARCHED)):
        raise UsageError(
            f"A tuning searches some of {', '.join(SEARCHED)}. Received: {', '.join(unknown)}"
        )

    def known(name: str) -> list[Any]:
        """What it would be for the architectures, each value once."""
        return list(dict.fromkeys(training[name] for training in trainings.values()))

    def choice(name: str, *values: Any) -> Choice:
        return Choice(tuple(dict.fromkeys((*values, *known(name)))))

    rates, sizes = known("learning_rate"), known("batch_size")
    parts: Space = {
        "learning_rate": Range(min(rates) / 10, min(max(rates) * 10, 1.0), log=True),
        "batch_size": Choice(
            tuple(sorted({max(1, size * by // 2) for size in sizes for by in (1, 2, 4)}))
        ),
        "weight_decay": Range(1e-4, max(0.3, *known("weight_decay")), log=True),
        "dropout": Range(0.0, max(0.6, *known("dropout"))),
        "label_smoothing": Range(0.0, max(0.2, *known("label_smoothing"))),
        "ema": choice("ema", 0.0, 0.9, 0.99),
        "schedule": choice("schedule", *SCHEDULES),
        "augmentation": choice("augmentation", *PRESETS),
        "balanced": choice("balanced", True, False),
    }
    space = {name: part for name, part in parts.items() if name in searched}
    if len(trainings) > 1:
        space = {ARCHITECTURE: Choice(tuple(trainings)), **space}
    if not space:
        raise UsageError("Nothing is searched: choose several architectures, or what to search.")
    return space


def first_trials(trainings: Mapping[str, Mapping[str, Any]], space: Space) -> list[dict[str, Any]]:
    """Where a search begins: each architecture as it would be without it."""
    return [
        {name: part.nearest(training[name]) for name, part in space.items()}
        for training in trainings.values()
    ]
