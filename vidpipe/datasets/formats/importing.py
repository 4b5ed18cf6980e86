"""Reading annotations from a file or folder of any format: all of it, or all of its faults."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vidpipe.datasets.annotations import Annotation, Key
from vidpipe.datasets.formats import AUTO
from vidpipe.datasets.formats.budget import Budget, TooMuchError
from vidpipe.datasets.formats.given import SIDECAR, Given, read_json
from vidpipe.datasets.formats.reading import Reader
from vidpipe.datasets.formats.shape import Format
from vidpipe.datasets.formats.sidecar import MAX_SIDECAR_BYTES, Sidecar, has_sidecar_members
from vidpipe.datasets.formats.table import recognise
from vidpipe.datasets.video_names import SoughtNames, UnknownVideoError, VideoNames
from vidpipe.errors import BadInputError, UsageError
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
        skipped: How many faulty entries were left out.
    """

    format: str
    annotations: list[Annotation]
    told: list[str]
    skipped: int = 0


def parse_annotations(
    given: Given,
    videos: VideoNames,
    *,
    format: str = AUTO,
    several: bool = False,
    video: str | None = None,
    first_frame: int = 0,
    skip_faulty: bool = False,
    budget: Budget | None = None,
) -> Imported:
    """Reads annotations whole.

    Args:
        given: The file or folder.
        videos: The videos that may be named.
        format: Its format; `auto`: as it is recognised.
        several: Whether an annotator may give a video or range several labels at once.
        video: The one video that the file is about; its frames are found by their numbers alone.
            None: the file names its videos.
        first_frame: The number of a video's first frame, 0 or 1, in formats that do not fix it.
        skip_faulty: Whether to leave out entries with faults instead of refusing the file.
        budget: What reading may take; None: the usual.

    Raises:
        BadInputError: It has faults; the message lists them with their places.
        UsageError: There is no such format or video.
    """
    only_video = (video, find_video(videos, video)) if video else None
    reader = Reader(videos, only_video=only_video, first_frame=first_frame, budget=budget)
    with _named(given.name):
        return _parse(given, reader, format, several=several, skip_faulty=skip_faulty)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """What refuses a file at any place of it says which file that is."""
    try:
        yield
    except TooMuchError as error:
        raise BadInputError(f"{printable(name)}: {error}") from error


def _parse(
    given: Given, reader: Reader, format: str, *, several: bool, skip_faulty: bool
) -> Imported:
    sidecar = Sidecar(given, reader) if given.sidecar is not None else None
    if sidecar and format == AUTO and not reader.faults:
        format = sidecar.format or AUTO
    _refuse_faults(given.name, reader)
    of, given = recognise(given, format)
    if reader.first_frame and not of.numbers_frames:
        raise UsageError(f"--first-frame is not for {of.title}: the format fixes how frames count.")
    try:
        of.read(given, reader)
    except ValueError as error:
        reader.is_unreadable = True
        reader.fault(str(error))
    if sidecar:
        _complete(sidecar, reader)
    contradictory = _find_contradictions(reader, several or reader.several, of.contradiction)
    if not reader.annotations and not reader.faults:
        reader.is_unreadable = True
        reader.fault(_why_nothing(reader))
    kept = [a for a in reader.annotations if a.key not in contradictory]
    if not skip_faulty or reader.is_unreadable or not kept:
        _refuse_faults(given.name, reader, skippable=bool(kept) and not skip_faulty)
    distinct = _distinct(kept)
    notes = _tell(of, reader, len(kept) - len(distinct), sidecar is not None)
    return Imported(
        of.name,
        distinct,
        [printable(t) for t in notes],
        reader.fault_count,
    )


def find_video(videos: VideoNames, name: str) -> str:
    """Returns the id of the video that a whole file is about.

    Raises:
        UsageError: There is none, or more than one.
    """
    try:
        return videos.find(name)
    except UnknownVideoError as error:
        near = "".join(f" Near names: {', '.join(map(repr, n))}." for n in [videos.near(name)] if n)
        raise UsageError(
            f"--video: {error}.{near} If it is not ingested yet, put it into a watched bucket,"
            " then: vidpipe run ingest"
        ) from error
    except ValueError as error:
        raise UsageError(f"--video: {error}.") from error


def _complete(sidecar: Sidecar, reader: Reader) -> None:
    """Restores what the file cannot hold; a fault in there concerns the whole file."""
    faults = reader.fault_count
    try:
        sidecar.complete(reader)
    except ValueError as error:
        reader.fault(str(error))
    reader.is_unreadable |= reader.fault_count > faults


def _tell(of: Format, reader: Reader, repeated: int, has_sidecar: bool) -> Iterator[str]:
    """What is to be known of an import, a line each."""
    if of.name not in _OWN and not has_sidecar:
        yield f"read as {of.title}, without a sidecar, which only vidpipe export writes"
    yield from (f"{n} × left out: {what}" for what, n in reader.left_out.most_common(TOLD_SHOWN))
    if (more := len(reader.left_out) - TOLD_SHOWN) > 0:
        yield f"and {more} kinds more were left out"
    if repeated:
        yield f"{repeated} × repeated: the same was said before in the file, and counts once"
    if reader.missing:
        yield (
            f"{len(reader.missing)} videos of the list are not here, or could not be extracted,"
            f" such as {min(reader.missing)!r:.200}"
        )
    if reader.first_frame == 0 and reader.frame_numbers == {1}:
        yield (
            "frame 1 is named and frame 0 is not: frames are counted from 0. If the file counts"
            " them from 1, say so: --first-frame 1"
        )
    if reader.fault_count:
        yield f"{reader.fault_count} × left out, faulty:"
        yield from (f"  {line}" for line in _listed(reader))


def mentions(given: Given, sources: Iterable[str], budget: Budget | None = None) -> bool:
    """Whether a file tells of a source, by any name by which an import finds it.

    Of one that cannot be read to its end nobody can prove that it does not: it does.

    Args:
        given: The file or folder.
        sources: Names of the source.
        budget: What reading may take; None: the usual.
    """
    names = SoughtNames(sources)
    reader = Reader(names, budget=budget)
    is_sidecar = given.name.endswith(SIDECAR)
    try:
        for video in _videos_in(given.content if is_sidecar else given.sidecar, reader.budget):
            with contextlib.suppress(ValueError):
                names.find(video)
        # A file of labels may be called as a sidecar is, too.
        if not (is_sidecar and has_sidecar_members(given.document)):
            label_format, given = recognise(given)
            label_format.read(given, reader)
    except (ValueError, BadInputError):
        return True
    return names.met


def _videos_in(sidecar: bytes | None, budget: Budget) -> Iterator[str]:
    """The videos that a sidecar names."""
    rest = [read_json(sidecar, MAX_SIDECAR_BYTES)] if sidecar is not None else []
    while rest:
        budget.check()
        found = rest.pop()
        if isinstance(found, dict):
            if isinstance(found.get("video"), str):
                yield found["video"]
            rest.extend(found.values())
        elif isinstance(found, list):
            rest.extend(found)


def _distinct(annotations: Iterable[Annotation]) -> list[Annotation]:
    distinct: dict[tuple, Annotation] = {}
    for annotation in annotations:
        distinct.setdefault((annotation.key, annotation.said), annotation)
    return list(distinct.values())


def _find_contradictions(reader: Reader, several: bool, remedy: str) -> set[Key]:
    """Keys of which nothing and something, or two labels without a box, are said: faults."""
    first: dict[Key, Annotation] = {}
    plain: dict[Key, Annotation] = {}
    contradictory: set[Key] = set()
    for annotation in reader.annotations:
        key, said = annotation.key, annotation.said
        earlier = first.setdefault(key, annotation)
        is_plain = said is not None and said.box is None
        earlier_plain = plain.setdefault(key, annotation) if is_plain else annotation
        if earlier.said == said:
            continue  # the same fact once more
        if _is_empty(annotation) or _is_empty(earlier):
            contradictory.add(key)
            reader.fault(_contradiction(annotation, earlier) + f"; {remedy}")
        elif is_plain and not several and earlier_plain.said != said:
            contradictory.add(key)
            hints = [remedy] if annotation.where != earlier_plain.where else []
            if earlier_plain.said.label != said.label:
                hints.append("where several labels are meant, say so (--several)")
            reader.fault("; ".join([_contradiction(annotation, earlier_plain), *hints]))
    return contradictory


def _is_empty(annotation: Annotation) -> bool:
    return annotation.said is None or annotation.said.label is None


def _contradiction(annotation: Annotation, earlier: Annotation) -> str:
    same = "the same video, range and annotator"
    both = f"{_quoted(earlier)} and {_quoted(annotation)}"
    if annotation.where == earlier.where:
        return f"{annotation.where}: of {same} it gives both {both}"
    if earlier.video != annotation.video:
        same += f" ({annotation.video!r} is the video of {earlier.video!r})"
    annotator = annotation.key.annotator
    by = f", {annotator!r:.100}," if annotator else ""
    if _quoted(annotation) == _quoted(earlier):
        both = f"{_quoted(annotation)} with another group, split or track"
    return f"{annotation.where}: {same}{by} as {earlier.where}: {both}"


def _quoted(annotation: Annotation) -> str:
    if annotation.said is None:
        return "that it is withdrawn"
    return "nothing" if annotation.said.label is None else f"{annotation.said.label!r:.100}"


def _why_nothing(reader: Reader) -> str:
    if reader.missing:
        return (
            f"none of its {len(reader.missing)} videos is known, such as"
            f" {min(reader.missing)!r:.200}; put them into a watched bucket and ingest them first:"
            " vidpipe run ingest"
        )
    left_out = ", ".join(f"{n} {what}" for what, n in reader.left_out.most_common(TOLD_SHOWN))
    return "there is no row in it" + (f" but what is not kept: {left_out}" if left_out else "")


def _place(fault: str) -> list[str | int]:
    """The place that a fault begins with, its numbers as numbers."""
    # A number of more digits is part of a name.
    parts = re.split(r"([0-9]{1,18})", fault.partition(": ")[0])
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]


def _listed(reader: Reader) -> list[str]:
    """The faults in the order of the file: contradictions are found after the lines were read."""
    more = reader.fault_count - len(reader.faults)
    return sorted(reader.faults, key=_place) + ([f"and {more} more"] if more > 0 else [])


def _refuse_faults(name: str, reader: Reader, *, skippable: bool = False) -> None:
    if not reader.fault_count:
        return
    lines = [
        f"{printable(name)}: nothing was imported, {reader.fault_count}"
        f" fault{'s' * (reader.fault_count > 1)}:",
        *(f"  {line}" for line in _listed(reader)),
    ]
    if reader.has_unknown_videos:
        lines.append(
            "Is a video not ingested yet? Put it into a watched bucket, then: vidpipe run ingest"
        )
    if skippable and not reader.is_unreadable:
        lines.append("Correct the file, or import the rest: --skip-faulty")
    raise BadInputError("\n".join(lines))
