"""JSON Lines of vidpipe's own columns: an object a line."""

from __future__ import annotations

import json
from collections.abc import Sequence

from vidpipe.datasets.annotations import Annotation
from vidpipe.datasets.formats.given import Given, lines_of, parse_json
from vidpipe.datasets.formats.reading import Reader
from vidpipe.datasets.formats.rows import COLUMNS, read_row, write_row
from vidpipe.datasets.formats.shape import INSTANTS, Format
from vidpipe.datasets.video_names import VideoNames


def recognises(given: Given) -> bool:
    """By its ending; `.json` where its first line is a row by itself."""
    if given.ends_in(".jsonl", ".ndjson"):
        return True
    if not given.ends_in(".json"):
        return False
    try:
        _, first = next(lines_of(given.text), (0, ""))
        row = parse_json(first)
        return isinstance(row, dict) and not row.keys().isdisjoint(COLUMNS)
    except ValueError:
        return False


def read(given: Given, reader: Reader) -> None:
    """Reads rows; see `rows.py`."""
    for number, line in lines_of(given.text):
        where = f"line {number}"
        with reader.at(where):
            try:
                row = parse_json(line)
            except ValueError as error:
                if not isinstance(error.__cause__, json.JSONDecodeError):
                    raise
                row = None
            if not isinstance(row, dict):
                raise ValueError("not a JSON object")
            read_row(reader, where, row, may_be_null=True)


def hold(annotations: Sequence[Annotation], videos: VideoNames) -> list[Annotation | str]:
    """All but what would look like a slip."""
    return [_held(annotation) for annotation in annotations]


def _held(annotation: Annotation) -> Annotation | str:
    key, said = annotation.key, annotation.said
    if key.is_instant and said.box is None and said.label is not None:
        return INSTANTS
    return annotation


def write(annotations: Sequence[Annotation], videos: VideoNames) -> bytes:
    """A line for each annotation."""
    lines = [
        json.dumps(write_row(a, videos.name_of(a.key.video_id, videos.find)), ensure_ascii=False)
        for a in annotations
    ]
    return "".join(f"{line}\n" for line in lines).encode()


FORMAT = Format(
    name="jsonl",
    title="JSON Lines",
    files="a file `.jsonl`, `.ndjson` or `.json`",
    told_by="its ending; `.json`: an object with such columns in the first line",
    loses="labels of single frames without a box",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
    endings=(".jsonl", ".ndjson"),
)
