"""Weights of image networks from files: what was learnt on other pictures, without a model hub.

| file | from |
| --- | --- |
| `model.json` beside its parts `*.bin` | TensorFlow.js (layers format), as packages of npm have |
| `*.h5`, `*.hdf5` | keras.applications, and `model.save("….h5")` of Keras |

Layers on top of the network are passed over.

Nothing of a file is run: only arrays are read, and each must be of the shape that the network has.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidpipe.errors import BadInputError, NotFoundError, UsageError
from vidpipe.lake.store import ObjectStore
from vidpipe.models.hdf5 import open_hdf5

if TYPE_CHECKING:
    import keras  # takes seconds, which plans do not have

SUFFIXES = (".json", ".h5", ".hdf5")
NAMED = 3  # tensors that a message names
# The largest networks of keras.applications take 1.4 GB, their model.json 0.3 MB.
MOST_BYTES = 4_000_000_000
MOST_JSON_BYTES = 16_000_000
MOST_PARTS = 10_000
_PART = re.compile(r"[A-Za-z0-9_.-]+\.bin")
_Read = Callable[[Sequence[str]], Iterable[np.ndarray]]
_TFJS_TYPES = {"float32": np.float32, "int32": np.int32}
# Before 2020 keras.applications called the layers of ResNet as the Caffe model did.
_CAFFE = re.compile(r"(res|bn)(\d)([a-z]|[ab]\d+)_branch(1|2[abc])")


@dataclass(frozen=True)
class WeightsFile:
    """A weights file at hand.

    Attributes:
        path: The file; its parts lie beside it.
        digest: Hash of its content and that of its parts: another file is another backbone.
    """

    path: Path
    digest: str


def require_weights(uri: str, store: Callable[[], ObjectStore]) -> None:
    """Checks that a weights file and its parts are there, before anything begins that needs them.

    The numbers are not read: whether they fit the network is known when it is built.

    Args:
        uri: `s3://bucket/key`, or a path.
        store: Opens the object store, where one is needed.

    Raises:
        UsageError: There is no such file, or it is of no kind that is known.
        BadInputError: It is damaged, or a part of it is missing.
    """
    _require_kind(uri)
    if not uri.startswith("s3://"):
        _require_parts(_local(uri))
        return
    opened, parent = store(), uri.rpartition("/")[0]
    try:
        size_bytes = opened.head(uri).size_bytes
        if _has_parts(uri):
            _require_size(uri, size_bytes, MOST_JSON_BYTES)
            for part in _part_names(uri, opened.get(uri)):
                size_bytes += _require_part(opened, uri, f"{parent}/{part}")
        _require_size(uri, size_bytes)
    except NotFoundError as error:
        raise UsageError(f"There is no weights file {uri!r}.") from error


def _require_part(store: ObjectStore, uri: str, part: str) -> int:
    """The size of a part, which must be there."""
    try:
        return store.head(part).size_bytes
    except NotFoundError as error:
        raise BadInputError(f"{uri} has parts, of which {part} is missing.") from error


def fetch_weights(uri: str, store: Callable[[], ObjectStore], folder: Path) -> WeightsFile:
    """Brings a weights file to this machine, where it is not here already.

    Args:
        uri: `s3://bucket/key`, or a path.
        store: Opens the object store, where one is needed.
        folder: For what is brought; must not hold anything else.

    Raises:
        UsageError: It is no file of a kind that is known.
        BadInputError: It is damaged.
    """
    _require_kind(uri)
    if uri.startswith("s3://"):
        opened, (parent, _, name) = store(), uri.rpartition("/")
        names = re.sub(r"[^A-Za-z0-9_.-]", "-", name)
        path = _bring(opened, uri, folder / names, MOST_JSON_BYTES if _has_parts(uri) else None)
        for part in _parts(path):
            _bring(opened, f"{parent}/{part}", folder / part)
    else:
        path = _local(uri)
    digest, files = hashlib.sha256(), _require_parts(path)
    _require_size(path.name, sum(file.stat().st_size for file in files))
    for file in files:
        with file.open("rb") as opened_file:
            digest.update(hashlib.file_digest(opened_file, "sha256").digest())
    return WeightsFile(path, digest.hexdigest()[:32])


def load_weights(network: keras.Model, file: WeightsFile) -> None:
    """Gives a network all of its weights from a file; what else is in it is left out.

    Raises:
        BadInputError: The file does not fit, or is damaged; the network is as it was.
    """
    name, weights = file.path.name, network.weights
    try:
        with _opened(file.path) as (shapes, read):
            stored = {_renamed(tensor): tensor for tensor in shapes}
            missing = [w.path for w in weights if w.path not in stored]
            if missing:
                raise BadInputError(
                    f"{name} does not fit {network.name}: of its {len(weights)} tensors"
                    f" {len(missing)} are not there, such as {', '.join(missing[:NAMED])}. The file"
                    f" has: {', '.join(sorted(stored)[:NAMED])} …"
                )
            for weight in weights:
                # Before it is read: a file may claim any size.
                if (found := shapes[stored[weight.path]]) != tuple(weight.shape):
                    raise BadInputError(
                        f"{name} does not fit {network.name}: {weight.path} has the shape"
                        f" {tuple(weight.shape)}. Received: {found}"
                    )
            values = list(read([stored[weight.path] for weight in weights]))
            if not all(np.isfinite(value).all() for value in values):
                raise BadInputError(
                    f"{name} has weights that are no numbers. Take the file from where it was made."
                )
    except BadInputError:
        raise
    except Exception as error:  # what is told of a damaged file may be anything
        line = " ".join(str(error).split())[:300]
        raise BadInputError(f"{name} is no weights file, or is damaged: {line}") from error
    network.set_weights(values)


def _bring(store: ObjectStore, uri: str, path: Path, most_bytes: int | None = None) -> Path:
    size_bytes = 0
    with path.open("wb") as file:
        for chunk in store.stream(uri):
            size_bytes += len(chunk)
            _require_size(uri, size_bytes, most_bytes or MOST_BYTES)
            file.write(chunk)
    return path


def _has_parts(name: str) -> bool:
    return name.endswith(".json")


def _require_size(name: str, size_bytes: int, most_bytes: int = MOST_BYTES) -> None:
    """Refuses a file, or one with its parts, before it fills the memory or the disk."""
    if size_bytes > most_bytes:
        raise BadInputError(
            f"{name} is no weights file: these have at most {most_bytes / 1e6:g} MB. Received:"
            f" {size_bytes / 1e6:.0f} MB or more."
        )


def _require_kind(uri: str) -> None:
    if not uri.endswith(SUFFIXES):
        raise UsageError(
            f"Weights are a model.json of TensorFlow.js or an .h5 file of Keras. Received: {uri!r}"
        )


def _local(uri: str) -> Path:
    path = Path(uri)
    if not path.is_file():
        raise UsageError(f"There is no weights file {uri!r} on this machine.")
    return path


def _require_parts(path: Path) -> list[Path]:
    """A file and its parts, all of which are there."""
    files = [path, *(path.with_name(part) for part in _parts(path))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise BadInputError(f"{path.name} has parts, of which {missing[0]} is missing.")
    return files


def _parts(path: Path) -> list[str]:
    """The files beside a `model.json`."""
    if not _has_parts(path.name):
        return []
    _require_size(path.name, path.stat().st_size, MOST_JSON_BYTES)
    return _part_names(path.name, path.read_bytes())


def _part_names(name: str, content: bytes) -> list[str]:
    """The parts that a `model.json` names; only plain names are taken for files."""
    try:
        groups = json.loads(content)["weightsManifest"]
        parts = [part for group in groups for part in group["paths"]]
        wrong = [part for part in parts if not _PART.fullmatch(part)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInputError(f"{name} is no model.json of TensorFlow.js.") from error
    # A part that is named again would be read again, as often as it is named.
    if len(set(parts)) < len(parts) or len(parts) > MOST_PARTS:
        raise BadInputError(
            f"{name} names a part twice, or more than {MOST_PARTS}. Received: {len(parts)} names."
        )
    if wrong:
        raise BadInputError(f"{name} names a part that is no file beside it: {wrong[0]!r}")
    return parts


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, tuple[int, ...]], _Read]]:
    """The shapes of a file's tensors, by `layer/weight`, and what reads those that are named."""
    if path.suffix == ".json":
        tensors = _read_tfjs(path)
        yield (
            {name: tensor.shape for name, tensor in tensors.items()},
            lambda names: (np.asarray(tensors[name], np.float32) for name in names),
        )
        return
    with open_hdf5(path) as file:
        yield file.shapes, file.read


def _read_tfjs(path: Path) -> dict[str, np.ndarray]:
    tensors = {}
    for group in json.loads(path.read_bytes())["weightsManifest"]:
        content = b"".join(path.with_name(part).read_bytes() for part in group["paths"])
        offset = 0
        for spec in group["weights"]:
            if "quantization" in spec:
                raise ValueError(f"{spec['name']} is quantized, which is not read")
            dtype, shape = np.dtype(_TFJS_TYPES[spec["dtype"]]), tuple(spec["shape"])
            count = math.prod(shape)
            # Raises where the parts end before it.
            tensors[spec["name"]] = np.frombuffer(content, dtype, count, offset).reshape(shape)
            offset += count * dtype.itemsize
    return tensors


def _renamed(name: str) -> str:
    layer, _, weight = name.rpartition("/")
    if layer in ("conv1", "bn_conv1"):
        return f"conv1_{'bn' if layer.startswith('bn') else 'conv'}/{weight}"
    if not (old := _CAFFE.fullmatch(layer)):
        return name
    kind, stage, block, branch = old.groups()
    # a, b, c …, or a, b1, b2 … in the deeper ones.
    number = ord(block) - ord("a") + 1 if len(block) == 1 else int(block[1:]) + 1
    place = {"1": 0, "2a": 1, "2b": 2, "2c": 3}[branch]
    return f"conv{stage}_block{number}_{place}_{'bn' if kind == 'bn' else 'conv'}/{weight}"
