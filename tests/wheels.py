"""Packages of Python, as an index has them."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LEFT_OUT = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")


def write_wheel(
    folder: Path, name: str, content: str = "", version: str = "1.0", needs: Sequence[str] = ()
) -> Path:
    """Writes a package of one module."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    info = f"{name}-{version}.dist-info"
    wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {f"{name}.py": content, f"{info}/METADATA": metadata, f"{info}/WHEEL": wheel}
    path = folder / f"{name}-{version}-py3-none-any.whl"
    _pack(path, f"{info}/RECORD", {file: text.encode() for file, text in files.items()})
    return path


def write_source(folder: Path, name: str, setup: str, version: str = "1.0") -> Path:
    """Writes a package that is not built, and whose `setup.py` would run to build it."""
    path = folder / f"{name}-{version}.tar.gz"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in (("PKG-INFO", metadata), ("setup.py", setup)):
            member = tarfile.TarInfo(f"{name}-{version}/{file}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def pack_installed(folder: Path, name: str) -> Path:
    """Writes the wheel that an installed package came from."""
    package = importlib.metadata.distribution(name)
    tags = [line[5:] for line in package.read_text("WHEEL").splitlines() if line[:5] == "Tag: "]
    stem = f"{name}-{package.version}"
    files = {}
    for file in package.files:
        if "__pycache__" in file.parts or file.name in LEFT_OUT:
            continue
        # Programs lie beside site-packages.
        inside = file.as_posix()
        if file.parts[0] == "..":
            inside = f"{stem}.data/scripts/{file.name}"
        files[inside] = Path(package.locate_file(file)).read_bytes()
    path = folder / f"{stem}-{tags[0]}.whl"
    _pack(path, f"{stem}.dist-info/RECORD", files)
    return path


def hash_of(path: Path) -> str:
    """The hash of a file, as constraints.txt has it."""
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _pack(path: Path, record: str, files: Mapping[str, bytes]) -> None:
    rows = io.StringIO()
    csv.writer(rows).writerows([*([name, "", ""] for name in files), [record, "", ""]])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, record: rows.getvalue().encode()}.items():
            mode = 0o755 if ".data/scripts/" in name else 0o644
            member = zipfile.ZipInfo(name)
            member.external_attr = (0o100000 | mode) << 16
            archive.writestr(member, content)
