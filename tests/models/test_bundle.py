"""A model travels whole, loads without running anything of its own, and is what it was."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest

from vidpipe.errors import BadInputError
from vidpipe.models.architectures import (
    BACKBONES,
    CLASSIFICATION,
    SOUND_SHAPE,
    Network,
    Sampling,
)
from vidpipe.models.bundle import Bundle, save_model
from vidpipe.models.classification import build_model

SAMPLING = Sampling(frames=3, height=32, width=24)
LABELS = ["jump", "run ✓", "$x$"]
CLIPS = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 24, 3), dtype=np.uint8)


HEARING = dataclasses.replace(SAMPLING, sound=True)
SOUND = np.random.default_rng(1).uniform(-8, 0, (40, *SOUND_SHAPE)).astype(np.float16)
SOUND[::7] = np.nan


def pack(architecture: str = "attention", sampling: Sampling = SAMPLING) -> Bundle:
    keras.utils.set_random_seed(0)
    model = build_model(Network(architecture), sampling, len(LABELS))
    # In the beginning it is undecided, whatever it sees.
    kernel = model.get_layer("scores").kernel
    kernel.assign(keras.random.normal(kernel.shape, seed=0))
    return Bundle.pack(
        model,
        task="sport",
        architecture=architecture,
        labels=LABELS,
        sampling=sampling,
        thresholds={"jump": 0.25, "run ✓": 1.0},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "attention"
    save_model(pack(), folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.mark.parametrize("architecture", CLASSIFICATION)
def test_what_is_loaded_scores_as_what_was_saved(architecture, tmp_path):
    bundle = pack(architecture)
    save_model(bundle, tmp_path / "model")
    loaded = Bundle.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict(CLIPS), bundle.predict(CLIPS), atol=1e-6)
    assert (loaded.labels, loaded.sampling) == (LABELS, SAMPLING)
    assert loaded.thresholds == {"jump": 0.25, "run ✓": 1.0}
    assert (loaded.task, loaded.architecture) == ("sport", architecture)
    loaded.check_canary()


def test_a_network_as_training_leaves_it_is_loaded(tmp_path):
    bundle = pack("cnn")
    optimizer = keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.1, 10))
    bundle.model.compile(optimizer, keras.losses.CategoricalCrossentropy(), ["accuracy"])
    save_model(bundle, tmp_path / "model")
    loaded = Bundle.load(tmp_path / "model")
    loaded.check_canary()
    assert not loaded.model.compiled


def test_no_clips_have_no_scores():
    assert pack("cnn").predict(CLIPS[:0]).shape == (0, 3)


def test_many_clips_are_scored_as_few_are():
    bundle = pack("cnn")
    one_by_one = np.concatenate([bundle.predict(clip[None]) for clip in CLIPS])
    np.testing.assert_allclose(bundle.predict(CLIPS), one_by_one, atol=1e-6)


def test_it_holds_no_pickle_and_no_code(saved):
    names = sorted(
        path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()
    )
    assert names == ["MLmodel", "data/bundle.json", "data/canary.npz", "data/model.keras"]


def test_mlflow_serves_it_with_its_signature(saved):
    model = mlflow.pyfunc.load_model(str(saved))
    # In single precision: how a sum is cut into parts for threads shows in its last digits.
    np.testing.assert_allclose(
        model.predict(CLIPS[:5]), pack().predict(CLIPS[:5]), rtol=1e-5, atol=1e-6
    )
    (given,) = model.metadata.signature.inputs
    assert (given.type, given.shape) == (np.uint8, (-1, 3, 32, 24, 3))
    with pytest.raises(mlflow.MlflowException):
        model.predict(CLIPS[:, :2])


def test_one_that_hears_travels_with_what_it_hears(tmp_path):
    bundle = pack("cnn_rnn", HEARING)
    save_model(bundle, tmp_path / "model")
    loaded = Bundle.load(tmp_path / "model")
    loaded.check_canary()
    given = {"clips": CLIPS, "sound": SOUND}
    scores = bundle.predict(given)
    np.testing.assert_allclose(loaded.predict(given), scores, atol=1e-6)
    assert np.isfinite(scores).all() and loaded.sampling == HEARING
    mute = {"clips": CLIPS, "sound": np.full_like(SOUND, np.nan)}
    alike = np.isclose(loaded.predict(mute), scores, atol=1e-6).all(axis=1)
    np.testing.assert_array_equal(alike, np.isnan(SOUND[:, 0, 0]))
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    np.testing.assert_allclose(served.predict(given), scores, atol=1e-6)
    assert [(of.name, of.type, of.shape) for of in served.metadata.signature.inputs] == [
        ("clips", np.uint8, (-1, 3, 32, 24, 3)),
        ("sound", np.float16, (-1, *SOUND_SHAPE)),
    ]
    # Its token is part of what the canary tells.
    (token,) = (w for w in loaded.model.weights if "token_for_missing" in w.path)
    token.assign(token + 3.0)
    with pytest.raises(BadInputError, match="canary"):
        loaded.check_canary()


def test_a_model_of_before_there_was_sound_is_deaf(folder):
    path = folder / "data" / "bundle.json"
    facts = json.loads(path.read_text())
    assert facts["sampling"].pop("sound") is False
    path.write_text(json.dumps(facts))
    loaded = Bundle.load(folder)
    assert loaded.sampling == SAMPLING
    loaded.check_canary()


def test_a_model_that_changed_fails_its_canary(folder):
    bundle = Bundle.load(folder)
    weights = bundle.model.get_weights()
    bundle.model.set_weights([w + 0.05 for w in weights])
    with pytest.raises(BadInputError, match="attention model of sport scores its canary"):
        bundle.check_canary()
    bundle.model.set_weights([np.full_like(w, np.nan) for w in weights])
    with pytest.raises(BadInputError, match="canary"):
        bundle.check_canary()


def _arrays(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "name, content",
    [
        ("bundle.json", b"{}"),
        ("bundle.json", b"\xff"),
        ("bundle.json", None),
        ("model.keras", b"no model"),
        ("model.keras", None),
        ("canary.npz", b"no array"),
        ("canary.npz", b""),
        ("canary.npz", b"PK\x03\x04, and then no archive"),
        ("canary.npz", _arrays(clips=np.zeros((2, 1, 8, 8, 3)), scores=np.zeros((2, 2)))),
        ("canary.npz", _arrays(clips=np.zeros((2, 3, 32, 24, 3)), scores=np.zeros((2, 7)))),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(folder, name, content):
    if content is None:
        (folder / "data" / name).unlink()
    else:
        (folder / "data" / name).write_bytes(content)
    with pytest.raises(BadInputError, match="no model of vidpipe's") as caught:
        Bundle.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.long
@pytest.mark.parametrize("backbone", BACKBONES)
def test_networks_with_a_backbone_pass_the_inspection(backbone, tmp_path):
    sampling = Sampling(frames=2, height=96, width=80)
    for network in (
        Network("attention", backbone),
        Network("cnn3d", backbone, fine_tune=True),
    ):
        bundle = Bundle.pack(
            build_model(network, sampling, 2),
            task="sport",
            architecture=network.architecture,
            labels=LABELS[:2],
            sampling=sampling,
        )
        save_model(bundle, tmp_path / network.architecture)
        Bundle.load(tmp_path / network.architecture).check_canary()
