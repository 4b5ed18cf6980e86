"""Trials are what they were told of, whoever reads them, and the halving spares the best."""

from __future__ import annotations

import math
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import new_lake
from vidpipe.errors import UsageError
from vidpipe.lake.tables import Lake
from vidpipe.training.settings import complete
from vidpipe.training.space import SEARCHED, Choice, Range, first_trials, make_space
from vidpipe.training.study import COMPLETE, DIVERGED, HALVED, RUNNING, Study, Tuning

EPOCHS = 9
TRIALS = 7


@pytest.fixture(scope="module")
def shared_lake(s3_server, tmp_path_factory) -> Lake:
    """A lake for all examples of a test."""
    return new_lake(s3_server.settings, tmp_path_factory.mktemp("study"), "study")


def trainings(*architectures: str, **config) -> dict:
    return {
        name: complete({"architecture": name, "sliding": False, **config}) for name in architectures
    }


def new_study(lake: Lake, searched=("learning_rate", "balanced"), trials: int = 20) -> Study:
    """One of cnn and attention, written, and read by somebody else."""
    of = trainings("cnn", "attention", learning_rate=1e-3)
    space = make_space(of, searched)
    folder_uri = f"{lake.uri}/runs/r/trials/{secrets.token_hex(4)}/"
    tuning = Tuning(space, first_trials(of, space), trials, seed=1, min_epochs=1, reduction=3)
    Study(lake.store, folder_uri, tuning).write()
    return Study(lake.store, folder_uri)


def learn(study: Study, number: int, quality: float, *, from_epoch: int = 1):
    """A training that becomes better by epoch, up to its quality."""
    trial = study.begin(number)
    for epoch in range(from_epoch, EPOCHS + 1):
        last = epoch == EPOCHS
        study.tell(trial, epoch, quality * (1 - 0.5 / epoch), 1 / epoch, last=last)
        if trial.state == HALVED:
            break
    else:
        trial.state = COMPLETE
    trial.value = trial.epochs[-1][0]
    study.keep(trial)
    return trial


def test_a_search_begins_with_what_each_architecture_is_without_it(lake):
    study = new_study(lake)
    first, second, third = (study.begin(number) for number in range(3))
    assert first.params == {"architecture": "cnn", "learning_rate": 1e-3, "balanced": False}
    assert second.params["architecture"] == "attention"
    low, high = study.tuning.space["learning_rate"].low, study.tuning.space["learning_rate"].high
    assert low <= third.params["learning_rate"] <= high
    assert third.params not in (first.params, second.params)


def test_trials_that_begin_in_the_same_moment_are_not_the_same(lake, monkeypatch):
    study = new_study(lake)
    monkeypatch.setattr(study, "trials", list)
    chosen = [study.begin(number).params["learning_rate"] for number in range(2, 12)]
    assert len(set(chosen)) == 10


def test_a_trial_that_begins_again_is_as_it_was(lake):
    study = new_study(lake)
    learn(study, 0, 0.5)
    begun = study.begin(5)
    study.tell(begun, 1, 0.9, 0.3)
    study.tell(begun, 2, 0.9, 0.2)
    learn(study, 6, 0.99)  # others go on meanwhile
    again = Study(lake.store, study.folder_uri).begin(5)
    assert again == begun
    assert begun.attrs and begun.state == RUNNING
    # The checkpoint was from before: it is told of the same once more.
    for epoch in (1, 2):
        study.tell(again, epoch, *begun.epochs[epoch - 1])
    assert again == begun


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(TRIALS)))
def test_the_halving_spares_the_best_in_whatever_order_they_come(shared_lake, order):
    study = new_study(shared_lake)
    ended = [learn(study, number, (1 + rank) / 10) for number, rank in enumerate(order)]
    rank_of = dict(zip((trial.number for trial in ended), order, strict=True))
    best = max(ended, key=lambda trial: rank_of[trial.number])
    assert best.state == COMPLETE and len(best.epochs) == EPOCHS
    whole = [trial for trial in ended if trial.state == COMPLETE]
    assert max(whole, key=lambda trial: trial.score) == best
    # A trial ends at a rung only, and not while it is the best that was there.
    for trial in ended:
        if trial.state == HALVED:
            assert len(trial.epochs) in (1, 3)
            before = [rank_of[n] for n in rank_of if n < trial.number]
            assert any(rank > rank_of[trial.number] for rank in before)


def test_most_are_halved_where_the_best_come_first(lake):
    study = new_study(lake)
    ended = [learn(study, number, 0.9 - number / 20) for number in range(9)]
    assert ended[0].state == COMPLETE
    assert sum(trial.state == HALVED for trial in ended) >= 5


def test_what_diverged_is_no_example_and_what_matters_is_found(lake):
    study = new_study(lake, searched=("learning_rate", "dropout"), trials=30)
    assert study.importances() == {}
    for number in range(30):
        trial = study.begin(number)
        rate = trial.params["learning_rate"]
        if rate > 0.003:
            trial.state = DIVERGED
        else:
            # As of several labels, where the shares of right answers tell little.
            study.tell(trial, 1, 0.9, 0.1, last=True)
            trial.state, trial.value = COMPLETE, 1 - abs(math.log10(rate) + 3)
        study.keep(trial)
    rates = [trial.params["learning_rate"] for trial in study.trials()]
    late = rates[15:]
    assert sum(rate > 0.003 for rate in late) < 5, "it goes on where nothing comes of it"
    importances = study.importances()
    assert next(iter(importances)) == "learning_rate"
    assert sum(importances.values()) == pytest.approx(1)


def test_where_the_metrics_are_the_same_the_loss_decides(lake):
    study = new_study(lake)
    better, worse = study.begin(0), study.begin(1)
    study.tell(better, 1, 0.5, 0.1, last=True)
    study.tell(worse, 1, 0.9, 0.2, last=True)
    better.value = worse.value = 0.7
    assert better.score > worse.score
    study.tell(better, 2, 0.9, 0.3, last=True)
    assert better.loss == 0.1 and better.score > worse.score
    # At the end that counts whose weights are kept.
    better.kept_loss = 0.3
    assert better.score < worse.score
    worse.value = 0.71
    assert better.score < worse.score, "the shares of right answers do not count"


@pytest.mark.parametrize("architectures", [("cnn",), ("cnn", "transformer")])
def test_every_training_lies_in_the_space_around_it(architectures):
    of = trainings(*architectures)
    space = make_space(of, list(SEARCHED))
    assert ("architecture" in space) == (len(architectures) > 1)
    for first in first_trials(of, space):
        training = of[first.get("architecture", architectures[0])]
        for name, value in first.items():
            match space[name]:
                case Range(low, high):
                    assert low <= value <= high
                case Choice(values):
                    assert value in values
            if name != "architecture":
                assert value == training[name]


def test_what_is_chosen_is_searched_around():
    of = trainings("cnn", learning_rate=0.5, batch_size=1, weight_decay=0.0)
    space = make_space(of, ["learning_rate", "batch_size", "weight_decay"])
    assert space["learning_rate"] == Range(0.05, 1.0, log=True)
    assert space["batch_size"] == Choice((1, 2))
    (first,) = first_trials(of, space)
    assert first["weight_decay"] == 1e-4  # nothing is no place on a scale of magnitudes
    chosen = {"dropout": 0.9, "label_smoothing": 0.5, "weight_decay": 0.9}
    of = trainings("cnn", **chosen)
    assert first_trials(of, make_space(of, list(chosen))) == [chosen]


@pytest.mark.parametrize(
    ("searched", "told"), [([], "Nothing is searched"), (["epochs"], "Received: epochs")]
)
def test_what_cannot_be_searched_is_refused(searched, told):
    with pytest.raises(UsageError, match=told):
        make_space(trainings("cnn"), searched)
