"""Weights from files: of each kind, under old names, and what does not fit or is no such file."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weights_files import tensors_of, write_hdf5, write_tfjs
from vidpipe.errors import BadInputError, UsageError, VidpipeError
from vidpipe.models import hdf5
from vidpipe.models.weights import fetch_weights, load_weights

# As ResNet-50 called its layers until 2019, and since.
OLD_NAMES = {
    "conv1": "conv1_conv",
    "bn_conv1": "conv1_bn",
    "res2a_branch1": "conv2_block1_0_conv",
    "res2a_branch2a": "conv2_block1_1_conv",
    "bn2a_branch2b": "conv2_block1_2_bn",
    "res3d_branch2c": "conv3_block4_3_conv",
}


def network(*names: str, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((8, 8, 3))
    for name in names:
        bn = name.startswith("bn") or name.endswith("_bn")
        x = (
            keras.layers.BatchNormalization(gamma_initializer="random_normal", name=name)
            if bn
            else keras.layers.Conv2D(4, 1, name=name)
        )(x)
    return keras.Model(inputs, x, name="resnet")


def new(seed: int = 1) -> keras.Model:
    return network(*OLD_NAMES.values(), seed=seed)


def at_hand(path: Path):
    return fetch_weights(str(path), lambda: None, path.parent)


def same(one: keras.Model, other: keras.Model) -> bool:
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all((a == b).all() for a, b in pairs)


def write(kind: str, folder: Path, learnt: keras.Model) -> Path:
    tensors = tensors_of(learnt)
    # What stands on top of it is not wanted.
    with_top = {**tensors, "predictions/kernel": np.ones((4, 10), np.float32)}
    match kind:
        case "tfjs":
            return write_tfjs(folder, with_top)
        case "hdf5":
            return write_hdf5(folder / "resnet.h5", with_top)
        case "whole hdf5":
            return write_hdf5(folder / "resnet.hdf5", with_top, whole=True)
        case "saved":
            learnt.save(folder / "saved.h5")
            return folder / "saved.h5"


@pytest.mark.parametrize("kind", ["tfjs", "hdf5", "whole hdf5", "saved"])
def test_weights_of_each_kind_of_file_are_loaded(tmp_path, kind):
    learnt, fresh = new(seed=0), new(seed=1)
    assert not same(learnt, fresh)
    load_weights(fresh, at_hand(write(kind, tmp_path, learnt)))
    assert same(learnt, fresh)


@pytest.mark.parametrize("kind", ["tfjs", "hdf5"])
def test_layers_are_found_under_the_names_that_they_had(tmp_path, kind):
    learnt, fresh = network(*OLD_NAMES), new()
    load_weights(fresh, at_hand(write(kind, tmp_path, learnt)))
    assert same(learnt, fresh)


def test_a_file_in_the_store_comes_with_its_parts(lake, tmp_path):
    learnt, fresh = new(seed=0), new(seed=1)
    path = write("tfjs", tmp_path / "made", learnt)
    for file in path.parent.iterdir():
        lake.store.upload(file, f"{lake.uri}/weights/resnet/{file.name}")
    (tmp_path / "brought").mkdir()
    brought = fetch_weights(
        f"{lake.uri}/weights/resnet/model.json", lambda: lake.store, tmp_path / "brought"
    )
    assert brought.digest == at_hand(path).digest
    load_weights(fresh, brought)
    assert same(learnt, fresh)


def test_another_content_has_another_digest(tmp_path):
    one = at_hand(write("tfjs", tmp_path / "one", new(seed=0)))
    other = at_hand(write("tfjs", tmp_path / "other", new(seed=1)))
    assert one.digest != other.digest


@pytest.mark.parametrize("kind", ["tfjs", "hdf5"])
def test_what_does_not_fit_is_refused_in_one_line_and_changes_nothing(tmp_path, kind):
    file = at_hand(write(kind, tmp_path, network("conv1", "other")))
    fresh, before = new(seed=1), new(seed=1)
    with pytest.raises(BadInputError, match="does not fit resnet") as caught:
        load_weights(fresh, file)
    assert "\n" not in str(caught.value)
    assert same(fresh, before)


def test_a_tensor_of_another_shape_is_named_with_both(tmp_path):
    tensors = tensors_of(new(seed=0))
    tensors["conv1_conv/kernel"] = np.zeros((3, 3, 3, 4), np.float32)
    with pytest.raises(BadInputError, match=r"conv1_conv/kernel.*\(1, 1, 3, 4\).*\(3, 3, 3, 4\)"):
        load_weights(new(), at_hand(write_tfjs(tmp_path, tensors)))


@pytest.mark.parametrize(
    "name, wanted", [("weights.pkl", "model.json"), ("missing.h5", "no weights file")]
)
def test_what_is_no_weights_file_is_refused(tmp_path, name, wanted):
    with pytest.raises(UsageError, match=wanted):
        at_hand(tmp_path / name)


def test_a_part_that_is_missing_is_named(tmp_path):
    path = write("tfjs", tmp_path, new())
    (tmp_path / "group1-shard1of1.bin").unlink()
    with pytest.raises(BadInputError, match="group1-shard1of1.bin is missing"):
        at_hand(path)


def test_a_tensor_that_cannot_be_read_is_an_error_however_small_it_is(tmp_path):
    path, fresh, before = write("hdf5", tmp_path, new(seed=0)), new(), new()
    values = np.array([3.25, 5.5, 7.75, 9.125], np.float32)
    with h5py.File(path, "a") as file:
        layer = file["conv3_block4_3_conv"]
        del layer["conv3_block4_3_conv/bias:0"]
        layer.create_dataset(
            "conv3_block4_3_conv/bias:0", data=values, chunks=(4,), fletcher32=True
        )
    content = path.read_bytes()
    assert content.count(values.tobytes()) == 1
    path.write_bytes(content.replace(values.tobytes(), values[::-1].tobytes()))
    with pytest.raises(BadInputError, match="damaged"):
        load_weights(fresh, at_hand(path))
    assert same(fresh, before)


@pytest.mark.parametrize("kind", ["tfjs", pytest.param("hdf5", marks=pytest.mark.long)])
def test_damaged_files_end_in_an_error_or_are_read(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(hdf5, "LIMIT_S", 10.0)
    path, fresh = write(kind, tmp_path, new()), new()
    whole = path.read_bytes()

    @given(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=4))))
    @settings(max_examples=60)
    def damaged(changes: list[tuple[int, bytes]]) -> None:
        content = bytearray(whole)
        for place, value in changes:
            content[place : place + len(value)] = value
        path.write_bytes(content)
        try:
            load_weights(fresh, at_hand(path))
        except VidpipeError as error:
            assert "\n" not in str(error)

    damaged()
