"""Networks: shapes, the very layers of `cnn`, and who knows the order of the frames."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from vidpipe.errors import UsageError
from vidpipe.models.architectures import (
    CLASSIFICATION,
    SOUND_SHAPE,
    Network,
    Sampling,
    find_architecture,
)
from vidpipe.models.classification import SMALL as BUILDERS
from vidpipe.models.classification import build_model
from vidpipe.models.layers import TokenForMissing

SMALL = Sampling(frames=5, height=32, width=40)
HEARING = dataclasses.replace(SMALL, sound=True)


def clips(number: int = 3) -> np.ndarray:
    shape = (number, SMALL.frames, SMALL.height, SMALL.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def sound(number: int = 3) -> np.ndarray:
    """Noise; the second clip is mute."""
    made = np.random.default_rng(1).uniform(-8, 0, (number, *SOUND_SHAPE)).astype(np.float16)
    made[1] = np.nan
    return made


def test_every_architecture_can_be_built():
    assert BUILDERS.keys() == CLASSIFICATION.keys()


def test_an_architecture_that_is_none_is_refused_with_those_that_are():
    with pytest.raises(UsageError, match="one of cnn, .*, transformer. Received: 'vgg'"):
        find_architecture("vgg")


@pytest.mark.parametrize("architecture", CLASSIFICATION)
def test_clips_become_scores_that_add_up_to_one(architecture):
    keras.utils.set_random_seed(0)
    model = build_model(Network(architecture), SMALL, classes=4)
    scores = model.predict_on_batch(clips())
    assert scores.shape == (3, 4) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(scores, model.predict_on_batch(clips().astype("float32")), rtol=1e-5)


def test_cnn_has_the_layers_that_it_is_known_for():
    model = build_model(Network("cnn", dropout=0.5), CLASSIFICATION["cnn"].sampling, classes=4)
    facts = [
        (type(layer).__name__, getattr(layer, number))
        for layer in model.layers
        for number in ("filters", "units", "rate")
        if hasattr(layer, number)
    ]
    assert facts == [
        ("Conv2D", 32),
        ("Conv2D", 64),
        ("Conv2D", 128),
        ("Dense", 128),
        ("Dropout", 0.5),
        ("Dense", 64),
        ("Dropout", 0.5),
        ("Dense", 4),
    ]
    # 3×3 without padding and 2×2 pooling leave 14×14 of 128×128.
    convolutions = (27 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 128
    dense = (14 * 14 * 128 + 1) * 128 + (128 + 1) * 64 + (64 + 1) * 4
    assert model.count_params() == convolutions + dense
    spec = CLASSIFICATION["cnn"]
    assert (spec.epochs, spec.learning_rate) == (10, 1e-3)
    assert spec.batch_size * spec.sampling.frames == 32


def decided(architecture: str, sampling: Sampling = SMALL) -> keras.Model:
    """A network whose last layer is not undecided, as it is in the beginning."""
    keras.utils.set_random_seed(0)
    model = build_model(Network(architecture), sampling, classes=4)
    kernel = model.get_layer("scores").kernel
    kernel.assign(keras.random.normal(kernel.shape, stddev=0.1, seed=0))
    return model


@pytest.mark.parametrize("architecture", CLASSIFICATION)
def test_who_knows_the_order_of_the_frames(architecture):
    model = decided(architecture)
    difference = np.abs(
        model.predict_on_batch(clips()) - model.predict_on_batch(clips()[:, ::-1].copy())
    ).max()
    assert (difference < 1e-5) == (architecture == "cnn")


@pytest.mark.parametrize("architecture", ["cnn_rnn", "attention"])
def test_frame_features_know_where_something_is(architecture):
    model = decided(architecture)
    at = np.zeros((2, SMALL.frames, SMALL.height, SMALL.width, 3), np.uint8)
    at[0, :, 8:16, 8:16] = 255
    at[1, :, 8:16, 24:32] = 255
    scores = model.predict_on_batch(at)
    assert np.abs(scores[0] - scores[1]).max() > 1e-4


@pytest.mark.parametrize("architecture", CLASSIFICATION)
def test_every_weight_learns(architecture):
    keras.utils.set_random_seed(0)
    model = build_model(Network(architecture), HEARING, classes=4)
    model.compile("adam", "categorical_crossentropy", run_eagerly=True)
    before = [w.numpy() for w in model.trainable_weights]
    model.fit((clips(4), sound(4)), np.eye(4), epochs=3, verbose=0)
    unmoved = [
        w.path
        for w, old in zip(model.trainable_weights, before, strict=True)
        if (w.numpy() == old).all()
    ]
    assert unmoved == []


@pytest.mark.parametrize("architecture", CLASSIFICATION)
def test_what_is_heard_counts_and_of_a_mute_clip_what_is_seen(architecture):
    model = decided(architecture, HEARING)
    scores, louder, other = (
        model.predict_on_batch(given)
        for given in (
            (clips(), sound()),
            (clips(), sound() / 2),
            (clips()[::-1].copy(), sound()),
        )
    )
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    assert np.abs(scores - louder)[[0, 2]].max(axis=1).min() > 1e-5
    np.testing.assert_array_equal(scores[1], louder[1])
    assert np.abs(scores[0] - other[0]).max() > 1e-5


def test_a_token_stands_for_what_is_missing_and_learns_from_what_is_taken_for_it():
    keras.utils.set_random_seed(0)
    layer = TokenForMissing(0.1)
    vectors, missing = np.ones((4000, 3), np.float32), np.arange(4000) < 1000
    as_it_is = keras.ops.convert_to_numpy(layer(vectors, missing))
    token = layer.embedding.numpy()
    np.testing.assert_array_equal(as_it_is, np.where(missing[:, None], token, vectors))
    learning = keras.ops.convert_to_numpy(layer(vectors, missing, training=True))
    assert (learning[missing] == token).all()
    silenced = (learning[~missing] == token).all(axis=1)
    assert 0.07 < silenced.mean() < 0.13
    assert (learning[~missing][~silenced] == 1).all()
    again = keras.ops.convert_to_numpy(layer(vectors, missing, training=True))
    assert (again != learning).any()
