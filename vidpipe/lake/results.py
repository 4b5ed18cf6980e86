"""Showing what was asked: on the screen, or as CSV, JSON Lines or Parquet."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
import rich.box
import rich.filesize
import rich.table
import rich.text

from vidpipe.config import Settings
from vidpipe.console import Console, echo
from vidpipe.errors import UsageError
from vidpipe.lake.query import list_tables
from vidpipe.lake.terminal import show_on_terminal
from vidpipe.text import printable, printable_json

# How a row came about, which a person seldom asks.
BOOKKEEPING = ("work_key", "run_key")
FORMATS = {  # by the ending of the file
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
    ".txt": "table",
}
# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection): as a cell begins,
# or where one that separates by other characters begins one. A plain number is none.
_FORMULA = re.compile(r"(?:^|(?<=[;\t\r\n]))(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_BATCH_ROWS = 1_000
_UNLIMITED = 1_000_000


def format_of(output: Path | None) -> str:
    """Returns the format that the ending of a file tells; without a file, the table.

    Raises:
        UsageError: It tells none.
    """
    if output is None:
        return "table"
    try:
        return FORMATS[output.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"The ending of the file tells its format: {', '.join(FORMATS)}; or add --format."
            f" Received: {output.name!r}"
        ) from None


def write_result(
    result: pa.Table,
    output_format: str,
    output: Path | None = None,
    *,
    sql: str = "",
    safe_csv: bool = False,
) -> None:
    """Writes the result of a query.

    Binary values are shown as their size, except in Parquet; times are ISO 8601. On a terminal,
    values are shortened, and the columns `BOOKKEEPING` are left out.

    Args:
        result: What `run_query` returned.
        output_format: table (for people in a terminal, plain columns elsewhere), csv, json (an
            object a line) or parquet.
        output: A file, which appears when it is complete; None: standard output.
        sql: The statement: a column of `BOOKKEEPING` that it names is not left out.
        safe_csv: A cell of CSV that a spreadsheet takes for a formula begins with an apostrophe.

    Raises:
        UsageError: The file cannot be written, or Parquet has none.
    """
    if output_format == "parquet":
        if output is None:
            raise UsageError("Parquet needs a file: add --output FILE.parquet.")
        with _complete(output) as path:
            pq.write_table(result, path, compression="zstd")
        echo(f"{_count(result)} → {output}")
        return
    if output is None and output_format == "table" and sys.stdout.isatty():
        _show_result(result, sql)
        return
    if output is None:
        _write(result, output_format, sys.stdout, safe_csv)
        return
    with _complete(output) as path, path.open("w", encoding="utf-8", newline="") as file:
        formulas = _write(result, output_format, file, safe_csv)
    echo(f"{_count(result)} → {output}")
    if formulas and not safe_csv:
        echo(
            f"Spreadsheets take {formulas} cell{'s' * (formulas > 1)} of it for formulas, which may"
            " run commands: for them, write it with --safe-csv."
        )


def _write(result: pa.Table, output_format: str, file: TextIO, safe_csv: bool) -> int:
    """Writes a result as text; returns how many cells of a CSV are formulas to a spreadsheet."""
    if output_format == "csv":
        return _write_csv(result, file, safe_csv)
    (_write_json if output_format == "json" else _write_table)(result, file)
    return 0


def show_rows(
    columns: Iterable[str], rows: Iterable[Iterable[Any]], file: TextIO | None = None
) -> None:
    """Prints rows as a table; numbers are set to the right."""
    file = file or sys.stdout
    terminal = file.isatty()
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD if terminal else None,
        pad_edge=False,
        show_edge=terminal,
    )
    for column in columns:
        table.add_column(_text(column), overflow="fold")
    numeric = [True] * len(table.columns)
    for row in rows:
        values = list(row)
        for number, value in enumerate(values):
            if value is not None and not isinstance(value, int | float | Decimal):
                numeric[number] = False
        table.add_row(*(_text("" if value is None else _cell(value)) for value in values))
    for column, is_numeric in zip(table.columns, numeric, strict=True):
        column.justify = "right" if is_numeric and table.row_count else "left"
    if terminal:
        Console(file=file).print(table)
        return
    console = Console(file=file, width=_UNLIMITED, color_system=None)
    with console.capture() as capture:
        console.print(table)
    file.writelines(line.rstrip() + "\n" for line in capture.get().splitlines())


def print_tables(settings: Settings | None = None) -> None:
    """Prints tables and views with their rows, size and last publication.

    The run of the publication is left out on a terminal, where few have room for it.
    """
    columns = ("name", "kind", "rows", "size", "published (UTC)", "by run")
    rows = [
        (
            info.name,
            info.kind,
            info.rows,
            None if info.size_bytes is None else rich.filesize.decimal(info.size_bytes),
            info.published_at and f"{info.published_at:%Y-%m-%d %H:%M}",
            info.run_key,
        )
        for info in list_tables(settings)
    ]
    if sys.stdout.isatty():
        show_on_terminal(columns[:-1], [row[:-1] for row in rows], sys.stdout)
    else:
        show_rows(columns, rows)


def _show_result(result: pa.Table, sql: str) -> None:
    hidden = [
        name
        for name in BOOKKEEPING
        if name in result.column_names and not re.search(rf"\b{name}\b", sql, re.IGNORECASE)
    ]
    shown = result.drop_columns(hidden) if len(hidden) < result.num_columns else result
    cut = show_on_terminal(shown.column_names, _rows(shown), sys.stdout)
    notes = [
        *([f"Left out: {', '.join(hidden)}."] if hidden else []),
        *(["Ids are cut: find one by like '…%'."] if cut else []),
    ]
    echo(" ".join([f"{_count(result)}.", *notes]))
    if notes:
        echo("Everything: --format csv, or --output FILE.csv.")


def _count(result: pa.Table) -> str:
    return f"{result.num_rows} row{'' if result.num_rows == 1 else 's'}"


def _write_table(result: pa.Table, file: TextIO) -> None:
    show_rows(result.column_names, _rows(result), file)
    # In a pipe the rows speak for themselves; that there are none looks as if something were lost.
    if not result.num_rows:
        file.write(f"{_count(result)}\n")


def _write_csv(result: pa.Table, file: TextIO, safe: bool) -> int:
    formulas = 0

    def cell(value: Any) -> Any:
        nonlocal formulas
        value = None if value is None else _cell(value)
        if not isinstance(value, str):
            return value
        if _NUMBER.fullmatch(value) is None and _FORMULA.search(value):
            formulas += 1
            value = _FORMULA.sub("'", value) if safe else value
        # A program gets the very values; a terminal would obey what is in them.
        return printable(value) if file.isatty() else value

    # In quotes, a spreadsheet that separates by other characters takes no part of it for a cell.
    quoting = csv.QUOTE_NONNUMERIC if safe else csv.QUOTE_MINIMAL
    writer = csv.writer(file, lineterminator="\n", quoting=quoting)
    writer.writerow(map(cell, result.column_names))
    writer.writerows(map(cell, row) for row in _rows(result))
    return formulas


def _write_json(result: pa.Table, file: TextIO) -> None:
    for row in _rows(result):
        line = dict(zip(result.column_names, map(_plain, row), strict=True))
        file.write(printable_json(json.dumps(line, ensure_ascii=False)) + "\n")


def _rows(result: pa.Table) -> Iterator[tuple]:
    for batch in result.to_batches(max_chunksize=_BATCH_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _cell(value: Any) -> Any:
    value = value if isinstance(value, float) else _plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _plain(value: Any) -> Any:
    """A value as JSON knows it."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return f"<{len(value)} bytes>"
        case dict():
            return {str(k): _plain(v) for k, v in value.items()}
        case tuple() | list():
            return [_plain(v) for v in value]
    return str(value)


def _text(value: Any) -> rich.text.Text:
    # As Text, so that brackets in a label are no markup.
    return rich.text.Text(printable(str(value)))


@contextlib.contextmanager
def _complete(output: Path) -> Iterator[Path]:
    """Gives a file beside `output` that takes its place once it is written."""
    part = output.with_name(f".{output.name}.part")
    try:
        yield part
        os.replace(part, output)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)
