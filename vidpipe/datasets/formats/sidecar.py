"""The sidecar: what a format cannot hold, beside a file of it.

It lists what the file says in the words of the format (`as`), and what of it was said otherwise in
truth (`is`); and what has no place in the file at all (`also`). Where a row of the file says
something else by now, or is gone, the file holds, and the entry in the sidecar does not. Written by
hand, it can tell of which frame of which video a picture is that is called otherwise.

    {"format": "coco", "several": false,
     "rows": [{"as": {"video": …, "label": …}, "is": [{"annotator": …}]}],
     "also": [{"video": …, "label": …}],
     "pictures": {"img_0007.jpg": {"video": "clip.mp4", "frame": 7}}}
"""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vidpipe.datasets.annotations import Annotation, Key, Statement
from vidpipe.datasets.formats import NAMES
from vidpipe.datasets.formats.given import Given, read_json
from vidpipe.datasets.formats.pictures import without_ending
from vidpipe.datasets.formats.reading import Reader, WrongError, integer
from vidpipe.datasets.formats.rows import read_row, write_row
from vidpipe.datasets.formats.shape import member, objects
from vidpipe.datasets.video_names import VideoNames
from vidpipe.errors import BadInputError

MAX_SIDECAR_BYTES = 128 * 1024 * 1024
_NO_ROW: Mapping[str, Any] = {}
_MEMBERS = {"format", "several", "rows", "also", "pictures"}
_UNFIT = "entries of the sidecar that fit nothing in the file, which was changed since"


def write_sidecar(
    name: str,
    annotations: Sequence[Annotation],
    held: Sequence[Annotation | str],
    videos: VideoNames,
    *,
    several: bool,
) -> bytes | None:
    """What a file does not tell.

    Args:
        name: The format.
        annotations: What is to be kept.
        held: What the file tells of each.
        videos: The videos.
        several: Whether a video may have several labels at once.

    Returns:
        The sidecar, or None where the file tells all.
    """
    names: dict[str, str] = {}

    def row(annotation: Annotation) -> dict[str, Any]:
        video_id = annotation.key.video_id
        if video_id not in names:
            names[video_id] = _video(video_id, videos)
        return write_row(annotation, names[video_id])

    as_held: dict[tuple[Key, Statement], list[Annotation]] = collections.defaultdict(list)
    also = []
    for annotation, of in zip(annotations, held, strict=True):
        if isinstance(of, Annotation):
            as_held[of.key, of.said].append(annotation)
        else:
            also.append(row(annotation))
    rows = []
    for (key, said), truths in as_held.items():
        if [(t.key, t.said) for t in truths] != [(key, said)]:
            of_file = row(replace(truths[0], key=key, said=said))
            rows.append({"as": of_file, "is": [_otherwise(of_file, row(t)) for t in truths]})
    if not rows and not also and not several:
        return None
    document = {"format": name, "several": several, "rows": rows, "also": also}
    sidecar = json.dumps(document, ensure_ascii=False).encode()
    if len(sidecar) > MAX_SIDECAR_BYTES:
        raise BadInputError(
            f"What {name} cannot hold of {len(annotations)} annotations makes a sidecar of more"
            f" than {MAX_SIDECAR_BYTES >> 20} MiB, which would not be read. Export them as jsonl,"
            " or those of one annotator."
        )
    return sidecar


def _by_stem(pictures: Mapping[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """Pictures by their names without ending, as the texts of YOLO are called."""
    stems: dict[str, set[tuple[str, int]]] = collections.defaultdict(set)
    for name, picture in pictures.items():
        stems[without_ending(name)].add(picture)
    return {
        stem: next(iter(found))
        for stem, found in stems.items()
        if len(found) == 1 and stem not in pictures
    }


def _otherwise(row: dict[str, Any], truth: dict[str, Any]) -> dict[str, Any]:
    """What is to be changed in a row."""
    return {n: truth.get(n) for n in row | truth if row.get(n) != truth.get(n)}


def _video(video_id: str, videos: VideoNames) -> str:
    uri = videos.uri_of(video_id)
    try:
        return uri if videos.find(uri) == video_id else video_id
    except ValueError:
        return video_id


def has_sidecar_members(document: Any) -> bool:
    """Whether a JSON document is a sidecar, as far as its members tell."""
    return isinstance(document, dict) and set(document) <= _MEMBERS


class Sidecar:
    """The sidecar of a file.

    Args:
        given: The file; it has one.
        reader: Faults are told to it, and what pictures show.

    Attributes:
        format: The format that it is written for; "" where it tells none.
    """

    def __init__(self, given: Given, reader: Reader):
        self._name = given.sidecar_name
        self._document: dict[str, Any] = {}
        self._read: dict[str, Reader] = {}
        self.format = ""
        with reader.at(self._name):
            document = read_json(given.sidecar, MAX_SIDECAR_BYTES)
            if not has_sidecar_members(document):
                raise ValueError(f"it is an object with: {', '.join(sorted(_MEMBERS))}")
            self.format = member({"format": "", **document}, "format", str, "a text")
            if self.format and self.format not in NAMES:
                raise WrongError(f"there is no format {self.format!r:.50}", ".format")
            reader.several = document.get("several") is True
            self._document = document
        for name, picture in self._pictures(reader):
            where = f"{self._name}: pictures[{json.dumps(name[:200])}]"
            with reader.at(where):
                if not isinstance(picture, dict):
                    raise ValueError("video and frame are needed")
                frame = integer(picture.get("frame"), "frame is a number, from 0 on")
                reader.pictures[name] = (member(picture, "video", str, "a text"), frame)
        reader.pictures |= _by_stem(reader.pictures)

    def _pictures(self, reader: Reader) -> list[tuple[str, Any]]:
        pictures = self._document.get("pictures") or {}
        if isinstance(pictures, dict):
            return list(pictures.items())
        reader.fault(f"{self._name}: pictures: an object is needed")
        return []

    def complete(self, reader: Reader) -> None:
        """Puts what was said in truth in the place of what the file tells."""
        truths: dict[tuple[Key, Statement | None], list[Annotation]] = {}
        for place, entry in objects(reader, self._document, "rows"):
            where = f"{self._name}: {place}"
            if not entry.get("is"):
                reader.fault(f"{where}.is: one row or more is needed")
            of_file = entry.get("as")
            (held,) = self._rows(reader, {"as": [of_file]}, "as", where) or [None]
            if held is not None:
                truth = self._rows(reader, entry, "is", where, of_file)
                truths[held.key, held.said] = truth
        also = self._rows(reader, self._document, "also", self._name)
        annotations: list[Annotation] = []
        used = set()
        for annotation in reader.annotations:
            said = (annotation.key, annotation.said)
            if said in truths:
                annotations += truths[said] if said not in used else []
                used.add(said)
            else:
                annotations.append(annotation)
        if len(used) < len(truths):
            reader.left_out[_UNFIT] += len(truths) - len(used)
        reader.annotations = annotations
        reader.require_room(len(also))
        reader.annotations += also

    def _rows(
        self,
        reader: Reader,
        of: dict[str, Any],
        name: str,
        where: str,
        like: Mapping[str, Any] = _NO_ROW,
    ) -> list[Annotation]:
        """Rows of the sidecar, apart from those of the file; what is not told is as in `like`."""
        file, reader.annotations = reader.annotations, []
        for place, row in objects(reader, of, name, where):
            with reader.at(place):
                read_row(reader, place, {**like, **row}, may_be_null=True, frame_wise=True)
        found, reader.annotations = reader.annotations, file
        return found
