"""Tells still images, which are no videos, by how their files begin."""

from __future__ import annotations

import os
import struct

_HEAD_BYTES = 16
# Most that is looked at of a file whose boxes are endless.
_MOST_BOXES = 1000
_BEGINNINGS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n",),
}


def still_image_kind(path: str) -> str | None:
    """The format of a still image; None where the file is none.

    A photo with a clip behind it (a motion photo) is a still image, and so is an animated WebP or
    PNG, for no demuxer of videos reads these.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    for kind, beginnings in _BEGINNINGS.items():
        if head.startswith(beginnings):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    if head[4:8] == b"ftyp" and _lacks_movie(path):
        return "AVIF" if head[8:12] == b"avif" else "HEIF"
    return None


def _lacks_movie(path: str) -> bool:
    """Whether a file of the MP4 family has items, as a photo has, but no tracks.

    ISO/IEC 23008-12: images are items of a `meta` box, sequences of images tracks of a `moov` box.
    """
    kinds = set()
    with open(path, "rb") as file:
        end, start = file.seek(0, os.SEEK_END), 0
        for _ in range(_MOST_BOXES):
            if start + 8 > end:
                break
            file.seek(start)
            size, kind = struct.unpack(">I4s", file.read(8))
            kinds.add(kind)
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
            if size < 8 or kind == b"moov":
                break
            start += size
    return b"meta" in kinds and not kinds & {b"moov", b"moof"}
