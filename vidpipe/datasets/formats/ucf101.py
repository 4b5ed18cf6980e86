"""The lists of UCF101: `classInd.txt`, `trainlist01.txt`, `testlist01.txt`.

Of the names `v_Archery_g01_c01` the group is told: what was filmed together.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence, Set

from vidpipe.datasets.annotations import Annotation, Statement
from vidpipe.datasets.formats.given import Given, decode, lines_of
from vidpipe.datasets.formats.reading import Reader
from vidpipe.datasets.formats.shape import (
    NOTHING,
    RANGES,
    Format,
    changed,
    video_label,
    with_one_split,
)
from vidpipe.datasets.video_names import VideoNames, composed

_LIST = re.compile(r"(train|test)list([0-9]*)\.txt")
_CLASSES = "classInd.txt"
_GROUP = re.compile(r"v_(.+_g[0-9]+)_c[0-9]+(\.[^.]+)?")
_WORD = re.compile(r"(?!\ufeff)[^\s/\\]+")  # a list that began with that mark would lose it
_PLAIN = re.compile(r"[^\s/\\]+")
_ODD_LABEL = "labels with spaces or slashes"


def recognises(given: Given) -> bool:
    """By the names of its files."""
    return any(_LIST.fullmatch(_name(path)) for path in given.files)


def read(given: Given, reader: Reader) -> None:
    """Reads labels of whole videos."""
    lists = {path: match for path in given.files if (match := _LIST.fullmatch(_name(path)))}
    folds = sorted({match[2] for match in lists.values()})
    if len(folds) > 1:
        raise ValueError(
            f"there are lists of {len(folds)} splits ({', '.join(folds)}), and a video has one:"
            " leave those of one"
        )
    if not lists:
        raise ValueError("there is no trainlist01.txt or testlist01.txt in it")
    classes = _read_classes(given, reader)
    listed = [
        (_where(given, path, line), *_listed(words), match[1])
        for path, match in lists.items()
        for line, words in _lines(given, path, reader)
    ]
    folders = {folder for _, path, _, _ in listed for folder in _parts(path)[-2:-1]}
    # Where classes number their videos, 001.avi is a name in each.
    apart = frozenset(map(composed, (*classes.values(), *folders)))
    find = functools.partial(reader.videos.find_path, apart=apart)
    for where, path, number, split in listed:
        with reader.at(where):
            label = _label(path, number, classes)
            parts = _parts(path)
            video_id = reader.find_listed(path if len(parts) > 1 else f"{label}/{path}", find)
            said = Statement(label, group=_group(parts[-1]), split=split)
            reader.add(where, path, video_id, said)


def _read_classes(given: Given, reader: Reader) -> dict[str, str]:
    classes: dict[str, str] = {}
    for path in given.files:
        if _name(path).lower() == _CLASSES.lower():
            for line, words in _lines(given, path, reader):
                number, _, label = words.partition(" ")
                if not number.isdecimal() or not _WORD.fullmatch(label.strip()):
                    reader.fault(
                        f"{_where(given, path, line)}: a line is a number and a class, such as"
                        f" 1 Archery. Received: {words[:100]!r}"
                    )
                    continue
                classes[number] = label.strip()
    return classes


def _lines(given: Given, path: str, reader: Reader) -> Iterator[tuple[int, str]]:
    try:
        text = decode(given.files[path])
    except ValueError as error:
        reader.fault(f"{path}: {error}" if given.is_folder else str(error))
        return
    for number, line in lines_of(text):
        reader.budget.check()
        yield number, line.strip()


def _where(given: Given, path: str, line: int) -> str:
    return f"{_name(path)}, line {line}" if given.is_folder else f"line {line}"


def _listed(words: str) -> tuple[str, str]:
    """The path and the number of the class, "" where there is none, of a line."""
    path, _, number = words.rpartition(" ")
    path = path.strip()
    if not path or not number.isdecimal():
        path, number = words, ""
    return path, number


def _parts(path: str) -> list[str]:
    return path.replace("\\", "/").split("/")


def _label(path: str, number: str, classes: dict[str, str]) -> str:
    parts = _parts(path)
    label = classes.get(number)
    if number and classes and label is None:
        raise ValueError(f"there is no class {number} in {_CLASSES}")
    if len(parts) > 1:
        if label not in (None, parts[-2]):
            raise ValueError(f"class {number} is {label}, but the folder is {parts[-2]!r}")
        label = parts[-2]
    if label is None:
        raise ValueError(
            f"nothing tells the class of {path[:200]!r}: put it into a folder of that name, or give"
            f" its number, and {_CLASSES} beside the list"
        )
    return label


def _group(name: str) -> str | None:
    match = _GROUP.fullmatch(name)
    return match[1] if match else None


def hold(annotations: Sequence[Annotation], videos: VideoNames) -> list[Annotation | str]:
    """Labels of whole videos, which are for training or for testing."""
    held = with_one_split(map(_held, annotations), lambda a: a.key.video_id)
    labels = frozenset(composed(a.said.label) for a in held if isinstance(a, Annotation))
    return [
        changed(
            a,
            split="test" if a.said.split == "test" else "train",
            group=_group(_name(_written(a.key.video_id, a.said.label, labels, videos))),
        )
        if isinstance(a, Annotation)
        else a
        for a in held
    ]


def _held(annotation: Annotation) -> Annotation | str:
    if annotation.said.label is None:
        return NOTHING
    held = video_label(annotation)
    if isinstance(held, str):
        return held
    if held.key.start_s is not None:
        return RANGES
    return held if _WORD.fullmatch(held.said.label) else _ODD_LABEL


def write(annotations: Sequence[Annotation], videos: VideoNames) -> dict[str, bytes]:
    """The classes and the two lists."""
    labels = sorted({a.said.label for a in annotations})
    numbers = {label: number for number, label in enumerate(labels, 1)}
    folders = frozenset(map(composed, labels))
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for annotation in annotations:
        label = annotation.said.label
        line = _written(annotation.key.video_id, label, folders, videos)
        if annotation.said.split == "train":
            line += f" {numbers[label]}"
        lists[annotation.said.split].append(line)
    classes = [f"{number} {label}" for label, number in numbers.items()]
    files = {_CLASSES: classes, **{f"{name}list01.txt": lines for name, lines in lists.items()}}
    return {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in files.items()}


def _written(video_id: str, label: str, folders: Set[str], videos: VideoNames) -> str:
    def finds(name: str) -> str:
        if not _PLAIN.fullmatch(name):
            raise ValueError
        return videos.find_path(f"{label}/{name}", folders)

    uri = videos.uri_of(video_id)
    name = uri.rpartition("/")[2]
    try:
        if finds(name) == video_id:
            return f"{label}/{name}"  # as they are there: with their ending
    except ValueError:
        pass
    return f"{label}/{videos.name_of(video_id, finds)}"


def _name(path: str) -> str:
    return path.rpartition("/")[2]


FORMAT = Format(
    name="ucf101",
    title="UCF101 lists",
    files="a folder (or ZIP) of `classInd.txt`, `trainlist01.txt` and `testlist01.txt`, or a list",
    told_by="these names",
    loses="annotators, ranges, boxes, tracks, occlusion, groups but of `v_Archery_g01_c01`,"
    " validation (it becomes train), labels with spaces or slashes, and that there is nothing",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
    in_folder=True,
)
