"""YOLO's folder: a text of boxes for each picture, and the names of the classes.

The picture of `labels/train/clip_000123.txt` is frame 123 of the video `clip`. The texts lie in a
folder `labels` (Ultralytics, Roboflow), in `obj_train_data` (CVAT's YOLO 1.1), or anywhere
(LabelImg).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from vidpipe.datasets.annotations import Annotation, Box, Statement
from vidpipe.datasets.formats.given import Given, decode, lines_of
from vidpipe.datasets.formats.pictures import (
    find_picture,
    has_number,
    names_for_pictures,
    picture_name,
)
from vidpipe.datasets.formats.reading import SPLIT_WORDS, Reader, ToldError, integer, number, whole
from vidpipe.datasets.formats.shape import (
    INSTANTS,
    Format,
    changed,
    frame_label,
    with_one_split,
    without_crowded_nothing,
)
from vidpipe.datasets.video_names import VideoNames

CLASSES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
_MAX_YAML_BYTES = 1024 * 1024
_MAX_CLASSES = 100_000
_MAX_NUMBER = 100  # characters of a whole number in YAML
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}
_CVAT_FOLDER = re.compile(r"obj_(.+)_data")
_BREAK = re.compile("[\x85\u2028\u2029]")
_OUTLINES = "outlines"
_POINTS = "points of boxes (pose), which keep their box"
_LINE = "a line is the number of a class, and x, y, width and height of the box's middle and size"
_HEAD_BYTES = 4096
_FILES_SHOWN = 20


@dataclass(frozen=True)
class _Classes:
    """What a folder tells of all of its texts.

    Attributes:
        labels: Label by number.
        point_numbers: How many numbers of points follow each box; 0: none.
    """

    labels: dict[int, str]
    point_numbers: int = 0


class _Loader(yaml.SafeLoader):
    """Refuses what makes a small file large."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: Any) -> int:
        """A number of 64 bits; see `require_small`. To read one takes the square of its digits."""
        number_ = super().construct_yaml_int(node) if len(node.value) <= _MAX_NUMBER else None
        if number_ is None or number_.bit_length() > 64:
            raise yaml.YAMLError("a number of many digits is not read")
        return number_


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def recognises(given: Given) -> bool:
    """By the names of the classes in it."""
    return given.is_folder and any(_name(path) in CLASSES for path in given.files)


def read(given: Given, reader: Reader) -> None:
    """Reads what is said of frames."""
    classes = _read_classes(given)
    texts = [path for path, content in given.files.items() if _is_text_of_boxes(path, content)]
    # CVAT calls the only subset train, whatever it is for.
    is_divided = len({folder for path in texts for folder in _cvat_folders(path)}) > 1
    for path in texts:
        with reader.at(path):
            split = _split(path, is_divided=is_divided)
            _read_picture(reader, path, given.files[path], classes, split)
    _tell_unread(given, texts, reader)


def _is_text_of_boxes(path: str, content: bytes) -> bool:
    """Whether a text is about a picture: by its folder, else by what is in it."""
    if not path.lower().endswith(".txt") or _name(path) in CLASSES:
        return False
    if "labels" in path.split("/")[:-1] or _cvat_folders(path):
        return True
    words = content[:_HEAD_BYTES].split(maxsplit=5)
    if not words:
        return has_number(path)
    return len(words) >= 5 and all(map(_is_number, words[:5]))


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _tell_unread(given: Given, texts: Iterable[str], reader: Reader) -> None:
    """Lists the files that are neither boxes nor names of classes."""
    read_ = {*texts, *(path for path in given.files if _name(path) in CLASSES)}
    unread = sorted(given.files.keys() - read_)
    for path in unread[:_FILES_SHOWN]:
        reader.left_out[f"file that holds no boxes: {path[:200]}"] += 1
    if (more := len(unread) - _FILES_SHOWN) > 0:
        reader.left_out["further files that hold no boxes"] += more


def _read_classes(given: Given) -> _Classes:
    found = sorted(
        (p for p in given.files if _name(p) in CLASSES),
        key=lambda p: (CLASSES.index(_name(p)), p.count("/"), p),
    )
    if not found:
        raise ValueError(f"the names of the classes are missing: {' or '.join(CLASSES)}")
    path, *others = found
    for other in others:
        if _name(other) == _name(path) and given.files[other] != given.files[path]:
            raise ValueError(f"{path} and {other} differ; import their folders one by one")
    try:
        if path.endswith((".yaml", ".yml")):
            return _read_yaml(given.files[path])
        # Not splitlines(): a label may hold any of the other separators that Unicode knows.
        text = decode(given.files[path]).rstrip("\r\n")
        if text.count("\n") >= _MAX_CLASSES:
            raise ValueError(f"more than {_MAX_CLASSES} classes are not read")
        names = text.split("\n")
        return _Classes({index: name.strip() for index, name in enumerate(names)})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_yaml(content: bytes) -> _Classes:
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
    labels: dict[int, str] = {}
    for index, name in names.items():
        index = whole(index)
        if not isinstance(index, int) or not isinstance(name, str | int | float):
            raise ValueError(f"names: a number and a text are needed. Received: {index!r:.50}")
        labels[int(index)] = str(name)
    return _Classes(labels, _point_numbers(document.get("kpt_shape")))


def _point_numbers(shape: Any) -> int:
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2:
        raise ValueError("kpt_shape must be a list of two numbers: points, and numbers of each")
    points, numbers = (integer(value, "kpt_shape is a list of two numbers") for value in shape)
    return points * numbers


def _cvat_folders(path: str) -> list[str]:
    return [f for f in path.split("/")[:-1] if _CVAT_FOLDER.fullmatch(f)]


def _split(path: str, *, is_divided: bool) -> str | None:
    """The split that the folders of a text tell: right below or above `labels`, or CVAT's."""
    folders = path.split("/")[:-1]
    words = [_CVAT_FOLDER.fullmatch(f)[1] for f in _cvat_folders(path) if is_divided]
    if "labels" in folders:
        at = folders.index("labels")
        words = [*folders[at + 1 : at + 2], *folders[max(at - 1, 0) : at]]
    return next((SPLIT_WORDS[w.lower()] for w in words if w.lower() in SPLIT_WORDS), None)


def _picture_path(path: str) -> str:
    """The path of a picture within its data set: what is below the folders of the layout."""
    *folders, name = path.split("/")
    if "labels" in folders:
        folders = folders[folders.index("labels") + 1 :]
        if folders and folders[0].lower() in SPLIT_WORDS:
            folders = folders[1:]
    folders = [folder for folder in folders if not _CVAT_FOLDER.fullmatch(folder)]
    return "/".join([*folders, name])


def _read_picture(
    reader: Reader, path: str, content: bytes, classes: _Classes, split: str | None
) -> None:
    video, video_id, time_s = find_picture(_picture_path(path), reader)
    told = False
    for line, words in lines_of(decode(content)):
        told = True
        where = f"{path}, line {line}"
        with reader.at(where):
            label, box = _read_line(reader, words.split(), classes)
            said = Statement(label, box, split=split)
            reader.add(where, video, video_id, said, start_s=time_s, end_s=time_s)
    if not told:
        said = Statement(None, split=split)
        reader.add(path, video, video_id, said, start_s=time_s, end_s=time_s)


def _read_line(reader: Reader, words: list[str], classes: _Classes) -> tuple[str, Box]:
    index, *numbers = words
    index = integer(index, _LINE)
    if index not in classes.labels:
        raise ValueError(f"there is no class {index}: there are {len(classes.labels)}")
    if classes.point_numbers and len(numbers) == 4 + classes.point_numbers:
        reader.left_out[_POINTS] += 1
        numbers = numbers[:4]
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        reader.left_out[_OUTLINES] += 1
        raise ToldError
    if len(numbers) == 5:
        raise ValueError(
            f"{_LINE}. Received: 6 numbers; a sixth is the confidence of a prediction, which is no"
            " annotation"
        )
    if len(numbers) != 4:
        hint = "" if len(numbers) < 4 else "; for points, data.yaml needs kpt_shape"
        raise ValueError(f"{_LINE}. Received: {len(words)} numbers{hint}")
    x, y, width, height = (number(word, _LINE) for word in numbers)
    return classes.labels[index], reader.box(x - width / 2, y - height / 2, width, height)


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
    numbers = {label: number for number, label in enumerate(labels)}
    texts: dict[str, list[str]] = {}
    for annotation in annotations:
        key, said = annotation.key, annotation.said
        frame = videos.videos[key.video_id].frame_of(key.start_s)
        folder = f"labels/{_FOLDERS[said.split]}" if said.split else "labels"
        lines = texts.setdefault(f"{folder}/{picture_name(key.video_id, frame, names)}.txt", [])
        if said.box is not None:
            lines.append(_written(numbers[said.label], said.box))
    splits = {a.said.split for a in annotations} - {None}
    described = {
        "path": ".",
        **{name: f"images/{name}" for s, name in _FOLDERS.items() if s in splits or s != "test"},
        "names": dict(enumerate(labels)),
    }
    # PyYAML writes the line breaks of Unicode as they are, and reads them as spaces.
    is_plain = not any(_BREAK.search(label) for label in labels)
    data = yaml.safe_dump(described, allow_unicode=is_plain, sort_keys=False)
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
    files="a folder (or ZIP) of `data.yaml`, `classes.txt` or `obj.names`, and a text for each"
    " picture, in `labels`, `obj_train_data` or anywhere",
    told_by="`data.yaml`, `classes.txt` or `obj.names` in it",
    loses="annotators, tracks, occlusion, groups, whole videos and ranges, labels without a box,"
    " times between frames, all but one split of a frame, and that there is nothing in a frame in"
    " which somebody else saw something",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
    in_folder=True,
    numbers_frames=True,
)
