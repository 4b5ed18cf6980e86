"""Checks the files of a model before anything of it is built.

A model comes from a registry, where others may have put another in its place. Keras builds what
the configuration of a `.keras` file says: any of its layers, of any size. Here only those layers
pass that the networks of vidpipe have, and only as many parameters as the file itself holds.

| file | checked |
| --- | --- |
| `bundle.json` | size, nesting, and each value: names, labels, sampling, thresholds |
| `model.keras` | three files, none of them packed; classes, sizes, nesting; number of weights |
| `canary.npz` | shapes, before they are read |
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import keras
import numpy as np

from vidpipe.arrays import load_arrays
from vidpipe.errors import OutOfMemoryError
from vidpipe.models.architectures import SOUND_SHAPE, Sampling
from vidpipe.models.hdf5 import count_elements
from vidpipe.models.prediction import most_bytes

MOST_JSON_BYTES = 4_000_000  # ten times the largest network of vidpipe's
MOST_NESTED = 64
MOST_CHARACTERS = 1000  # of a label
MOST_NUMBER = 1 << 20  # of units, filters, places …
LIMITS = {"frames": 256, "height": 4096, "width": 4096, "clips": 256, "crops": 16}
# What the network holds, its copy in the file, and the file as it is read.
COPIES = 3
CANARY_ROWS = 16

_KERAS_FILES = ["config.json", "metadata.json", "model.weights.h5"]
_NUMBERS_OF_NO_SIZE = ("shared_object_id", "seed", "decay_steps", "warmup_steps")
# By module; what else Keras has may run code, read files, or hold Python.
_CLASSES = {
    None: {"__keras_tensor__", "__slice__"},
    "keras": {"DTypePolicy", "Sequential"},
    "keras.initializers": {
        "Constant",
        "GlorotUniform",
        "Ones",
        "Orthogonal",
        "VarianceScaling",
        "Zeros",
    },
    "keras.layers": {
        *("Activation", "Add", "AveragePooling2D", "AveragePooling3D", "BatchNormalization"),
        *("Bidirectional", "Concatenate", "Conv2D", "Conv3D", "Dense", "DepthwiseConv2D"),
        *("Dropout", "Flatten", "GRU", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
        *("GlobalAveragePooling3D", "InputLayer", "LSTM", "LayerNormalization", "MaxPooling2D"),
        *("MultiHeadAttention", "Multiply", "Normalization", "ReLU", "RepeatVector"),
        *("Rescaling", "Reshape", "SeparableConv2D", "ZeroPadding2D"),
    },
    # How a part that learnt by itself, such as the one behind a frozen backbone, was trained.
    "keras.losses": {"BinaryCrossentropy", "CategoricalCrossentropy"},
    "keras.optimizers": {"AdamW", "LossScaleOptimizer"},
    "keras.optimizers.schedules": {"CosineDecay"},
    "keras.src.applications.convnext": {"LayerScale"},
    "keras.src.models.functional": {"Functional"},
    "keras.src.ops.numpy": {
        *("Add", "Any", "Concatenate", "ExpandDims", "Flip", "GetItem", "Isnan", "Max", "Mean"),
        *("NanToNum", "Reshape", "Subtract"),
    },
    "vidpipe.models.layers": {
        *("GridPooling", "PositionEmbedding", "TokenForMissing", "WhatAndWhere"),
    },
}


@dataclass(frozen=True)
class BundleFacts:
    """The content of `bundle.json`, checked; see `vidpipe.models.bundle.Bundle`."""

    task: str
    architecture: str
    labels: list[str]
    sampling: Sampling
    several: bool
    thresholds: dict[str, float]


def read_facts(path: Path) -> BundleFacts:
    """Reads `bundle.json`.

    Raises:
        ValueError, KeyError, TypeError: It is none.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        facts = _parse(file.read(MOST_JSON_BYTES + 1), path.name)
    labels = facts["labels"]
    if not labels or not isinstance(labels, list) or len(set(labels)) < len(labels):
        raise ValueError("its labels are no list of different names")
    for name in (facts["task"], facts["architecture"], *labels):
        if not isinstance(name, str) or not name or len(name) > MOST_CHARACTERS:
            raise ValueError("one of its names is no text, or is too long")
    # Models of earlier versions know one label a video, and accept all.
    thresholds = {name: float(value) for name, value in facts.get("thresholds", {}).items()}
    if not thresholds.keys() <= set(labels) or any(map(math.isnan, thresholds.values())):
        raise ValueError("its thresholds are not those of its labels")
    several = bool(facts.get("several", False))
    sampling = _check_sampling(Sampling(**facts["sampling"]))
    return BundleFacts(facts["task"], facts["architecture"], labels, sampling, several, thresholds)


def load_network(path: Path, facts: BundleFacts) -> keras.Model:
    """Loads `model.keras`.

    Raises:
        ValueError, and whatever zipfile and Keras think of: It is no network for these facts.
        OutOfMemoryError: Its parameters do not fit in the memory.
    """
    with ZipFile(path) as archive:
        members = archive.infolist()
        if sorted(member.filename for member in members) != _KERAS_FILES:
            raise ValueError(f"{path.name} holds other files than those of a network")
        if any(member.compress_type != ZIP_STORED for member in members):
            raise ValueError(f"{path.name} holds packed files")
        if any(member.file_size > path.stat().st_size for member in members):
            raise ValueError(f"{path.name} is damaged")
        with archive.open("config.json") as file:
            config = _parse(file.read(MOST_JSON_BYTES + 1), "config.json")
        config.pop("compile_config", None)  # how it was trained, which is not loaded
        _check_classes(config)
        for value, _, _ in _walk(config):
            if isinstance(value, dict):
                value.pop("compile_config", None)  # nor that of a part, to count parameters
        # Keras notes, by thread, what is to be initialized later: with this thread it is forgotten.
        with ThreadPoolExecutor(max_workers=1) as thread:
            elements = thread.submit(_count_parameters, config, facts).result()
        _check_parameters(elements, facts, archive)
    return keras.saving.load_model(path, compile=False, safe_mode=True)


def read_canary(path: Path, facts: BundleFacts) -> tuple[Any, np.ndarray]:
    """Reads the clips of `canary.npz`, as a network takes them, and their scores.

    Raises:
        ValueError: They are not of the shapes that these facts ask for.
        OutOfMemoryError: They do not fit in the memory.
    """
    sampling = facts.sampling
    if (needed_bytes := math.prod(sampling.shape)) > (free_bytes := most_bytes()):
        raise OutOfMemoryError(
            f"The {facts.architecture} model of {facts.task} does not fit in the memory: a clip"
            f" takes {needed_bytes / 1e9:.1f} GB. Received: {max(0.0, free_bytes) / 1e9:.1f} GB."
            " Give it more memory, or train on smaller frames."
        )
    row_bytes = needed_bytes + 2 * math.prod(SOUND_SHAPE) + 4 * len(facts.labels)
    arrays = load_arrays(path, min(CANARY_ROWS * row_bytes + 4096, free_bytes))
    scores, clips = arrays["scores"], arrays["clips"]
    wanted = {
        "scores": (np.float32, (len(scores), len(facts.labels))),
        "clips": (np.uint8, (len(scores), *sampling.shape)),
    }
    if sampling.sound:
        wanted["sound"] = np.float16, (len(scores), *SOUND_SHAPE)
    received = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    if not len(scores) or received != wanted:
        raise ValueError(f"canary clips {clips.shape} with scores {scores.shape}")
    if sampling.sound:
        return {"clips": clips, "sound": arrays["sound"]}, scores
    return clips, scores


def _parse(content: bytes, name: str) -> dict[str, Any]:
    if len(content) > MOST_JSON_BYTES:
        raise ValueError(f"{name} has more than {MOST_JSON_BYTES / 1e6:g} MB")
    parsed = json.loads(content)
    if not isinstance(parsed, dict):
        raise ValueError(f"{name} holds no JSON object")
    return parsed


def _check_sampling(sampling: Sampling) -> Sampling:
    for name, most in LIMITS.items():
        value = getattr(sampling, name)
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{name} is not in 1 to {most}. Received: {value!r:.50}")
    window_s = sampling.window_s
    if window_s is not None and not 0 < window_s < math.inf:
        raise ValueError(f"window_s is no length of time. Received: {window_s!r:.50}")
    if not isinstance(sampling.sliding, bool) or not isinstance(sampling.sound, bool):
        raise ValueError("sliding and sound are not true or false")
    return sampling


def _check_classes(config: dict[str, Any]) -> None:
    """Lets pass only what networks of vidpipe consist of, of sizes that they might have."""
    for value, key, depth in _walk(config):
        if depth > MOST_NESTED:
            raise ValueError(f"its configuration is nested more than {MOST_NESTED} deep")
        if isinstance(value, dict) and ("class_name" in value or "module" in value):
            module, name = value.get("module"), value.get("class_name")
            registered = value.get("registered_name")
            known = isinstance(name, str) and name in _CLASSES.get(module, ())
            if not known or registered not in (None, name, f"vidpipe>{name}"):
                raise ValueError(
                    f"its layers are not those of vidpipe. Received: {module}.{name}"[:200]
                )
            inner = value.get("config")
            # An unrolled layer is built once for each step.
            if isinstance(inner, dict) and inner.get("unroll"):
                raise ValueError(f"its layer {name} is unrolled")
        elif isinstance(value, (int, float)) and key not in _NUMBERS_OF_NO_SIZE:
            if not abs(value) <= MOST_NUMBER:
                raise ValueError(f"its configuration says {key} = {value!r:.30}")


def _walk(config: dict[str, Any]) -> Iterator[tuple[Any, str, int]]:
    """All values with their keys and depths; without recursion, which depth could exhaust."""
    todo: list[tuple[Any, str, int]] = [(config, "", 0)]
    while todo:
        value, key, depth = todo.pop()
        yield value, key, depth
        if isinstance(value, dict):
            todo += [(inner, str(name), depth + 1) for name, inner in value.items()]
        elif isinstance(value, list):
            todo += [(inner, key, depth + 1) for inner in value]


def _count_parameters(config: dict[str, Any], facts: BundleFacts) -> int:
    """Builds the network without its parameters, and compares it with the facts."""
    with keras.StatelessScope(initialize_variables=False):
        network = keras.saving.deserialize_keras_object(config, safe_mode=True)
    if not isinstance(network, keras.Model):
        raise ValueError("its configuration is that of no network")
    shapes = [facts.sampling.shape, *([SOUND_SHAPE] if facts.sampling.sound else [])]
    inputs = [tuple(tensor.shape) for tensor in network.inputs]
    if inputs != [(None, *shape) for shape in shapes]:
        raise ValueError(f"it takes {inputs}, and not {shapes}"[:200])
    if tuple(network.output_shape) != (None, len(facts.labels)):
        raise ValueError(f"it gives {network.output_shape} for {len(facts.labels)} labels")
    return sum(math.prod(weight.shape) for weight in network.weights)


def _check_parameters(elements: int, facts: BundleFacts, archive: ZipFile) -> None:
    """Compares the parameters of the network with those in the file, and with the memory."""
    with tempfile.TemporaryDirectory(prefix="vidpipe-model-") as folder:
        stored = count_elements(Path(archive.extract("model.weights.h5", folder)))
    if elements > stored:
        raise ValueError(f"it has {elements} parameters, of which its file holds {stored}")
    needed_bytes, free_bytes = COPIES * 4 * elements, most_bytes()
    if needed_bytes > free_bytes:
        raise OutOfMemoryError(
            f"The {facts.architecture} model of {facts.task} does not fit in the memory: its"
            f" {elements / 1e6:.0f} million parameters take {needed_bytes / 1e9:.1f} GB as they are"
            f" loaded. Received: {max(0.0, free_bytes) / 1e9:.1f} GB. Give it more memory, or train"
            " a smaller one."
        )
