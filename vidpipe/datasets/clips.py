"""Clips: the frames of videos as one array, and what is heard with them, read in bounded memory.

Training, evaluation and nightly labelling all read through here, so that a model sees at night
exactly what it was evaluated on.
"""

from __future__ import annotations

import collections
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.dataset as ds
from PIL import Image

from vidpipe.datasets.scanning import scan_rows
from vidpipe.datasets.spectrogram import read_sound
from vidpipe.datasets.windows import Window, windows_of
from vidpipe.errors import BadInputError
from vidpipe.memory import release_pages
from vidpipe.models.architectures import Sampling

READ_BYTES = 512_000_000  # of decoded clips that are on local disk at a time, where some will do
WRITTEN_BYTES = 128_000_000  # of them in memory at a time


class Clips(NamedTuple):
    """Clips of some videos; those of one follow each other.

    Attributes:
        array: uint8 `(clips, frames read, height, width, 3)`, memory-mapped; in training perhaps
            a `vidpipe.datasets.streaming.StreamedClips`, which is indexed alike.
        video_ids: The video of each clip.
        windows: What of it each shows.
        sound: What is heard in each window, see `vidpipe.datasets.spectrogram.read_sound`; None:
            nobody listens.
    """

    array: np.ndarray
    video_ids: list[str]
    windows: list[Window]
    sound: np.ndarray | None = None

    def inputs(self, rows: slice = slice(None)) -> np.ndarray | dict[str, np.ndarray]:
        """Some of them as `vidpipe.models.bundle.Bundle.predict` takes them."""
        if self.sound is None:
            return self.array[rows]
        return {"clips": self.array[rows], "sound": self.sound[rows]}


def read_clips(
    frames: ds.Dataset,
    extractions: Mapping[str, str],
    sampling: Sampling,
    path: Path,
    *,
    audio: ds.Dataset | None = None,
    finer: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Clips:
    """Samples the frames of videos into an array.

    The moments are the middles of `sampling.frames` equal parts of a window; of each the nearest
    frame is taken, so that a video with few frames repeats some.

    Args:
        frames: The table `frames`.
        extractions: For each video the work key of the extraction whose frames are meant.
        sampling: Which windows of a video, how many frames, how large.
        path: A file that does not exist yet, which will hold the array.
        audio: The table `audio`, of use where the sampling has sound.
        finer: So many times as many frames are read, of which
            `vidpipe.datasets.pipeline.chance_moments` takes some.
        progress: Called with the number of frames done and of all.

    Returns:
        Clips of those videos that have frames, in the order of `extractions`.

    Raises:
        BadInputError: A frame is no JPEG.
    """
    times = _times(frames, extractions)
    video_ids: list[str] = []
    windows: list[Window] = []
    wanted: dict[str, dict[int, list[tuple[int, int]]]] = {}
    for video_id in extractions:
        if video_id not in times:
            continue
        times_s, indexes = times[video_id]
        places = wanted.setdefault(video_id, collections.defaultdict(list))
        for window, nearest in choose_frames(times_s, sampling, finer):
            for moment, frame_index in enumerate(indexes[nearest]):
                places[int(frame_index)].append((len(windows), moment))
            video_ids.append(video_id)
            windows.append(window)
    read = sampling.frames * finer
    shape = (len(windows), read, *sampling.shape[1:])
    sound = None
    if sampling.sound:
        sound = read_sound(audio, extractions, video_ids, windows, path.parent)
    if not windows:
        return Clips(np.empty(shape, np.uint8), [], [], sound)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    done, of, written_bytes = 0, len(windows) * read, 0
    for video_id, frame_index, jpeg in scan_rows(frames, extractions, ["frame_index", "jpeg"]):
        places = wanted[video_id].get(frame_index)
        if not places:
            continue
        pictures = decode(jpeg, sampling, video_id, frame_index)
        for row, moment in places:
            array[row, moment] = pictures[windows[row].crop]
        done += len(places)
        written_bytes += len(places) * array[0, 0].nbytes
        if written_bytes > WRITTEN_BYTES:
            release_pages(array)
            written_bytes = 0
        if progress:
            progress(done, of)
    return Clips(array, video_ids, windows, sound)


def cut_by_size(
    durations_s: Mapping[str, float], sampling: Sampling, at_most_bytes: int = READ_BYTES
) -> Iterator[list[str]]:
    """Yields videos, in order, so many at a time that their decoded clips are not too large.

    Args:
        durations_s: Of each video.
        sampling: What is seen of it.
        at_most_bytes: Their clips take at most so much, unless those of one video take more.
    """
    group: list[str] = []
    left_bytes = at_most_bytes
    for video_id, duration_s in durations_s.items():
        size_bytes = len(windows_of(sampling, 0.0, duration_s)) * math.prod(sampling.shape)
        if group and size_bytes > left_bytes:
            yield group
            group, left_bytes = [], at_most_bytes
        group.append(video_id)
        left_bytes -= size_bytes
    if group:
        yield group


def choose_frames(
    times_s: np.ndarray, sampling: Sampling, finer: int = 1
) -> Iterator[tuple[Window, np.ndarray]]:
    """Yields the windows of a video, and which of its frames the clip of each has.

    Args:
        times_s: Of the frames, rising.
        sampling: Which windows, how many frames.
        finer: So many times as many frames.
    """
    for window in windows_of(sampling, times_s[0], times_s[-1]):
        yield window, _nearest(times_s, window.moments(sampling.frames, finer))


def average_clips(values: np.ndarray, video_ids: Sequence[str]) -> np.ndarray:
    """The mean over the clips of each video.

    Args:
        values: `(clips, …)`.
        video_ids: The video of each clip; those of one follow each other.

    Returns:
        `(videos, …)`, in the order of their first clips.
    """
    _, first, counts = np.unique(np.asarray(video_ids, str), return_index=True, return_counts=True)
    order = np.argsort(first)
    sums = np.add.reduceat(values, first[order], axis=0)
    return sums / counts[order].reshape(-1, *[1] * (values.ndim - 1))


def _times(
    frames: ds.Dataset, extractions: Mapping[str, str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Times and indexes of the frames of each video, by time."""
    found: dict[str, list[tuple[float, int]]] = {}
    for video_id, time_s, frame_index in scan_rows(frames, extractions, ["time_s", "frame_index"]):
        found.setdefault(video_id, []).append((time_s, frame_index))
    return {
        video_id: tuple(map(np.asarray, zip(*sorted(of), strict=True)))
        for video_id, of in found.items()
    }


def _nearest(times_s: np.ndarray, targets_s: np.ndarray) -> np.ndarray:
    """The place of the time nearest to each target; of two equally near ones the earlier."""
    after = np.clip(np.searchsorted(times_s, targets_s), 1, max(len(times_s) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times_s) - 1)
    earlier = targets_s - times_s[before] <= times_s[after] - targets_s
    return np.where(earlier, before, after)


def decode(jpeg: bytes, sampling: Sampling, video_id: str, frame_index: int) -> list[np.ndarray]:
    """The picture of each crop of a frame.

    Raises:
        BadInputError: It is no JPEG; says of which video.
    """
    try:
        return _decode(jpeg, sampling)
    except (OSError, Image.DecompressionBombError) as error:
        raise BadInputError(
            f"Frame {frame_index} of video {video_id} is no JPEG: {error}"
        ) from error


def _decode(jpeg: bytes, sampling: Sampling) -> list[np.ndarray]:
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        size = sampling.width, sampling.height
        if sampling.crops > 1:
            # As large as it must be to cover the crops, in its own shape.
            scale = max(size[0] / image.width, size[1] / image.height)
            size = tuple(
                max(round(side * scale), least)
                for side, least in zip(image.size, size, strict=True)
            )
        # Lets the decoder skip detail that the resize would throw away.
        image.draft("RGB", size)
        # To convert what is RGB already would copy it.
        coloured = image if image.mode == "RGB" else image.convert("RGB")
        picture = np.asarray(coloured.resize(size, Image.Resampling.BILINEAR))
    rows, columns = picture.shape[0] - sampling.height, picture.shape[1] - sampling.width
    crops = np.linspace(0, 1, sampling.crops) if sampling.crops > 1 else [0.5]
    return [
        picture[
            round(rows * place) : round(rows * place) + sampling.height,
            round(columns * place) : round(columns * place) + sampling.width,
        ]
        for place in crops
    ]
