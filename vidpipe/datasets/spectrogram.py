"""What is heard: log-mel spectrograms of the table `audio`, in bounded memory.

How loud each band of pitches is, moment by moment. Bands are triangles that are equally wide on the
mel scale (Stevens et al. 1937; the formula of O'Shaughnessy 1987, as in HTK), and overlap by half,
as Davis & Mermelstein 1980 have them. Sound is looked at through a Hann window of 25 ms, every
10 ms: a hop. All hops lie on one grid from the start of the video, however the sound was cut.
"""

from __future__ import annotations

import collections
import functools
import itertools
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.dataset as ds

from vidpipe.datasets.scanning import scan_rows
from vidpipe.datasets.windows import Window
from vidpipe.errors import UsageError
from vidpipe.media.parts import SAMPLE_RATE_HZ
from vidpipe.models.architectures import SOUND_SHAPE

HOP = 160  # samples
HOP_WINDOW = 400
FFT = 512
QUIETEST = -10.0  # in bel, below a tone as loud as samples can be: the rounding of these
# What is shorter is filled with silence; where more is missing, hops begin anew.
SHORT_GAP = SAMPLE_RATE_HZ


# === Hops ===


@functools.cache
def mel_filters(bands: int) -> np.ndarray:
    """How much each of the FFT's frequencies counts in each band, `(frequencies, bands)`."""
    frequencies_hz = np.arange(FFT // 2 + 1) * SAMPLE_RATE_HZ / FFT
    mels = 2595 * np.log10(1 + frequencies_hz / 700)
    edges = np.linspace(0, mels[-1], bands + 2)
    rising = (mels[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - mels[:, None]) / np.diff(edges)[1:]
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)


def mel_powers(samples: np.ndarray, bands: int) -> np.ndarray:
    """The power of each band in each hop that is whole.

    Args:
        samples: float32 in -1 to 1, at `SAMPLE_RATE_HZ`.
        bands: How many.

    Returns:
        float32 `(hops, bands)`; 1 is that of a sine as loud as can be.
    """
    if len(samples) < HOP_WINDOW:
        return np.empty((0, bands), np.float32)
    hann = np.hanning(HOP_WINDOW + 1)[:-1]
    hops = np.lib.stride_tricks.sliding_window_view(samples, HOP_WINDOW)[::HOP]
    spectrum = np.fft.rfft(hops * (hann * 2 / hann.sum()).astype(np.float32), FFT)
    return np.square(np.abs(spectrum)) @ mel_filters(bands)


def to_log(powers: np.ndarray) -> np.ndarray:
    """Powers in bel, from `QUIETEST` to about 0."""
    return np.log10(np.maximum(powers, 10**QUIETEST))


class MelHops:
    """Turns sound that comes in pieces into hops.

    Where no sound is, between pieces, it is silent.

    Args:
        bands: How many.
    """

    def __init__(self, bands: int):
        self._bands = bands
        self._first = 0  # hop that begins with the samples at hand
        self._samples = np.empty(0, np.float32)

    def add(self, start: int, samples: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Takes the next piece; yields the number of a hop and the powers of it and those after it.

        Args:
            start: Its first sample, counted from the start of the video.
            samples: int16.
        """
        gap = start - self._first * HOP - len(self._samples)
        if not 0 <= gap <= SHORT_GAP:
            yield from self.end()
            self._first, gap = divmod(start, HOP)
        scaled = samples.astype(np.float32) / 32768
        self._samples = np.concatenate([self._samples, np.zeros(gap, np.float32), scaled])
        yield from self._take()

    def end(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the last hops, which end in silence."""
        if self._samples.size:
            self._samples = np.append(self._samples, np.zeros(HOP_WINDOW, np.float32))
            yield from self._take()
        self._samples = self._samples[:0]

    def _take(self) -> Iterator[tuple[int, np.ndarray]]:
        powers = mel_powers(self._samples, self._bands)
        if len(powers):
            yield self._first, powers
            self._first += len(powers)
            self._samples = self._samples[len(powers) * HOP :]


# === Windows of videos ===


class _Span(NamedTuple):
    """From when to when something is listened to."""

    start_s: float
    end_s: float


class _Listener:
    """Sums up the hops of a window in equal steps.

    A step has the hops whose middle is in it; one that is shorter than a hop, the nearest.
    """

    def __init__(self, span: _Span):
        steps, bands = SOUND_SHAPE
        step_s = (span.end_s - span.start_s) / steps
        middles_s = span.start_s + (np.arange(steps) + 0.5) * step_s
        around_s = max(step_s, HOP / SAMPLE_RATE_HZ) / 2
        self._starts = np.maximum(_hop_from(middles_s - around_s), 0)
        self._ends = np.maximum(_hop_from(middles_s + around_s), self._starts + 1)
        self._sums = np.zeros((steps, bands))
        self.decoded = False

    @property
    def end(self) -> int:
        """The hop after its last."""
        return int(self._ends[-1])

    def note_decoded(self, start: int, end: int) -> None:
        """Notes where sound was decoded, in samples: in the middle of a hop is enough."""
        first, last = (int(hop) * HOP + HOP_WINDOW // 2 for hop in (self._starts[0], self.end - 1))
        self.decoded |= start <= last and end > first

    def add(self, first: int, sums: np.ndarray) -> None:
        """Hears hops.

        Args:
            first: The number of the first.
            sums: Of the powers of those before each, and of all.
        """
        starts, ends = (np.clip(of - first, 0, len(sums) - 1) for of in (self._starts, self._ends))
        self._sums += sums[ends] - sums[starts]

    def heard(self) -> np.ndarray:
        """The log-mel spectrogram."""
        return to_log(self._sums / (self._ends - self._starts)[:, None])


def read_sound(
    audio: ds.Dataset,
    extractions: Mapping[str, str],
    video_ids: Sequence[str],
    windows: Sequence[Window],
    folder: Path,
) -> np.ndarray:
    """What is heard in windows of videos: log-mel spectrograms of one size.

    The steps are spread evenly over a window, whatever its length; each is the mean power of its
    hops, in bel. Where no sound was decoded, in no part of a window, it is missing, and all of its
    numbers are NaN; where it was in some part, the rest is silent.

    Args:
        audio: The table `audio`.
        extractions: For each video the work key of the extraction whose sound is meant.
        video_ids: The video of each window.
        windows: Where to listen.
        folder: On whose disk the array lies; it is gone with the array.

    Returns:
        float16 `(windows, *SOUND_SHAPE)`, memory-mapped.

    Raises:
        UsageError: The disk has no room.
    """
    shape = len(windows), *SOUND_SHAPE
    if not windows:
        return np.empty(shape, np.float16)
    size_bytes, free_bytes = 2 * math.prod(shape), shutil.disk_usage(folder).free
    if size_bytes > free_bytes:
        raise UsageError(
            f"What is heard takes {size_bytes / 1e9:.1f} GB, of which {folder} has"
            f" {free_bytes / 1e9:.1f}: make room."
        )
    # Clips that differ in their frames or crops alone sound alike.
    places: dict[str, dict[_Span, list[int]]] = {}
    for place, (video_id, window) in enumerate(zip(video_ids, windows, strict=True)):
        span = _Span(window.start_s, window.end_s)
        places.setdefault(video_id, collections.defaultdict(list))[span].append(place)
    with tempfile.TemporaryFile(dir=folder) as file:
        array = np.memmap(file, np.float16, "w+", shape=shape)
    array[:] = np.nan
    columns = ["start_s", "end_s", "imputed_by", "samples"]
    rows = scan_rows(audio, extractions, columns)
    for video_id, of_video in itertools.groupby(rows, key=lambda row: row[0]):
        spans = places.get(video_id, {})  # none, where a video has no frames
        for span, heard in _listen((row[1:] for row in of_video), spans):
            array[spans[span]] = heard
    return array


def is_missing(sound: np.ndarray) -> np.ndarray:
    """Of each clip whether its sound is missing."""
    return np.isnan(sound[:, 0, 0])


def _listen(
    rows: Iterable[tuple[float, float, str | None, bytes]], spans: Iterable[_Span]
) -> Iterator[tuple[_Span, np.ndarray]]:
    """Yields the spectrogram of each window of a video in which sound was decoded.

    Only what listens now is in memory: of windows that follow each other a few at a time.
    """
    hops = MelHops(SOUND_SHAPE[1])
    waiting = sorted(spans, reverse=True)
    listening: dict[_Span, _Listener] = {}

    def pass_on(blocks: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[_Span, np.ndarray]]:
        for first, powers in blocks:
            sums = np.cumsum(np.pad(powers, ((1, 0), (0, 0))), axis=0, dtype=np.float64)
            for span, listener in list(listening.items()):
                listener.add(first, sums)
                if listener.end <= first + len(powers):
                    del listening[span]
                    if listener.decoded:
                        yield span, listener.heard()

    for start_s, end_s, imputed_by, content in rows:
        while waiting and waiting[-1].start_s <= end_s + HOP_WINDOW / SAMPLE_RATE_HZ:
            span = waiting.pop()
            listening[span] = _Listener(span)
        start, samples = round(start_s * SAMPLE_RATE_HZ), np.frombuffer(content, "<i2")
        if imputed_by is None:
            for listener in listening.values():
                listener.note_decoded(start, start + len(samples))
        yield from pass_on(hops.add(start, samples))
    yield from pass_on(hops.end())
    for span, listener in listening.items():
        if listener.decoded:
            yield span, listener.heard()


def _hop_from(times_s: np.ndarray) -> np.ndarray:
    """The first hop whose middle is at a time or after it."""
    return np.ceil((times_s * SAMPLE_RATE_HZ - HOP_WINDOW / 2) / HOP).astype(int)
