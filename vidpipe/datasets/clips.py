"""Clips: the frames of videos as one array, read in bounded memory.

Training, evaluation and nightly labelling all read through here, so that a model sees at night
exactly what it was evaluated on.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.dataset as ds
from PIL import Image

from vidpipe.errors import BadInputError
from vidpipe.models.architectures import Sampling

BATCH_ROWS = 64


class Clips(NamedTuple):
    """Clips of some videos.

    Attributes:
        video_ids: The videos, in the order of the array.
        array: uint8 `(videos, frames, height, width, 3)`, memory-mapped.
    """

    video_ids: list[str]
    array: np.ndarray


def read_clips(
    frames: ds.Dataset,
    extractions: Mapping[str, str],
    sampling: Sampling,
    path: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Clips:
    """Samples the frames of videos into an array.

    The moments are the middles of `sampling.frames` equal parts of a video; of each the nearest
    frame is taken, so that a video with few frames repeats some.

    Args:
        frames: The table `frames`.
        extractions: For each video the work key of the extraction whose frames are meant.
        sampling: How many frames, how large.
        path: A file that does not exist yet, which will hold the array.
        progress: Called with the number of frames done and of all.

    Returns:
        Clips of those videos that have frames, in the order of `extractions`.

    Raises:
        BadInputError: A frame is no JPEG.
    """
    wanted = _choose(frames, extractions, sampling)
    video_ids = [video_id for video_id in extractions if video_id in wanted]
    if not video_ids:
        return Clips(
            [], np.empty((0, sampling.frames, sampling.height, sampling.width, 3), "uint8")
        )
    row_of = {video_id: row for row, video_id in enumerate(video_ids)}
    array = np.lib.format.open_memmap(
        path,
        mode="w+",
        dtype=np.uint8,
        shape=(len(video_ids), sampling.frames, sampling.height, sampling.width, 3),
    )
    done, of = 0, len(video_ids) * sampling.frames
    for video_id, frame_index, jpeg in _scan(frames, extractions, ["frame_index", "jpeg"]):
        moments = np.flatnonzero(wanted[video_id] == frame_index)
        if not moments.size:
            continue
        try:
            array[row_of[video_id], moments] = _decode(jpeg, sampling)
        except OSError as error:
            raise BadInputError(
                f"Frame {frame_index} of video {video_id} is no JPEG: {error}"
            ) from error
        done += moments.size
        if progress:
            progress(done, of)
    return Clips(video_ids, array)


def _choose(
    frames: ds.Dataset, extractions: Mapping[str, str], sampling: Sampling
) -> dict[str, np.ndarray]:
    """Index of the frame for each moment of each video."""
    found: dict[str, list[tuple[float, int]]] = {}
    for video_id, time_s, frame_index in _scan(frames, extractions, ["time_s", "frame_index"]):
        found.setdefault(video_id, []).append((time_s, frame_index))
    middles = (np.arange(sampling.frames) + 0.5) / sampling.frames
    chosen = {}
    for video_id, moments in found.items():
        times_s, indexes = map(np.asarray, zip(*sorted(moments), strict=True))
        targets_s = times_s[0] + middles * (times_s[-1] - times_s[0])
        nearest = np.abs(times_s[None, :] - targets_s[:, None]).argmin(axis=1)
        chosen[video_id] = indexes[nearest]
    return chosen


def _scan(
    frames: ds.Dataset, extractions: Mapping[str, str], columns: list[str]
) -> Iterator[tuple]:
    """Yields `video_id` and the columns of each frame of the videos, a few rows at a time."""
    batches = frames.to_batches(
        columns=["video_id", *columns],
        # The first prunes row groups, sorted by video as they are; the second says which frames.
        filter=ds.field("video_id").isin(list(extractions))
        & ds.field("work_key").isin(list(extractions.values())),
        batch_size=BATCH_ROWS,
        batch_readahead=2,
        fragment_readahead=1,
    )
    for batch in batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _decode(jpeg: bytes, sampling: Sampling) -> np.ndarray:
    size = sampling.width, sampling.height
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        # Lets the decoder skip detail that the resize would throw away.
        image.draft("RGB", size)
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
