"""What a format is: how it is told, read and written, and what it cannot hold.

Writing is done in two steps. `hold` says of each annotation what is left of it in this format;
`write` writes that. Reading what was written gives what `hold` said, so that the difference to the
annotations is what the format loses, and what the sidecar keeps (`sidecar.py`).
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vidpipe.datasets.annotations import Annotation, Key
from vidpipe.datasets.formats.given import Given
from vidpipe.datasets.formats.reading import Reader, WrongError, whole
from vidpipe.datasets.video_names import VideoNames

# Why an annotation has no place in a format.
NOTHING = "that somebody looked, and there is nothing"
WHOLE = "labels of whole videos"
RANGES = "labels of ranges"
INSTANTS = "labels of single frames"
BOXES = "boxes"
BOX_RANGES = "boxes that are not in a single frame"
NO_RATE = "what is said of frames of videos whose frame rate is not known"
NO_SIZE = "boxes in videos whose size in pixels is not known"

_ID = "a number or a text"
_BEST_SPLIT = ("test", "validation", "train", None)


@dataclass(frozen=True)
class Format:
    """A format of annotations.

    Attributes:
        name: A word for it.
        title: What people call it.
        files: What it consists of, in words.
        told_by: How it is recognised, in words.
        loses: What it cannot hold, in words; "" for what only vidpipe writes.
        recognises: Whether a file or folder is of this format.
        read: Reads it. A ValueError is a fault of the whole.
        hold: What is left of each annotation, or why nothing is, in words.
        write: What was held, as a file, or as the files of a folder.
        in_folder: Whether it is a folder.
        endings: Endings of file names that no other format has when it is written.
        numbers_frames: Whether the file's own frame numbers may count from 1.
        contradiction: What to do where one annotator gives two labels of the same.
    """

    name: str
    title: str
    files: str
    told_by: str
    loses: str
    recognises: Callable[[Given], bool]
    read: Callable[[Given, Reader], None]
    hold: Callable[[Sequence[Annotation], VideoNames], list[Annotation | str]]
    write: Callable[[Sequence[Annotation], VideoNames], bytes | Mapping[str, bytes]]
    in_folder: bool = False
    endings: tuple[str, ...] = ()
    numbers_frames: bool = False
    contradiction: str = "keep one of the two"


def changed(annotation: Annotation, **values: Any) -> Annotation:
    """An annotation with other values of its key and of what is said."""
    of_key = {name: values.pop(name) for name in Key._fields if name in values}
    return replace(
        annotation,
        key=annotation.key._replace(**of_key),
        said=annotation.said._replace(**values) if values else annotation.said,
    )


def with_one_split(
    held: Iterable[Annotation | str], unit: Callable[[Annotation], Any]
) -> list[Annotation | str]:
    """Gives all of one unit the same split, where a format has one for it.

    What is a test video for somebody is one for all.
    """
    held = list(held)
    splits: dict[Any, set[str | None]] = collections.defaultdict(set)
    for annotation in held:
        if isinstance(annotation, Annotation):
            splits[unit(annotation)].add(annotation.said.split)
    best = {of: min(found, key=_BEST_SPLIT.index) for of, found in splits.items()}
    return [changed(a, split=best[unit(a)]) if isinstance(a, Annotation) else a for a in held]


def without_crowded_nothing(
    held: Iterable[Annotation | str], unit: Callable[[Annotation], Any]
) -> list[Annotation | str]:
    """Drops "nothing" of those units of which something is said, by somebody else."""
    held = list(held)
    taken = {unit(a) for a in held if isinstance(a, Annotation) and a.said.label is not None}
    return [
        NOTHING if isinstance(a, Annotation) and a.said.label is None and unit(a) in taken else a
        for a in held
    ]


def video_label(annotation: Annotation) -> Annotation | str:
    """A label of a video or a range as formats have it that know nothing else."""
    if annotation.said.box is not None:
        return BOXES
    if annotation.key.is_instant:
        return INSTANTS
    return changed(annotation, annotator="", track=None, occluded=None, group=None)


def frame_label(annotation: Annotation, videos: VideoNames) -> Annotation | str:
    """What is said of a frame as formats have it that count frames."""
    key = annotation.key
    if key.start_s is None:
        return WHOLE if annotation.said.label is not None else NOTHING
    if not key.is_instant:
        if annotation.said.label is None:
            return NOTHING
        return RANGES if annotation.said.box is None else BOX_RANGES
    facts = videos.videos[key.video_id]
    if facts.fps is None:
        return NO_RATE
    time_s = facts.time_of(facts.frame_of(key.start_s))
    return changed(annotation, start_s=time_s, end_s=time_s, annotator="", group=None)


def track_numbers(annotations: Iterable[Annotation]) -> dict[tuple[str, str, str], str]:
    """Numbers tracks, as formats have them, by video, annotator and track.

    A track that is a number keeps it, unless another annotator's has it.
    """
    tracks = {
        (a.key.video_id, a.key.annotator, a.said.track)
        for a in annotations
        if a.said.track is not None
    }
    numbers: dict[tuple[str, str, str], str] = {}
    taken: set[tuple[str, str]] = set()
    free: dict[str, int] = collections.defaultdict(lambda: 1)  # of each video: none below is
    for track in sorted(tracks, key=lambda t: (not _is_number(t[2]), t)):
        number = track[2]
        if not _is_number(number) or (track[0], number) in taken:
            while (track[0], str(free[track[0]])) in taken:
                free[track[0]] += 1
            number = str(free[track[0]])
        numbers[track] = number
        taken.add((track[0], number))
    return numbers


def _is_number(track: str) -> bool:
    return track.isascii() and track.isdecimal() and len(track) < 10 and str(int(track)) == track


def document_of(given: Given, kind: type, what: str) -> Any:
    """The JSON document of a file.

    Raises:
        ValueError: It is none, or of another kind.
    """
    document = given.document
    if isinstance(document, ValueError):
        raise document
    if not isinstance(document, kind):
        raise ValueError(f"this is no {what}")
    return document


def member(of: Mapping[str, Any], name: str, kind: Any, what: str) -> Any:
    """A member of a JSON object.

    Raises:
        WrongError: It is missing, or of another kind.
    """
    value = of.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        received = "nothing" if name not in of else type(value).__name__
        raise WrongError(f"{what} is needed. Received: {received}", f".{name}")
    return value


def identifier(of: Mapping[str, Any], name: str) -> int | str:
    """A member of a JSON object that is a number or a text; 1.0 is 1.

    Raises:
        WrongError: It is missing, or of another kind.
    """
    value = member({name: whole(of[name])} if name in of else of, name, int | str, _ID)
    return require_small(value, name)


def require_small(value: int | str, name: str) -> int | str:
    """Returns an identifier, unless it is a number of more than 64 bits.

    Of larger ones as many as one likes have the same hash, so that to look them up is slow.

    Raises:
        WrongError: It is.
    """
    if isinstance(value, int) and value.bit_length() > 64:
        raise WrongError(f"{_ID} is needed. Received: a number of many digits", f".{name}")
    return value


def objects(
    reader: Reader, of: Mapping[str, Any], name: str, path: str = ""
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yields place and value of each object in a list of a JSON object; others are faults."""
    values = of.get(name) or []
    where = f"{path}.{name}" if path else name
    if not isinstance(values, list):
        reader.fault(f"{where}: a list is needed. Received: {type(values).__name__}")
        return
    for index, value in enumerate(values):
        if isinstance(value, dict):
            yield f"{where}[{index}]", value
        else:
            reader.fault(f"{where}[{index}]: an object is needed. Received: {type(value).__name__}")
