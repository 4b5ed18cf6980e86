"""Tables as spreadsheets write them: commas, semicolons or tabs."""

from __future__ import annotations

import collections
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vidpipe.datasets.formats.given import MAX_LINE, MAX_LINES

NAMES_SHOWN = 20
MAX_COLUMNS = 1000
MORE_FIELDS = "there are more values than columns"
_FORMULA = re.compile(r"'*[=+\-@]")
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # as Excel writes it


class _Lines:
    """The lines of a text, with their ends; those of one row are only so long together."""

    def __init__(self, text: str):
        self._matches = _LINE.finditer(text)
        self._row_length = 0

    def begin_row(self) -> None:
        """Says that what comes next belongs to another row."""
        self._row_length = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._matches)[0]
        self._row_length += len(line)
        if self._row_length > MAX_LINE:
            raise csv.Error(f"a row of more than {MAX_LINE} characters is not read")
        return line


@dataclass(frozen=True)
class Table:
    """A table whose header was read.

    Attributes:
        columns: Their names, in small letters; "" for columns without a name.
        header_line: The line of the header.
    """

    columns: list[str]
    header_line: int
    _reader: Any
    _lines: _Lines

    def rows(self) -> Iterator[tuple[int, dict[str | None, str]]]:
        """Yields line number and values of each row that has any.

        Values that are in no named column are under None.

        Raises:
            ValueError: The table cannot be read on.
        """
        ends = self._reader.line_num
        while True:
            begins = ends + self.header_line
            self._lines.begin_row()
            try:
                values = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(f"line {begins}: {error}; look for a quote too many") from error
            ends = self._reader.line_num
            if any(value.strip() for value in values):
                yield ends + self.header_line - 1, self._row(values)

    def _row(self, values: list[str]) -> dict[str | None, str]:
        row: dict[str | None, str] = {}
        for number, value in enumerate(values):
            name = self.columns[number] if number < len(self.columns) else ""
            if name:
                row[name] = value
            elif value.strip():
                row[None] = value
        return row


def read_table(text: str) -> Table:
    """Reads the names of the columns.

    Raises:
        ValueError: The header cannot be read.
    """
    header_line, delimiter = 1, None
    if match := _SEPARATOR_LINE.match(text):
        text, header_line, delimiter = text[match.end() :], 2, match[1]
    if text.count("\n") >= MAX_LINES or text.count("\r") >= MAX_LINES:
        raise ValueError(f"more than {MAX_LINES} lines are not read at once; cut it by videos")
    header = text[:MAX_LINE].partition("\n")[0]
    # Spreadsheets write what is usual in their country.
    delimiter = delimiter or max(",;\t", key=header.count)
    lines = _Lines(text)
    try:
        reader = csv.reader(lines, strict=True, delimiter=delimiter)
        columns = [name.strip().lower() for name in next(reader, [])]
    except (csv.Error, TypeError, ValueError) as error:
        raise ValueError(f"line {header_line}: {error}; look for a quote too many") from error
    if len(columns) > MAX_COLUMNS:
        raise ValueError(
            f"line {header_line}: more than {MAX_COLUMNS} columns are not read. Received:"
            f" {len(columns)}. Drop those that are not needed"
        )
    if twice := sorted(name for name, n in collections.Counter(columns).items() if name and n > 1):
        raise ValueError(
            f"line {header_line}: these columns are there twice: {quoted(twice)}; drop one of each"
        )
    return Table(columns, header_line, reader, lines)


def quoted(names: Sequence[str]) -> str:
    """Names as a message lists them."""
    more = len(names) - NAMES_SHOWN
    listed = ", ".join(f"{name!r:.100}" for name in names[:NAMES_SHOWN])
    return f"{listed} and {more} more" if more > 0 else listed


def guarded(value: str) -> str:
    """A text as a field in which no spreadsheet sees a formula: with an apostrophe before it."""
    return f"'{value}" if _is_formula(value) else value


def unguarded(value: str) -> str:
    """The text that was guarded; any other as it is."""
    return value[1:] if value.startswith("'") and _is_formula(value[1:]) else value


def _is_formula(value: str) -> bool:
    if not _FORMULA.match(value):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


def has_column(text: str, name: str) -> bool:
    """Whether a table has a column of that name."""
    try:
        return name in read_table(text).columns
    except ValueError:
        return False
