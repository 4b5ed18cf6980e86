"""Reads arrays from `.npz` files that anybody may have written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy


def load_arrays(file: Path | IO[bytes], most_bytes: float) -> dict[str, np.ndarray]:
    """Reads all arrays of a `.npz` file; nothing is unpickled.

    Args:
        file: The file.
        most_bytes: What the arrays may take, unpacked. A file may claim any size, and a small one
            unpack to any size: both are compared with this before anything is read.

    Raises:
        ValueError: It is no such file, is damaged, or is larger than that.
    """
    try:
        with ZipFile(file) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > most_bytes:
                raise ValueError(f"its arrays take more than {most_bytes / 1e6:.0f} MB")
            return {
                member.filename.removesuffix(".npy"): _load(archive, member) for member in members
            }
    except ValueError:
        raise
    # A damaged file raises what zipfile, zlib and NumPy's reader of headers think of.
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _load(archive: ZipFile, member: ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version == (1, 0):
            shape, by_column, dtype = npy.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, by_column, dtype = npy.read_array_header_2_0(file)
        else:
            raise ValueError(f"{member.filename} is of the unknown version {version}")
        size_bytes = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or size_bytes != member.file_size - file.tell():
            raise ValueError(f"{member.filename} holds no {dtype} {shape}")
        array = np.frombuffer(bytearray(file.read(size_bytes)), dtype)
        return array.reshape(shape, order="F" if by_column else "C")
