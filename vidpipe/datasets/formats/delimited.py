"""Tables as spreadsheets write them: commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

MORE_FIELDS = "more fields than columns"


def read_header(text: str) -> tuple[list[str], csv.DictReader]:
    """Reads the names of the columns, in small letters.

    Raises:
        ValueError: The first line is none that can be read.
    """
    header = text.partition("\n")[0]
    # Spreadsheets write what is usual in their country.
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        names = [n.strip().lower() for n in reader.fieldnames or ()]
    except csv.Error as error:
        raise ValueError(f"line 1: {error}; look for a quote too many") from error
    reader.fieldnames = names
    if twice := [n for n in names if n and names.count(n) > 1]:
        raise ValueError(f"line 1: the column {twice[0]} is there twice")
    return names, reader


def read_rows(reader: csv.DictReader) -> Iterator[tuple[int, dict[str | None, str | None]]]:
    """Yields line number and values of each row; values beyond the columns under None.

    Raises:
        ValueError: The table cannot be read on.
    """
    while True:
        begins = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"line {begins}: {error}; look for a quote too many") from error
        yield reader.line_num, row
