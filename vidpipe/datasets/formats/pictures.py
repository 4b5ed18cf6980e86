"""Pictures that were cut out of videos: their names tell of which video, and which frame.

`VIDEO_000123.jpg`, `VIDEO_frame_000123.jpg` and `VIDEO/000123.jpg` are frame 123 of VIDEO; the
first frame of a video is 0. Pictures that are called otherwise are told by the sidecar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vidpipe.datasets.formats.reading import Reader
from vidpipe.datasets.video_names import UnknownVideoError, VideoNames, stem_of

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._()+-]*")
_ENDING = re.compile(r"\.(jpe?g|png|bmp|webp|tiff?|txt)", re.IGNORECASE)


def find_frame(path: str, reader: Reader) -> tuple[str, str, int]:
    """Video as the name has it, its id, and the frame that a picture shows.

    Raises:
        ValueError: The name does not tell, or there is no such video.
    """
    stem = _without_ending(path)
    for called in (path, path.rpartition("/")[2], stem, stem.rpartition("/")[2]):
        if called in reader.pictures:
            video, frame = reader.pictures[called]
            return video, reader.find(video, reader.videos.find), frame
    candidates = list(_candidates(stem))
    if not candidates:
        raise ValueError(
            f"{path[:200]!r} does not tell which frame of which video it is; name it"
            " VIDEO_000123.jpg, or list it in the sidecar under pictures"
        )
    for video, frame in candidates:
        try:
            return video, reader.videos.find_path(video), frame
        except UnknownVideoError:
            continue
    video, frame = candidates[-1]
    return video, reader.find(video, reader.videos.find_path), frame


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
        _, video_id, frame = find_frame(f"{name}_000123", reader)
        return video_id if frame == 123 else ""

    return {video_id: videos.name_of(video_id, finds) for video_id in sorted(video_ids)}


def _without_ending(path: str) -> str:
    stem = stem_of(path)
    return stem if _ENDING.fullmatch(path[len(stem) :]) else path


def _candidates(stem: str) -> Iterator[tuple[str, int]]:
    for separator in ("_frame_", "_", "/"):
        video, found, frame = stem.rpartition(separator)
        if found and video and re.fullmatch(r"[0-9]{1,9}", frame):
            yield video, int(frame)
