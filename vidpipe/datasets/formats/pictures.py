"""Pictures that were cut out of videos: their names tell of which video, and which frame.

`VIDEO_000123.jpg`, `VIDEO_frame_000123.jpg` and `VIDEO/000123.jpg` are frame 123 of VIDEO; the
first frame of a video is 0, unless the file counts from 1. Of one video's pictures the number is
enough. Pictures that are called otherwise are told by the sidecar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from vidpipe.datasets.formats.reading import SPLIT_WORDS, Reader
from vidpipe.datasets.video_names import UnknownVideoError, VideoNames, stem_of

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._()+-]*")
_ENDING = re.compile(r"\.(jpe?g|png|bmp|webp|tiff?|txt)", re.IGNORECASE)
# Roboflow makes `a.jpg` into `a_jpg.rf.HASH.jpg`, and Label Studio into `1a2b3c4d-a.jpg`.
_ROBOFLOW = re.compile(r"(.+)_(?:jpe?g|png|bmp|webp)\.rf\.[0-9A-Za-z]{8,64}")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})")
_ANY_VIDEO = re.compile(r"(frame|image|img)s?[0-9]?", re.IGNORECASE)
_LIST_IT = "list them in the sidecar under pictures"
_NAME_IT = (
    f"name pictures VIDEO_000123.jpg, {_LIST_IT}, or say of which video all of them are: --video"
)


class Picture(NamedTuple):
    """A picture that was cut out of a video.

    Attributes:
        video: The video, as the name has it.
        time_s: When its frame is shown.
    """

    video: str
    video_id: str
    time_s: float


def find_picture(path: str, reader: Reader) -> Picture:
    """The video of a picture, and when it is shown.

    Raises:
        ValueError: The name does not tell, or there is no such video or frame.
    """
    path = path.replace("\\", "/")
    listed = _listed(path, reader)
    if listed is not None:
        video, frame = listed  # vidpipe's own sidecar counts from 0
        video_id = reader.find(video, reader.videos.find)
        return Picture(video, video_id, reader.time_of(video, video_id, frame))
    video, video_id, number = _find_number(path, reader)
    return Picture(video, video_id, reader.time_of_number(video, video_id, number))


def _listed(path: str, reader: Reader) -> tuple[str, int] | None:
    """What the sidecar says of a picture: by its name, or by that of its text."""
    stem = without_ending(path)
    for called in (path, path.rpartition("/")[2], stem, stem.rpartition("/")[2]):
        if called in reader.pictures:
            return reader.pictures[called]
    return None


def _find_number(path: str, reader: Reader) -> tuple[str, str, int]:
    stem = _original(without_ending(path))
    if reader.only_video is not None:
        return _of_only_video(path, stem, reader)
    folder, slash, name = stem.rpartition("/")
    candidates = list(_candidates(stem))
    before = _UPLOADED.fullmatch(name)
    for video, frame in [*candidates, *(_candidates(folder + slash + before[1]) if before else ())]:
        try:
            return video, reader.videos.find_path(video), frame
        except UnknownVideoError:
            continue
    if not candidates:
        raise ValueError(
            f"{path[:200]!r} does not tell which frame of which video it is; {_NAME_IT}"
        )
    video, frame = candidates[-1]
    if _ANY_VIDEO.fullmatch(video.rpartition("/")[2]):
        return video, reader.find(video, _refuse), frame
    return video, reader.find(video, reader.videos.find_path), frame


def _refuse(name: str) -> str:
    raise ValueError(f"{name[:200]!r} does not tell which video it is; {_NAME_IT}")


def _of_only_video(path: str, stem: str, reader: Reader) -> tuple[str, str, int]:
    folder, _, name = stem.rpartition("/")
    match = _NUMBERED.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{path[:200]!r} does not end in the number of a frame; name pictures 000123.jpg, or"
            f" {_LIST_IT}"
        )
    # Folders such as train and val may divide the pictures of one video.
    folders = [part for part in folder.split("/") if part.lower() not in SPLIT_WORDS]
    reader.claim_only("/".join([*folders, match[1]]))
    video, video_id = reader.only_video
    return video, video_id, int(match[2])


def _original(stem: str) -> str:
    """The name that a picture had before a tool renamed it."""
    folder, slash, name = stem.rpartition("/")
    match = _ROBOFLOW.fullmatch(name)
    return folder + slash + (match[1] if match else name)


def picture_name(video_id: str, frame: int, names: dict[str, str]) -> str:
    """What a picture of a frame is called, without its ending."""
    return f"{names[video_id]}_{frame:06d}"


def names_for_pictures(video_ids: set[str], videos: VideoNames) -> dict[str, str]:
    """What videos are called in the names of their pictures, so that they are found again."""
    reader = Reader(videos)

    def finds(name: str) -> str:
        if not _PLAIN.fullmatch(name):
            raise ValueError
        # A name that ends in a number of its own is told apart for each frame alike.
        _, video_id, frame = _find_number(f"{name}_000123", reader)
        return video_id if frame == 123 else ""

    return {video_id: videos.name_of(video_id, finds) for video_id in sorted(video_ids)}


def without_ending(path: str) -> str:
    """The path of a picture, or of its text, without its ending."""
    stem = stem_of(path)
    return stem if _ENDING.fullmatch(path[len(stem) :]) else path


def has_number(path: str) -> bool:
    """Whether a path ends in the number of a frame."""
    return _NUMBERED.fullmatch(_original(without_ending(path)).rpartition("/")[2]) is not None


def _candidates(stem: str) -> Iterator[tuple[str, int]]:
    for separator in ("_frame_", "_", "/"):
        video, found, frame = stem.rpartition(separator)
        if found and video and re.fullmatch(r"[0-9]{1,9}", frame):
            yield video, int(frame)
