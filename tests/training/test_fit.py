"""Training learns, repeats itself, keeps its best epoch, and stops when it is told to."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.errors import BadInputError, StoppedError
from vidpipe.models.architectures import Network, Sampling
from vidpipe.models.classification import build_model
from vidpipe.training.fit import Epoch, fit, prepare
from vidpipe.training.settings import FitSettings

SAMPLING = Sampling(frames=3, height=24, width=24)
CLASSES = 2


def data(videos: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Clips of noise that are dark or bright."""
    random = np.random.default_rng(0)
    classes = np.arange(videos) % CLASSES
    clips = (
        random.integers(0, 60, (videos, 3, 24, 24, 3)) + 150 * classes[:, None, None, None, None]
    )
    return clips.astype(np.uint8), np.eye(CLASSES, dtype=np.float32)[classes]


def train(
    on_epoch=lambda epoch: None,
    *,
    architecture: str = "cnn",
    validation=range(16, 24),
    wrong_validation: bool = False,
    **settings,
):
    clips, labels = data()
    if wrong_validation:
        labels[16:] = 1 - labels[16:]
    chosen = {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "augmentation": True, "seed": 0}
    fit_settings = FitSettings(**{**chosen, **settings})
    prepare(fit_settings)
    model = build_model(Network(architecture), SAMPLING, CLASSES)
    fit(
        model,
        clips,
        labels,
        train=np.arange(16),
        validation=np.array(validation, int),
        settings=fit_settings,
        on_epoch=on_epoch,
    )
    return model


def test_it_learns_and_tells_each_epoch():
    epochs: list[Epoch] = []
    model = train(epochs.append, architecture="cnn_rnn", epochs=8)
    clips, labels = data()
    assert (model.predict_on_batch(clips).argmax(1) == labels.argmax(1)).all()
    assert [epoch.number for epoch in epochs] == list(range(1, 9))
    assert all(
        epoch.metrics.keys()
        == {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy"}
        for epoch in epochs
    )
    assert epochs[-1].metrics["train_loss"] < epochs[0].metrics["train_loss"]
    assert epochs[-1].left_s == 0


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    one, again, other = (
        train(architecture="attention", epochs=1, validation=(), seed=seed).get_weights()
        for seed in (1, 1, 2)
    )
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_the_weights_of_the_best_validation_loss_are_kept():
    epochs: list[Epoch] = []
    # The better it learns, the worse it does on labels that are the wrong way round.
    model = train(epochs.append, epochs=12, wrong_validation=True)
    losses = [epoch.metrics["validation_loss"] for epoch in epochs]
    assert min(losses) < losses[-1]
    clips, labels = data()
    loss = model.evaluate(clips[16:], 1 - labels[16:], verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(min(losses), rel=1e-3)


def test_without_validation_only_training_is_told():
    epochs: list[Epoch] = []
    train(epochs.append, epochs=1, validation=())
    assert epochs[-1].metrics.keys() == {"train_loss", "train_accuracy"}


def test_a_loss_that_is_no_number_ends_it_with_advice():
    with pytest.raises(BadInputError, match="try a lower learning rate"):
        train(learning_rate=1e30, epochs=5)


def test_a_stop_passes_through():
    seen = []

    def stop(epoch: Epoch) -> None:
        seen.append(epoch.number)
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        train(stop)
    assert seen == [1]
