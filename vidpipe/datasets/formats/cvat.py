"""CVAT's XML for video, version 1.1: tracks of boxes in pixels, of one task or of a project.

Of CVAT for images the tags are read, which that for video has not: one of the first frame is a
label of the whole video. Where all of them are as a model set them they are nobody's: CVAT does not
tell whether somebody looked.

Boxes move evenly between the frames that are given; a track ends with its last box, as CVAT writes
every frame. The XML comes from strangers: it is read piece by piece, and one with a document type,
which is where entities are made, is refused.
"""

from __future__ import annotations

import collections
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from vidpipe.datasets.annotations import Annotation, Statement
from vidpipe.datasets.formats.given import Given
from vidpipe.datasets.formats.keyframes import Keyframe, in_frames, runs
from vidpipe.datasets.formats.reading import SPLIT_WORDS, Reader, ToldError, integer, number
from vidpipe.datasets.formats.shape import (
    INSTANTS,
    NO_SIZE,
    Format,
    changed,
    frame_label,
    track_numbers,
    with_one_split,
)
from vidpipe.datasets.video_names import UnknownVideoError, VideoFacts, VideoNames

_MAX_BYTES = 128 * 1024 * 1024
_MAX_DEPTH = 100
_PIECE_BYTES = 1024 * 1024
_MAX_TAG_BYTES = 4 * _PIECE_BYTES  # each piece of a tag or comment is read anew with the next
_MAX_TEXT = 10_000  # of a word in `meta`
_SHAPES = ("polygon", "polyline", "points", "ellipse", "cuboid", "skeleton", "mask")
_TASK_FIELDS = ("id", "name", "subset", "source", "frame_filter")
_FRAME = "frame is a number, from 0 on"
_ROTATED = "boxes that are turned"
_DELETED = "boxes in frames that were deleted in CVAT"
_ATTRIBUTES = "attributes of boxes"
_ODD_LABEL = "labels with characters that XML cannot hold"
_LATER_TAGS = "tags of other frames than the first, which is where labels of the video are"
_UNTOUCHED_TAGS = "tags as a model set them (source auto), where nobody set or changed one"
_OF_IMAGES = "CVAT for images, which are read of CVAT for video 1.1"
_FOR_IMAGES = "this is CVAT for images; export it as CVAT for video 1.1"
_TWICE = "second boxes of one track in one frame"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VIDEO_ID = re.compile("[0-9a-f]{64}")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._()+-]*(?<! )")
_NO_SUBSET = "default"  # as CVAT calls it
_SUBSETS = {"train": "Train", "validation": "Validation", "test": "Test"}


@dataclass
class _Task:
    """What `meta` tells of a task.

    Attributes:
        deleted: Frames that somebody deleted; CVAT still writes the tracks through them.
        found: Its video's name and id, once that was looked for.
    """

    fields: dict[str, str] = field(default_factory=dict)
    size: dict[str, str] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    found: tuple[str, str] | None = None

    @property
    def step(self) -> int:
        """Of so many frames one was looked at."""
        match = re.fullmatch(r"step=([1-9][0-9]{0,5})", self.fields.get("frame_filter", ""))
        return int(match[1]) if match else 1


@dataclass
class _Track:
    """A track.

    Attributes:
        faults: How many faults there were before it.
    """

    where: str
    attributes: dict[str, str]
    faults: int
    keyframes: list[Keyframe] = field(default_factory=list)


def holds_xml(text: str) -> bool:
    """Whether XML can hold a text."""
    return not _NOT_XML.search(text)


def recognises(given: Given) -> bool:
    """By its ending."""
    return given.ends_in(".xml")


def read(given: Given, reader: Reader) -> None:
    """Reads boxes in frames, and tags of whole videos."""
    if given.is_folder:
        raise ValueError("CVAT's XML is one file")
    _Document(reader).read(given.content)


class _Document:
    """Reads a document piece by piece.

    Args:
        reader: What is added to.
    """

    def __init__(self, reader: Reader):
        self._reader = reader
        self._parser = expat.ParserCreate("utf-8")  # whatever it says of itself
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data
        self._path: list[str] = []
        self._text = ""
        self._tasks: list[_Task] = []
        self._task_by_id: dict[str, _Task] = {}
        self._source = ""
        self._track: _Track | None = None
        self._frame: dict[str, str] = {}
        self._tags: list[tuple[str, dict[str, str]]] = []  # of that frame: where, and attributes
        self._first_image = ""  # where it is
        self._has_tags = False

    def read(self, content: bytes) -> None:
        """Reads all of it.

        Raises:
            ValueError: It is no XML, or another document; says so in words.
        """
        if len(content) > _MAX_BYTES:
            raise ValueError(
                f"XML of more than {_MAX_BYTES >> 20} MiB is not read; export fewer tasks at once"
            )
        try:
            for begin in range(0, len(content), _PIECE_BYTES):
                self._reader.budget.check()
                self._parser.Parse(content[begin : begin + _PIECE_BYTES], False)
                if begin - self._parser.CurrentByteIndex > _MAX_TAG_BYTES:
                    raise ValueError(
                        f"{self._where}: a tag or comment of more than {_MAX_TAG_BYTES >> 20} MiB"
                        " is not read"
                    )
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise ValueError(
                f"line {error.lineno}: not XML: {expat.ErrorString(error.code)}"
            ) from error
        if self._first_image and not self._has_tags:
            self._reader.fault(f"{self._first_image}: {_FOR_IMAGES}")

    def _refuse(self, *_doctype: Any) -> None:
        raise ValueError(f"{self._where}: a document type (<!DOCTYPE) is refused; leave it out")

    @property
    def _where(self) -> str:
        return f"line {self._parser.CurrentLineNumber}"

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._reader.budget.check()
        if not self._path and name != "annotations":
            raise ValueError(
                f"{self._where}: CVAT for video 1.1 begins with <annotations>."
                f" Received: <{name:.50}>"
            )
        if len(self._path) > _MAX_DEPTH:
            raise ValueError(f"{self._where}: it is nested too deeply")
        self._path.append(name)
        self._text = ""
        match self._path[1:]:
            case ["meta", ("task" | "job")] | ["meta", "project", "tasks", "task"]:
                self._tasks.append(_Task())
            case ["track"]:
                self._track = _Track(self._where, attributes, self._reader.fault_count)
            case ["track", "box"]:
                with self._reader.at(self._where):
                    self._add_box(attributes)
            case ["track", shape] if shape in _SHAPES:
                self._reader.left_out[f"shapes that are no boxes ({shape})"] += 1
            case ["track", "box", "attribute"]:
                self._reader.left_out[_ATTRIBUTES] += 1
            case ["image"]:
                self._frame, self._tags = attributes, []
                self._first_image = self._first_image or self._where
            case ["image", "tag"]:
                self._has_tags = True
                self._tags.append((self._where, attributes))
            case ["image", shape] if shape in ("box", *_SHAPES):
                self._reader.left_out[f"shapes of {_OF_IMAGES} ({shape})"] += 1

    def _data(self, data: str) -> None:
        if self._path[1:2] == ["meta"] and len(self._text) < _MAX_TEXT:
            self._text += data

    def _end(self, name: str) -> None:
        path, text = self._path[1:], self._text.strip()
        self._path.pop()
        self._text = ""
        if path == ["meta", "source"]:
            self._source = text
        elif path[:1] == ["meta"] and len(path) > 2 and self._tasks:
            if text and path[-2] in ("task", "job") and path[-1] in _TASK_FIELDS:
                self._tasks[-1].fields[path[-1]] = text
                if path[-1] == "id":
                    self._task_by_id.setdefault(text, self._tasks[-1])
            elif path[-2] == "original_size":
                self._tasks[-1].size[path[-1]] = text
            elif path[-2:] == ["deleted_frames", "frame"]:
                with self._reader.at(self._where):
                    self._tasks[-1].deleted.add(integer(text, _FRAME))
        elif path == ["track"] and self._track is not None:
            with self._reader.at(self._track.where):
                self._add_track(self._track)
            self._track = None
        elif path == ["image"]:
            self._add_tags()

    def _add_box(self, attributes: Mapping[str, str]) -> None:
        if number(attributes.get("rotation", "0"), "rotation is a number of degrees"):
            self._reader.left_out[_ROTATED] += 1
            return
        frame = integer(attributes.get("frame"), _FRAME)
        left, top, right, bottom = (
            number(attributes.get(side), f"{side} is a number of pixels")
            for side in ("xtl", "ytl", "xbr", "ybr")
        )
        outside, occluded = (_flag(attributes, name) for name in ("outside", "occluded"))
        self._track.keyframes.append(
            Keyframe(
                self._where,
                frame,
                left,
                top,
                right - left,
                bottom - top,
                seen=not outside,
                goes_on=not outside,
                occluded=bool(occluded),
            )
        )

    def _add_tags(self) -> None:
        """Adds the tags of a frame, also those of a model that somebody left beside their own."""
        touched = any(attributes.get("source") != "auto" for _, attributes in self._tags)
        for where, attributes in self._tags:
            with self._reader.at(where):
                self._add_tag(where, attributes, touched=touched)

    def _add_tag(self, where: str, attributes: Mapping[str, str], *, touched: bool) -> None:
        if integer(self._frame.get("id"), "id is the number of a frame, from 0 on"):
            self._reader.left_out[_LATER_TAGS] += 1
            return
        video, video_id = self._video_of(self._frame)
        if not touched:
            self._reader.left_out[_UNTOUCHED_TAGS] += 1
            return
        said = Statement(attributes.get("label", ""))
        self._reader.add(where, video, video_id, said)

    def _add_track(self, track: _Track) -> None:
        if not track.keyframes or self._reader.fault_count > track.faults:
            raise ToldError  # between the others it would move wrongly
        task = self._task_of(track.attributes)
        video, video_id = self._video_of(track.attributes)
        reader, facts = self._reader, self._reader.clock(video, video_id)
        width, height = _size(task, facts)
        label = track.attributes.get("label", "")
        number_ = track.attributes.get("id")
        subset = track.attributes.get("subset") or task.fields.get("subset") or ""
        split = SPLIT_WORDS.get(subset.lower())
        if subset and split is None and subset.lower() != _NO_SUBSET:
            reader.left_out[f"subsets other than train, validation and test ({subset[:50]})"] += 1
        for keyframe in track.keyframes:
            if keyframe.seen and keyframe.frame > facts.last_frame:
                with reader.at(keyframe.where):
                    reader.time_of(video, video_id, keyframe.frame)
                raise ToldError
        in_deleted = sum(k.seen and k.frame in task.deleted for k in track.keyframes)
        if in_deleted:
            reader.left_out[_DELETED] += in_deleted
        for at in in_frames(track.keyframes, step=task.step, without=task.deleted):
            if at.frame > facts.last_frame:
                break  # on the way to a box that is outside of the picture
            with reader.at(at.where):
                box = reader.box(at.x / width, at.y / height, at.width / width, at.height / height)
                time_s = facts.time_of(at.frame)
                reader.add(
                    f"{at.where}, frame {at.frame}",
                    video,
                    video_id,
                    Statement(label, box, number_, at.occluded, split=split),
                    start_s=time_s,
                    end_s=time_s,
                )

    def _video_of(self, attributes: Mapping[str, str]) -> tuple[str, str]:
        """Name and id of the video that a track or a picture belongs to."""
        task = self._task_of(attributes)
        if task.found is None:
            task.found = self._find(task)
        return task.found

    def _task_of(self, attributes: Mapping[str, str]) -> _Task:
        task_id = attributes.get("task_id")
        if task_id is None:
            if len(self._tasks) > 1:
                raise ValueError("of several tasks, task_id tells which one a track belongs to")
            if not self._tasks:
                self._tasks.append(_Task())
            return self._tasks[0]
        if len(self._tasks) == 1:
            return self._tasks[0]
        if task_id in self._task_by_id:
            return self._task_by_id[task_id]
        raise ValueError(f"no task has the id {task_id[:50]!r}")

    def _find(self, task: _Task) -> tuple[str, str]:
        names = [
            task.fields.get("source") or (self._source if len(self._tasks) == 1 else ""),
            task.fields.get("name", ""),
        ]
        names = [name for name in names if name]
        find = self._reader.videos.find_path
        if self._reader.only_video is not None:
            name = names[0] if names else f"task {task.fields.get('id', '')}"
            return name, self._reader.find(name, find)
        if not names:
            raise ValueError(
                "nothing tells which video it is: meta has no source, and no name, as in the export"
                " of a job. Say which: --video, or export the task"
            )
        if _VIDEO_ID.fullmatch(names[-1]):
            # Tasks that vidpipe asks for are called so, wherever CVAT got the video from.
            return names[-1], self._reader.find(names[-1], self._reader.videos.find_id)
        for name in names:
            with contextlib.suppress(UnknownVideoError):
                return name, find(name)
        return names[0], self._reader.find(names[0], find)


def _flag(attributes: Mapping[str, str], name: str) -> bool:
    word = attributes.get(name, "0")
    if word not in ("0", "1"):
        raise ValueError(f"{name} is 0 or 1. Received: {word[:50]!r}")
    return word == "1"


def _size(task: _Task, facts: VideoFacts) -> tuple[float, float]:
    width, height = (
        number(task.size.get(name) or known, f"the {name} of the video is a number of pixels")
        for name, known in (("width", facts.width), ("height", facts.height))
    )
    if min(width, height) <= 0:
        raise ValueError("the size of the video is not known: meta has no original_size")
    return width, height


# === Writing ===


def hold(annotations: Sequence[Annotation], videos: VideoNames) -> list[Annotation | str]:
    """Boxes in frames; of tracks their number, and the split of each video."""
    numbers = track_numbers(annotations)
    taken: set[tuple] = set()
    held = [_held(annotation, videos, numbers, taken) for annotation in annotations]
    return with_one_split(held, lambda a: a.key.video_id)


def _held(
    annotation: Annotation, videos: VideoNames, numbers: dict, taken: set[tuple]
) -> Annotation | str:
    held = frame_label(annotation, videos)
    if isinstance(held, str):
        return held
    key, said = annotation.key, annotation.said
    if said.box is None:
        return INSTANTS
    facts = videos.videos[key.video_id]
    if min(facts.width, facts.height) <= 0:
        return NO_SIZE
    if _NOT_XML.search(said.label):
        return _ODD_LABEL
    track = None
    if said.track is not None:
        track = numbers[key.video_id, key.annotator, said.track]
        place = (key.video_id, track, said.label, held.key.start_s)
        if place in taken:
            return _TWICE
        taken.add(place)
    return changed(held, track=track, occluded=bool(said.occluded))


def write(annotations: Sequence[Annotation], videos: VideoNames) -> bytes:
    """The document of a task, or of a project where there are several videos."""
    video_ids = sorted({a.key.video_id for a in annotations})
    tasks = {video_id: number for number, video_id in enumerate(video_ids, 1)}
    subsets = {a.key.video_id: a.said.split for a in annotations}
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>"]
    labels = sorted({a.said.label for a in annotations})
    described = [
        _write_task(number, video_id, subsets[video_id], labels, videos)
        for video_id, number in tasks.items()
    ]
    if len(described) == 1:
        lines.append(f"<meta>{described[0]}</meta>")
    else:
        lines.append("<meta><project><tasks>")
        lines += described
        lines.append(f"</tasks>{_write_labels(labels)}</project></meta>")
    tracks: dict[tuple, list[Annotation]] = collections.defaultdict(list)
    for index, annotation in enumerate(annotations):
        said = annotation.said
        # A box that is of no track is one by itself.
        alone = index if said.track is None else None
        tracks[annotation.key.video_id, said.label, said.track, alone].append(annotation)
    for (video_id, label, track, _), boxes in tracks.items():
        attributes = {"id": track, "label": label, "source": "manual"}
        if len(tasks) > 1:
            attributes |= {"task_id": str(tasks[video_id]), "subset": _subset(subsets[video_id])}
        lines.append(_open("track", attributes))
        lines += _write_boxes(boxes, videos.videos[video_id])
        lines.append("</track>")
    lines.append("</annotations>")
    return "".join(f"{line}\n" for line in lines).encode()


def _write_task(
    number: int, video_id: str, split: str | None, labels: list[str], videos: VideoNames
) -> str:
    def finds(name: str) -> str:
        if not _PLAIN.fullmatch(name):
            raise ValueError
        return videos.find_path(name)

    facts = videos.videos[video_id]
    name = escape(videos.name_of(video_id, finds))
    return (
        f"<task><id>{number}</id><name>{name}</name><mode>interpolation</mode>"
        f"<subset>{_subset(split) or ''}</subset>{_write_labels(labels)}"
        f"<original_size><width>{facts.width}</width><height>{facts.height}</height>"
        f"</original_size><source>{name}</source></task>"
    )


def _write_labels(labels: list[str]) -> str:
    each = (f"<label><name>{escape(label)}</name></label>" for label in labels)
    return f"<labels>{''.join(each)}</labels>"


def _subset(split: str | None) -> str | None:
    return _SUBSETS[split] if split else None


def _write_boxes(boxes: list[Annotation], facts: VideoFacts) -> Iterator[str]:
    by_frame = {facts.frame_of(a.key.start_s): a.said for a in boxes}
    for frame, goes_on in runs(list(by_frame)):
        yield _write_box(frame, by_frame[frame], facts, outside=False)
        if not goes_on and frame < facts.last_frame:
            yield _write_box(frame + 1, by_frame[frame], facts, outside=True)


def _write_box(frame: int, said: Statement, facts: VideoFacts, *, outside: bool) -> str:
    box = said.box
    attributes = {
        "frame": str(frame),
        "keyframe": "1",
        "outside": str(int(outside)),
        "occluded": str(int(bool(said.occluded))),
        "xtl": repr(box.x * facts.width),
        "ytl": repr(box.y * facts.height),
        "xbr": repr((box.x + box.width) * facts.width),
        "ybr": repr((box.y + box.height) * facts.height),
        "z_order": "0",
    }
    return _open("box", attributes, closed=True)


def _open(name: str, attributes: Mapping[str, str | None], *, closed: bool = False) -> str:
    told = "".join(f" {k}={quoteattr(v)}" for k, v in attributes.items() if v is not None)
    return f"<{name}{told}{'/' if closed else ''}>"


FORMAT = Format(
    name="cvat",
    title="CVAT XML for video 1.1",
    files="a file `.xml` (or the ZIP that CVAT gives)",
    told_by="its ending `.xml`",
    loses="annotators, groups, names of tracks (they are numbered), whole videos and ranges, labels"
    " without a box, times between frames, all but one split of a video, and that there is nothing;"
    " what is not known to be occluded is not occluded",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
    endings=(".xml",),
)
