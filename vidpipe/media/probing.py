"""What a video is: container, codecs, size, rotation, duration. Content decides, never the name.

Runs in the process that decodes, for a demuxer may crash or hang, too.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import av

from vidpipe.errors import MediaError
from vidpipe.media.clock import OWN_CLOCK_S
from vidpipe.media.colour import UNKNOWN_COLOUR, Colour
from vidpipe.media.parts import VideoInfo
from vidpipe.media.pictures import UPRIGHT, Turn
from vidpipe.media.stills import still_image_kind
from vidpipe.media.tracks import Tracks

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
    if kind := still_image_kind(path):
        raise MediaError("no_video", f"It is a still image ({kind}).")
    try:
        container = _open(path)
        if _begins_amid(container):
            # libavformat then moves the times of an edit list by whole frames.
            container.close()
            container = _open(path, advanced_editlist="0")
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        if _lacks_index(path):
            raise MediaError("truncated", "It ends before its index.") from error
        raise MediaError("unreadable", "It is no video, or too damaged to be opened.") from error
    if not container.streams and _lacks_index(path):
        raise MediaError("truncated", "It ends before its index.")
    if container.format.name == "gif" and [s.frames for s in container.streams] == [1]:
        raise MediaError("no_video", "It is a still image (GIF).")
    return container


def _open(path: str, **options: str) -> Any:
    options |= {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS}
    # Nobody asks for the tags, and they may be no text.
    return av.open(f"file:{path}", options=options, metadata_errors="replace")


def _begins_amid(container: Any) -> bool:
    """Whether a video of the MP4 family has no key frame at its beginning."""
    return container.format.name.startswith("mov") and any(
        stream.index_entries and not stream.index_entries[0].is_keyframe
        for stream in container.streams.video
    )


def describe(
    container: Any, tracks: Tracks, turn: Turn = UPRIGHT, colour: Colour = UNKNOWN_COLOUR
) -> VideoInfo:
    """What the container tells.

    Args:
        container: As `open_container` opened it.
        tracks: Those that are read.
        turn: How the first frame is turned, beside which it stands.
        colour: What the first frame says of its colours.
    """
    video, audio = tracks.video, tracks.audio
    context = video.codec_context
    stored, _ = tracks.crop.size_within(context.width, context.height)
    shown = round(stored[0] * float(video.sample_aspect_ratio or 1)), stored[1]
    width, height = shown if turn.clockwise_deg % 180 == 0 else shown[::-1]
    return VideoInfo(
        container=container.format.name,
        video_codec=context.codec.canonical_name,
        audio_codec=audio.codec_context.codec.canonical_name if audio else None,
        width=width,
        height=height,
        rotation_deg=turn.clockwise_deg,
        fps=float(video.average_rate) if video.average_rate else None,
        frame_count=video.frames or None,
        duration_s=duration_s(container, video),
        bit_rate=container.bit_rate or None,
        transfer=colour.transfer_name,
        primaries=colour.primaries_name,
        video_track=tracks.video_track,
        video_tracks=tracks.video_tracks,
        audio_track=tracks.audio_track,
        audio_tracks=tracks.audio_tracks,
        audio_language=audio.language if audio else None,
    )


def tells_end(container: Any) -> bool:
    """Whether the header tells the length; elsewhere, libavformat estimates it from what is there.

    MP4 tells it, too, but where each packet lies as well.
    """
    return container.format.name in ("avi", "flv", "asf", "rm", "mxf", "ivf", "matroska,webm")


def told_end_s(container: Any, stream: Any) -> float:
    """Where the video ends as its header tells; 0 where it does not.

    libavformat tells less of an AVI that was cut: as long as what is there.
    """
    if stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    told_s = _stream_duration_s(stream) or _container_duration_s(container)
    # Some count it from zero, and some from where they start: the earlier of both.
    return max(0.0, told_s - max(0.0, start_s(container)))


def duration_s(container: Any, stream: Any) -> float:
    """How long the video is as its header tells; 0 where it does not."""
    told_s, of_stream_s = _container_duration_s(container), _stream_duration_s(stream)
    zero_s = start_s(container)
    starts_s = [s.start_time * s.time_base for s in container.streams if s.start_time is not None]
    if any(abs(start - zero_s) > OWN_CLOCK_S for start in map(float, starts_s)):
        return of_stream_s  # another stream has a clock of its own
    if told_s > zero_s > OWN_CLOCK_S:
        return told_s - zero_s  # it may be counted from zero; what is read will tell
    return told_s or of_stream_s


def header_durations_s(container: Any, stream: Any) -> tuple[float, ...]:
    """What the header may mean by its duration: counted from zero, or from its start."""
    return (
        duration_s(container, stream),
        _container_duration_s(container),
        told_end_s(container, stream),
    )


def start_s(container: Any) -> float:
    """When the container starts, on its own clock."""
    return (container.start_time or 0) / 1_000_000


def _container_duration_s(container: Any) -> float:
    return max(0.0, (container.duration or 0) / 1_000_000)


def _stream_duration_s(stream: Any) -> float:
    return max(0.0, float((stream.duration or 0) * stream.time_base))


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
