"""A training that is ended anywhere ends as one that was not; checkpoints are whole or absent."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from vidpipe.datasets.presets import PRESETS
from vidpipe.errors import StoppedError
from vidpipe.lake.store import ObjectStore
from vidpipe.models.architectures import SOUND_SHAPE, Network, Sampling
from vidpipe.models.classification import build_model
from vidpipe.training.checkpoints import Checkpoint, Checkpoints
from vidpipe.training.fit import fit, prepare
from vidpipe.training.settings import FitSettings

SAMPLING = Sampling(frames=3, height=24, width=24)
HEARING = dataclasses.replace(SAMPLING, sound=True)
SETTINGS = FitSettings(epochs=2, batch_size=4, learning_rate=3e-3, augmentation="article", seed=5)
# All that has a state of its own, or takes a batch apart.
RICH = dataclasses.replace(
    SETTINGS,
    ema=0.8,
    accumulation=2,
    precision="float16",
    balanced=True,
    label_smoothing=0.1,
    augmentation="strong",
    mirrored=True,
    mix="mixup",
)
FOLDER_URI = "runs/r/checkpoints/train/00000/hash/"


class Killed(BaseException):
    """No step, no `finally` of the loop, and no checkpoint comes after it."""


def open_checkpoints(lake, folder: Path, every_s: float = 1e9, told: list[str] | None = None):
    return Checkpoints(
        lake.store,
        f"{lake.uri}/{FOLDER_URI}",
        folder,
        every_s=every_s,
        tell=(told if told is not None else []).append,
    )


def state_hash(model, history) -> str:
    """Weights, states of random numbers, optimizer, history."""
    digest = hashlib.sha256(json.dumps(history).encode())
    for variable in (*model.variables, *model.optimizer.variables):
        digest.update(variable.value.numpy().tobytes())
    return digest.hexdigest()


def train(
    checkpoints=None,
    stopping=lambda: False,
    *,
    architecture: str = "cnn",
    settings=SETTINGS,
    sampling=SAMPLING,
) -> str:
    random = np.random.default_rng(0)
    read = SAMPLING.frames * PRESETS[settings.augmentation].moments
    clips = random.integers(0, 256, (13, read, 24, 24, 3), dtype=np.uint8)
    labels = np.eye(2, dtype=np.float32)[np.arange(13) % 2]
    prepare(settings)
    model = build_model(Network(architecture, dropout=0.5), sampling, 2)
    sound = None
    if sampling.sound:
        sound = random.uniform(-8, 0, (13, *SOUND_SHAPE)).astype(np.float16)
        sound[::4] = np.nan
    history = fit(
        model,
        clips,
        labels,
        train=np.arange(9),  # three steps, the last of a single clip
        validation=np.arange(9, 13),
        settings=settings,
        on_epoch=lambda epoch: None,
        sound=sound,
        checkpoints=checkpoints,
        stopping=stopping,
    )
    assert [sorted(epoch) for epoch in history] == [
        ["train_accuracy", "train_loss", "validation_accuracy", "validation_loss"]
    ] * settings.epochs
    return state_hash(model, history)


def after(steps: int, kill: bool = False):
    """A `stopping` that is true, or kills, when it was asked so often."""
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        if asked == steps and kill:
            raise Killed
        return asked == steps

    return stopping


@functools.cache
def undisturbed(
    architecture: str = "cnn", settings: FitSettings = SETTINGS, sampling: Sampling = SAMPLING
) -> str:
    return train(architecture=architecture, settings=settings, sampling=sampling)


@pytest.mark.parametrize(
    "architecture, settings, sampling, ends, resumed_after",
    [
        # Its dropout has random numbers of its own. Between steps, at the end of an epoch before
        # its validation, in that, in the next epoch.
        (
            "cnn",
            SETTINGS,
            SAMPLING,
            ((1, False), (2, False), (1, False), (2, True), (3, False)),
            [1, 3, 3, 3, 5],
        ),
        # Its batch normalization has averages.
        pytest.param(
            *("attention", SETTINGS, SAMPLING, ((2, False),), [2]), marks=pytest.mark.long
        ),
        # It draws what it does not hear.
        pytest.param(
            *("cnn", RICH, HEARING, ((2, False), (3, True)), [2, 2]), marks=pytest.mark.long
        ),
    ],
)
def test_stopped_and_killed_anywhere_it_ends_as_undisturbed(
    lake, tmp_path, architecture, settings, sampling, ends, resumed_after
):
    chosen = {"architecture": architecture, "settings": settings, "sampling": sampling}
    told: list[str] = []
    for steps, kill in ends:
        with pytest.raises(Killed if kill else StoppedError):
            train(open_checkpoints(lake, tmp_path, told=told), after(steps, kill), **chosen)
    ended = train(open_checkpoints(lake, tmp_path, told=told), **chosen)
    assert told == [f"goes on after step {step} of 6" for step in resumed_after]
    assert ended == undisturbed(**chosen)


def test_what_is_due_is_kept_without_a_stop_and_does_not_change_the_training(lake, tmp_path):
    checkpoints = open_checkpoints(lake, tmp_path, every_s=0)
    disturbed = train(checkpoints)
    assert next(checkpoints.newest_first()).step >= 1
    assert disturbed == undisturbed()


def keep(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        arrays = {"model": [np.full((2, 3), step, np.float32), np.array(step)], "best": []}
        checkpoints.save(Checkpoint(step, arrays, {"history": [{"loss": 0.1 * step}]}))


def names(lake) -> list[str]:
    return [found.uri for found in lake.store.list(f"{lake.uri}/{FOLDER_URI}")]


def test_the_last_few_are_kept_whole_and_at_the_end_none(lake, tmp_path):
    checkpoints = open_checkpoints(lake, tmp_path)
    lake.store.put(f"{lake.uri}/{FOLDER_URI}0000000001-begun.npz", b"cut off")
    keep(checkpoints, 1, 2, 3, 20, 100)
    assert len(names(lake)) == 6
    kept = list(open_checkpoints(lake, tmp_path).newest_first())
    assert [checkpoint.step for checkpoint in kept] == [100, 20, 3]
    np.testing.assert_array_equal(kept[0].arrays["model"][0], np.full((2, 3), 100, np.float32))
    assert kept[0].arrays["model"][1].shape == () and kept[0].arrays["best"] == []
    assert kept[0].facts == {"history": [{"loss": 10.0}]}
    assert not list(tmp_path.glob("*.npz"))
    checkpoints.clear()
    assert names(lake) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "no arrays", "no record", "record cut"])
def test_what_is_damaged_or_incomplete_is_passed_over_for_the_one_before(lake, tmp_path, damage):
    told: list[str] = []
    checkpoints = open_checkpoints(lake, tmp_path, told=told)
    keep(checkpoints, 1, 2)
    record, arrays = sorted(name for name in names(lake) if "/0000000002-" in name)
    content = bytearray(lake.store.get(arrays))
    match damage:
        case "flipped":
            content[len(content) // 2] ^= 1
            lake.store.put(arrays, bytes(content))
        case "cut":
            lake.store.put(arrays, bytes(content[:-1]))
        case "no arrays":
            lake.store.delete(arrays)
        case "no record":
            lake.store.delete(record)
        case "record cut":
            lake.store.put(record, lake.store.get(record)[:-5])
    assert next(checkpoints.newest_first()).step == 1
    assert any("damaged" in line for line in told) == (damage not in ("no arrays", "no record"))
    # What was passed over does not push out what is kept later.
    keep(checkpoints, 2, 3)
    assert [checkpoint.step for checkpoint in checkpoints.newest_first()] == [3, 2, 1]


def test_a_checkpoint_of_another_network_is_not_used(lake, tmp_path):
    told: list[str] = []
    checkpoints = open_checkpoints(lake, tmp_path, told=told)
    keep(checkpoints, 2)
    assert train(checkpoints) == undisturbed()
    assert told == []


def test_a_store_that_refuses_does_not_end_the_training(lake, tmp_path):
    told: list[str] = []
    store: ObjectStore = lake.store
    checkpoints = Checkpoints(
        store, "s3://no-such-bucket/c/", tmp_path, every_s=0, tell=told.append
    )
    assert checkpoints.due()
    keep(checkpoints, 7)
    assert told and "step 7 could not be kept" in told[0]
    # Not at once again: what fails slowly would stand in the way of training.
    assert not checkpoints.due()
    checkpoints.clear()
