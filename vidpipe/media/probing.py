"""What a video is: container, codecs, size, rotation, duration.

Content decides, never the name. The bytes are looked at by FFmpeg's libraries (PyAV) in a process
of its own, so that a demuxer that crashes or hangs is that video's outcome and nobody else's.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vidpipe.errors import MediaError
from vidpipe.media import limits

PROBE_WITHIN_S = 60
# Containers that hold what they hold themselves. Playlists and lists of images, which name other
# files, are left out; so a video cannot make us read anything but itself.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,m4v,ogg,asf,h264,hevc,obu,"
    "ivf,mxf,rm,dv,nut,gif,wav,mp3,flac,aac"
)
PROTOCOLS = "file,pipe"
# What a file of the MP4 family may begin with.
_FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


@dataclass(frozen=True)
class VideoInfo:
    """What the container tells of a video.

    Attributes:
        container: Its format, as FFmpeg names it.
        video_codec: Codec of the first video stream that is no cover picture.
        audio_codec: Codec of the first audio stream; None where there is none.
        width: Pixels as shown: rotation applied.
        height: As width.
        rotation_deg: By how much the stored picture is turned to be shown: 0, 90, 180 or 270.
        fps: Average rate; None where the container does not tell.
        frame_count: As the container states it; None where it does not.
        duration_s: Of the longest stream.
        bit_rate: Bits per second of all streams; None where unknown.
    """

    container: str
    video_codec: str
    audio_codec: str | None
    width: int
    height: int
    rotation_deg: int
    fps: float | None
    frame_count: int | None
    duration_s: float
    bit_rate: int | None


def probe(path: Path) -> VideoInfo:
    """Looks at a video file.

    Raises:
        MediaError: It is none, or none that can be decoded.
    """
    if path.stat().st_size == 0:
        raise MediaError("empty", "The object holds no bytes.")
    process = limits.start_limited(
        [sys.executable, "-B", "-m", "vidpipe.media.probing", str(path)], cpu_s=PROBE_WITHIN_S
    )
    try:
        output, errors = process.communicate(timeout=PROBE_WITHIN_S)
    except subprocess.TimeoutExpired as error:
        raise MediaError(
            "timed_out", f"Looking at it took longer than {PROBE_WITHIN_S} s."
        ) from error
    finally:
        limits.stop(process)
    if process.returncode == -signal.SIGXCPU:
        raise MediaError("timed_out", f"Looking at it took more than {PROBE_WITHIN_S} s of CPU.")
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise MediaError("unreadable", f"The demuxer crashed on it ({name}).")
    if process.returncode:
        words = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise MediaError("out_of_memory" if "MemoryError" in words else "unreadable", words)
    told = json.loads(output)
    if "reason" in told:
        raise MediaError(**told)
    return VideoInfo(**told)


def _look(path: str) -> VideoInfo:
    import av

    options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS}
    try:
        container = av.open(f"file:{path}", options=options)
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        if _lacks_index(path):
            raise MediaError("truncated", "It ends before its index.") from error
        raise MediaError("unreadable", "It is no video, or too damaged to be opened.") from error
    with container:
        videos = [
            stream
            for stream in container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic
        ]
        if not container.streams and _lacks_index(path):
            raise MediaError("truncated", "It ends before its index.")
        if not videos:
            raise MediaError("no_video", "There is no video stream in it.")
        stream = videos[0]
        if stream.codec_context is None:
            raise MediaError("unsupported_codec", "There is no decoder for its video stream.")
        audio = next(iter(container.streams.audio), None)
        rotation_deg = _rotation(container, stream)
        context = stream.codec_context
        ratio = float(stream.sample_aspect_ratio or 1)
        shown = round(context.width * ratio), context.height
        width, height = shown if rotation_deg % 180 == 0 else shown[::-1]
        return VideoInfo(
            container=container.format.name,
            video_codec=context.codec.canonical_name,
            audio_codec=(
                audio.codec_context.codec.canonical_name if audio and audio.codec_context else None
            ),
            width=width,
            height=height,
            rotation_deg=rotation_deg,
            fps=float(stream.average_rate) if stream.average_rate else None,
            frame_count=stream.frames or None,
            duration_s=_duration_s(container, stream),
            bit_rate=container.bit_rate or None,
        )


def _rotation(container, stream) -> int:
    """The rotation stands beside the first frame that decodes.

    Raises:
        MediaError: The stream is encrypted: it would decode to noise, or not at all.
    """
    import av

    try:
        for packet in container.demux(stream):
            if any(side.data_type == "encryption_info" for side in packet.iter_sidedata()):
                raise MediaError("unsupported_codec", "It is encrypted.")
            for frame in packet.decode():
                return -frame.rotation % 360
    except av.error.FFmpegError:
        pass  # decoding will tell why
    return 0


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


def _duration_s(container, stream) -> float:
    if container.duration:
        return max(0.0, container.duration / 1_000_000)
    if stream.duration:
        return max(0.0, float(stream.duration * stream.time_base))
    return 0.0


def _main(path: str) -> None:
    try:
        told = dataclasses.asdict(_look(path))
    except MediaError as error:
        told = {"reason": error.reason, "message": str(error)}
    print(json.dumps(told))


if __name__ == "__main__":
    _main(sys.argv[1])
