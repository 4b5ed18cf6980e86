"""Weights files as other programs write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import keras
import numpy as np

PART_BYTES = 100_000


def write_tfjs(folder: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    """Writes a `model.json` of TensorFlow.js with its parts beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = b"".join(np.ascontiguousarray(t, np.float32).tobytes() for t in tensors.values())
    starts = range(0, len(content), PART_BYTES)
    parts = [f"group1-shard{number}of{len(starts)}.bin" for number in range(1, len(starts) + 1)]
    for part, start in zip(parts, starts, strict=True):
        (folder / part).write_bytes(content[start : start + PART_BYTES])
    specs = [
        {"name": name, "shape": list(tensor.shape), "dtype": "float32"}
        for name, tensor in tensors.items()
    ]
    path = folder / "model.json"
    manifest = [{"paths": parts, "weights": specs}]
    path.write_text(json.dumps({"format": "layers-model", "weightsManifest": manifest}))
    return path


def write_hdf5(path: Path, tensors: Mapping[str, np.ndarray], *, whole: bool = False) -> Path:
    """Writes an `.h5` of Keras 2: weights alone, or those of a whole model."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole else file
        layers: dict[str, list[str]] = {}
        for name in tensors:
            layers.setdefault(name.rpartition("/")[0], []).append(name)
        root.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, names in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{name}:0".encode() for name in names]
            for name in names:
                group.create_dataset(f"{name}:0", data=tensors[name])
    return path


def tensors_of(network: keras.Model) -> dict[str, np.ndarray]:
    """The weights of a network, by their names."""
    return {weight.path: weight.numpy() for weight in network.weights}
