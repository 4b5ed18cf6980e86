"""Label Studio's JSON: choices of whole videos, timeline labels, and boxes by keyframes.

Predictions are not annotations, and neither is what was skipped. Frames count from 1 there.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vidpipe.datasets.annotations import Annotation, Statement
from vidpipe.datasets.formats.given import Given
from vidpipe.datasets.formats.keyframes import Keyframe, in_frames, runs
from vidpipe.datasets.formats.reading import Reader, ToldError, WrongError, integer, number, whole
from vidpipe.datasets.formats.shape import (
    BOX_RANGES,
    INSTANTS,
    NO_RATE,
    NOTHING,
    Format,
    changed,
    document_of,
    identifier,
    member,
    objects,
    without_crowded_nothing,
)
from vidpipe.datasets.video_names import UnknownVideoError, VideoFacts, VideoNames

VIDEO, CHOICES, TIMELINE = "video", "label", "timeline"  # the tags of the labelling configuration
VIDEO_ID = "vidpipe_video_id"  # in `data`: the video, whatever its address says
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")  # as it stores an upload
_DOWNLOADED = re.compile(r"[0-9a-f]{6,32}__(.+)")  # as its exports store what they download
# Drawn at random: few words of seven letters look so.
_TAKEN = re.compile(r"(.+)_(?=[^a-z.]*[a-z])(?=.[^A-Z.]*[A-Z])[0-9A-Za-z]{7}(\.[^.]+)?")
_MAX_NAME = 1024  # of a key in S3
_MAX_ADDRESS = 16 * 1024  # with what it is signed by
_NOT_KEPT = re.compile(r"[^-\w.]")
_URL_SAFE = str.maketrans("-_", "+/")
_VIDEO_MEMBERS = ("video", "video_url", "url", "file")
_SKIPPED = "annotations that were skipped (was_cancelled)"
_PREDICTIONS = "predictions, which are not annotations"
_UNLABELLED = "boxes without a label"
_ROTATED = "boxes that are turned"
_OF_REGIONS = "choices of single regions"
_OTHER = "results of type {0}"
_TWICE = "second boxes of one track in one frame"
_SHORT = "ranges at the very end of a video"
_MAX_RATE = 1000.0
_RATE_SHARE = 0.02  # the frame rates of Label Studio and of the video differ by more


def recognises(given: Given) -> bool:
    """By its list of tasks with `data` and `annotations`."""
    document = given.document
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(t, dict) and {"data", "annotations"} <= set(t) for t in document)
    )


def read(given: Given, reader: Reader) -> None:
    """Reads labels of videos and ranges, and boxes in frames."""
    tasks = document_of(given, list, "Label Studio JSON (not JSON-MIN)")
    finds = functools.partial(_find, reader.videos)
    for index, task in enumerate(tasks):
        where = f"[{index}]"
        with reader.at(where):
            if not isinstance(task, dict):
                raise ValueError(f"an object is needed. Received: {type(task).__name__}")
            _read_task(reader, where, task, finds)


def _read_task(
    reader: Reader, where: str, task: dict[str, Any], finds: Callable[[str], str]
) -> None:
    if task.get("predictions"):
        reader.left_out[_PREDICTIONS] += 1
    annotations = list(objects(reader, task, "annotations", where))
    if not annotations:
        return
    data = member(task, "data", dict, "an object")
    if VIDEO_ID in data:
        video = member(data, VIDEO_ID, str, "a text")
        video_id = reader.find(video, reader.videos.find_id)
    elif reader.only_video is not None:
        video = next(filter(None, (data.get(name) for name in _VIDEO_MEMBERS)), where)
        video_id = reader.find(str(video), finds)
    else:
        video = _video(data)
        video_id = reader.find(video, finds)
    for place, annotation in annotations:
        with reader.at(place):
            if annotation.get("was_cancelled"):
                reader.left_out[_SKIPPED] += 1
                continue
            _Results(reader, video, video_id, _annotator(annotation)).read(place, annotation)


def _video(data: dict[str, Any]) -> str:
    texts = {name: value for name, value in data.items() if isinstance(value, str) and value}
    name = next((name for name in _VIDEO_MEMBERS if name in texts), None)
    if name is None and len(texts) == 1:
        (name,) = texts
    if name is None:
        raise WrongError("nothing tells which video it is: video is needed", ".data")
    return texts[name]


def _find(videos: VideoNames, address: str) -> str:
    """Finds a video by the address that Label Studio has of it."""
    if len(address) > _MAX_ADDRESS:
        raise ValueError(f"an address of more than {_MAX_ADDRESS} characters is not read")
    paths = list(_paths(address))
    names = list(dict.fromkeys(n for p in paths for n in _names_before(p.rpartition("/")[2])))
    attempts = (
        *((videos.find_path, path) for path in paths),
        *((functools.partial(videos.find_renamed, rename=_valid_name), name) for name in names),
    )
    try:
        for find, name in attempts:
            with contextlib.suppress(UnknownVideoError):
                return find(name)
    except ValueError as error:
        raise ValueError(f"{error}, or {VIDEO_ID} in the data of the task") from error
    raise UnknownVideoError(
        f"no video is called {address[:200]!r}; give {VIDEO_ID} in the data of the task if it has"
        " another name here",
        names[-1],
    )


def _paths(address: str) -> Iterator[str]:
    yield address
    parts = urlsplit(address)
    query = parse_qs(parts.query)
    path = unquote(parts.path)
    yield from query.get("d", ())  # /data/local-files/?d=clips/a.mp4
    for hidden in query.get("fileuri", ()):  # /tasks/12/resolve/?fileuri=…, …/presign/?fileuri=…
        with contextlib.suppress(ValueError):
            # In a query, + is a space.
            plain = hidden.replace(" ", "+").translate(_URL_SAFE)
            yield base64.b64decode(plain + "=" * (-len(plain) % 4)).decode()
            continue
        yield hidden
    yield path
    if match := _UPLOADED.fullmatch(path.rpartition("/")[2]):
        yield match[1]


def _names_before(name: str) -> list[str]:
    """A file name, and those that it may have had before Label Studio made it its own."""
    if len(name) > _MAX_NAME:
        return [name]
    names = [match[1] for p in (_UPLOADED, _DOWNLOADED) if (match := p.fullmatch(name))]
    # Where a name was taken, seven letters were added.
    return [name, *names, *(m[1] + (m[2] or "") for n in names if (m := _TAKEN.fullmatch(n)))]


def _valid_name(name: str) -> str:
    """The file name as Label Studio stores it."""
    return _NOT_KEPT.sub("", name.strip().replace(" ", "_"))


def _annotator(annotation: dict[str, Any]) -> str:
    by = whole(annotation.get("completed_by"))
    if isinstance(by, dict):
        by = next((by[name] for name in ("email", "username", "id") if by.get(name)), None)
    if by is None:
        return ""
    if isinstance(by, bool) or not isinstance(by, str | int):
        raise WrongError("the id or the address of a person is needed", ".completed_by")
    return by if isinstance(by, str) else str(by) if by.bit_length() < 64 else ""


class _Results:
    """Reads what one annotation of one task says."""

    def __init__(self, reader: Reader, video: str, video_id: str, annotator: str):
        self._reader = reader
        self._video = video
        self._video_id = video_id
        self._annotator = annotator

    def read(self, where: str, annotation: dict[str, Any]) -> None:
        """Reads its results; none of them says that there is nothing."""
        results = list(objects(self._reader, annotation, "result", where))
        if not results and not annotation.get("result"):
            self._add(where, Statement(None))
        shapes = {r["id"] for _, r in results if r.get("type") in _REGIONS and _is_id(r)}
        for place, result in results:
            with self._reader.at(place):
                kind = member(result, "type", str, "a text")
                if kind == "choices" and _is_id(result) and result["id"] in shapes:
                    self._reader.left_out[_OF_REGIONS] += 1
                elif kind in _KINDS:
                    value = member(result, "value", dict, "an object")
                    _KINDS[kind](self, f"{place}.value", result, value)
                else:
                    self._reader.left_out[_OTHER.format(kind[:50])] += 1

    def choices(self, where: str, result: dict[str, Any], value: dict[str, Any]) -> None:
        """Labels of the whole video."""
        for label in _labels(value, "choices"):
            self._add(where, Statement(label))

    def timeline(self, where: str, result: dict[str, Any], value: dict[str, Any]) -> None:
        """Labels of ranges of frames."""
        labels = _labels(value, "timelinelabels")
        for place, span in objects(self._reader, value, "ranges", where):
            with self._reader.at(place):
                first, last = (_frame(span, name) for name in ("start", "end"))
                facts = self._reader.clock(self._video, self._video_id)
                if first > last:
                    raise ValueError(f"the range {first + 1} to {last + 1} is empty")
                if last > facts.tolerated_frame:
                    raise ValueError(_outside(last, facts, facts.fps))
                end_s = facts.time_of(min(last + 1, facts.end_frame))
                for label in labels:
                    self._add(place, Statement(label), facts.time_of(first), end_s)

    def seconds(self, where: str, result: dict[str, Any], value: dict[str, Any]) -> None:
        """Labels of ranges of the sound, in seconds."""
        what = "a number of seconds is needed"
        start_s, end_s = (number(value.get(name), what) for name in ("start", "end"))
        for label in _labels(value, "labels"):
            self._add(where, Statement(label), start_s, end_s)

    def boxes(self, where: str, result: dict[str, Any], value: dict[str, Any]) -> None:
        """A thing in the frames in which it is seen."""
        track = str(identifier(result, "id")) if "id" in result else None
        labels = _labels(value, "labels", may_miss=True)
        if not labels:
            self._reader.left_out[_UNLABELLED] += 1
            return
        facts, rate = self._clock(value)
        keyframes, turned, faults = [], False, self._reader.fault_count
        for place, at in objects(self._reader, value, "sequence", where):
            with self._reader.at(place):
                turned |= number(at.get("rotation") or 0, "rotation is a number of degrees") != 0
                keyframes.append(_keyframe(place, at))
        if turned:
            self._reader.left_out[_ROTATED] += 1
            return
        if self._reader.fault_count > faults:
            raise ToldError  # between the others it would move wrongly
        if not keyframes:
            raise WrongError("a list of boxes is needed", ".sequence")
        last = max(k.frame for k in keyframes)
        end = facts.last_frame if rate is None else int(facts.last_frame / facts.fps * rate)
        tolerated = facts.tolerated_frame if rate is None else end
        if last > tolerated:
            raise ValueError(_outside(last, facts, rate or facts.fps))
        frames = value.get("framesCount")
        until = end
        if frames is not None:
            until = min(end, integer(frames, "framesCount is a number of frames") - 1)
        for at in in_frames(keyframes, until=max(until, last)):
            with self._reader.at(at.where):
                box = self._reader.box(*(v / 100 for v in (at.x, at.y, at.width, at.height)))
                time_s = facts.time_of(at.frame) if rate is None else round(at.frame / rate, 6)
                for label in labels:
                    place = f"{at.where}, frame {at.frame + 1}"
                    self._add(place, Statement(label, box, track), time_s, time_s)

    def _clock(self, value: dict[str, Any]) -> tuple[VideoFacts, float | None]:
        """What is known of the video, and the frame rate where Label Studio counted by another."""
        facts = self._reader.clock(self._video, self._video_id)
        frames, duration_s = value.get("framesCount"), value.get("duration")
        if frames is None or duration_s is None:
            return facts, None
        frames = number(frames, "framesCount is a number of frames")
        duration_s = number(duration_s, "duration is a number of seconds")
        if frames < 1 or duration_s <= 0:
            return facts, None
        rate = frames / duration_s
        if rate > _MAX_RATE:
            raise ValueError(f"{frames:g} frames in {duration_s:g} s are no video")
        # Of few frames the rate cannot be told exactly.
        differs = abs(rate - facts.fps) > facts.fps * _RATE_SHARE + 1.5 / duration_s
        return facts, rate if differs else None

    def _add(
        self, where: str, said: Statement, start_s: float | None = None, end_s: float | None = None
    ) -> None:
        self._reader.add(
            where,
            self._video,
            self._video_id,
            said,
            start_s=start_s,
            end_s=end_s,
            annotator=self._annotator,
        )


_KINDS = {
    "choices": _Results.choices,
    "timelinelabels": _Results.timeline,
    "labels": _Results.seconds,
    "videorectangle": _Results.boxes,
}
_REGIONS = ("timelinelabels", "labels", "videorectangle")


def _outside(frame: int, facts: VideoFacts, fps: float) -> str:
    return (
        f"frame {frame + 1} is outside the video of {facts.duration_s:.2f} s at {fps:g} frames a"
        " second"
    )


def _is_id(result: dict[str, Any]) -> bool:
    value = result.get("id")
    return isinstance(value, str) or (isinstance(value, int) and value.bit_length() <= 64)


def _labels(value: dict[str, Any], name: str, may_miss: bool = False) -> list[str]:
    labels = value.get(name)
    if labels is None and may_miss:
        return []
    if isinstance(labels, str):
        labels = [labels]
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise WrongError("a list of texts is needed", f".value.{name}")
    return labels


def _frame(of: dict[str, Any], name: str) -> int:
    """A frame, from 0 on."""
    try:
        return max(integer(of.get(name), "a number of a frame, from 1 on, is needed") - 1, 0)
    except ValueError as error:
        raise WrongError(str(error), f".{name}") from error


def _keyframe(where: str, at: dict[str, Any]) -> Keyframe:
    enabled = at.get("enabled", True)
    if not isinstance(enabled, bool):
        raise WrongError("true or false is needed", ".enabled")
    sides = []
    for name in ("x", "y", "width", "height"):
        try:
            sides.append(number(at.get(name), "a number, in percent of the picture, is needed"))
        except ValueError as error:
            raise WrongError(str(error), f".{name}") from error
    return Keyframe(where, _frame(at, "frame"), *sides, goes_on=enabled)


# === Writing ===


def hold(annotations: Sequence[Annotation], videos: VideoNames) -> list[Annotation | str]:
    """Labels of whole videos and of ranges of frames, and boxes in frames, each of a track."""
    regions = _regions(annotations)
    taken: set[tuple] = set()
    held = []
    for annotation in annotations:
        of = _held(annotation, videos.videos[annotation.key.video_id])
        if isinstance(of, Annotation) and of.said.box is not None:
            of = changed(of, track=regions[_region(annotation)])
            place = (*of.key, of.said.track)
            of = _TWICE if place in taken else of
            taken.add(place)
        held.append(of)
    return without_crowded_nothing(held, lambda a: (a.key.video_id, a.key.annotator))


def _held(annotation: Annotation, facts: VideoFacts) -> Annotation | str:
    key, said = annotation.key, annotation.said
    held = changed(annotation, occluded=None, group=None, split=None)
    if said.box is not None:
        if not key.is_instant:
            return BOX_RANGES
        if facts.fps is None:
            return NO_RATE
        time_s = facts.time_of(facts.frame_of(key.start_s))
        return changed(held, start_s=time_s, end_s=time_s)
    held = changed(held, track=None)
    if said.label is None:
        return held if key.start_s is None else NOTHING
    if key.is_instant:
        return INSTANTS
    return held if key.start_s is None else _of_frames(held, facts)


def _region(annotation: Annotation) -> tuple:
    """What has an id of its own: a thing under one label; a box of no track is one by itself."""
    key, said = annotation.key, annotation.said
    if said.track is None:
        return annotation.where, key, said
    return key.video_id, key.annotator, said.track, said.label


def _regions(annotations: Sequence[Annotation]) -> dict[tuple, str]:
    """The ids of regions: the track, where no other region has it."""
    boxes = [a for a in annotations if a.said.box is not None]
    names = {a.said.track for a in boxes}
    ids: dict[tuple, str] = {}
    taken: set[tuple[str, str, str]] = set()
    number_ = 0
    for annotation in boxes:
        region, of = _region(annotation), annotation.key
        if region in ids:
            continue
        name, number_ = annotation.said.track, max(number_, len(ids))
        while name is None or (of.video_id, of.annotator, name) in taken:
            name, number_ = f"box-{number_}", number_ + 1
            name = None if name in names else name
        ids[region] = name
        taken.add((of.video_id, of.annotator, name))
    return ids


def _of_frames(annotation: Annotation, facts: VideoFacts) -> Annotation | str:
    """A range as whole frames; at least one."""
    if facts.fps is None:
        return NO_RATE
    first = facts.frame_of(annotation.key.start_s)
    last = max(first, facts.last_frame_before(annotation.key.end_s))
    start_s = facts.time_of(first)
    end_s = facts.time_of(min(last + 1, facts.end_frame))
    if start_s >= end_s:
        return _SHORT
    return changed(annotation, start_s=start_s, end_s=end_s)


def write(annotations: Sequence[Annotation], videos: VideoNames) -> bytes:
    """A task for each video, and in it an annotation for each annotator."""
    tasks: dict[str, dict[str, list[Annotation]]] = {}
    for annotation in annotations:
        key = annotation.key
        of_video = tasks.setdefault(key.video_id, collections.defaultdict(list))
        of_video[key.annotator].append(annotation)
    document = []
    for number_, (video_id, by_annotator) in enumerate(tasks.items(), 1):
        written = []
        for annotator, of_annotator in by_annotator.items():
            by = {"completed_by": {"email": annotator}} if annotator else {}
            results = list(_write_results(of_annotator, videos.videos[video_id]))
            written.append({**by, "result": results})
        data = {VIDEO: _address(video_id, videos)}
        document.append({"id": number_, "data": data, "annotations": written})
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _address(video_id: str, videos: VideoNames) -> str:
    uri = videos.uri_of(video_id)
    try:
        return uri if _find(videos, uri) == video_id else video_id
    except ValueError:
        return video_id


def _write_results(annotations: list[Annotation], facts: VideoFacts) -> Iterator[dict[str, Any]]:
    to_video = {"to_name": VIDEO}
    whole = [
        a.said.label for a in annotations if a.key.start_s is None and a.said.label is not None
    ]
    if whole:
        yield {
            **to_video,
            "from_name": CHOICES,
            "type": "choices",
            "value": {"choices": whole},
        }
    boxes: dict[tuple, list[Annotation]] = collections.defaultdict(list)
    for annotation in annotations:
        key, said = annotation.key, annotation.said
        if said.box is not None:
            boxes[said.track, said.label].append(annotation)
        elif key.start_s is not None:
            yield timeline(said.label, key.start_s, key.end_s, facts)
    for (track, label), of_track in boxes.items():
        yield {
            **to_video,
            "from_name": "box",
            "id": track,
            "type": "videorectangle",
            "value": {"labels": [label], "sequence": list(_write_sequence(of_track, facts))},
        }


def timeline(label: str, start_s: float, end_s: float, facts: VideoFacts) -> dict[str, Any]:
    """A label of a range of frames, as a result; the frame rate must be known."""
    first = facts.frame_of(start_s)
    last = max(first, facts.last_frame_before(end_s))
    return {
        "to_name": VIDEO,
        "from_name": TIMELINE,
        "type": "timelinelabels",
        "value": {
            "ranges": [{"start": first + 1, "end": last + 1}],
            "timelinelabels": [label],
        },
    }


def _write_sequence(boxes: list[Annotation], facts: VideoFacts) -> Iterator[dict[str, Any]]:
    by_frame = {facts.frame_of(a.key.start_s): a.said.box for a in boxes}
    for frame, goes_on in runs(list(by_frame)):
        box = by_frame[frame]
        yield {
            "frame": frame + 1,
            "enabled": goes_on,
            "rotation": 0,
            **{name: value * 100 for name, value in zip(box._fields, box, strict=True)},
            "time": facts.time_of(frame),
        }


FORMAT = Format(
    name="label-studio",
    title="Label Studio JSON",
    files="a file `.json`: the list of tasks",
    told_by="a list of objects with `data` and `annotations`",
    loses="groups, splits, occlusion, times between frames, labels of single frames, boxes that are"
    " in no track (each becomes one), and that there is nothing, but in a whole video of which the"
    " same annotator says nothing else",
    recognises=recognises,
    read=read,
    hold=hold,
    write=write,
    contradiction="delete one of the two annotations in Label Studio",
)
