"""CSV of vidpipe's own columns, as a spreadsheet writes it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from vidpipe.datasets.annotations import Annotation
from vidpipe.datasets.formats.delimited import (
    MORE_FIELDS,
    guarded,
    quoted,
    read_table,
    unguarded,
)
from vidpipe.datasets.formats.given import Given
from vidpipe.datasets.formats.reading import Reader, UnreadableError
from vidpipe.datasets.formats.rows import COLUMNS, read_row, unknown_columns, write_row
from vidpipe.datasets.formats.shape import INSTANTS, NOTHING, Format
from vidpipe.datasets.video_names import VideoNames

_WRITTEN = tuple(name for name in COLUMNS if name != "delete")


def recognises(given: Given) -> bool:
    """By being nothing else."""
    return not given.is_folder and not given.ends_in(".json", ".jsonl", ".ndjson", ".xml")


def read(given: Given, reader: Reader) -> None:
    """Reads rows; see `rows.py`."""
    table = read_table(given.text)
    named = [name for name in table.columns if name]
    where = f"line {table.header_line}"
    if unknown := [name for name in named if name not in COLUMNS]:
        with reader.at(where):
            raise UnreadableError(unknown_columns(unknown))
    needed = ["label"] if reader.only_video else ["video", "label"]
    if not set(needed) <= set(named):
        raise ValueError(
            f"{where}: columns {' and '.join(needed)} are needed. Received: {quoted(named)}"
        )
    for line, row in table.rows():
        with reader.at(f"line {line}"):
            if None in row:
                raise ValueError(MORE_FIELDS)
            known = {name: unguarded(value) for name, value in row.items() if name in COLUMNS}
            read_row(reader, f"line {line}", known)


def hold(annotations: Sequence[Annotation], videos: VideoNames) -> list[Annotation | str]:
    """All but what an empty field cannot say."""
    return [_held(annotation) for annotation in annotations]


def _held(annotation: Annotation) -> Annotation | str:
    if annotation.said.label is None:
        return NOTHING
    if annotation.key.is_instant and annotation.said.box is None:
        return INSTANTS
    return annotation


def write(annotations: Sequence[Annotation], videos: VideoNames) -> bytes:
    """Rows of all columns that say something."""
    rows = [write_row(a, videos.name_of(a.key.video_id, videos.find)) for a in annotations]
    used = set().union(*rows) | {"video", "label"}
    target = io.StringIO(newline="")
    table = csv.DictWriter(target, [n for n in _WRITTEN if n in used], restval="")
    table.writeheader()
    table.writerows(
        {name: guarded(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        for row in rows
    )
    return target.getvalue().encode()


FORMAT = Format(
    name="csv",
    title="CSV",
    files="a file `.csv` (or of any other name)",
    told_by="being none of the others",
    loses="labels of single frames without a box, and that there is nothing",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
    endings=(".csv",),
)
