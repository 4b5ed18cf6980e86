"""COCO's JSON: pictures with boxes in pixels; also as the variants for video have it.

Those have `videos`, of each image `video_id` and the number of its frame, and tracks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from vidpipe.datasets.annotations import Annotation, Box, Statement
from vidpipe.datasets.formats.given import Given
from vidpipe.datasets.formats.pictures import find_picture, names_for_pictures, picture_name
from vidpipe.datasets.formats.reading import (
    Reader,
    ToldError,
    WrongError,
    integer,
    number,
)
from vidpipe.datasets.formats.shape import (
    NO_SIZE,
    Format,
    changed,
    document_of,
    frame_label,
    identifier,
    member,
    objects,
    track_numbers,
    without_crowded_nothing,
)
from vidpipe.datasets.video_names import VideoNames

_FRAMES = ("frame_id", "frame_index")
_TRACKS = ("track_id", "instance_id")
_BBOX = "a box is a list of four numbers of pixels"
_CROWDS = "boxes of crowds (iscrowd)"
_OUTLINES = "outlines and points; of those that have a box, the box is kept"


class _Picture(NamedTuple):
    where: str
    video: str
    video_id: str
    time_s: float
    width: float
    height: float


def recognises(given: Given) -> bool:
    """By its members `images` and `annotations`."""
    document = given.document
    return isinstance(document, dict) and {"images", "annotations"} <= set(document)


def read(given: Given, reader: Reader) -> None:
    """Reads what is said of frames."""
    document = document_of(given, dict, "COCO JSON")
    videos = _names(reader, document, "videos", ("name", "file_name"))
    labels = _names(reader, document, "categories", ("name",))
    pictures: dict[Any, _Picture | None] = {}
    for where, image in objects(reader, document, "images"):
        with reader.at(where):
            image_id = identifier(image, "id")
            if image_id in pictures:
                raise WrongError("another image has this id", ".id")
            pictures[image_id] = None
            pictures[image_id] = _picture(reader, where, image, videos)
    annotated = set()
    for where, annotation in objects(reader, document, "annotations"):
        with reader.at(where):
            image_id = identifier(annotation, "image_id")
            annotated.add(image_id)
            if image_id not in pictures:
                raise WrongError(f"no image has the id {image_id!r:.100}", ".image_id")
            _read_annotation(reader, where, annotation, pictures[image_id], labels)
    for image_id, picture in pictures.items():
        if image_id not in annotated and picture is not None:
            _add(reader, picture.where, picture, Statement(None))


def _names(
    reader: Reader, document: dict[str, Any], table: str, members: tuple[str, ...]
) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for where, row in objects(reader, document, table):
        with reader.at(where):
            found = next((name for name in members if name in row), members[0])
            names[identifier(row, "id")] = member(row, found, str, "a text")
    return names


def _picture(reader: Reader, where: str, image: dict[str, Any], videos: dict[Any, str]) -> _Picture:
    frame_member = next((name for name in _FRAMES if image.get(name) is not None), None)
    if frame_member and image.get("video_id") is not None and videos:
        video = videos.get(identifier(image, "video_id"))
        if video is None:
            raise WrongError("no video has this id", ".video_id")
        video_id = reader.find(video, reader.videos.find_path)
        try:
            frame = integer(image[frame_member], "a number of a frame, from 0 on, is needed")
        except ValueError as error:
            raise WrongError(str(error), f".{frame_member}") from error
        time_s = reader.time_of_number(video, video_id, frame)
    else:
        name = member(image, "file_name", str, "a text")
        video, video_id, time_s = find_picture(name, reader)
    facts = reader.facts(video_id)
    sizes = [image.get("width") or facts.width, image.get("height") or facts.height]
    width, height = (number(size, "width and height are numbers of pixels") for size in sizes)
    return _Picture(where, video, video_id, time_s, width, height)


def _read_annotation(
    reader: Reader,
    where: str,
    annotation: dict[str, Any],
    picture: _Picture | None,
    labels: dict[Any, str],
) -> None:
    if picture is None:
        raise ToldError
    category = identifier(annotation, "category_id")
    if category not in labels:
        raise WrongError(f"no category has the id {category!r:.100}", ".category_id")
    if annotation.get("iscrowd") in (1, True):
        reader.left_out[_CROWDS] += 1
        return
    if annotation.get("segmentation") or annotation.get("keypoints"):
        reader.left_out[_OUTLINES] += 1
        if annotation.get("bbox") is None:
            return
    said = Statement(
        labels[category],
        _box(reader, annotation, picture),
        _track(annotation),
        _occluded(annotation),
    )
    _add(reader, where, picture, said)


def _add(reader: Reader, where: str, picture: _Picture, said: Statement) -> None:
    reader.add(
        where,
        picture.video,
        picture.video_id,
        said,
        start_s=picture.time_s,
        end_s=picture.time_s,
        frame_wise=True,
    )


def _box(reader: Reader, annotation: dict[str, Any], picture: _Picture) -> Box | None:
    box = annotation.get("bbox")
    if box is None:
        return None
    if not isinstance(box, list) or len(box) != 4:
        received = f"a list of {len(box)}" if isinstance(box, list) else type(box).__name__
        raise WrongError(
            f"{_BBOX}. Received: {received}. Give all four, or remove bbox: then it is a label of"
            " the frame",
            ".bbox",
        )
    if picture.width <= 0 or picture.height <= 0:
        raise WrongError("the width and height of its image are needed", ".bbox")
    try:
        x, y, width, height = (number(value, _BBOX) for value in box)
        size = picture.width, picture.height
        return reader.box(x / size[0], y / size[1], width / size[0], height / size[1])
    except ValueError as error:
        raise WrongError(str(error), ".bbox") from error


def _track(annotation: dict[str, Any]) -> str | None:
    for of in (annotation, annotation.get("attributes")):
        for name in _TRACKS if isinstance(of, dict) else ():
            if of.get(name) is not None:
                return str(identifier(of, name))
    return None


def _occluded(annotation: dict[str, Any]) -> bool | None:
    for of in (annotation, annotation.get("attributes")):
        if isinstance(of, dict) and of.get("occluded") is not None:
            if of["occluded"] not in (0, 1, False, True):
                raise WrongError("true or false is needed", ".occluded")
            return bool(of["occluded"])
    return None


def hold(annotations: Sequence[Annotation], videos: VideoNames) -> list[Annotation | str]:
    """What is said of frames, tracks by number."""
    numbers = track_numbers(annotations)
    held = [_held(annotation, videos, numbers) for annotation in annotations]
    return without_crowded_nothing(held, lambda a: a.key)


def _held(annotation: Annotation, videos: VideoNames, numbers: dict) -> Annotation | str:
    held = frame_label(annotation, videos)
    if isinstance(held, str):
        return held
    key, said = annotation.key, annotation.said
    if said.label is None:
        return changed(held, track=None, occluded=None, split=None)
    facts = videos.videos[key.video_id]
    if said.box is not None and min(facts.width, facts.height) <= 0:
        return NO_SIZE
    track = None
    if said.track is not None:
        track = numbers[key.video_id, key.annotator, said.track]
    return changed(held, track=track, split=None)


def write(annotations: Sequence[Annotation], videos: VideoNames) -> bytes:
    """The document, as the variant for video has it."""
    names = names_for_pictures({a.key.video_id for a in annotations}, videos)
    labels = sorted({a.said.label for a in annotations if a.said.label is not None})
    category = {label: number for number, label in enumerate(labels, 1)}
    video_ids = {video_id: number for number, video_id in enumerate(names, 1)}
    images: dict[tuple[str, int], dict[str, Any]] = {}
    things = []
    for annotation in annotations:
        video_id, said = annotation.key.video_id, annotation.said
        facts = videos.videos[video_id]
        frame = facts.frame_of(annotation.key.start_s)
        image = {
            "id": len(images) + 1,
            "file_name": f"{picture_name(video_id, frame, names)}.jpg",
            "width": facts.width,
            "height": facts.height,
            "video_id": video_ids[video_id],
            "frame_id": frame,
        }
        image = images.setdefault((video_id, frame), image)
        if said.label is not None:
            thing = {"id": len(things) + 1, "image_id": image["id"]}
            things.append(thing | {"category_id": category[said.label]} | _written(said, facts))
    document = {
        "info": {"description": "vidpipe"},
        "videos": [
            {"id": number, "name": names[video_id], "fps": videos.videos[video_id].fps}
            for video_id, number in video_ids.items()
        ],
        "images": list(images.values()),
        "annotations": things,
        "categories": [{"id": number, "name": label} for label, number in category.items()],
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _written(said: Statement, facts: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if said.box is not None:
        x, y, width, height = said.box
        size = width * facts.width, height * facts.height
        told |= {"bbox": [x * facts.width, y * facts.height, *size], "iscrowd": 0}
        told["area"] = size[0] * size[1]
    if said.track is not None:
        told["track_id"] = int(said.track)
    if said.occluded is not None:
        told["occluded"] = said.occluded
    return told


FORMAT = Format(
    name="coco",
    title="COCO JSON",
    files="a file `.json` with `images`, `annotations`, `categories`, and perhaps `videos`",
    told_by="the members `images` and `annotations`",
    loses="annotators, groups, splits, names of tracks (they are numbered), whole videos and"
    " ranges, times between frames, and that there is nothing in a frame in which somebody else"
    " saw something",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
    numbers_frames=True,
)
