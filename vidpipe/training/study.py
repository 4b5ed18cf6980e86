"""Trials of a tuning: Optuna's, without a database.

Each trial is a small object in the lake, which its own task alone writes. Whoever has to decide
reads them all and builds Optuna's study in memory, so it is the same in processes and in pods, and
nothing is lost with any of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import optuna

from vidpipe.errors import NotFoundError
from vidpipe.lake.store import ObjectStore
from vidpipe.training.space import Choice, Range, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

RUNNING, COMPLETE, HALVED, DIVERGED = "running", "complete", "halved", "diverged"
DOCUMENT = "study.json"
# Optuna's own words: a loss that is no number is the worst that can be.
_STATES = {
    RUNNING: optuna.trial.TrialState.RUNNING,
    COMPLETE: optuna.trial.TrialState.COMPLETE,
    HALVED: optuna.trial.TrialState.PRUNED,
    DIVERGED: optuna.trial.TrialState.PRUNED,
}
# So little that it decides only where the metrics are the same.
LOSS_WEIGHT = 1e-6


@dataclass(frozen=True)
class Tuning:
    """What a tuning is.

    Attributes:
        space: What is searched.
        first: Parameters of the first trials.
        trials: How many there are at most.
        seed: Of the search.
        min_epochs: No trial is ended by the halving before.
        reduction: After `min_epochs`, and each time after so many times the epochs, one of so many
            trials goes on.
        until: Trials that were not begun by then are not begun; None: there is no such time.
        about: Whatever else its stages want to know.
    """

    space: Space
    first: list[dict[str, Any]]
    trials: int
    seed: int
    min_epochs: int
    reduction: int
    until: datetime | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As a document."""
        until = self.until and self.until.isoformat()
        return {**dataclasses.asdict(self), "until": until}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Tuning:
        """What `to_json` made."""
        until = document["until"]
        return cls(
            **{
                **document,
                "space": {name: _part(of) for name, of in document["space"].items()},
                "until": datetime.fromisoformat(until) if until else None,
            }
        )


def _part(document: Mapping[str, Any]) -> Range | Choice:
    if "values" in document:
        return Choice(tuple(document["values"]))
    return Range(**document)


@dataclass
class Trial:
    """One training of a tuning.

    Attributes:
        number: From zero.
        params: What was chosen for it.
        state: `RUNNING`, `COMPLETE`, `HALVED` (ended by the halving) or `DIVERGED`.
        epochs: Validation accuracy and loss of each epoch: what the halving goes by.
        kept_loss: Validation loss of the weights that are kept; None: it has not ended.
        value: The headline metric on the validation videos, with the weights that would be kept;
            None while it learns, and where it diverged.
        attrs: What Optuna's halving remembers of it.
        seconds: How long it learnt.
    """

    number: int
    params: dict[str, Any]
    state: str = RUNNING
    epochs: list[tuple[float, float]] = field(default_factory=list)
    kept_loss: float | None = None
    value: float | None = None
    attrs: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def loss(self) -> float:
        """Validation loss of the weights that are kept; until it ends, the lowest so far."""
        return _best(self.epochs)[1] if self.kept_loss is None else self.kept_loss

    @property
    def score(self) -> float:
        """By what trials are compared: the value, and where that is the same, the loss; less than
        any other where there is no value."""
        return -math.inf if self.value is None else _score(self.value, self.loss)

    def frozen(self, space: Space) -> optuna.trial.FrozenTrial:
        """As Optuna has it."""
        counts = range(1, len(self.epochs) + 1)
        values = {count: _score(*_best(self.epochs[:count])) for count in counts}
        if self.state == DIVERGED:
            values[len(self.epochs) + 1] = math.nan
        return optuna.trial.create_trial(
            state=_STATES[self.state],
            value=self.score if self.state == COMPLETE else None,
            params=self.params,
            distributions={name: _distribution(space[name]) for name in self.params},
            intermediate_values=values,
            system_attrs=self.attrs,
        )


def _best(epochs: list[tuple[float, float]]) -> tuple[float, float]:
    return min(epochs, key=lambda epoch: epoch[1])


def _score(metric: float, loss: float) -> float:
    return metric - LOSS_WEIGHT * loss / (1 + loss)


def _distribution(part: Range | Choice) -> optuna.distributions.BaseDistribution:
    if isinstance(part, Choice):
        return optuna.distributions.CategoricalDistribution(part.values)
    return optuna.distributions.FloatDistribution(part.low, part.high, log=part.log)


class Study:
    """The trials of a tuning, as they lie in a folder.

    Args:
        store: The lake's.
        folder_uri: Where they lie; ends in a slash.
        tuning: What it is; None: as the document there says.
    """

    def __init__(self, store: ObjectStore, folder_uri: str, tuning: Tuning | None = None):
        self._store = store
        self.folder_uri = folder_uri
        self.tuning = tuning or Tuning.from_json(store.get_json(f"{folder_uri}{DOCUMENT}"))

    def write(self) -> None:
        """Writes down what the tuning is."""
        self._store.put_json(f"{self.folder_uri}{DOCUMENT}", self.tuning.to_json())

    def find(self, number: int) -> Trial | None:
        """A trial, or None while it has not begun."""
        with contextlib.suppress(NotFoundError):
            return _trial(self._store.get_json(self._uri(number)))
        return None

    def trials(self) -> list[Trial]:
        """All that have begun, by number."""
        found = {f.uri for f in self._store.list(self.folder_uri)} - {self.folder_uri + DOCUMENT}
        return [_trial(self._store.get_json(uri)) for uri in sorted(found)]

    def begin(self, number: int) -> Trial:
        """Begins a trial by choosing its parameters; one that has begun has those that it had."""
        if trial := self.find(number):
            return trial
        study = self._study(number)
        if number < len(self.tuning.first):
            study.enqueue_trial(self.tuning.first[number])
        space = self.tuning.space
        asked = study.ask({name: _distribution(part) for name, part in space.items()})
        trial = Trial(number, {name: space[name].rounded(v) for name, v in asked.params.items()})
        self.keep(trial)
        return trial

    def tell(
        self, trial: Trial, epoch: int, accuracy: float, loss: float, *, last: bool = False
    ) -> None:
        """Notes an epoch of a trial, and ends it where others do better, or where it diverged.

        Args:
            trial: It.
            epoch: From one; what an earlier attempt noted of it is noted once more.
            accuracy: On the validation videos.
            loss: On the same.
            last: Whether it has learnt to its end, which is not taken from it.
        """
        trial.epochs = trial.epochs[: epoch - 1]
        if math.isfinite(loss):
            trial.epochs.append((accuracy, loss))
            if self._is_rung(epoch) and self._ends(trial) and not last:
                trial.state = HALVED
        else:
            trial.state = DIVERGED
        self.keep(trial)

    def keep(self, trial: Trial) -> None:
        """Writes a trial."""
        self._store.put_json(self._uri(trial.number), dataclasses.asdict(trial))

    def importances(self) -> dict[str, float]:
        """How much each parameter has to do with the best tenth of the trials, the most first.

        By PED-ANOVA (Watanabe et al. 2023), of all trials that ended, each as good as it was then.
        Nothing where they are too few to tell.
        """
        study = optuna.create_study(direction="maximize")
        for trial in self.trials():
            if trial.state in (COMPLETE, HALVED) and trial.value is not None:
                study.add_trial(
                    dataclasses.replace(trial, state=COMPLETE, attrs={}).frozen(self.tuning.space)
                )
        if len({trial.value for trial in study.trials}) < 2:
            return {}
        return optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )

    def _is_rung(self, epoch: int) -> bool:
        rung = self.tuning.min_epochs
        while rung < epoch:
            rung *= self.tuning.reduction
        return rung == epoch

    def _ends(self, trial: Trial) -> bool:
        """Whether the halving ends a trial after its last epoch; it remembers that it asked."""
        study = self._study(trial.number)
        study.add_trial(trial.frozen(self.tuning.space))
        asked = optuna.trial.Trial(study, study.get_trials(deepcopy=False)[-1]._trial_id)
        ends = asked.should_prune()
        trial.attrs = dict(study.trials[-1].system_attrs)
        return ends

    def _study(self, number: int) -> optuna.Study:
        """All trials but one, in memory, for that one to ask.

        By a seed of its own, so that two that begin in the same moment are not the same.
        """
        tuning = self.tuning
        (seed,) = np.random.SeedSequence([tuning.seed, number]).generate_state(1)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(
                seed=int(seed), n_startup_trials=max(4, tuning.trials // 4), constant_liar=True
            ),
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=tuning.min_epochs, reduction_factor=tuning.reduction
            ),
        )
        for trial in self.trials():
            if trial.number != number:
                study.add_trial(trial.frozen(tuning.space))
        return study

    def _uri(self, number: int) -> str:
        return f"{self.folder_uri}{number:05d}.json"


def _trial(document: Mapping[str, Any]) -> Trial:
    return Trial(**{**document, "epochs": [tuple(epoch) for epoch in document["epochs"]]})
