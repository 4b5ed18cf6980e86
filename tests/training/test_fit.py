"""Training learns, repeats itself, keeps the right epoch, and stops when it is told to."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from vidpipe.datasets.pipeline import Order
from vidpipe.errors import BadInputError, OutOfMemoryError, StoppedError
from vidpipe.models.architectures import CLASSIFICATION, Network, Sampling
from vidpipe.models.classification import build_model
from vidpipe.training.fit import Epoch, fit, prepare
from vidpipe.training.optimizing import balanced_weights, make_optimizer, repeats
from vidpipe.training.settings import FitSettings


@pytest.fixture(autouse=True)
def full_precision():
    """Others are not to be built in what a test trains in."""
    yield
    keras.config.set_dtype_policy("float32")


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
    chosen = {"augmentation": "article", "seed": 0, **settings}
    fit_settings = FitSettings(**{"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, **chosen})
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


@pytest.mark.long
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
    model = train(epochs.append, epochs=12, wrong_validation=True, schedule="constant")
    losses = [epoch.metrics["validation_loss"] for epoch in epochs]
    assert min(losses) < losses[-1]
    clips, labels = data()
    loss = model.evaluate(clips[16:], 1 - labels[16:], verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(min(losses), rel=1e-3)


def test_at_the_end_of_a_cosine_the_last_weights_are_kept():
    epochs: list[Epoch] = []
    model = train(epochs.append, epochs=12, wrong_validation=True)
    losses = [epoch.metrics["validation_loss"] for epoch in epochs]
    assert min(losses) < losses[-1]
    clips, labels = data()
    loss = model.evaluate(clips[16:], 1 - labels[16:], verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(losses[-1], rel=1e-3)


def test_without_validation_only_training_is_told():
    epochs: list[Epoch] = []
    train(epochs.append, epochs=1, validation=())
    assert epochs[-1].metrics.keys() == {"train_loss", "train_accuracy"}


def test_a_loss_that_is_no_number_ends_it_with_advice_and_the_batch():
    clips, labels = data()
    inputs = clips.astype(np.float32)
    inputs[5] = np.nan
    settings = FitSettings(3, 4, 1e-3, augmentation="none", seed=0)
    prepare(settings)
    with pytest.raises(BadInputError, match="try a lower learning rate") as caught:
        fit(
            build_model(Network("attention"), SAMPLING, CLASSES),
            inputs,
            labels,
            train=np.arange(16),
            validation=np.empty(0, int),
            settings=settings,
            on_epoch=lambda epoch: None,
            names=[f"video-{n:02}" for n in range(24)],
        )
    message = str(caught.value)
    step = int(re.search(r"since step (\d+), step \1 of epoch 1", message)[1])
    rows = Order(clips, np.arange(16), batch_size=4, seed=0).batch(step - 1)
    assert 5 in rows and message.endswith(", ".join(f"video-{n:02}" for n in rows))


def test_it_ends_when_patience_does_and_keeps_the_best():
    epochs: list[Epoch] = []
    model = train(epochs.append, epochs=40, patience=2, wrong_validation=True)
    losses = [epoch.metrics["validation_loss"] for epoch in epochs]
    assert len(epochs) == np.argmin(losses) + 1 + 2 < 40
    clips, labels = data()
    loss = model.evaluate(clips[16:], 1 - labels[16:], verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(min(losses), rel=1e-3)


def test_where_nothing_validates_patience_ends_nothing():
    epochs: list[Epoch] = []
    train(epochs.append, epochs=4, patience=1, validation=())
    assert len(epochs) == 4


@pytest.mark.parametrize("architecture", CLASSIFICATION)
def test_only_kernels_decay(architecture):
    model = build_model(Network(architecture), SAMPLING, CLASSES)
    settings = FitSettings(1, 1, 0.5, "none", 0, schedule="constant", weight_decay=0.5)
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(keras.ops.ones_like(variable))
    make_optimizer(settings, 1).apply(list(map(keras.ops.zeros_like, variables)), variables)
    decayed = {v.path for v in variables if not np.all(keras.ops.convert_to_numpy(v) == 1)}
    assert decayed == {v.path for v in variables if v.name.endswith("kernel")}


def test_a_batch_in_pieces_teaches_what_the_whole_does():
    whole, pieces = (
        train(augmentation="none", validation=(), epochs=1, accumulation=n) for n in (1, 4)
    )
    assert any(w.any() for w in whole.get_weights())
    for one, other in zip(whole.get_weights(), pieces.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.long
def test_what_is_kept_is_the_average_where_one_is_asked_for():
    plain = train(validation=(), epochs=1)
    averaged = train(validation=(), epochs=1, ema=0.5)
    assert any(
        (a != b).any() for a, b in zip(plain.get_weights(), averaged.get_weights(), strict=True)
    )
    clips, labels = data()
    epochs: list[Epoch] = []
    model = train(epochs.append, epochs=4, ema=0.9, architecture="cnn_rnn")
    loss = model.evaluate(clips[16:], labels[16:], verbose=0, return_dict=True)["loss"]
    # What was validated is what is kept, and training went on from what it is the average of.
    assert loss == pytest.approx(epochs[-1].metrics["validation_loss"], rel=1e-3)
    assert epochs[-1].metrics["train_loss"] < epochs[0].metrics["train_loss"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_learns_in_half_precision_with_whole_weights(precision):
    epochs: list[Epoch] = []
    model = train(epochs.append, epochs=8, architecture="cnn_rnn", precision=precision)
    assert {str(w.dtype) for w in model.get_weights()} == {"float32"}
    assert epochs[-1].metrics["train_accuracy"] > 0.9


def test_rare_classes_count_as_much_as_frequent_ones():
    labels = np.eye(3, dtype=np.float32)[[0] * 8 + [1] * 2]
    weights = balanced_weights(labels)
    assert weights.mean() == pytest.approx(1)
    assert weights[:8].sum() == pytest.approx(weights[8:].sum())
    several = balanced_weights(np.array([[1, 0], [1, 0], [1, 1], [0, 0]], np.float32))
    assert several[2] > several[0] and several[3] > several[0]


@pytest.mark.parametrize(
    "schedule, expected",
    [("cosine", [0.0, 0.5, 1.0, 0.5, 0.0]), ("constant", [1.0, 1.0, 1.0, 1.0, 1.0])],
)
def test_the_learning_rate_goes_as_chosen(schedule, expected):
    settings = FitSettings(1, 1, 0.01, "none", 0, schedule=schedule, warmup_share=0.2)
    optimizer = make_optimizer(settings, steps=100)
    found = []
    for step in (0, 10, 20, 60, 100):
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate) / 0.01)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_it_learns_from_mixed_clips_of_which_the_larger_part_counts(mix):
    epochs: list[Epoch] = []
    model = train(epochs.append, architecture="cnn_rnn", epochs=24, mix=mix, balanced=True)
    clips, labels = data()
    assert (model.predict_on_batch(clips).argmax(1) == labels.argmax(1)).all()
    assert epochs[-1].metrics["train_accuracy"] > 0.7


def test_clips_of_rare_classes_come_more_often():
    assert repeats(np.eye(3, dtype=np.float32)[[0] * 9 + [1] * 3 + [2]], 5).tolist() == (
        [1] * 9 + [3] * 3 + [5]
    )
    several = np.array([[1, 0]] * 6 + [[1, 1]] * 2 + [[0, 0]], np.float32)
    assert repeats(several, 9).tolist() == [1] * 6 + [4] * 2 + [1]
    clips, labels = data()
    labels = np.eye(CLASSES, dtype=np.float32)[[0] * 12 + [1] * 4 + [0, 1] * 4]
    settings = FitSettings(1, 4, 1e-3, "none", 0, oversampling=3)
    prepare(settings)
    steps = []
    fit(
        build_model(Network("cnn"), SAMPLING, CLASSES),
        clips,
        labels,
        train=np.arange(16),
        validation=np.empty(0, int),
        settings=settings,
        on_epoch=lambda epoch: None,
        stopping=lambda: bool(steps.append(1)),
    )
    assert len(steps) == 6 + 1  # 24 clips, and once more at the end


def test_a_video_may_have_several_labels_or_none():
    clips, labels = data()
    both = np.concatenate([labels, labels[:, :1]], axis=1)
    settings = FitSettings(12, 8, 3e-3, augmentation="none", seed=0)
    prepare(settings)
    model = build_model(Network("cnn_rnn"), SAMPLING, 3, several=True)
    epochs: list[Epoch] = []
    fit(
        model,
        clips,
        both,
        train=np.arange(16),
        validation=np.arange(16, 24),
        settings=settings,
        on_epoch=epochs.append,
        several=True,
    )
    right = ((model.predict_on_batch(clips[16:]) > 0.5) == both[16:]).mean()
    assert right > 0.9
    best = min(epochs, key=lambda epoch: epoch.metrics["validation_loss"])
    assert best.metrics["validation_accuracy"] == pytest.approx(right)


def test_a_stop_passes_through():
    seen = []

    def stop(epoch: Epoch) -> None:
        seen.append(epoch.number)
        raise StoppedError("stopped")

    with pytest.raises(StoppedError):
        train(stop)
    assert seen == [1]


@pytest.mark.parametrize(
    ("sizes", "advice"),
    [
        (
            {"batch_size": 1},
            r"A batch of 1 clip does not fit .*\. Choose smaller or fewer frames\.",
        ),
        ({"batch_size": 8}, r"A batch of 8 clips does .*\. Set accumulation to 2, .* pieces of 4,"),
        ({"batch_size": 8, "accumulation": 8}, r" in 8 pieces, does .*\. Set batch_size lower, or"),
    ],
)
def test_a_batch_that_cannot_fit_is_refused_with_what_to_do(monkeypatch, sizes, advice):
    monkeypatch.setattr("vidpipe.training.fit.most_bytes", lambda: 1)
    # A GPU says it itself.
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda *kind: [])
    with pytest.raises(OutOfMemoryError, match=advice):
        train(**sizes)
