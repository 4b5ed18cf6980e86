"""YOLO's folder: a text of boxes for each picture, and the names of the classes.

The picture of `labels/train/clip_000123.txt` is frame 123 of the video `clip`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from vidpipe.datasets.annotations import Annotation, Box, Statement
from vidpipe.datasets.formats.given import Given, decode
from vidpipe.datasets.formats.pictures import find_frame, names_for_pictures, picture_name
from vidpipe.datasets.formats.reading import SPLIT_WORDS, Reader, ToldError, number
from vidpipe.datasets.formats.shape import (
    INSTANTS,
    Format,
    changed,
    frame_label,
    with_one_split,
    without_crowded_nothing,
)
from vidpipe.datasets.video_names import VideoNames

_CLASSES = ("data.yaml", "data.yml", "classes.txt")
_MAX_YAML_BYTES = 1024 * 1024
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_OUTLINES = "outlines"
_LINE = "a line is the number of a class, and x, y, width and height of the box's middle and size"


class _Loader(yaml.SafeLoader):
    """Refuses what makes a small file large."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def recognises(given: Given) -> bool:
    """By the names of the classes in it."""
    return given.is_folder and any(_name(path) in _CLASSES for path in given.files)


def read(given: Given, reader: Reader) -> None:
    """Reads what is said of frames."""
    labels = _read_classes(given)
    for path, content in given.files.items():
        parts = path.split("/")
        if not path.lower().endswith(".txt") or "labels" not in parts[:-1]:
            continue
        with reader.at(path):
            _read_picture(reader, path, parts, content, labels)


def _read_classes(given: Given) -> dict[int, str]:
    path = min(
        (p for p in given.files if _name(p) in _CLASSES),
        key=lambda p: (_CLASSES.index(_name(p)), p.count("/"), p),
        default=None,
    )
    if path is None:
        raise ValueError(f"the names of the classes are missing: {' or '.join(_CLASSES)}")
    content = given.files[path]
    try:
        if path.endswith(".txt"):
            # Not splitlines(): a label may hold any of the other separators that Unicode knows.
            names = decode(content).rstrip("\r\n").split("\n")
            return {number: name.strip() for number, name in enumerate(names)}
        return _read_yaml(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_yaml(content: bytes) -> dict[int, str]:
    if len(content) > _MAX_YAML_BYTES:
        raise ValueError(f"it is larger than {_MAX_YAML_BYTES >> 20} MiB")
    try:
        document = yaml.load(decode(content), _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        why = getattr(error, "problem", None) or str(error)
        raise ValueError(f"{line}not YAML: {why}") from error
    except (RecursionError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not YAML that can be read ({type(error).__name__})") from error
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        raise ValueError("names must be a list of classes, or number and class of each")
    for index, name in names.items():
        if not isinstance(index, int) or not isinstance(name, str | int | float):
            raise ValueError(f"names: a number and a text are needed. Received: {index!r:.50}")
    return {int(index): str(name) for index, name in names.items()}


def _read_picture(
    reader: Reader, path: str, parts: list[str], content: bytes, labels: dict[int, str]
) -> None:
    at = parts.index("labels")
    below, split = parts[at + 1 :], None
    if len(below) > 1 and below[0].lower() in SPLIT_WORDS:
        split = SPLIT_WORDS[below.pop(0).lower()]
    elif at and parts[at - 1].lower() in SPLIT_WORDS:
        split = SPLIT_WORDS[parts[at - 1].lower()]
    video, video_id, frame = find_frame("/".join(below), reader)
    time_s = reader.time_of(video, video_id, frame)
    told = False
    for line, words in enumerate(decode(content).split("\n"), 1):
        if not words.strip():
            continue
        told = True
        where = f"{path}, line {line}"
        with reader.at(where):
            label, box = _read_line(reader, words.split(), labels)
            said = Statement(label, box, split=split)
            reader.add(where, video, video_id, said, start_s=time_s, end_s=time_s)
    if not told:
        said = Statement(None, split=split)
        reader.add(path, video, video_id, said, start_s=time_s, end_s=time_s)


def _read_line(reader: Reader, words: list[str], labels: dict[int, str]) -> tuple[str, Box]:
    index, *numbers = words
    if not re.fullmatch(r"[0-9]{1,9}", index):
        raise ValueError(f"{_LINE}. Received: {index[:50]!r}")
    if int(index) not in labels:
        raise ValueError(f"there is no class {index}: there are {len(labels)}")
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        reader.left_out[_OUTLINES] += 1
        raise ToldError
    if len(numbers) != 4:
        raise ValueError(f"{_LINE}. Received: {len(words)} numbers")
    x, y, width, height = (number(word, _LINE) for word in numbers)
    return labels[int(index)], reader.box(x - width / 2, y - height / 2, width, height)


def hold(annotations: Sequence[Annotation], videos: VideoNames) -> list[Annotation | str]:
    """Boxes in frames, and the split of each frame."""
    held = [_held(annotation, videos) for annotation in annotations]
    return with_one_split(without_crowded_nothing(held, lambda a: a.key), lambda a: a.key)


def _held(annotation: Annotation, videos: VideoNames) -> Annotation | str:
    held = frame_label(annotation, videos)
    if isinstance(held, str):
        return held
    if held.said.label is not None and held.said.box is None:
        return INSTANTS
    return changed(held, track=None, occluded=None)


def write(annotations: Sequence[Annotation], videos: VideoNames) -> dict[str, bytes]:
    """`data.yaml`, and a text for each picture."""
    names = names_for_pictures({a.key.video_id for a in annotations}, videos)
    labels = sorted({a.said.label for a in annotations if a.said.label is not None})
    texts: dict[str, list[str]] = {}
    for annotation in annotations:
        key, said = annotation.key, annotation.said
        frame = videos.videos[key.video_id].frame_of(key.start_s)
        folder = f"labels/{_FOLDERS[said.split]}" if said.split else "labels"
        lines = texts.setdefault(f"{folder}/{picture_name(key.video_id, frame, names)}.txt", [])
        if said.box is not None:
            lines.append(_written(labels.index(said.label), said.box))
    splits = {a.said.split for a in annotations} - {None}
    described = {
        "path": ".",
        **{name: f"images/{name}" for s, name in _FOLDERS.items() if s in splits or s != "test"},
        "names": dict(enumerate(labels)),
    }
    data = yaml.safe_dump(described, allow_unicode=True, sort_keys=False)
    return {
        "data.yaml": data.encode(),
        **{path: "".join(f"{line}\n" for line in lines).encode() for path, lines in texts.items()},
    }


def _written(index: int, box: Box) -> str:
    middle = (box.x + box.width / 2, box.y + box.height / 2)
    return " ".join([str(index), *(f"{value:.9g}" for value in (*middle, box.width, box.height))])


def _name(path: str) -> str:
    return path.rpartition("/")[2]


FORMAT = Format(
    name="yolo",
    title="YOLO folder",
    files="a folder (or ZIP) of `data.yaml` or `classes.txt`, and `labels/…/*.txt`",
    told_by="`data.yaml` or `classes.txt` in it",
    loses="annotators, tracks, occlusion, groups, whole videos and ranges, labels without a box,"
    " times between frames, all but one split of a frame, and that there is nothing in a frame in"
    " which somebody else saw something",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
    in_folder=True,
)
