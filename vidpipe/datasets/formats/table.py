"""All formats, and which one a file has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vidpipe.datasets.formats import (
    AUTO,
    NAMES,
    activitynet,
    coco,
    csv_rows,
    cvat,
    json_lines,
    kinetics,
    label_studio,
    ucf101,
    yolo,
)
from vidpipe.datasets.formats.foreign import recognise_foreign
from vidpipe.datasets.formats.given import Given
from vidpipe.datasets.formats.shape import Format
from vidpipe.errors import BadInputError, UsageError

FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        csv_rows.FORMAT,
        json_lines.FORMAT,
        kinetics.FORMAT,
        ucf101.FORMAT,
        activitynet.FORMAT,
        coco.FORMAT,
        yolo.FORMAT,
        cvat.FORMAT,
        label_studio.FORMAT,
    )
}
_FILES_SHOWN = 10
_ALONE = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml")
# What fits everything comes last.
_ORDER = (*(name for name in NAMES if name not in ("csv", "jsonl")), "jsonl", "csv")


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in FORMATS:
        raise UsageError(f"A format is one of: {', '.join(NAMES)}. Received: {name!r}")
    return FORMATS[name]


def recognise(given: Given, name: str = AUTO) -> tuple[Format, Given]:
    """Finds the format of a file or folder.

    Args:
        given: It.
        name: The format, where that is known.

    Returns:
        The format, and what is to be read: of a folder with one file of labels, that file.

    Raises:
        UsageError: There is no format of that name.
        BadInputError: It is of no format that is known.
    """
    if name != AUTO:
        format_ = find_format(name)
        if not format_.in_folder:
            given = _alone(given)
        return format_, given
    for candidate in (given, _alone(given)):
        if foreign := recognise_foreign(candidate):
            raise BadInputError(f"{given.name}: {foreign}")
        for name in _ORDER:
            if FORMATS[name].recognises(candidate):
                return FORMATS[name], candidate
    if given.ends_in(".json") and isinstance(given.document, ValueError):
        raise BadInputError(f"{given.name}: nothing was imported, 1 fault:\n  {given.document}")
    raise BadInputError(
        f"{given.name}: {_why_none(given)} Formats that are read: {', '.join(NAMES)}."
    )


def _why_none(given: Given) -> str:
    if not given.is_folder:
        return (
            "it is of no format that is known. Look into docs/annotations.md for what each holds."
        )
    labels = sorted(path for path in given.files if path.lower().endswith(_ALONE))
    if len(labels) > 1:
        shown = ", ".join(labels[:_FILES_SHOWN]) + (", …" if len(labels) > _FILES_SHOWN else "")
        return f"it holds {len(labels)} files of labels ({shown}). Import them one by one."
    return f"it holds texts, and none of {', '.join(yolo.CLASSES)} beside them."


def format_of_target(path: Path) -> str:
    """The name of the format in which a file is written, by its ending.

    Raises:
        UsageError: Several formats are written so.
    """
    for name, format_ in FORMATS.items():
        if path.suffix.lower() in format_.endings:
            return name
    by_ending = {e: name for name, of in FORMATS.items() for e in of.endings}
    known = ", ".join(f"{ending} ({name})" for ending, name in by_ending.items())
    raise UsageError(
        f"The ending does not tell the format. Received: {path.name!r:.200}. Add --format, one of:"
        f" {', '.join(NAMES)}; or an ending that tells: {known}."
    )


def _alone(given: Given) -> Given:
    """The one file of a folder that has labels; what else lies there are notes and pictures."""
    alone = [path for path in given.files if path.lower().endswith(_ALONE)]
    if not given.is_folder or len(alone) != 1:
        return given
    (path,) = alone
    name = path.rpartition("/")[2]
    return replace(given, name=name, files={name: given.files[path]}, is_folder=False)
