"""Clips hold the frames nearest to evenly spread moments, of the extraction that was asked for."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vidpipe.datasets.clips import average_clips, read_clips
from vidpipe.datasets.pipeline import plain_moments
from vidpipe.errors import BadInputError
from vidpipe.models.architectures import Sampling
from vidpipe.schemas import TABLES
from vidpipe.stages.manifest import now

SAMPLING = Sampling(frames=4, height=16, width=24)


def jpeg(level: int, size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(file, "JPEG", quality=95)
    return file.getvalue()


def frame(
    video_id: str, index: int, time_s: float, level: int, work_key: str = "w", **other
) -> dict:
    return {
        "video_id": video_id,
        "frame_index": index,
        "pts": None,
        "time_s": time_s,
        "key_frame": False,
        "width": 40,
        "height": 30,
        "jpeg": jpeg(level),
        "ingested_at": now(),
        "work_key": work_key,
        "run_key": "r",
        **other,
    }


def table(tmp_path, *frames: dict) -> ds.Dataset:
    path = tmp_path / "frames.parquet"
    rows = pa.Table.from_pylist(list(frames), schema=TABLES["frames"].schema)
    pq.write_table(rows, path, row_group_size=5)
    return ds.dataset(path)


def levels(clip: np.ndarray) -> list[int]:
    return [round(float(picture.mean())) for picture in clip]


def test_frames_are_the_nearest_to_the_middles_of_equal_parts(tmp_path):
    frames = table(tmp_path, *(frame("v", n, n / 10, 10 * n) for n in range(21)))
    clips = read_clips(frames, {"v": "w"}, SAMPLING, tmp_path / "clips.npy")
    assert clips.video_ids == ["v"]
    assert clips.array.shape == (1, 4, 16, 24, 3) and clips.array.dtype == np.uint8
    assert levels(clips.array[0]) == pytest.approx([20, 80, 120, 180], abs=12)


def test_times_count_and_not_the_number_of_frames(tmp_path):
    times_s = [0.0, 0.1, 0.2, 0.3, 0.4, 4.0, 8.0]  # a variable rate
    frames = table(tmp_path, *(frame("v", n, t, 30 * n) for n, t in enumerate(times_s)))
    clips = read_clips(frames, {"v": "w"}, SAMPLING, tmp_path / "clips.npy")
    assert levels(clips.array[0]) == pytest.approx([120, 150, 150, 180], abs=2)


def test_a_video_with_few_frames_repeats_them(tmp_path):
    frames = table(tmp_path, frame("v", 0, 0.0, 50), frame("v", 1, 1.0, 200))
    clips = read_clips(frames, {"v": "w"}, SAMPLING, tmp_path / "clips.npy")
    assert levels(clips.array[0]) == pytest.approx([50, 50, 200, 200], abs=2)


def test_videos_come_in_the_order_asked_for_and_those_without_frames_are_left_out(tmp_path):
    frames = table(tmp_path, *(frame(v, 0, 0.0, n) for n, v in ((10, "a"), (90, "b"), (200, "c"))))
    told = []
    clips = read_clips(
        frames,
        {"c": "w", "none": "w2", "a": "w"},
        SAMPLING,
        tmp_path / "clips.npy",
        progress=lambda done, of: told.append((done, of)),
    )
    assert clips.video_ids == ["c", "a"]
    assert [levels(clip)[0] for clip in clips.array] == pytest.approx([200, 10], abs=2)
    assert told[-1] == (8, 8)


def test_only_the_frames_of_that_extraction_are_taken(tmp_path):
    frames = table(tmp_path, frame("v", 0, 0.0, 10, "old"), frame("v", 0, 0.0, 200, "new"))
    clips = read_clips(frames, {"v": "new"}, SAMPLING, tmp_path / "clips.npy")
    assert levels(clips.array[0]) == pytest.approx([200] * 4, abs=2)


def test_without_any_frame_there_are_no_clips(tmp_path):
    clips = read_clips(table(tmp_path), {"v": "w"}, SAMPLING, tmp_path / "clips.npy")
    assert clips.video_ids == [] and clips.array.shape == (0, 4, 16, 24, 3)


@pytest.mark.parametrize("content", [b"", b"no picture", jpeg(9)[:200], b"GIF89a" + bytes(50)])
def test_a_frame_that_is_no_jpeg_is_named(tmp_path, content):
    frames = table(tmp_path, frame("v", 7, 0.0, 1, jpeg=content))
    with pytest.raises(BadInputError, match="Frame 7 of video v is no JPEG"):
        read_clips(frames, {"v": "w"}, SAMPLING, tmp_path / "clips.npy")


def test_of_a_long_video_each_window_has_a_clip(tmp_path):
    frames = table(tmp_path, *(frame("v", n, n / 10, 10 * n) for n in range(21)))
    sampling = dataclasses.replace(SAMPLING, window_s=1.0, sliding=True)
    clips = read_clips(frames, {"v": "w"}, sampling, tmp_path / "clips.npy")
    assert clips.video_ids == ["v"] * 3
    assert [(w.start_s, w.end_s) for w in clips.windows] == [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0)]
    assert levels(clips.array[0]) == pytest.approx([10, 40, 60, 90], abs=12)
    assert levels(clips.array[2]) == pytest.approx([110, 140, 160, 190], abs=12)


def test_crops_keep_the_shape_of_things(tmp_path):
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, :20], picture[:, 20:40], picture[:, 40:] = 40, 120, 200
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    frames = table(tmp_path, frame("v", 0, 0.0, 0, jpeg=file.getvalue()))
    sampling = Sampling(frames=1, height=10, width=10, crops=3)
    clips = read_clips(frames, {"v": "w"}, sampling, tmp_path / "clips.npy")
    assert [levels(clip)[0] for clip in clips.array] == pytest.approx([40, 120, 200], abs=4)


def test_what_is_said_of_clips_is_averaged_for_each_video():
    values = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.2, 0.8]])
    found = average_clips(values, ["b", "b", "a", "c"])
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.5, 0.5], [0.2, 0.8]])


@pytest.mark.parametrize("sampling", [SAMPLING, dataclasses.replace(SAMPLING, clips=3)])
def test_of_finer_moments_the_middles_are_the_clip(tmp_path, sampling):
    frames = table(tmp_path, *(frame("v", n, n / 10, 6 * n) for n in range(41)))
    plain = read_clips(frames, {"v": "w"}, sampling, tmp_path / "plain.npy").array
    finer = read_clips(frames, {"v": "w"}, sampling, tmp_path / "finer.npy", finer=3).array
    assert finer.shape == (len(plain), 12, 16, 24, 3)
    np.testing.assert_array_equal(finer[:, plain_moments(12, 4)], plain)
    for clip in finer:
        assert (np.diff(levels(clip)) > 0).all()
