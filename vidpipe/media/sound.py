"""Decoded sound becomes stretches of 16 kHz mono, each at its own time."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np

from vidpipe.media.parts import SAMPLE_RATE_HZ, AudioChunk

SAMPLE_BYTES = 2
CHUNK_S = 30
# Clocks of containers jitter; what is less apart than this belongs together.
JITTER_S = 0.1


class Sound:
    """Puts sound on the clock of the frames.

    Args:
        fill: Whether silence stands where there is no sound.

    Attributes:
        missing_s: How much sound is not there.
        length_s: How much came.
        complaint: What is unusual about it; None where nothing is.
    """

    def __init__(self, *, fill: bool):
        self._fill = fill
        self._resampler: av.AudioResampler | None = None
        self._layout: tuple | None = None
        self._averages = False
        self._fed_s = 0.0  # of the stretch at hand
        self._stretch_start_s = 0.0
        self._start = 0  # sample with which the buffer begins
        self._buffer = bytearray()
        self._excess_bytes = 0  # to be left out, for they overlap what was there before
        self._begun = False
        self.missing_s = 0.0
        self.length_s = 0.0
        self.complaint: str | None = None

    def add(self, frame: av.AudioFrame, time_s: float | None) -> Iterator[AudioChunk]:
        """Takes the next decoded sound; yields what became complete."""
        expected_s = self._stretch_start_s + self._fed_s
        layout = (frame.format.name, frame.layout.name, frame.sample_rate)
        if time_s is None:
            time_s = expected_s
        if not self._begun or abs(time_s - expected_s) > JITTER_S or layout != self._layout:
            yield from self._flush()
            yield from self._move(time_s)
            self._begun, self._layout = True, layout
            self._resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
            self._averages = False
        self._fed_s += frame.samples / frame.sample_rate
        frame.pts = None
        yield from self._take(self._resample(frame))

    def _resample(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """Mixes a frame to mono: as FFmpeg does, or else the mean of its channels."""
        if not self._averages:
            try:
                return self._resampler.resample(frame)
            except av.error.FFmpegError:
                # It knows no mix of channels that stand nowhere, or of too many.
                self._averages = True
                self._resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
        self.complaint = f"The {frame.layout.nb_channels} channels of its audio are averaged."
        return self._resampler.resample(_average(frame))

    def end(self, end_s: float) -> Iterator[AudioChunk]:
        """Ends the sound; it should have gone on until `end_s`."""
        yield from self._flush()
        if self._begun and end_s - self._position_s > JITTER_S:
            yield from self._gap(round(end_s * SAMPLE_RATE_HZ))
        yield from self._cut(whole=False)

    @property
    def _position_s(self) -> float:
        return (self._start + len(self._buffer) // SAMPLE_BYTES) / SAMPLE_RATE_HZ

    def _flush(self) -> Iterator[AudioChunk]:
        if self._resampler is not None:
            yield from self._take(self._resampler.resample(None))
            self._resampler = None

    def _take(self, frames: list[av.AudioFrame]) -> Iterator[AudioChunk]:
        for frame in frames:
            samples = bytes(frame.planes[0])[: frame.samples * SAMPLE_BYTES]
            left_out = min(len(samples), self._excess_bytes)
            self._excess_bytes -= left_out
            self._buffer += samples[left_out:]
        yield from self._cut(whole=True)

    def _move(self, time_s: float) -> Iterator[AudioChunk]:
        """Begins a stretch of sound at a time."""
        self._stretch_start_s, self._fed_s = time_s, 0.0
        ahead = round((time_s - self._position_s) * SAMPLE_RATE_HZ)
        self._excess_bytes = max(0, -ahead) * SAMPLE_BYTES
        if ahead > 0:
            yield from self._gap(round(time_s * SAMPLE_RATE_HZ))

    def _gap(self, end: int) -> Iterator[AudioChunk]:
        """Leaves no sound up to a sample."""
        missing = end - self._start - len(self._buffer) // SAMPLE_BYTES
        if missing <= JITTER_S * SAMPLE_RATE_HZ:  # no more than the clock's jitter
            self._buffer += bytes(missing * SAMPLE_BYTES)
            return
        self.missing_s += missing / SAMPLE_RATE_HZ
        yield from self._cut(whole=False)
        while self._fill and self._start < end:
            count = min(CHUNK_S * SAMPLE_RATE_HZ, end - self._start)
            yield self._chunk(bytes(count * SAMPLE_BYTES), "silence")
        self._start = end

    def _cut(self, *, whole: bool) -> Iterator[AudioChunk]:
        """Yields the buffer in chunks; the last one too, whatever its length, unless `whole`."""
        size = CHUNK_S * SAMPLE_RATE_HZ * SAMPLE_BYTES
        while len(self._buffer) >= size or (self._buffer and not whole):
            content = bytes(self._buffer[:size])
            del self._buffer[:size]
            yield self._chunk(content, None)

    def _chunk(self, samples: bytes, imputed_by: str | None) -> AudioChunk:
        start_s = self._start / SAMPLE_RATE_HZ
        self._start += len(samples) // SAMPLE_BYTES
        self.length_s += len(samples) / SAMPLE_BYTES / SAMPLE_RATE_HZ
        return AudioChunk(start_s, self._start / SAMPLE_RATE_HZ, imputed_by, samples)


def _average(frame: av.AudioFrame) -> av.AudioFrame:
    """The mean of the channels of a frame, as one channel."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    mean = samples.mean(axis=0, dtype=np.float64)
    if samples.dtype.kind == "u":
        mean -= 128
    if samples.dtype.kind in "iu":
        mean /= 2.0 ** (8 * samples.dtype.itemsize - 1)
    made = av.AudioFrame.from_ndarray(mean[None].astype(np.float32), format="flt", layout="mono")
    made.sample_rate = frame.sample_rate
    return made
