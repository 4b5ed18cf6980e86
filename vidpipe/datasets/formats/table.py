"""All formats, and which one a file has."""

from __future__ import annotations

from dataclasses import replace

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
        for name in _ORDER:
            if FORMATS[name].recognises(candidate):
                return FORMATS[name], candidate
    if given.ends_in(".json") and isinstance(given.document, ValueError):
        raise BadInputError(f"{given.name}: nothing was imported, 1 fault:\n  {given.document}")
    if label_studio.is_min(given):
        raise BadInputError(
            f"{given.name}: this looks like Label Studio's JSON-MIN, which says too little of what"
            " was labelled: export JSON there."
        )
    known = "; ".join(f"{f.name}: {f.files}" for f in FORMATS.values())
    raise BadInputError(f"{given.name}: it is none of the formats that are known ({known}).")


def _alone(given: Given) -> Given:
    """The one file of a folder that has labels; what else lies there are notes and pictures."""
    alone = [path for path in given.files if path.lower().endswith(_ALONE)]
    if not given.is_folder or len(alone) != 1:
        return given
    (path,) = alone
    name = path.rpartition("/")[2]
    return replace(given, name=name, files={name: given.files[path]}, is_folder=False)
