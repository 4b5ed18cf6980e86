"""The same networks on another backend of Keras: they are built there, and compute the same."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from vidpipe.models.architectures import CLASSIFICATION, SOUND_SHAPE, Network, Sampling
from vidpipe.models.classification import HEADED, build_model

SAMPLING = Sampling(frames=4, height=64, width=48)
NETWORKS = {
    **{name: Network(name, dropout=0.5) for name in CLASSIFICATION},
    "lstm": Network("cnn_rnn", recurrent="lstm", bidirectional=True),
}
HEARING = {f"{name} that hears": Network(name) for name in ("cnn", "attention")}
HEADS = {f"head of {name}": Network(name, backbone="mobilenet_v2") for name in CLASSIFICATION}
FEATURES = 4, 3, 3, 32


def clips() -> np.ndarray:
    """Squares of chance colours that move: no two clips are alike."""
    random = np.random.default_rng(0)
    found = random.integers(0, 60, (6, *SAMPLING.shape), dtype=np.uint8)
    for number, clip in enumerate(found):
        for moment, frame in enumerate(clip):
            x = 4 + moment * (number - 2)
            frame[10 + 6 * number : 24 + 6 * number, max(x, 0) : x + 12] = 40 * number + 30
    return found


def sound() -> np.ndarray:
    """Noise, a mute clip among it."""
    made = np.random.default_rng(0).uniform(-8, 0, (6, *SOUND_SHAPE)).astype(np.float16)
    made[2] = np.nan
    return made


def build(network: Network, hears: bool) -> keras.Model:
    """The network, or where it has a backbone its head: the backbones are Keras's own."""
    if network.backbone is None:
        return build_model(network, dataclasses.replace(SAMPLING, sound=hears), classes=5)
    features = keras.Input(FEATURES)
    scores = keras.layers.Dense(5, "softmax", name="scores")
    return keras.Model(features, scores(HEADED[network.architecture](features, network)))


def enliven(model: keras.Model, inputs: np.ndarray | tuple[np.ndarray, np.ndarray]) -> None:
    """Lets every layer pass on what tells its inputs apart."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # it takes the statistics of the next batch
    model(inputs, training=True)
    random = np.random.default_rng(1)
    for weight in model.get_layer("scores").weights:
        weight.assign(random.normal(0, 0.7, tuple(weight.shape)))


def score(folder: Path) -> dict[str, np.ndarray]:
    """What each network makes of the clips; the first to come decides on the weights."""
    found = {}
    features = np.random.default_rng(0).normal(size=(6, *FEATURES)).astype(np.float32)
    for name, network in {**NETWORKS, **HEARING, **HEADS}.items():
        model, path = build(network, name in HEARING), folder / f"{name}.weights.h5"
        inputs = clips() if network.backbone is None else features
        inputs = (inputs, sound()) if name in HEARING else inputs
        if path.exists():
            model.load_weights(path)
        else:
            enliven(model, inputs)
            model.save_weights(path)
        found[name] = model.predict_on_batch(inputs)
    return found


@pytest.fixture(scope="module")
def scores(tmp_path_factory) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """By TensorFlow, and by JAX with the same weights."""
    folder = tmp_path_factory.mktemp("networks")
    keras.utils.set_random_seed(0)
    here = score(folder)
    subprocess.run(
        [sys.executable, __file__, folder],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        timeout=600,
    )
    with np.load(folder / "scores.npz") as there:
        return here, dict(there)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NETWORKS, *HEARING, *HEADS])
def test_tensorflow_and_jax_agree(scores, name):
    here, there = scores
    # They tell clips apart, so that there is something to agree on.
    assert here[name].std(axis=0).max() > 3e-3
    np.testing.assert_allclose(here[name], there[name], atol=1e-4)


if __name__ == "__main__":
    np.savez(Path(sys.argv[1]) / "scores.npz", **score(Path(sys.argv[1])))
