"""The lists of Kinetics: CSV of label, YouTube id, from when to when, split; or the same as JSON.

A clip that was cut out as `ID_000010_000020` is the whole of its video here.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from vidpipe.datasets.annotations import Annotation, Statement
from vidpipe.datasets.formats.delimited import (
    MORE_FIELDS,
    guarded,
    has_column,
    quoted,
    read_table,
    unguarded,
)
from vidpipe.datasets.formats.given import Given
from vidpipe.datasets.formats.reading import Reader, WrongError, number, split_of
from vidpipe.datasets.formats.shape import (
    NOTHING,
    Format,
    changed,
    document_of,
    member,
    video_label,
)
from vidpipe.datasets.video_names import UnknownVideoError, VideoNames, stem_of

_HEAD_BYTES = 4096
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_CLIP = re.compile(r"(.+)_([0-9]{6})_([0-9]{6})")
_UNLABELLED = "rows without a label, as lists of test videos have them"


def recognises(given: Given) -> bool:
    """By its column `youtube_id`; as JSON by videos that have one segment with a label."""
    if given.ends_in(".json"):
        return _is_json(given.document)
    if given.is_folder or given.ends_in(".jsonl", ".ndjson", ".xml"):
        return False
    head = given.content[:_HEAD_BYTES].decode("utf-8-sig", "replace")
    return has_column(head, "youtube_id")


def _is_json(document: Any) -> bool:
    videos = list(document.values()) if isinstance(document, dict) else []
    return bool(videos) and all(
        isinstance(video, dict) and isinstance(video.get("annotations"), dict) for video in videos
    )


def read(given: Given, reader: Reader) -> None:
    """Reads labels of videos and of their ranges."""
    if given.ends_in(".json"):
        _read_json(reader, document_of(given, dict, "Kinetics JSON"))
        return
    table = read_table(given.text)
    if "youtube_id" not in table.columns:
        raise ValueError(
            f"line {table.header_line}: the column youtube_id is needed. Received:"
            f" {quoted(table.columns)}"
        )
    for line, row in table.rows():
        where = f"line {line}"
        with reader.at(where):
            if None in row:
                raise ValueError(MORE_FIELDS)
            values = {name: (row.get(name) or "").strip() for name in _COLUMNS}
            _read_row(reader, where, values | {"label": unguarded(values["label"])})


def _read_json(reader: Reader, document: dict[str, Any]) -> None:
    """Reads the same rows from JSON: by YouTube id the label, the segment and the subset."""
    for youtube_id, video in document.items():
        where = json.dumps(youtube_id[:200])
        with reader.at(where):
            if not isinstance(video, dict):
                raise ValueError(f"an object is needed. Received: {type(video).__name__}")
            clip = member(video, "annotations", dict, "an object")
            segment = clip.get("segment", ["", ""])
            if not isinstance(segment, list) or len(segment) != 2:
                raise WrongError("a list of two numbers of seconds is needed", ".segment")
            label = member({"label": "", **clip}, "label", str, "a text")
            subset = member({"subset": "", **video}, "subset", str, "a text")
            values = (label, youtube_id.strip(), *segment, subset)
            _read_row(reader, where, dict(zip(_COLUMNS, values, strict=True)))


def _read_row(reader: Reader, where: str, row: dict[str, Any]) -> None:
    if not row["youtube_id"]:
        raise ValueError("no video is named")
    split_of(row["split"])
    if not row["label"]:
        reader.left_out[_UNLABELLED] += 1
        return
    times = [row["time_start"], row["time_end"]]
    start_s = end_s = None
    if times != ["", ""]:
        start_s, end_s = (
            number(row[n], f"{n} must be seconds") for n in ("time_start", "time_end")
        )
    clip = _clip_name(row["youtube_id"], start_s, end_s)
    video_id = None
    if clip is not None and reader.only_video is None:
        try:
            video_id = reader.videos.find(clip)
            start_s = end_s = None
        except UnknownVideoError:
            pass
    if video_id is None:
        video_id = reader.find_listed(row["youtube_id"], reader.videos.find)
    if start_s is not None and reader.facts(video_id).is_whole(start_s, end_s):
        start_s = end_s = None
    reader.add(
        where,
        row["youtube_id"],
        video_id,
        Statement(row["label"], split=row["split"]),
        start_s=start_s,
        end_s=end_s,
    )


def _clip_name(youtube_id: str, start_s: float | None, end_s: float | None) -> str | None:
    if start_s is None or not (0 <= start_s < 1e6 and 0 <= end_s < 1e6):
        return None
    if start_s != int(start_s) or end_s != int(end_s):
        return None
    return f"{youtube_id}_{int(start_s):06d}_{int(end_s):06d}"


def hold(annotations: Sequence[Annotation], videos: VideoNames) -> list[Annotation | str]:
    """Labels of videos and of ranges, and splits."""
    return [_held(annotation, videos) for annotation in annotations]


def _held(annotation: Annotation, videos: VideoNames) -> Annotation | str:
    if annotation.said.label is None:
        return NOTHING
    held = video_label(annotation)
    return held if isinstance(held, str) else as_whole(held, videos)


def as_whole(annotation: Annotation, videos: VideoNames) -> Annotation:
    """A range that is all of its video, as formats have it that write a range in any case."""
    key = annotation.key
    if key.start_s is not None and videos.videos[key.video_id].is_whole(key.start_s, key.end_s):
        return changed(annotation, start_s=None, end_s=None)
    return annotation


def write(annotations: Sequence[Annotation], videos: VideoNames) -> bytes:
    """A row for each label."""
    target = io.StringIO(newline="")
    table = csv.DictWriter(target, _COLUMNS, restval="")
    table.writeheader()
    for annotation in annotations:
        key = annotation.key
        video, start, end = _written(key.video_id, key.start_s, key.end_s, videos)
        table.writerow(
            {
                "label": guarded(annotation.said.label),
                "youtube_id": video,
                "time_start": start,
                "time_end": end,
                "split": annotation.said.split or "",
            }
        )
    return target.getvalue().encode()


def _written(
    video_id: str, start_s: float | None, end_s: float | None, videos: VideoNames
) -> tuple[str, str, str]:
    """Id and times of a video or range."""
    name = videos.name_of(video_id, videos.find)
    if start_s is None and (clip := _CLIP.fullmatch(stem_of(name))):
        found = _clip_name(clip[1], float(clip[2]), float(clip[3]))
        if clip[1].strip() == clip[1] and _finds(videos, found) == video_id:
            return clip[1], str(int(clip[2])), str(int(clip[3]))
    if start_s is None:
        start_s, end_s = 0.0, videos.videos[video_id].duration_s

    def found_by(called: str) -> str:
        # Not what is the name of a clip of another video.
        clip = _clip_name(called, start_s, end_s)
        if called.strip() != called or (clip and _finds(videos, clip) is not None):
            raise ValueError
        return videos.find(called)

    return videos.name_of(video_id, found_by), _seconds(start_s), _seconds(end_s)


def _seconds(time_s: float) -> str:
    return str(int(time_s)) if time_s == int(time_s) else repr(time_s)


def _finds(videos: VideoNames, name: str) -> str | None:
    try:
        return videos.find(name)
    except UnknownVideoError:
        return None
    except ValueError:
        return ""


FORMAT = Format(
    name="kinetics",
    title="Kinetics lists",
    files="a file `.csv` of `label,youtube_id,time_start,time_end,split`, or the JSON of the same",
    told_by="the column `youtube_id`; as JSON by `annotations` with a `segment` for each video",
    loses="annotators, boxes, tracks, occlusion, groups, labels of single frames, and that there is"
    " nothing; a range that is all of its video is the video",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
)
