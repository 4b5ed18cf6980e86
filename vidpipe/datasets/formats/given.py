"""What is given to be imported: a file, or the files of a folder or an archive, in memory.

All of it comes from strangers. Names in an archive are only compared, never used as paths, and
nothing is unpacked beyond the limits below.
"""

from __future__ import annotations

import codecs
import functools
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vidpipe.errors import BadInputError

SIDECAR = "vidpipe.json"  # in a folder; beside a file: FILE.vidpipe.json
MAX_BYTES = 256 * 1024 * 1024  # of a file, and of all files of a folder together
MAX_JSON_BYTES = 64 * 1024 * 1024  # a document takes some twenty times as much memory at worst
MAX_FILES = 200_000
_CENTRAL_DIRECTORY_ENTRY = b"PK\x01\x02"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Pictures and videos that lie beside them are not read.
_READ = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml", ".names")
_NOT_ALONE = (".txt", ".yaml", ".yml", ".names")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Given:
    """Files to be imported.

    Attributes:
        name: As people call it.
        files: Content by path within it; of a single file by its name.
        is_folder: Whether there may be several.
        sidecar: What the format cannot hold, if that is there.
        sidecar_name: As people call that.
    """

    name: str
    files: Mapping[str, bytes]
    is_folder: bool = False
    sidecar: bytes | None = None
    sidecar_name: str = ""

    @property
    def content(self) -> bytes:
        """The bytes of a single file."""
        (content,) = self.files.values()
        return content

    @property
    def text(self) -> str:
        """The text of a single file.

        Raises:
            ValueError: It is not UTF-8; says so in words.
        """
        return decode(self.content)

    def ends_in(self, *endings: str) -> bool:
        """Whether it is a single file that is called so."""
        return not self.is_folder and self.name.lower().endswith(endings)

    @functools.cached_property
    def document(self) -> Any:
        """The JSON document that a single file is, or the ValueError that says why it is none."""
        if self.is_folder or self.ends_in(*_LINES):
            return ValueError("not a JSON document")
        try:
            return read_json(self.content)
        except ValueError as error:
            return error


def of_file(name: str, content: bytes, sidecar: bytes | None = None) -> Given:
    """A file as it is imported; a ZIP archive is the folder that it holds.

    Raises:
        BadInputError: The archive is broken, or larger than is allowed.
    """
    if name.lower().endswith(".zip"):
        return of_folder(name, read_zip(name, content))
    if len(content) > MAX_BYTES:
        raise too_large(name)
    return Given(name, {name: content}, sidecar=sidecar, sidecar_name=f"{name}.{SIDECAR}")


def of_folder(name: str, files: Iterable[tuple[str, bytes]]) -> Given:
    """Files as they are imported: a folder, or the one file in it that has labels.

    Raises:
        BadInputError: They are more, or larger, than is allowed.
    """
    by_path: dict[str, bytes] = {}
    size_bytes = 0
    for path, content in files:
        size_bytes += len(content)
        if size_bytes > MAX_BYTES:
            raise too_large(name)
        if path in by_path:
            raise BadInputError(f"{name}: it holds {path!r} twice.")
        by_path[path] = content
        if len(by_path) > MAX_FILES:
            raise too_large(name)
    sidecars = [path for path in by_path if path.rpartition("/")[2].endswith(SIDECAR)]
    if len(sidecars) > 1:
        raise BadInputError(f"{name}: there are {len(sidecars)} sidecars in it; one is allowed.")
    sidecar_name = sidecars[0] if sidecars else SIDECAR
    sidecar = by_path.pop(sidecar_name, None)
    alone = [path for path in by_path if not path.lower().endswith(_NOT_ALONE)]
    if len(alone) == 1 and len(by_path) == 1:
        # As CVAT and COCO are downloaded.
        (path,) = alone
        return Given(path.rpartition("/")[2], by_path, False, sidecar, sidecar_name)
    return Given(name, by_path, True, sidecar, sidecar_name)


def is_read(path: str) -> bool:
    """Whether a file of a folder may hold labels."""
    parts = path.split("/")
    return path.lower().endswith(_READ) and parts[0] != "__MACOSX" and not parts[-1].startswith(".")


def read_zip(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields path and content of each file of an archive that may hold labels.

    Raises:
        BadInputError: It is broken, or larger than is allowed.
    """
    if len(content) > MAX_BYTES:
        raise too_large(name)
    # Before its directory is read into memory as a whole.
    if content.count(_CENTRAL_DIRECTORY_ENTRY) > MAX_FILES:
        raise too_large(name)
    left = MAX_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist():
                path = info.filename.replace("\\", "/")
                if info.is_dir() or not is_read(path):
                    continue
                if info.compress_type not in _METHODS or info.flag_bits & 1:
                    raise BadInputError(
                        f"{name}: {path!r} is encrypted, or compressed in an unusual way. Make the"
                        " archive anew, as a plain ZIP."
                    )
                with archive.open(info) as member:
                    unpacked = member.read(left + 1)
                left -= len(unpacked)
                if left < 0:
                    raise too_large(name)
                yield path, unpacked
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        OSError,
        OverflowError,
        RuntimeError,
        ValueError,
    ) as error:
        raise BadInputError(f"{name}: the archive is broken ({error}). Make it anew.") from error


def make_zip(files: Mapping[str, bytes]) -> bytes:
    """An archive of files, the same bytes for the same files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(files):
            info = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[path])
    return target.getvalue()


def decode(content: bytes) -> str:
    """The text of a file.

    Raises:
        ValueError: It is not UTF-8; says so in words.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith(_UTF16):
            raise ValueError("it is UTF-16; save the file as UTF-8") from error
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: not UTF-8; save the file as UTF-8") from error


def read_json(content: bytes, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """A JSON document.

    Raises:
        ValueError: It is none, or larger; says so in words.
    """
    if len(content) > max_bytes:
        raise ValueError(
            f"a JSON document of more than {max_bytes >> 20} MiB is not read; cut it by videos"
        )
    return parse_json(decode(content))


def parse_json(text: str) -> Any:
    """A JSON text, whose numbers are all finite.

    Raises:
        ValueError: It is none; says so in words.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("not JSON that can be read: it is nested too deeply") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"not JSON: {constant} is no number")


def too_large(name: str) -> BadInputError:
    """What is said of too large a file."""
    return BadInputError(
        f"{name}: more than {MAX_BYTES >> 20} MiB of labels, or {MAX_FILES} files, are not read at"
        " once; cut it by videos."
    )
