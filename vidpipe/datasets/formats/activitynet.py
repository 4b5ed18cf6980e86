"""ActivityNet's JSON: of each video its subset, and segments with labels."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from vidpipe.datasets.annotations import Annotation, Statement
from vidpipe.datasets.formats.given import Given
from vidpipe.datasets.formats.kinetics import as_whole
from vidpipe.datasets.formats.reading import Reader, WrongError, number, split_of
from vidpipe.datasets.formats.shape import (
    NOTHING,
    Format,
    changed,
    document_of,
    member,
    objects,
    video_label,
    with_one_split,
    without_crowded_nothing,
)
from vidpipe.datasets.video_names import UnknownVideoError, VideoNames

_SUBSETS = {"train": "training", "validation": "validation", "test": "testing"}
_WITHHELD = "test videos whose segments are not given"
_SEGMENT = "a segment is a list of two numbers of seconds"
_YOUTUBE = re.compile(r"v_([A-Za-z0-9_-]{11})")


def recognises(given: Given) -> bool:
    """By its member `database`."""
    return isinstance(given.document, dict) and isinstance(given.document.get("database"), dict)


def read(given: Given, reader: Reader) -> None:
    """Reads labels of videos and of their ranges."""
    document = document_of(given, dict, "ActivityNet JSON")
    finds = functools.partial(_find, reader.videos)
    for name, video in member(document, "database", dict, "an object of videos").items():
        where = f"database[{json.dumps(name[:200])}]"
        with reader.at(where):
            if not isinstance(video, dict):
                raise ValueError(f"an object is needed. Received: {type(video).__name__}")
            _read_video(reader, where, name, video, finds)


def _read_video(
    reader: Reader, where: str, name: str, video: dict[str, Any], finds: Callable[[str], str]
) -> None:
    split = None
    if video.get("subset") is not None:
        split = split_of(member(video, "subset", str, "a text"))
    segments = list(objects(reader, video, "annotations", where))
    if not segments and split == "test":
        reader.left_out[_WITHHELD] += 1
        return
    video_id = reader.find_listed(name, finds)
    if not video.get("annotations"):
        reader.add(where, name, video_id, Statement(None, split=split))
    for place, segment in segments:
        with reader.at(place):
            start_s, end_s = _range(segment)
            if reader.facts(video_id).is_whole(start_s, end_s):
                start_s = end_s = None
            label = member(segment, "label", str, "a text")
            said = Statement(label, split=split)
            reader.add(place, name, video_id, said, start_s=start_s, end_s=end_s)


def _range(segment: dict[str, Any]) -> tuple[float, float]:
    both = segment.get("segment")
    if not isinstance(both, list) or len(both) != 2:
        raise WrongError(f"{_SEGMENT}. Received: {type(both).__name__}", ".segment")
    try:
        return number(both[0], _SEGMENT), number(both[1], _SEGMENT)
    except ValueError as error:
        raise WrongError(str(error), ".segment") from error


def _find(videos: VideoNames, name: str) -> str:
    """Finds a video by its YouTube id: files are called so, or `v_ID`."""
    try:
        return videos.find(name)
    except UnknownVideoError:
        with contextlib.suppress(UnknownVideoError):
            return videos.find(f"v_{name}")
        raise


def hold(annotations: Sequence[Annotation], videos: VideoNames) -> list[Annotation | str]:
    """Labels of videos and of ranges, and the split of each video."""
    held = without_crowded_nothing(
        (_held(annotation, videos) for annotation in annotations), lambda a: a.key.video_id
    )
    held = with_one_split(held, lambda a: a.key.video_id)
    return [
        NOTHING
        if isinstance(a, Annotation) and a.said.label is None and a.said.split == "test"
        else a
        for a in held
    ]


def _held(annotation: Annotation, videos: VideoNames) -> Annotation | str:
    if annotation.said.label is None:
        whole = annotation.key.start_s is None
        empty = {"annotator": "", "track": None, "occluded": None, "group": None}
        return changed(annotation, **empty) if whole else NOTHING
    held = video_label(annotation)
    return held if isinstance(held, str) else as_whole(held, videos)


def write(annotations: Sequence[Annotation], videos: VideoNames) -> bytes:
    """The document."""
    database: dict[str, Any] = {}
    names: dict[str, str] = {}
    for annotation in annotations:
        key, said = annotation.key, annotation.said
        if key.video_id not in names:
            names[key.video_id] = _written(key.video_id, videos)
        duration_s = videos.videos[key.video_id].duration_s
        video = {"duration": duration_s, "annotations": []}
        if said.split:
            video["subset"] = _SUBSETS[said.split]
        video = database.setdefault(names[key.video_id], video)
        if said.label is not None:
            segment = [0.0, duration_s] if key.start_s is None else [key.start_s, key.end_s]
            video["annotations"].append({"segment": segment, "label": said.label})
    document = {"version": "vidpipe", "taxonomy": [], "database": database}
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _written(video_id: str, videos: VideoNames) -> str:
    finds = functools.partial(_find, videos)
    name = videos.name_of(video_id, finds)
    if match := _YOUTUBE.fullmatch(name):
        with contextlib.suppress(ValueError):
            if finds(match[1]) == video_id:
                return match[1]
    return name


FORMAT = Format(
    name="activitynet",
    title="ActivityNet JSON",
    files="a file `.json` with `database`",
    told_by="the member `database`",
    loses="annotators, boxes, tracks, occlusion, groups, labels of single frames, all but one split"
    " of a video, and that there is nothing, but in whole videos that are not for testing; a range"
    " that is all of its video is the video",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
)
