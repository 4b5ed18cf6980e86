"""What is given to be imported: a file, or the files of a folder or an archive, in memory.

All of it comes from strangers. Names in an archive are only compared, never used as paths, and
nothing is unpacked beyond the limits below.
"""

from __future__ import annotations

import codecs
import functools
import io
import itertools
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
MAX_PATH = 1024  # characters of the path of a file in a folder
MAX_LINES = 4_000_000  # of a text: official lists name more videos than anybody has
MAX_LINE = 1 << 20  # characters of a line, and of a row of a table
MAX_JSON_PARTS = 5_000_000  # objects and lists of a document: each takes 200 bytes or more
MAX_DIGITS = 1000  # of a whole number: to read one takes the square of that
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
        if len(path) > MAX_PATH:
            raise BadInputError(
                f"{name}: the path of a file in it is longer than {MAX_PATH} characters. Received:"
                f" {path[:100]!r}… Shorten it."
            )
        size_bytes += len(content)
        if size_bytes > MAX_BYTES:
            raise too_large(name)
        if path in by_path:
            raise BadInputError(f"{name}: it holds {path!r:.200} twice.")
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
                        f"{name}: {path!r:.200} is encrypted, or compressed in an unusual way. Make"
                        " the archive anew, as a plain ZIP."
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


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Yields number and text of each line that is not blank.

    Raises:
        ValueError: There are more lines, or longer ones, than are read; says so in words.
    """
    # Not splitlines(): a label may hold any of the other separators that Unicode knows.
    if text.count("\n") >= MAX_LINES:
        raise ValueError(f"more than {MAX_LINES} lines are not read at once; cut it by videos")
    begin = 0
    for number in itertools.count(1):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        if end - begin > MAX_LINE:
            raise ValueError(
                f"line {number}: a line of more than {MAX_LINE} characters is not read"
            )
        line = text[begin:end]
        if line.strip():
            yield number, line
        if end == len(text):
            return
        begin = end + 1


def read_json(content: bytes, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """A JSON document.

    Raises:
        ValueError: It is none, or larger; says so in words.
    """
    if len(content) > max_bytes:
        raise ValueError(
            f"a JSON document of more than {max_bytes >> 20} MiB is not read; cut it by videos"
        )
    if content.count(b"{") + content.count(b"[") > MAX_JSON_PARTS:
        raise ValueError(
            f"a JSON document of more than {MAX_JSON_PARTS} objects and lists is not read; cut it"
            " by videos"
        )
    return parse_json(decode(content))


def parse_json(text: str) -> Any:
    """A JSON text, whose numbers are all finite.

    Raises:
        ValueError: It is none; says so in words.
    """
    try:
        return json.loads(
            text, parse_constant=_refuse, parse_int=_integer, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("not JSON that can be read: it is nested too deeply") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"not JSON: {constant} is no number")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of more than {MAX_DIGITS} digits is not read")
    return int(digits)


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, each member of which is there once: readers differ in which one they take."""
    members_by_name = dict(members)
    if len(members_by_name) < len(members):
        names: set[str] = set()
        twice = next(name for name, _ in members if name in names or names.add(name))
        raise ValueError(f"the member {twice!r:.100} is twice in one object; drop one of the two")
    return members_by_name


def too_large(name: str) -> BadInputError:
    """What is said of too large a file."""
    return BadInputError(
        f"{name}: more than {MAX_BYTES >> 20} MiB of labels, or {MAX_FILES} files, are not read at"
        " once; cut it by videos."
    )
