"""Tables as spreadsheets write them: commas, semicolons or tabs."""

from __future__ import annotations

import collections
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NAMES_SHOWN = 20
MORE_FIELDS = "there are more values than columns"
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # as Excel writes it


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

    def rows(self) -> Iterator[tuple[int, dict[str | None, str]]]:
        """Yields line number and values of each row that has any.

        Values that are in no named column are under None.

        Raises:
            ValueError: The table cannot be read on.
        """
        ends = self._reader.line_num
        while True:
            begins = ends + self.header_line
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
    header = text.partition("\n")[0]
    # Spreadsheets write what is usual in their country.
    delimiter = delimiter or max(",;\t", key=header.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        columns = [name.strip().lower() for name in next(reader, [])]
    except (csv.Error, TypeError, ValueError) as error:
        raise ValueError(f"line {header_line}: {error}; look for a quote too many") from error
    if twice := sorted(name for name, n in collections.Counter(columns).items() if name and n > 1):
        raise ValueError(
            f"line {header_line}: these columns are there twice: {quoted(twice)}; drop one of each"
        )
    return Table(columns, header_line, reader)


def quoted(names: Sequence[str]) -> str:
    """Names as a message lists them."""
    more = len(names) - NAMES_SHOWN
    listed = ", ".join(f"{name!r:.100}" for name in names[:NAMES_SHOWN])
    return f"{listed} and {more} more" if more > 0 else listed


def has_column(text: str, name: str) -> bool:
    """Whether a table has a column of that name."""
    try:
        return name in read_table(text).columns
    except ValueError:
        return False
