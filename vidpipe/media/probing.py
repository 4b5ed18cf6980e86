"""What a video is: container, codecs, size, rotation, duration. Content decides, never the name.

Runs in the process that decodes, for a demuxer may crash or hang, too.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import av

from vidpipe.errors import MediaError
from vidpipe.media.parts import VideoInfo

# Containers that hold what they hold themselves. Playlists and lists of images, which name other
# files, are left out; so a video cannot make us read anything but itself.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,m4v,ogg,asf,h264,hevc,obu,"
    "ivf,mxf,rm,dv,nut,gif,wav,mp3,flac,aac"
)
PROTOCOLS = "file,pipe"
# What a file of the MP4 family may begin with.
_FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


def open_container(path: str) -> Any:
    """Opens a file that should be a video.

    Raises:
        MediaError: It is none, or cannot be opened.
    """
    if os.path.getsize(path) == 0:
        raise MediaError("empty", "The object holds no bytes.")
    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS}
    try:
        # Nobody asks for the tags, and they may be no text.
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        if _lacks_index(path):
            raise MediaError("truncated", "It ends before its index.") from error
        raise MediaError("unreadable", "It is no video, or too damaged to be opened.") from error
    if not container.streams and _lacks_index(path):
        raise MediaError("truncated", "It ends before its index.")
    return container


def choose_streams(container: Any) -> tuple[Any, Any]:
    """The first video stream that is no still picture, and the first audio stream or None.

    Raises:
        MediaError: There is no video, or no decoder for it.
    """
    videos = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not videos:
        raise MediaError("no_video", "There is no video stream in it.")
    # An animated picture (AVIF) begins with a still one, for those who show no other.
    video = next((stream for stream in videos if stream.frames != 1), videos[0])
    if video.codec_context is None:
        raise MediaError("unsupported_codec", "There is no decoder for its video stream.")
    audio = next((s for s in container.streams.audio if s.codec_context), None)
    return video, audio


def describe(container: Any, video: Any, audio: Any, rotation_deg: int) -> VideoInfo:
    """What the container tells.

    Args:
        container: As `open_container` opened it.
        video: The video stream.
        audio: The audio stream or None.
        rotation_deg: Of the first frame, beside which it stands.
    """
    context = video.codec_context
    shown = round(context.width * float(video.sample_aspect_ratio or 1)), context.height
    width, height = shown if rotation_deg % 180 == 0 else shown[::-1]
    return VideoInfo(
        container=container.format.name,
        video_codec=context.codec.canonical_name,
        audio_codec=audio.codec_context.codec.canonical_name if audio else None,
        width=width,
        height=height,
        rotation_deg=rotation_deg,
        fps=float(video.average_rate) if video.average_rate else None,
        frame_count=video.frames or None,
        duration_s=duration_s(container, video),
        bit_rate=container.bit_rate or None,
    )


def tells_end(container: Any) -> bool:
    """Whether the header tells the length; elsewhere, libavformat estimates it from what is there.

    MP4 tells it, too, but where each packet lies as well.
    """
    return container.format.name in ("avi", "flv", "asf", "rm", "mxf", "ivf", "matroska,webm")


def told_end_s(container: Any, stream: Any) -> float:
    """Where the picture ends as its header tells; 0 where it does not.

    libavformat tells less of an AVI that was cut: as long as what is there.
    """
    if stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Some count it from zero, and some from where they start: the earlier of both.
    return max(0.0, duration_s(container, stream) - (container.start_time or 0) / 1_000_000)


def duration_s(container: Any, stream: Any) -> float:
    """How long the video is; 0 where nothing tells."""
    if container.duration:
        return max(0.0, container.duration / 1_000_000)
    if stream.duration:
        return max(0.0, float(stream.duration * stream.time_base))
    return 0.0


def _lacks_index(path: str) -> bool:
    """Whether a file of the MP4 family ends before the whole of its index, `moov`, was there."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        start = 0
        while start + 8 <= end:
            file.seek(start)
            size, kind = struct.unpack(">I4s", file.read(8))
            if start == 0 and kind not in _FIRST_BOXES:
                return False
            if size == 1:
                size = int.from_bytes(file.read(8), "big")
            if kind == b"moov" and start + size <= end:
                return False
            if size < 8:  # 0: as far as the file goes
                break
            start += size
        return end >= 8
