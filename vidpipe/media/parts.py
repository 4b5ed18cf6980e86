"""What comes of a video, and how it goes from the process that decodes to the one that asked.

On the pipe a part is the sizes of two pieces (little endian, 32 bits each), JSON with its fields,
and its bytes. Nothing of it can name code: the process that decodes is not trusted.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import BinaryIO

_SIZES = struct.Struct("<II")
SAMPLE_RATE_HZ = 16_000  # of sound
# Of a pipe: several frames, so that they are handed over together.
PIPE_BYTES = 1 << 18
MAX_PART_BYTES = 1 << 28
SHOWN_CHARS = 100


@dataclass(frozen=True)
class VideoInfo:
    """What the container tells of a video.

    Attributes:
        container: Its format, as FFmpeg names it.
        video_codec: Codec of the video track that is read.
        audio_codec: Codec of the audio track that is read; None where there is none.
        width: Pixels as shown: rotation applied.
        height: As width.
        rotation_deg: By how much the stored picture is turned to be shown: 0, 90, 180 or 270.
        fps: Average rate; None where the container does not tell.
        frame_count: As the container states it; None where it does not.
        duration_s: Of the longest stream.
        bit_rate: Bits per second of all streams; None where unknown.
        transfer: Transfer characteristics of the stored frames, such as `bt709` or `smpte2084`, as
            FFmpeg names them; None where nothing tells. Kept frames are BT.709.
        primaries: Colour primaries of the stored frames, such as `bt709` or `bt2020`; as before.
        video_track: Which video track is read, from 1.
        video_tracks: Of how many; cover pictures are none.
        audio_track: Which audio track is read, from 1; None where there is none.
        audio_tracks: Of how many.
        audio_language: Of the audio track, as the container states it; None where it does not.
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
    transfer: str | None
    primaries: str | None
    video_track: int
    video_tracks: int
    audio_track: int | None
    audio_tracks: int
    audio_language: str | None


@dataclass(frozen=True)
class Frame:
    """A kept frame.

    Attributes:
        index: 0, 1, 2 … among the kept.
        pts: Presentation time in the time base of the stream, from the start of the container.
        time_s: The same in seconds.
        key_frame: Whether it was coded without reference to others.
        damaged: Whether something since the last key frame did not decode, so that it may show it.
        imputed_by: What made it, where the frame of this time did not decode; else None.
        width: Pixels.
        height: Pixels.
        jpeg: The picture.
    """

    index: int
    pts: int
    time_s: float
    key_frame: bool
    damaged: bool
    imputed_by: str | None
    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True)
class AudioChunk:
    """A stretch of sound, at most 30 s.

    Attributes:
        start_s: On the clock of the frames.
        end_s: As start_s.
        imputed_by: What made it, where there was no sound; else None.
        samples: 16 kHz, mono, signed 16 bit, little endian.
    """

    start_s: float
    end_s: float
    imputed_by: str | None
    samples: bytes


@dataclass(frozen=True)
class Summary:
    """The last part of a video that was decoded to its end.

    Attributes:
        frames: How many came.
        audio_s: Length of the sound that came.
        decode_errors: How many pictures and packets of sound did not decode, or only in part, among
            those that had to be decoded; 0 where all of these are whole.
        missing_frames: How many frames should have been kept and did not decode.
        dropped_frames: How many of them were left out.
        repeated_frames: How many of them the last good frame stands for.
        interpolated_frames: How many of them a blend of their neighbours stands for.
        missing_audio_s: How much sound is not there: late starts, gaps, packets that do not decode.
        truncated: Whether the file ends before its end; how much is missing then, nothing may tell.
        told: What the decoder said first of what is wrong; None where nothing is.
        fps: Average rate: the container's, unless what was read contradicts it.
        frame_count: As `fps`.
        duration_s: As `fps`; of the longer one of video and audio.
    """

    frames: int
    audio_s: float
    decode_errors: int
    missing_frames: int
    dropped_frames: int
    repeated_frames: int
    interpolated_frames: int
    missing_audio_s: float
    truncated: bool
    told: str | None
    fps: float | None
    frame_count: int | None
    duration_s: float


@dataclass(frozen=True)
class Refusal:
    """The last part of a video that cannot be used.

    Attributes:
        reason: A word of the vocabulary of outcomes.
        message: Why, for people.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class Progress:
    """How far the decoder is, for those who wait for it: it stays between the two processes.

    Attributes:
        read_s: How much of the video was read.
    """

    read_s: float


Part = VideoInfo | Frame | AudioChunk | Summary | Refusal | Progress
_KINDS = {
    kind.__name__: kind for kind in (VideoInfo, Frame, AudioChunk, Summary, Refusal, Progress)
}
_CONTENT = {"Frame": "jpeg", "AudioChunk": "samples"}


def write_part(pipe: BinaryIO, part: Part) -> None:
    """Writes a part."""
    kind = type(part).__name__
    fields = dict(vars(part))
    content = fields.pop(_CONTENT[kind]) if kind in _CONTENT else b""
    head = json.dumps({"kind": kind, **fields}).encode()
    pipe.write(_SIZES.pack(len(head), len(content)))
    pipe.write(head)
    pipe.write(content)


class PartReader:
    """Puts parts together from the bytes of a pipe, however they are cut."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, content: bytes) -> list[Part]:
        """Takes further bytes; returns the parts that are whole with them.

        Raises:
            ValueError: These are no parts.
        """
        self._bytes += content
        parts, start = [], 0
        with memoryview(self._bytes) as held:
            while len(held) - start >= _SIZES.size:
                head_size, content_size = _SIZES.unpack_from(held, start)
                if max(head_size, content_size) > MAX_PART_BYTES:
                    raise ValueError("a part is too large")
                content_start = start + _SIZES.size + head_size
                end = content_start + content_size
                if len(held) < end:
                    break
                head = str(held[start + _SIZES.size : content_start], "utf-8")
                parts.append(_make_part(head, bytes(held[content_start:end])))
                start = end
        del self._bytes[:start]
        return parts


def _make_part(head: str, content: bytes) -> Part:
    try:
        fields = json.loads(head)
        kind = fields.pop("kind")
        if kind in _CONTENT:
            fields[_CONTENT[kind]] = content
        return _KINDS[kind](**fields)
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"{head[:SHOWN_CHARS]!r} is no part") from error
