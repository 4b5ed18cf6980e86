"""Reads the weights that a Keras `.h5` file holds, in a process of its own.

libhdf5 is C, and there are damaged files that it reads for ever or that end the process. So a
child reads, within limits and confined to the file, and hands over arrays alone: `python -m
vidpipe.models.hdf5 PATH` writes a line of JSON (the shape of each tensor, or an error), takes one
(the tensors that are wanted), and writes for each a line (null, or an error) and its float32. With
`--count` it writes a line alone: how many numbers there are.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vidpipe.media.limits import MEMORY_BYTES, start_limited, stop
from vidpipe.media.sandbox import confine

MOST_LINE_BYTES = 16_000_000
LIMIT_S = 300.0  # half a gigabyte takes 2 s from a disk


class HDF5Weights:
    """The tensors of an open file, by `layer/weight`.

    Attributes:
        shapes: Shape of each tensor, as the file has it.
    """

    def __init__(self, process: subprocess.Popen[bytes]):
        self._process = process
        shapes = _read_message(process)
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}

    def read(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """Yields float32 arrays, in the order of the names; once."""
        self._process.stdin.write(json.dumps(list(names)).encode() + b"\n")
        self._process.stdin.flush()
        for name in names:
            _read_message(self._process)
            content = self._process.stdout.read(4 * math.prod(self.shapes[name]))
            yield np.frombuffer(content, np.float32).reshape(self.shapes[name])


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[HDF5Weights]:
    """Opens a file of weights; `ValueError` says why it cannot be read."""
    with _reading(path) as process:
        yield HDF5Weights(process)


def count_elements(path: Path) -> int:
    """Counts the numbers that a file of any layout holds; none is read.

    Raises:
        ValueError: A part of it is no plain numbers in the file itself, packed, or damaged.
    """
    with _reading(path, "--count") as process:
        return _read_message(process)


@contextlib.contextmanager
def _reading(path: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the child that reads a file."""
    command = [sys.executable, "-m", "vidpipe.models.hdf5", str(path.absolute()), *options]
    process = start_limited(command)
    timer = threading.Timer(LIMIT_S, stop, [process])
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        stop(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _read_message(process: subprocess.Popen[bytes]) -> Any:
    """Returns the next message of the child; a text is an error."""
    line = process.stdout.readline(MOST_LINE_BYTES)
    if len(line) == MOST_LINE_BYTES:
        raise ValueError("it has too many tensors")
    message = json.loads(line or _ended(process))
    if isinstance(message, str):
        raise ValueError(message)
    return message


def _ended(process: subprocess.Popen[bytes]) -> str:
    """Returns the message of a child that ended without one."""
    process.wait()
    return json.dumps(
        f"reading it took more than {LIMIT_S:g} s or {MEMORY_BYTES / 1e9:.1f} GB, or failed"
    )


def main(path: str, *options: str) -> None:
    """Sends what a file holds, and then the tensors that are asked for."""
    confine(path)
    try:
        with h5py.File(path, "r") as file:
            if options:
                _send(_count(file))
                return
            tensors = dict(_tensors(file))
            _send({name: tensor.shape for name, tensor in tensors.items()})
            for name in json.loads(sys.stdin.buffer.readline() or b"[]"):
                content = np.asarray(tensors[name], "<f4").tobytes()
                _send(None)
                sys.stdout.buffer.write(content)
    except BrokenPipeError:
        raise
    except Exception as error:  # h5py raises what it likes of a damaged file
        _send(str(error) or type(error).__name__)


def _tensors(file: h5py.File) -> Iterator[tuple[str, Any]]:
    root = file if "layer_names" in file.attrs else file["model_weights"]
    for layer in _words(root.attrs["layer_names"]):
        for stored in _words(root[layer].attrs["weight_names"]):
            link = root[layer].get(stored, getlink=True)
            tensor = None if isinstance(link, h5py.ExternalLink) else root[layer][stored]
            if tensor is None or tensor.file != file or tensor.external or tensor.is_virtual:
                raise ValueError(f"{stored} lies in another file")
            # Nested names such as resnet50/conv1_conv/kernel:0 end in layer and weight.
            yield "/".join(stored.removesuffix(":0").split("/")[-2:]), tensor


def _count(file: h5py.File) -> int:
    sizes: dict[int, int] = {}  # by address: a dataset may have any number of names

    # An error that libhdf5 has to pass on would lose its words.
    def check(name: str, link: Any) -> str | None:
        if not isinstance(link, h5py.HardLink):
            return f"{name} lies elsewhere"
        if not isinstance(part := file[name], h5py.Dataset):
            return None
        if part.external or part.is_virtual:
            return f"{name} lies in another file"
        # Packed, a small file holds any number of them; not written, none at all.
        packed = part.id.get_create_plist().get_nfilters() > 0
        if packed or part.dtype.kind not in "fiu" or part.id.get_storage_size() < part.nbytes:
            return f"{name} is no plain array of numbers"
        sizes[h5py.h5o.get_info(part.id).addr] = part.size
        return None

    if trouble := file.visititems_links(check):
        raise ValueError(trouble)
    return sum(sizes.values())


def _words(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _send(message: Any) -> None:
    sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
