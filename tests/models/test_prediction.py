"""Predictions fit in memory: batches are as large as that allows, and it does not change them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from vidpipe.config import load_settings
from vidpipe.errors import OutOfMemoryError
from vidpipe.models.architectures import Network, Sampling
from vidpipe.models.bundle import Bundle, save_model
from vidpipe.models.classification import build_model
from vidpipe.models.complexity import activation_bytes
from vidpipe.models.prediction import Predictor

LARGE = Sampling(frames=2, height=256, width=320)
CLIPS = np.random.default_rng(0).integers(0, 256, (9, *LARGE.shape), dtype=np.uint8)


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch):
    """Sets a value of `[memory]`."""

    def configure(name: str, value: float) -> None:
        monkeypatch.setenv(f"VIDPIPE_MEMORY_{name}".upper(), str(value))
        load_settings.cache_clear()

    yield configure
    monkeypatch.undo()
    load_settings.cache_clear()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows each batch had that went through a network."""
    seen: list[int] = []
    predict = keras.Model.predict_on_batch

    def note(self, x):
        seen.append(len(x[0]) if isinstance(x, tuple) else len(x))
        return predict(self, x)

    monkeypatch.setattr(keras.Model, "predict_on_batch", note)
    return seen


def alive(model: keras.Model) -> keras.Model:
    """The model, no longer undecided."""
    kernel = model.get_layer("scores").kernel
    kernel.assign(keras.random.normal(kernel.shape, seed=0))
    return model


def test_memory_of_a_network_is_that_of_what_is_alive():
    inputs = keras.Input((100, 100, 3))
    x = keras.layers.Conv2D(8, 1)(inputs)  # with its bias added: once more as much
    x = keras.layers.Conv2D(2, 1)(x)
    outputs = keras.layers.Flatten()(x)
    row = 100 * 100 * 4
    estimate = activation_bytes(keras.Model(inputs, outputs))
    assert 8 * row <= estimate <= 2 * 8 * row + 4 * row


def test_batches_are_as_large_as_memory_allows(configure, batches: list[int]):
    model = alive(build_model(Network("attention"), LARGE, 4))
    expected = np.concatenate([model.predict_on_batch(clip[None]) for clip in CLIPS])
    configure("batch_gb", 3.9 * 1.25 * activation_bytes(model) / 1e9)
    batches.clear()
    np.testing.assert_allclose(Predictor(model).predict((CLIPS,)), expected, atol=1e-5)
    assert batches == [1, 3, 3, 2]


def test_batch_that_does_not_fit_is_halved(configure, batches: list[int]):
    class Full(keras.layers.Layer):
        def call(self, inputs):
            if inputs.shape[0] and inputs.shape[0] > 3:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return inputs

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Full()(inputs))
    model.compile(run_eagerly=True)
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    np.testing.assert_array_equal(Predictor(model).predict((rows,)), rows)
    # Nine after the first are tried, then half as many, and half of that.
    assert batches == [1, 9, 4, 2, 2, 2, 2, 1]


@pytest.mark.long
def test_frames_of_a_clip_are_split_where_a_backbone_sees_them_one_by_one(
    configure, batches: list[int], tmp_path: Path
):
    """Also of a model that was saved, and its canary agrees."""
    sampling = Sampling(frames=3, height=64, width=96)
    clips = np.random.default_rng(0).integers(0, 256, (4, *sampling.shape), dtype=np.uint8)
    model = build_model(Network("attention", backbone="mobilenet_v2"), sampling, 2)
    alive(model.get_layer("head"))
    expected = model.predict_on_batch(clips)
    bundle = Bundle.pack(
        model, task="t", architecture="attention", labels=["a", "b"], sampling=sampling
    )
    np.testing.assert_allclose(bundle.predict(clips), expected, atol=1e-4)
    save_model(bundle, tmp_path / "model")
    configure("batch_gb", 0.001)
    batches.clear()
    loaded = Bundle.load(tmp_path / "model")
    loaded.check_canary()
    np.testing.assert_allclose(loaded.predict(clips), expected, atol=1e-4)
    assert set(batches) == {1}
    encoder = Predictor(model.get_layer("encoder")).predict((clips,))
    np.testing.assert_allclose(
        encoder, model.get_layer("encoder").predict_on_batch(clips), rtol=1e-3, atol=1e-4
    )


def test_network_that_does_not_fit_at_all_is_refused_in_one_line(configure):
    model = build_model(Network("attention"), LARGE, 4)
    configure("stage_gb", 0.001)
    with pytest.raises(OutOfMemoryError, match="Choose smaller frames") as refused:
        Predictor(model).predict((CLIPS,))
    assert "2 × 256 × 320 × 3" in str(refused.value) and "\n" not in str(refused.value)
