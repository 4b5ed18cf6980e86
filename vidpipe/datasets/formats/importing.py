"""Reading annotations from a file or folder of any format: all of it, or all of its faults."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vidpipe.datasets.annotations import Annotation, Key
from vidpipe.datasets.formats import AUTO
from vidpipe.datasets.formats.given import SIDECAR, Given, read_json
from vidpipe.datasets.formats.reading import FAULTS_SHOWN, Reader
from vidpipe.datasets.formats.sidecar import Sidecar
from vidpipe.datasets.formats.table import recognise
from vidpipe.datasets.video_names import SoughtNames, VideoNames
from vidpipe.errors import BadInputError
from vidpipe.text import printable

TOLD_SHOWN = 20
_OWN = ("csv", "jsonl")


@dataclass(frozen=True)
class Imported:
    """What was read.

    Attributes:
        format: Name of the format.
        annotations: In the order of the file; none is there twice.
        told: What the file does not tell, or tells and is not kept, a line each.
    """

    format: str
    annotations: list[Annotation]
    told: list[str]


def parse_annotations(
    given: Given, videos: VideoNames, *, format: str = AUTO, several: bool = False
) -> Imported:
    """Reads annotations whole.

    Args:
        given: The file or folder.
        videos: The videos that may be named.
        format: Its format; `auto`: as it is recognised.
        several: Whether an annotator may give a video or range several labels at once.

    Raises:
        BadInputError: It has faults; the message lists them with their places.
        UsageError: There is no such format.
    """
    reader = Reader(videos)
    sidecar = Sidecar(given, reader) if given.sidecar is not None else None
    if sidecar and format == AUTO and not reader.faults:
        format = sidecar.format or AUTO
    _refuse_faults(given.name, reader)
    of, given = recognise(given, format)
    try:
        of.read(given, reader)
        if sidecar:
            sidecar.complete(reader)
    except ValueError as error:
        reader.fault(str(error))
    except BadInputError as error:  # there is no end to it
        raise BadInputError(f"{printable(given.name)}: {error}") from error
    _refuse_contradictions(reader, several or reader.several)
    if not reader.annotations and not reader.faults:
        reader.fault(_why_nothing(reader))
    _refuse_faults(given.name, reader)
    told = [f"{n} × left out: {what}" for what, n in reader.left_out.most_common(TOLD_SHOWN)]
    if (more := len(reader.left_out) - TOLD_SHOWN) > 0:
        told.append(f"and {more} kinds more were left out")
    if reader.missing:
        told.append(
            f"{len(reader.missing)} videos of the list are not here, or could not be extracted,"
            f" such as {min(reader.missing)!r:.200}"
        )
    if of.name not in _OWN and sidecar is None:
        told.insert(0, f"read as {of.title}, without a sidecar, which only vidpipe export writes")
    return Imported(of.name, list(_distinct(reader.annotations)), [printable(t) for t in told])


def mentions(given: Given, sources: Iterable[str]) -> bool:
    """Whether a file tells of a source, by any name by which an import finds it."""
    names = SoughtNames(sources)
    is_sidecar = given.name.endswith(SIDECAR)
    for video in _videos_in(given.content if is_sidecar else given.sidecar):
        with contextlib.suppress(ValueError):
            names.find(video)
    # What cannot be imported tells of nothing that could be found.
    with contextlib.suppress(ValueError, BadInputError):
        of, given = recognise(given)
        of.read(given, Reader(names))
    return names.met


def _videos_in(sidecar: bytes | None) -> Iterator[str]:
    """The videos that a sidecar names."""
    rest = []
    with contextlib.suppress(ValueError):
        rest = [read_json(sidecar)] if sidecar is not None else []
    while rest:
        found = rest.pop()
        if isinstance(found, dict):
            if isinstance(found.get("video"), str):
                yield found["video"]
            rest.extend(found.values())
        elif isinstance(found, list):
            rest.extend(found)


def _distinct(annotations: Iterable[Annotation]) -> Iterable[Annotation]:
    distinct: dict[tuple, Annotation] = {}
    for annotation in annotations:
        distinct.setdefault((annotation.key, annotation.said), annotation)
    return distinct.values()


def _refuse_contradictions(reader: Reader, several: bool) -> None:
    """Of one key nothing and something, or two labels without a box, cannot both be true."""
    first: dict[Key, Annotation] = {}
    plain: dict[Key, Annotation] = {}
    for annotation in reader.annotations:
        key, said = annotation.key, annotation.said
        earlier = first.setdefault(key, annotation)
        is_plain = said is not None and said.box is None
        earlier_plain = plain.setdefault(key, annotation) if is_plain else annotation
        if earlier is annotation:
            continue
        if _is_empty(annotation) or _is_empty(earlier):
            reader.fault(_contradiction(annotation, earlier))
        elif is_plain and not several and earlier_plain is not annotation:
            hint = ""
            if earlier_plain.said.label != said.label:
                hint = "; where several labels are meant, say so (--several)"
            reader.fault(_contradiction(annotation, earlier_plain) + hint)


def _is_empty(annotation: Annotation) -> bool:
    return annotation.said is None or annotation.said.label is None


def _contradiction(annotation: Annotation, earlier: Annotation) -> str:
    same = "the same video, range and annotator"
    if annotation.where == earlier.where:
        return (
            f"{annotation.where}: of {same} it gives both {_quoted(earlier)} and"
            f" {_quoted(annotation)}"
        )
    if earlier.video != annotation.video:
        same += f" ({annotation.video!r} is the video of {earlier.video!r})"
    return f"{annotation.where}: {same} as {earlier.where}"


def _quoted(annotation: Annotation) -> str:
    return "nothing" if _is_empty(annotation) else repr(annotation.said.label)


def _why_nothing(reader: Reader) -> str:
    if reader.missing:
        return (
            f"none of its {len(reader.missing)} videos is known, such as"
            f" {min(reader.missing)!r:.200}; ingest them first"
        )
    left_out = ", ".join(f"{n} {what}" for what, n in reader.left_out.most_common(TOLD_SHOWN))
    return "there is no row in it" + (f" but what is not kept: {left_out}" if left_out else "")


def _place(fault: str) -> list[str | int]:
    """The place that a fault begins with, its numbers as numbers."""
    parts = re.split(r"([0-9]+)", fault.partition(": ")[0])
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]


def _refuse_faults(name: str, reader: Reader) -> None:
    if not reader.fault_count:
        return
    more = reader.fault_count - FAULTS_SHOWN
    # Contradictions are found after the lines were read.
    listed = sorted(reader.faults, key=_place) + ([f"and {more} more"] if more > 0 else [])
    raise BadInputError(
        f"{printable(name)}: nothing was imported, {reader.fault_count}"
        f" fault{'s' * (reader.fault_count > 1)}:\n  " + "\n  ".join(listed)
    )
