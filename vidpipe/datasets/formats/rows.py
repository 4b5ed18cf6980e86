"""One row of a CSV or JSON Lines file, and of a sidecar, as vidpipe has them itself.

| column | meaning |
| --- | --- |
| `video` | the video: its URI, its key in the bucket, its file name or its id |
| `label` | what it shows; empty only where `delete` is set, null (JSON) if there is nothing |
| `start_s`, `end_s` | the range that it holds for, in seconds; both empty: the whole video |
| `annotator` | who said so; what several say stands beside each other |
| `box_x`, `box_y`, `box_width`, `box_height` | a box, in shares of the picture |
| `track` | which thing it is |
| `occluded` | whether something is before it |
| `group`, `split` | what the video belongs to; `train`, `validation` or `test` |
| `delete` | `true`, `yes` or `1` withdraws what was said of the same video, range, annotator |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidpipe.datasets.annotations import Annotation, Box, Statement
from vidpipe.datasets.formats.delimited import quoted
from vidpipe.datasets.formats.reading import Reader, make_box, number, whole

BOX_COLUMNS = tuple(f"box_{name}" for name in Box._fields)
COLUMNS = (
    "video",
    "label",
    "start_s",
    "end_s",
    "annotator",
    *BOX_COLUMNS,
    "track",
    "occluded",
    "group",
    "split",
    "delete",
)
_YES = {"true", "yes", "1"}
_NO = {"false", "no", "0"}


def read_row(
    reader: Reader,
    where: str,
    row: Mapping[str, Any],
    *,
    may_be_null: bool = False,
    frame_wise: bool = False,
) -> None:
    """Adds a row to what was read.

    Args:
        reader: What it is added to.
        where: Its place in the file.
        row: Its values by column.
        may_be_null: Whether a null label says that there is nothing.
        frame_wise: Whether a range may be one frame, whatever is said of it.

    Raises:
        ValueError: It is wrong; says so in words.
    """
    if unknown := [n for n in row if n not in COLUMNS]:
        raise ValueError(unknown_columns(unknown))
    delete = _flag(row, "delete") or False
    video, label, annotator = (_text(row, name) for name in ("video", "label", "annotator"))
    track, group, split = (_text(row, name, True) for name in ("track", "group", "split"))
    is_null = may_be_null and "label" in row and row["label"] is None
    if not is_null and not label.strip() and not delete:
        raise ValueError("the label is empty")
    if not video.strip() and reader.only_video is None:
        raise ValueError("no video is named")
    if video.strip():
        video_id = reader.find_any(video, reader.videos.find)
    else:
        video, video_id = reader.only_video
    start_s, end_s = _number(row, "start_s", "seconds"), _number(row, "end_s", "seconds")
    said = None
    if not delete:
        said = Statement(
            None if is_null else label,
            _box(row),
            track,
            _flag(row, "occluded"),
            group,
            split,
        )
    reader.add(
        where,
        video,
        video_id,
        said,
        start_s=start_s,
        end_s=end_s,
        annotator=annotator,
        frame_wise=frame_wise,
    )


def unknown_columns(names: list[str]) -> str:
    """Says in words that there are no such columns."""
    return f"unknown columns: {quoted(names)}. Allowed: {', '.join(COLUMNS)}. Rename or drop them"


def write_row(annotation: Annotation, video: str) -> dict[str, Any]:
    """A row that says what an annotation says; columns that say nothing are left out."""
    key, said = annotation.key, annotation.said
    row: dict[str, Any] = {"video": video, "label": said.label}
    if key.start_s is not None:
        row |= {"start_s": key.start_s, "end_s": key.end_s}
    if key.annotator:
        row["annotator"] = key.annotator
    if said.box is not None:
        row |= dict(zip(BOX_COLUMNS, said.box, strict=True))
    others = {name: getattr(said, name) for name in ("track", "occluded", "group", "split")}
    return row | {name: value for name, value in others.items() if value is not None}


def _text(row: Mapping[str, Any], column: str, may_be_number: bool = False) -> str:
    value = whole(row.get(column)) if may_be_number else row.get(column)
    if may_be_number and isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:d}" if value.bit_length() < 64 else value
    if not isinstance(value, str | None):
        raise ValueError(f"{column} must be text. Received: {type(value).__name__}")
    return value or ""


def _flag(row: Mapping[str, Any], column: str) -> bool | None:
    value = row.get(column)
    word = str(value if isinstance(value, bool | str) else "").strip().lower()
    if value in (0, 1) or word in _YES | _NO:
        return value == 1 or word in _YES
    if value is None or word == "" and isinstance(value, str):
        return None
    raise ValueError(f"{column} must be true or false. Received: {str(value)[:100]!r}")


def _number(row: Mapping[str, Any], column: str, unit: str) -> float | None:
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    return number(value, f"{column} must be {unit}")


def _box(row: Mapping[str, Any]) -> Box | None:
    given = [_number(row, column, "a share of the picture, 0 to 1") for column in BOX_COLUMNS]
    if given == [None] * 4:
        return None
    if None in given:
        raise ValueError(f"{', '.join(BOX_COLUMNS)} go together: give all or none")
    return make_box(*given)
