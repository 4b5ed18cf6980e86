"""Rows on a terminal: values are shortened, and rows that are too wide become a block each.

Nothing is shortened in pipes and files (`vidpipe/lake/results.py`): programs read those.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TextIO

import rich.box
import rich.cells
import rich.table
import rich.text

from vidpipe.console import Console
from vidpipe.text import printable

ID_DIGITS = 12
# What a hash is: alone, as video_id and work_key are, or after a task, as an item is.
_ID = re.compile(rf"((?:[a-z0-9_-]+/)?)([0-9a-f]{{{ID_DIGITS}}})[0-9a-f]{{{32 - ID_DIGITS},}}")
_DECIMALS = 3
_GAP = 2  # spaces between columns


def shorten(value: Any) -> str:
    """Returns a value as people read it.

    Of an id, its first 12 hexadecimal digits, which are enough to find it again
    (`where video_id like '…%'`). Of a number, three decimals, or three digits where it is smaller.
    Times without parts of a second; all times of the tables are UTC. A null is empty.
    """
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float():
            return _rounded(value)
        case Decimal():
            return str(value)
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case bytes():
            return f"<{len(value)} bytes>"
        case dict() | list():
            return printable(json.dumps(value, ensure_ascii=False, default=shorten))
    return printable(_ID.sub(r"\1\2", value) if _is_id(value) else str(value))


def show_on_terminal(columns: Sequence[str], rows: Iterable[Sequence[Any]], file: TextIO) -> bool:
    """Prints rows as a table if their values fit side by side, else a block for each row.

    Args:
        columns: Names of the columns.
        rows: Their values.
        file: The terminal.

    Returns:
        Whether an id was shortened.
    """
    console = Console(file=file, soft_wrap=True)
    values = [list(row) for row in rows]
    texts = [[shorten(value) for value in row] for row in values]
    names = [printable(name) for name in columns]
    widths = [max(map(rich.cells.cell_len, column)) for column in zip(names, *texts, strict=True)]
    if sum(widths) + _GAP * (len(widths) - 1) <= console.width:
        numeric = [all(map(_is_number_or_null, column)) for column in zip(*values, strict=True)]
        _show_table(console, names, texts, numeric or [False] * len(names))
    else:
        for number, row in enumerate(texts, 1):
            _show_block(console, number, names, row)
    return any(_is_id(value) for row in values for value in row)


def _show_table(
    console: Console,
    names: list[str],
    rows: list[list[str]],
    numeric: list[bool],
) -> None:
    table = rich.table.Table(
        box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP, 0, 0)
    )
    for name, is_numeric in zip(names, numeric, strict=True):
        justify = "right" if is_numeric else "left"
        # As Text, so that brackets in a label are no markup.
        table.add_column(rich.text.Text(name), justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*map(rich.text.Text, row))
    console.print(table)


def _show_block(console: Console, number: int, names: list[str], row: list[str]) -> None:
    """Prints a row as names and values: as many beside each other as fit, long ones alone."""
    console.print(rich.text.Text(f"─ {number} ".ljust(console.width, "─"), style="dim"))
    name_width = max(map(rich.cells.cell_len, names))
    pairs = [
        f"{rich.cells.set_cell_size(name, name_width)}{' ' * _GAP}{value}"
        for name, value in zip(names, row, strict=True)
    ]
    half = (console.width - _GAP) // 2
    short = [pair for pair in pairs if rich.cells.cell_len(pair) <= half]
    cell = max(map(rich.cells.cell_len, short), default=half) + _GAP
    side_by_side = (console.width + _GAP) // cell
    line: list[str] = []
    for pair in pairs:
        is_short = rich.cells.cell_len(pair) <= half
        if line and (len(line) == side_by_side or not is_short):
            _print_line(console, line, cell)
            line = []
        if is_short:
            line.append(pair)
        else:
            _print_line(console, [pair], cell)
    if line:
        _print_line(console, line, cell)


def _print_line(console: Console, pairs: list[str], cell: int) -> None:
    padded = [rich.cells.set_cell_size(pair, cell) for pair in pairs[:-1]]
    console.print(rich.text.Text("".join([*padded, pairs[-1]])))


def _rounded(value: float) -> str:
    if not math.isfinite(value) or value == 0:
        return str(value)
    magnitude = math.floor(math.log10(abs(value)))
    return str(round(value, _DECIMALS if magnitude >= -1 else _DECIMALS - 1 - magnitude))


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_number_or_null(value: Any) -> bool:
    return value is None or (
        isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    )
