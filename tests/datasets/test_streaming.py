"""Streamed clips are the stored ones, in an order that reads row groups together."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import pyarrow.dataset as ds
import pytest

from tests.datasets.test_clips import SAMPLING, frame, jpeg, table
from vidpipe.datasets.clips import read_clips
from vidpipe.datasets.pipeline import Order, failures_of, plain_batches, training_batches
from vidpipe.datasets.presets import Augmentation
from vidpipe.datasets.streaming import StreamedClips
from vidpipe.errors import BadInputError

VIDEOS = 30
EXTRACTIONS = {f"v{n:02}": "w" for n in range(VIDEOS)}


def frames(tmp_path) -> ds.Dataset:
    """Videos of one to nine frames in two files, row groups of five, among others."""
    rows = [
        frame(f"v{n:02}", index, index / 2, 8 * n + index, work_key)
        for n in range(VIDEOS)
        for work_key in ("other", "w")
        for index in range(1 + n % 9)
    ]
    rows += [frame("x", 0, 0.0, 1)]
    files = []
    for name, part in (("a", rows[: len(rows) // 2]), ("b", rows[len(rows) // 2 :])):
        (tmp_path / name).mkdir()
        files += table(tmp_path / name, *part).files
    return ds.dataset(files)


@pytest.mark.parametrize(
    "sampling, finer",
    [(SAMPLING, 1), (SAMPLING, 3), (dataclasses.replace(SAMPLING, clips=2, crops=2), 1)],
)
def test_they_are_the_stored_ones_to_the_last_pixel(tmp_path, sampling, finer):
    found = frames(tmp_path)
    extractions = {"none": "w", **EXTRACTIONS}
    stored = read_clips(found, extractions, sampling, tmp_path / "clips.npy", finer=finer)
    streamed = StreamedClips(found, extractions, sampling, finer=finer)
    assert streamed.video_ids == stored.video_ids and streamed.windows == stored.windows
    assert streamed.shape == stored.array.shape and streamed.dtype == stored.array.dtype
    assert streamed.nbytes == stored.array.nbytes
    rows = np.random.default_rng(0).permutation(len(stored.array))
    np.testing.assert_array_equal(streamed[rows], stored.array[rows])
    moments = np.array([[3, 0], [1, 1]])
    np.testing.assert_array_equal(
        streamed[rows[:2, None], moments], stored.array[rows[:2, None], moments]
    )


def make(clips, rows: np.ndarray, first_step: int = 0):
    labels = np.eye(3, dtype=np.float32)[np.arange(len(rows)) % 3]
    batches = training_batches(
        clips,
        rows,
        labels,
        np.ones(len(rows)),
        order=Order(clips, rows, batch_size=4, seed=1),
        frames=4,
        augmentation=Augmentation(mix="cutmix"),
        seed=1,
        epochs=2,
        first_step=first_step,
    )
    return list(batches.as_numpy_iterator())


def test_a_stream_goes_on_at_any_step(tmp_path):
    found, rows = frames(tmp_path), np.arange(2, VIDEOS)
    whole = make(StreamedClips(found, EXTRACTIONS, SAMPLING, finer=3), rows)
    rest = make(StreamedClips(found, EXTRACTIONS, SAMPLING, finer=3), rows, first_step=9)
    assert len(whole) == 14 and len(rest) == 5
    for batch, same in zip(whole[9:], rest, strict=True):
        for values, same_values in zip(batch, same, strict=True):
            np.testing.assert_array_equal(values, same_values)


def test_row_groups_are_read_together_and_every_row_comes_once_an_epoch(tmp_path, monkeypatch):
    found, rows = frames(tmp_path), np.arange(VIDEOS)
    size = next(found.get_fragments()).split_by_row_group()[0].row_groups[0].total_byte_size
    clips = StreamedClips(found, EXTRACTIONS, SAMPLING, buffer_bytes=6 * size)
    assert clips.groups_at_once == pytest.approx(3, abs=1)
    read = collections.Counter()
    load = clips._load
    monkeypatch.setattr(clips, "_load", lambda group: read.update([group]) or load(group))
    order = Order(clips, rows, batch_size=4, seed=1)
    epochs = [[order.batch(n) for n in range(first, first + 8)] for first in (0, 8)]
    for epoch in epochs:
        assert sorted(np.concatenate(epoch)) == list(rows)
        read.clear()
        for batch in epoch:
            _ = clips[batch]
        # A video that lies in two row groups may have one read once more.
        assert max(read.values()) <= 3 and read.total() < 1.5 * len(read)
    assert (np.concatenate(epochs[0]) != np.concatenate(epochs[1])).any()
    assert (np.concatenate(epochs[0]) != rows).any()


def test_a_frame_that_is_no_jpeg_is_named(tmp_path):
    broken = table(tmp_path, frame("v", 7, 0.0, 1, jpeg=jpeg(9)[:200]))
    clips = StreamedClips(broken, {"v": "w"}, SAMPLING)
    with pytest.raises(BadInputError, match="Frame 7 of video v is no JPEG"):
        _ = clips[[0]]
    rows, one = np.array([0]), np.ones((1, 1), np.float32)
    batches = plain_batches(clips, rows, one, one[0], batch_size=1, frames=4)
    with pytest.raises(BadInputError, match="Frame 7 of video v"), failures_of(clips):
        next(iter(batches))


def test_without_any_frame_there_are_no_clips(tmp_path):
    clips = StreamedClips(table(tmp_path), {"v": "w"}, SAMPLING)
    assert clips.shape == (0, 4, 16, 24, 3) and clips.video_ids == []
