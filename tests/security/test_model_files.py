"""Attacks by files of models: champions, weights, checkpoints and features that others wrote."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from tests.weights_files import tensors_of, write_hdf5, write_tfjs
from vidpipe import tracking
from vidpipe.datasets.features import FeatureCache
from vidpipe.errors import BadInputError, TemporaryError, VidpipeError
from vidpipe.memory import PeakMeter
from vidpipe.models import hdf5
from vidpipe.models.architectures import SOUND_SHAPE, Network, Sampling
from vidpipe.models.bundle import Bundle, save_model
from vidpipe.models.classification import build_model
from vidpipe.models.weights import WeightsFile, fetch_weights, load_weights, require_weights
from vidpipe.training.checkpoints import Checkpoint, Checkpoints

SAMPLING = Sampling(frames=3, height=32, width=24, sound=True)
LABELS = ["jump", "run"]
MOST_GROWTH_BYTES = 700_000_000  # loading the model itself takes a part of it


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    keras.utils.set_random_seed(0)
    bundle = Bundle.pack(
        build_model(Network("cnn_rnn"), SAMPLING, len(LABELS)),
        task="sport",
        architecture="cnn_rnn",
        labels=LABELS,
        sampling=SAMPLING,
    )
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(bundle, folder)
    Bundle.load(folder).check_canary()
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def _refused(folder: Path, words: str, then: Callable[[Bundle], Any] = lambda bundle: None) -> None:
    """Loads a model; it is refused in one line, and takes little memory meanwhile."""
    with PeakMeter() as meter, pytest.raises(BadInputError, match=words) as caught:
        then(Bundle.load(folder))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert meter.growth_bytes < MOST_GROWTH_BYTES


def _change_facts(folder: Path, **changes: Any) -> None:
    path = folder / "data" / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _members(folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(folder / "data" / "model.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write(
    folder: Path, members: list[tuple[str, bytes]], packing: int = zipfile.ZIP_STORED
) -> None:
    with zipfile.ZipFile(folder / "data" / "model.keras", "w", packing) as archive:
        for name, content in members:
            archive.writestr(name, content)


def _change_config(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the configuration of the network."""
    members = _members(folder)
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    _write(folder, list(members.items()))


def _layers(config: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [layer for layer in config["config"]["layers"] if layer["class_name"] == name]


def _change_weights(folder: Path, change: Callable[[h5py.File], Any]) -> None:
    members, path = _members(folder), folder / "weights.h5"
    path.write_bytes(members["model.weights.h5"])
    with h5py.File(path, "a") as file:
        change(file)
    members["model.weights.h5"] = path.read_bytes()
    _write(folder, list(members.items()))


def _a_dataset(file: h5py.File) -> h5py.Dataset:
    datasets: list[h5py.Dataset] = []
    file.visititems(
        lambda _, part: datasets.append(part) if isinstance(part, h5py.Dataset) else None
    )
    return max(datasets, key=lambda dataset: dataset.size)


def _read_elsewhere(group: h5py.Group, name: str, kind: str, folder: Path) -> None:
    """Adds a dataset of 4 numbers whose content is another file of this machine, by its kind."""
    (folder / "secret").write_bytes(bytes(16))
    with h5py.File(folder / "other.h5", "w") as other:
        other.create_dataset("bias", data=np.zeros(4, np.float32))
    match kind:
        case "external":
            outside = [(str(folder / "secret"), 0, 16)]
            group.create_dataset(name, (4,), np.float32, external=outside)
        case "link":
            group[name] = h5py.ExternalLink(str(folder / "other.h5"), "bias")
        case "virtual":
            layout = h5py.VirtualLayout((4,), np.float32)
            layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "bias", (4,))
            group.create_virtual_dataset(name, layout)
        case _:
            raise ValueError(kind)


# === The champion ===


def test_a_pickle_as_champion_is_not_loaded(tmp_path, mlflow):
    """Tries: register, as a version of the task's model, a Python model of MLflow: a pickle with
    code beside it, which MLflow runs when it loads it.

    Stopped by: vidpipe loads no MLflow model, but fetches three files by their names, of which
    none is unpickled.
    """
    trap = tmp_path / "trap"
    model = tmp_path / "evil"
    (model / "code").mkdir(parents=True)
    (model / "data").mkdir()
    (model / "code" / "loader.py").write_text(f"import os\nos.mkdir({str(trap)!r})\n")
    (model / "python_model.pkl").write_bytes(pickle.dumps(Trap(trap)))
    for name in ("bundle.json", "canary.npz", "model.keras"):
        (model / "data" / name).write_bytes(pickle.dumps(Trap(trap)))
    (model / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: loader\n    code: code\n"
        "    python_model: python_model.pkl\n    env: conda.yaml\n"
    )
    _refused(model, "no model of vidpipe's")
    client, name = tracking.connect(), "vidpipe-pickled"
    run = client.create_run(client.create_experiment(name))
    client.log_artifacts(run.info.run_id, str(model), "model")
    client.create_registered_model(name)
    client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
    with pytest.raises(BadInputError, match="no model of vidpipe's"):
        Bundle.load(f"models:/{name}/1")
    assert not trap.exists()


def test_a_model_that_is_no_keras_archive_is_refused(folder):
    """Tries: put a model of another kind (a SavedModel's folder, a TensorFlow Lite file, an HDF5
    file) under the name of the network.

    Stopped by: the network is an archive of three files with known names.
    """
    path = folder / "data" / "model.keras"
    for content in (b"\x1c\0\0\0TFL3" + bytes(100), b"\x89HDF\r\n\x1a\n" + bytes(100), b""):
        path.write_bytes(content)
        _refused(folder, "no model of vidpipe's")
    path.unlink()
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"\x08\x01")
    _refused(folder, "no model of vidpipe's")


def test_a_lambda_layer_does_not_run(folder, tmp_path):
    """Tries: hide Python code in a layer of the network.

    Stopped by: of Keras' layers only those pass that vidpipe's networks have; no code is among
    them.
    """
    trap = tmp_path / "trap"
    inputs = keras.Input((3, 32, 24, 3))

    def spring(x):
        from pathlib import Path as Target

        Target(str(trap)).touch()
        return x

    outputs = keras.layers.Lambda(spring, output_shape=(3, 32, 24, 3))(inputs)
    keras.Model(inputs, outputs).save(folder / "data" / "model.keras")
    trap.unlink(missing_ok=True)
    _refused(folder, r"not those of vidpipe. Received: keras.layers.Lambda")
    assert not trap.exists()


FOREIGN: dict[str, dict[str, Any]] = {
    "a function": {"module": "os", "class_name": "function", "config": "system"},
    "a module": {"module": "antigravity", "class_name": "Dense", "registered_name": None},
    "a graph": {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/x"}},
    "a file": {
        "module": "keras.layers",
        "class_name": "StringLookup",
        "config": {"vocabulary": "/etc/passwd"},
    },
    "without a module": {"class_name": "Lambda", "config": {}},
    "under another name": {
        "module": "keras.layers",
        "class_name": "Dense",
        "registered_name": "evil>Dense",
        "config": {"units": 3},
    },
    "no name": {"module": "keras.layers", "class_name": ["Dense"]},
    "marked code": {"class_name": "__lambda__", "config": {"value": "AAAA"}},
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("place", ["layer", "initializer"])
def test_foreign_classes_are_not_built(folder, kind, place):
    """Tries: name, in the configuration of the network, a class or function that loads files, calls
    another program, or imports a module: as a layer, or within one.

    Stopped by: the list of classes that vidpipe's networks consist of, before Keras sees the
    configuration.
    """

    def change(config: dict[str, Any]) -> None:
        layer = _layers(config, "Dense")[0]
        if place == "layer":
            layer.pop("registered_name")
            layer.pop("module")
            layer.update(FOREIGN[kind])
        else:
            layer["config"]["kernel_initializer"] = FOREIGN[kind]

    _change_config(folder, change)
    _refused(folder, "its layers are not those of vidpipe. Received: ")


@pytest.mark.parametrize(
    ("units", "words"),
    [
        (2_000_000_000, "units = 2000000000"),
        (1e300, r"units = 1e\+300"),
        (float("nan"), "units = nan"),
        (1_000_000, r"parameters, of which its file holds \d+"),
    ],
)
def test_a_network_of_any_size_is_not_built(folder, units, words):
    """Tries: a layer of 2·10⁹ units, for which Keras allocates the memory of the machine.

    Stopped by: a bound for each number of the configuration; and the network is built without
    its parameters first, which must be as many as its file holds.
    """
    _change_config(folder, lambda c: _layers(c, "Dense")[0]["config"].update(units=units))
    _refused(folder, words)


def test_a_layer_that_is_unrolled_is_not_built(folder):
    """Tries: have a recurrent layer unrolled over a million steps as the network is built.

    Stopped by: no layer may be unrolled; vidpipe's are not.
    """

    def change(config: dict[str, Any]) -> None:
        _layers(config, "GRU")[0]["config"]["unroll"] = True

    _change_config(folder, change)
    _refused(folder, "its layer GRU is unrolled")


@pytest.mark.parametrize("name", ["config.json", "bundle.json"])
@pytest.mark.parametrize("depth", [100, 100_000])
def test_nesting_does_not_exhaust_the_stack(folder, name, depth):
    """Tries: nest the configuration, or the facts, 100,000 deep, for a RecursionError or worse.

    Stopped by: a bound of the depth, counted without recursion; and the reader of JSON has its own.
    """
    nested = ("[" * depth + "]" * depth).encode()
    if name == "bundle.json":
        (folder / "data" / name).write_bytes(nested)
    else:
        members = {**_members(folder), name: b'{"config": ' + nested + b"}"}
        _write(folder, list(members.items()))
    _refused(folder, "no model of vidpipe's")


@pytest.mark.parametrize(
    "kind", ["external", "link", "soft link", "virtual", "packed", "unwritten"]
)
def test_weights_of_a_model_lie_in_its_own_file(folder, tmp_path, kind):
    """Tries: have the HDF5 file of the weights read other files of the machine, or a dataset of
    gigabytes that takes a few bytes in the file.

    Stopped by: a child process with 2 GB looks through the file first: each dataset must be plain
    numbers that are written in the file itself.
    """

    def change(file: h5py.File) -> None:
        name = _a_dataset(file).name
        del file[name]
        match kind:
            case "soft link":
                file[name] = h5py.SoftLink("/elsewhere")
            case "packed":
                file.create_dataset(name, data=np.zeros(5_000_000, np.float32), compression="gzip")
            case "unwritten":
                file.create_dataset(name, (2_000_000_000,), np.float32)
            case _:
                _read_elsewhere(file, name, kind, tmp_path)

    _change_weights(folder, change)
    _refused(folder, "lies in another file|lies elsewhere|no plain array of numbers")


@pytest.mark.parametrize("kind", ["outside", "absolute", "twice", "assets", "missing", "packed"])
def test_an_archive_holds_the_three_files_of_a_network(folder, tmp_path, kind):
    """Tries: an archive that writes outside its folder, unpacks to gigabytes, or has two files of
    one name, so that another is checked than is loaded.

    Stopped by: the archive may hold three files, by name, each once, none of them packed.
    """
    members = list(_members(folder).items())
    packing = zipfile.ZIP_STORED
    match kind:
        case "outside":
            members.append(("../../evil", b"x"))
        case "absolute":
            members.append((str(tmp_path / "evil"), b"x"))
        case "twice":
            members.append(("config.json", b"{}"))
        case "assets":
            members.append(("assets/vocabulary.txt", b"x"))
        case "missing":
            members.pop()
        case "packed":
            members = [(name, bytes(200_000_000)) for name, _ in members]
            packing = zipfile.ZIP_DEFLATED
    with (
        pytest.warns(UserWarning, match="Duplicate")
        if kind == "twice"
        else contextlib.nullcontext()
    ):
        _write(folder, members, packing)
    _refused(folder, "holds other files than those of a network|holds packed files")
    assert not (tmp_path / "evil").exists()


def _change_canary(folder: Path, **changes: Any) -> None:
    path = folder / "data" / "canary.npz"
    with np.load(path) as canary:
        arrays = {**canary, **changes}
    np.savez_compressed(path, **arrays)


def test_a_canary_is_not_unpickled(folder, tmp_path):
    """Tries: put a pickled object among the arrays of the canary.

    Stopped by: arrays of objects are refused, and nothing is unpickled.
    """
    evil = np.empty((4, len(LABELS)), object)
    evil[:] = Trap(tmp_path / "trap")
    _change_canary(folder, scores=evil)
    _refused(folder, "no model of vidpipe's")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("kind", ["unpacks to gigabytes", "claims gigabytes", "many clips"])
def test_a_canary_does_not_fill_the_memory(folder, kind):
    """Tries: clips of the canary that are megabytes in the file and gigabytes in the memory, or
    that claim to be.

    Stopped by: the size that the facts of the model ask for, compared before anything is read.
    """
    match kind:
        case "unpacks to gigabytes":
            _change_canary(folder, clips=np.zeros((400_000, *SAMPLING.shape), np.uint8))
        case "claims gigabytes":
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "|u1", "fortran_order": False, "shape": (10**12,)}
            )
            with zipfile.ZipFile(folder / "data" / "canary.npz", "w") as archive:
                archive.writestr("clips.npy", header.getvalue())
                archive.writestr("scores.npy", header.getvalue())
        case "many clips":
            _change_canary(
                folder,
                clips=np.zeros((3, 64, 64), np.uint8),
                sound=np.zeros((4, *SOUND_SHAPE), np.float16),
            )
    _refused(folder, "its arrays take more than|holds no uint8|canary clips")


@pytest.mark.parametrize(
    "facts",
    [
        {"labels": [str(number) for number in range(1_000_000)]},
        {"labels": ["a", "a"]},
        {"labels": [["a"], "b"]},
        {"labels": "ab"},
        {"labels": ["a", "b" * 100_000]},
        {"task": None},
        {"thresholds": {"jump": float("nan")}},
        {"thresholds": {"elsewhere": 0.5}},
        {"sampling": {"frames": 10**9, "height": 32, "width": 24, "sound": True}},
        {"sampling": {"frames": 3, "height": 10**6, "width": 24, "sound": True}},
        {"sampling": {"frames": 3, "height": 32, "width": -24, "sound": True}},
        {"sampling": {"frames": 3, "height": 32, "width": 24.0, "sound": True}},
        {"sampling": {"frames": 3, "height": 32, "width": 24, "window_s": float("nan")}},
        {"sampling": {"frames": 3, "height": 32, "width": 24, "clips": 10**9, "sound": True}},
        {"sampling": {"frames": 3, "height": 32, "width": 24, "sliding": "yes", "sound": True}},
        {"sampling": {"frames": 4, "height": 32, "width": 24, "sound": True}},
        {"sampling": {"frames": 3, "height": 32, "width": 24}},
        {"labels": ["a", "b", "c"]},
    ],
    ids=lambda facts: str(facts)[:60],
)
def test_facts_that_no_training_wrote_are_refused(folder, facts):
    """Tries: facts of a model that have each video sampled as 10⁹ frames or frames of 10⁶ pixels,
    millions of labels, or others than the network has.

    Stopped by: bounds of each value, and the shapes of the network.
    """
    _change_facts(folder, **facts)
    _refused(folder, "no model of vidpipe's")


def test_weights_that_are_no_numbers_do_not_label(folder):
    """Tries: a model of NaN, with a canary of NaN that agrees with it.

    Stopped by: the canary is refused unless scores and their difference are numbers.
    """

    def change(file: h5py.File) -> None:
        dataset = _a_dataset(file)
        dataset[...] = np.full(dataset.shape, np.nan, np.float32)

    _change_weights(folder, change)
    _change_canary(folder, scores=np.full((4, len(LABELS)), np.nan, np.float32))
    _refused(folder, "scores its canary clips differently", Bundle.check_canary)


def test_a_network_that_does_not_compute_is_refused(folder):
    """Tries: a network that is whole, but is named so that its parts are looked for in vain when it
    computes.

    Stopped by: the canary, which is computed before any video, and turns each error into one line.
    """
    text = _members(folder)["config.json"].decode()
    layer = _layers(json.loads(text), "Dense")[0]["config"]["name"]
    members = {**_members(folder), "config.json": text.replace(f'"{layer}"', '"encoder"').encode()}
    _write(folder, list(members.items()))
    _refused(folder, "does not compute", Bundle.check_canary)


# === Weights of a backbone ===


def _network(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Conv2D(4, 1, name="conv1_conv")(inputs)
    return keras.Model(inputs, outputs, name="resnet")


def _load(path: Path) -> None:
    """Loads weights; where that fails, the network is as it was."""
    network, before = _network(1), _network(1)
    try:
        load_weights(network, fetch_weights(str(path), lambda: None, path.parent))
    finally:
        pairs = zip(network.get_weights(), before.get_weights(), strict=True)
        assert all((one == other).all() for one, other in pairs)


def _change_manifest(folder: Path, **changes: Any) -> Path:
    path = write_tfjs(folder, tensors_of(_network()))
    manifest = json.loads(path.read_text())
    manifest["weightsManifest"][0].update(changes)
    path.write_text(json.dumps(manifest))
    return path


@pytest.mark.parametrize("part", ["../secret.bin", "/etc/passwd", "a/b.bin", ".."])
def test_parts_of_weights_are_files_beside_them(tmp_path, part):
    """Tries: name, as a part of the weights, a file elsewhere on the machine or in the bucket.

    Stopped by: parts are plain names of files beside the one that names them.
    """
    with pytest.raises(BadInputError, match="no file beside it"):
        _load(_change_manifest(tmp_path, paths=[part]))


def test_a_part_of_weights_is_read_once(tmp_path):
    """Tries: name one part of the weights 100,000 times, so that a small file fills the memory.

    Stopped by: a part that is named twice is refused, and so are more than 10,000.
    """
    (tmp_path / "a.bin").write_bytes(bytes(1_000_000))
    with PeakMeter() as meter, pytest.raises(BadInputError, match="names a part twice"):
        _load(_change_manifest(tmp_path, paths=["a.bin"] * 100_000))
    assert meter.growth_bytes < MOST_GROWTH_BYTES


def test_weights_nested_deeply_are_refused(tmp_path):
    """Tries: nest the list of the weights 100,000 deep.

    Stopped by: the error of the reader of JSON is that of a damaged file.
    """
    path = write_tfjs(tmp_path, tensors_of(_network()))
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(BadInputError, match="no model.json of TensorFlow.js"):
        _load(path)


def test_weights_of_any_size_are_not_fetched(lake, tmp_path, monkeypatch):
    """Tries: put gigabytes under the name of a weights file, to fill memory or disk.

    Stopped by: a bound of its size, asked for before the run begins, and again as it arrives.
    """
    monkeypatch.setattr("vidpipe.models.weights.MOST_BYTES", 1000)
    monkeypatch.setattr("vidpipe.models.weights._require_size.__defaults__", (1000,))
    path = write_hdf5(tmp_path / "large.h5", {"conv1_conv/kernel": np.zeros(9000, np.float32)})
    uri = f"{lake.uri}/weights/large.h5"
    lake.store.upload(path, uri)
    (tmp_path / "brought").mkdir()
    for attempt in (
        lambda: require_weights(uri, lambda: lake.store),
        lambda: fetch_weights(uri, lambda: lake.store, tmp_path / "brought"),
        lambda: fetch_weights(str(path), lambda: lake.store, tmp_path),
    ):
        with pytest.raises(BadInputError, match="no weights file: these have at most"):
            attempt()
    assert (tmp_path / "brought" / "large.h5").stat().st_size <= 1000


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["tfjs", "hdf5"])
def test_weights_that_are_no_numbers_are_refused(tmp_path, kind, value):
    """Tries: pretrained weights with a value that is no number, which spreads to whatever is
    trained on them.

    Stopped by: each value must be finite.
    """
    tensors = tensors_of(_network())
    tensors["conv1_conv/kernel"] = np.full_like(tensors["conv1_conv/kernel"], value)
    write = write_tfjs if kind == "tfjs" else write_hdf5
    path = write(tmp_path if kind == "tfjs" else tmp_path / "w.h5", tensors)
    with pytest.raises(BadInputError, match="weights that are no numbers"):
        _load(path)


@pytest.mark.parametrize("kind", ["external", "link", "virtual"])
def test_weights_that_lie_in_another_file_are_refused(tmp_path, kind):
    """Tries: a weights file whose tensors are other files of the machine, which get into the model.

    Stopped by: a child process, which writes nothing and has 2 GB, reads the file, and follows
    nothing that leads out of it.
    """
    path = write_hdf5(tmp_path / "resnet.h5", tensors_of(_network()))
    name = "conv1_conv/bias:0"
    with h5py.File(path, "a") as file:
        layer = file["conv1_conv"]
        del layer[name]
        _read_elsewhere(layer, name, kind, tmp_path)
    with pytest.raises(BadInputError, match="lies in another file"):
        _load(path)


def test_weights_that_are_read_for_ever_are_given_up(tmp_path, monkeypatch):
    """Tries: a file that the library reads for ever, as it does some damaged ones.

    Stopped by: a child process reads it, and is ended after five minutes (here two seconds).
    """
    os.mkfifo(tmp_path / "endless.h5")
    monkeypatch.setattr(hdf5, "LIMIT_S", 2.0)
    with pytest.raises(BadInputError, match=r"endless.h5 .* more than 2 s"):
        load_weights(_network(), WeightsFile(tmp_path / "endless.h5", digest=""))


# === What trainings keep in the bucket ===


def _evil_arrays(kind: str, trap: Path) -> bytes:
    """A file of arrays that is none."""
    file = io.BytesIO()
    match kind:
        case "pickle":
            evil = np.empty(1, object)
            evil[:] = Trap(trap)
            np.savez(file, **{"model.0": evil, "features": evil, "windows": evil})
        case "no archive":
            file.write(b"PK\x03\x04, and then nothing")
        case "unpacks to gigabytes":
            large = np.zeros(1_500_000_000, np.uint8)
            np.savez_compressed(file, **{"model.0": large, "features": large, "windows": large})
        case "claims gigabytes":
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
            )
            with zipfile.ZipFile(file, "w") as archive:
                for name in ("model.0", "features", "windows"):
                    archive.writestr(f"{name}.npy", header.getvalue())
    return file.getvalue()


KINDS = ["pickle", "no archive", "unpacks to gigabytes", "claims gigabytes"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_was_planted_is_passed_over(lake, tmp_path, kind):
    """Tries: put, into the bucket of the lake, a newer checkpoint with a fitting hash: one with a
    pickle, one that fills the memory, or one that is none and ends every try of the training.

    Stopped by: only arrays are read, no larger than their file; a checkpoint that is damaged is
    passed over for the one before.
    """
    uri = f"{lake.uri}/checkpoints/"
    lines: list[str] = []
    kept = Checkpoints(lake.store, uri, tmp_path, every_s=1, tell=lines.append)
    kept.save(Checkpoint(3, {"model": [np.ones(2, np.float32)]}, {"history": []}))
    content = _evil_arrays(kind, tmp_path / "trap")
    lake.store.put(f"{uri}0000000009-evil.npz", content)
    record = {
        "step": 9,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "arrays": {"model": 1},
        "facts": {"history": []},
    }
    lake.store.put_json(f"{uri}0000000009-evil.json", record)
    with PeakMeter() as meter:
        assert [checkpoint.step for checkpoint in kept.newest_first()] == [3]
    assert meter.growth_bytes < MOST_GROWTH_BYTES
    assert lines == ["the checkpoint 0000000009-evil is damaged and is passed over"]
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b'{"step": 9, "size_bytes": 1}'])
def test_a_record_of_a_checkpoint_that_was_planted_is_passed_over(lake, tmp_path, content):
    """Tries: put a record of a checkpoint into the bucket that is nested 100,000 deep, or is none.

    Stopped by: whatever is no record is a damaged checkpoint.
    """
    uri = f"{lake.uri}/checkpoints/"
    kept = Checkpoints(lake.store, uri, tmp_path, every_s=1, tell=lambda line: None)
    kept.save(Checkpoint(3, {"model": [np.ones(2, np.float32)]}, {"history": []}))
    lake.store.put(f"{uri}0000000009-evil.npz", b"x")
    lake.store.put(f"{uri}0000000009-evil.json", content)
    assert [checkpoint.step for checkpoint in kept.newest_first()] == [3]


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_were_planted_are_made_anew(lake, tmp_path, kind):
    """Tries: put, into the bucket of the lake, features of a video that hold a pickle, fill the
    memory, or end every training.

    Stopped by: only arrays are read, no larger than their file; others are removed and made anew.
    """

    class Video:
        video_id, extraction = "anna", "extracted"

    cache = FeatureCache(lake, "key")
    uri = cache._uri(Video)
    lake.store.put(uri, _evil_arrays(kind, tmp_path / "trap"))
    with PeakMeter() as meter, pytest.raises(TemporaryError, match="is removed") as caught:
        cache.get(Video)
    assert "\n" not in str(caught.value)
    assert meter.growth_bytes < MOST_GROWTH_BYTES
    assert not (tmp_path / "trap").exists()
    with pytest.raises(VidpipeError):
        lake.store.head(uri)
