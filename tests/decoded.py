"""What comes of a decode, for tests to look at."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media_files import decoders, number_of
from vidpipe.errors import MediaError
from vidpipe.media import AudioChunk, ExtractOptions, Frame, Summary, VideoInfo, decode

EVERY_FRAME = ExtractOptions(sampling="all", short_side=0, jpeg_quality=100)


class Decoded:
    """All that comes of a decode."""

    def __init__(self, path: Path, options: ExtractOptions = EVERY_FRAME):
        self.info, *parts, self.summary = decode(path, options)
        assert isinstance(self.info, VideoInfo)
        assert isinstance(self.summary, Summary)
        self.frames = [part for part in parts if isinstance(part, Frame)]
        self.chunks = [part for part in parts if isinstance(part, AudioChunk)]
        assert [frame.index for frame in self.frames] == list(range(len(self.frames)))
        assert self.summary.frames == len(self.frames)

    @property
    def times_s(self) -> list[float]:
        return [round(frame.time_s, 3) for frame in self.frames]

    @property
    def numbers(self) -> list[int]:
        """Which frames of a ramp came."""
        return [number_of(picture(frame).mean()) for frame in self.frames]

    @property
    def samples(self) -> np.ndarray:
        """All sound, from -1 to 1."""
        content = b"".join(chunk.samples for chunk in self.chunks)
        return np.frombuffer(content, "<i2") / 32768


def picture(frame: Frame) -> np.ndarray:
    with Image.open(io.BytesIO(frame.jpeg)) as image:
        assert image.format == "JPEG"
        assert image.size == (frame.width, frame.height)
        return np.asarray(image.convert("RGB"), dtype=float)


def pitch_hz(samples: np.ndarray) -> float:
    return np.argmax(np.abs(np.fft.rfft(samples))) * 16_000 / len(samples)


def reason_of(path: Path, options: ExtractOptions = EVERY_FRAME) -> str:
    with pytest.raises(MediaError) as caught:
        list(decode(path, options))
    assert not decoders()
    return caught.value.reason
