"""What is heard: pitches land in their bands, at their time, however the sound was cut."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpipe.datasets.spectrogram import QUIETEST, is_missing, mel_powers, read_sound, to_log
from vidpipe.datasets.windows import Window
from vidpipe.models.architectures import SOUND_SHAPE
from vidpipe.schemas import TABLES
from vidpipe.stages.manifest import now

RATE_HZ = 16_000
STEPS, BANDS = SOUND_SHAPE


def tone(hz: float, seconds: float, level: float = 0.5) -> np.ndarray:
    times_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (level * 32767 * np.sin(2 * np.pi * hz * times_s)).astype(np.int16)


def row(
    samples: np.ndarray,
    start_s: float = 0.0,
    video_id: str = "v",
    work_key: str = "w",
    imputed_by: str | None = None,
) -> dict:
    return {
        "video_id": video_id,
        "start_s": start_s,
        "end_s": start_s + len(samples) / RATE_HZ,
        "imputed_by": imputed_by,
        "samples": samples.astype("<i2").tobytes(),
        "ingested_at": now(),
        "work_key": work_key,
        "run_key": "r",
    }


def silence(seconds: float, start_s: float) -> dict:
    return row(tone(0, seconds), start_s, imputed_by="silence")


def pieces(samples: np.ndarray, cuts: list[int]) -> list[dict]:
    edges = [0, *sorted(cuts), len(samples)]
    return [row(samples[a:b], a / RATE_HZ) for a, b in zip(edges, edges[1:], strict=False) if a < b]


def hear(rows: list[dict], *windows: Window, videos: tuple[str, ...] = ()) -> np.ndarray:
    """What is heard in windows of "v", or of the videos that are named."""
    audio = ds.dataset(pa.Table.from_pylist(rows, schema=TABLES["audio"].schema))
    videos = videos or ("v",) * len(windows)
    folder = Path(tempfile.gettempdir())
    return read_sound(audio, dict.fromkeys(videos, "w"), videos, windows, folder)


def centre_mel(band: int) -> float:
    """Where a band is loudest, on a scale of which 8 kHz are the end."""
    return (band + 1) / (BANDS + 1) * mel(8000)


def mel(hz: float) -> float:
    return 2595 * np.log10(1 + hz / 700)


@given(st.floats(60, 7800), st.floats(0.01, 1.0))
def test_a_tone_is_loudest_in_its_band_as_loud_as_it_is(hz, level):
    heard = to_log(mel_powers(tone(hz, 0.2, level).astype(np.float32) / 32768, BANDS))
    assert heard.shape == (18, BANDS)  # all that lie in it as a whole
    loudest = int(heard.mean(axis=0).argmax())
    # A band, or where those are narrower a frequency that the FFT tells, from the next.
    near = max(mel(8000) / (BANDS + 1), mel(hz + 31.25) - mel(hz))
    assert abs(centre_mel(loudest) - mel(hz)) <= near
    assert heard[:, loudest] == pytest.approx(2 * np.log10(level), abs=0.5)
    far = [b for b in range(BANDS) if abs(centre_mel(b) - mel(hz)) > 400]
    assert (heard[:, far] < 2 * np.log10(level) - 3).all()


@settings(max_examples=20)
@given(
    st.lists(st.integers(0, 3 * RATE_HZ), max_size=6),
    st.floats(0, 3),
    st.floats(0, 3),
)
def test_however_the_sound_is_cut_the_same_is_heard(cuts, start_s, length_s):
    random = np.random.default_rng(0)
    samples = (random.normal(0, 3000, 3 * RATE_HZ) * np.linspace(0, 1, 3 * RATE_HZ)).astype(int)
    window = Window(start_s, start_s + length_s)
    whole, cut = (hear(pieces(samples, c), window) for c in ([], cuts))
    assert whole.shape == (1, STEPS, BANDS) and whole.dtype == np.float16
    np.testing.assert_allclose(cut.astype(float), whole.astype(float), atol=0.01)


@pytest.mark.parametrize("late_s", [0.0, 0.3, 40.0])
def test_it_is_heard_when_it_is_to_be_heard(late_s):
    rows = [row(tone(1000, 1.0), 2.0 + late_s), row(tone(3000, 0.5), 6.0 + late_s)]
    (heard,) = hear(rows, Window(late_s, 8.0 + late_s))  # 16 steps a second
    low, high = (
        int(np.argmin([abs(centre_mel(b) - mel(hz)) for b in range(BANDS)])) for hz in (1000, 3000)
    )
    assert (heard[33:47, low] > -1.5).all() and (heard[97:103, high] > -1.5).all()
    assert heard[33:47].argmax(axis=1).tolist() == [low] * 14
    quiet = np.r_[0:31, 49:95, 105:128]
    assert (heard[quiet] == QUIETEST).all()


@pytest.mark.parametrize("length_s", [0.0, 0.02, 1.0, 90.0])
def test_windows_of_any_length_are_heard_in_as_many_steps(length_s):
    (heard,) = hear(pieces(tone(440, 90.0), [30 * RATE_HZ]), Window(0.0, length_s))
    assert heard.shape == SOUND_SHAPE
    (loudest,) = set(heard.argmax(axis=1).tolist())
    assert abs(centre_mel(loudest) - mel(440)) < 25
    assert np.ptp(heard[:-1, loudest].astype(float)) < 0.05


def test_sound_that_was_decoded_in_no_part_of_a_window_is_missing():
    rows = [row(tone(440, 1.0)), silence(9.0, 1.0), row(tone(440, 1.0), 12.0)]
    windows = [Window(*of) for of in ((0, 2), (0.9, 10), (2, 4), (10, 12), (11, 12.5), (20, 21))]
    heard = hear(rows, *windows)
    assert is_missing(heard).tolist() == [False, False, True, True, False, True]
    assert (
        np.isnan(heard[is_missing(heard)]).all() and not np.isnan(heard[~is_missing(heard)]).any()
    )
    assert (heard[0, 70:] == QUIETEST).all()  # partly imputed: it is silent
    # A silence that was recorded is one.
    assert (hear([row(tone(0, 1.0))], Window(0, 1)) == QUIETEST).all()


def test_each_video_is_heard_by_the_extraction_that_is_meant_and_one_without_sound_is_not():
    low, high = tone(300, 1.0), tone(3000, 1.0)
    rows = [
        row(high, video_id="a", work_key="old"),
        row(low, video_id="a"),
        row(high, video_id="b"),
        row(high, video_id="other"),
    ]
    windows = [Window(0, 1), Window(0, 1), Window(0, 1, 0.25), Window(0, 1, crop=1)]
    heard = hear(rows, *windows, videos=("b", "none", "a", "a"))
    assert is_missing(heard).tolist() == [False, True, False, False]
    loudest = heard[[0, 2]].mean(axis=1).argmax(axis=1)
    assert loudest[0] > 30 > loudest[1]
    np.testing.assert_array_equal(heard[2], heard[3])
    assert hear(rows).shape == (0, *SOUND_SHAPE)


def test_a_long_video_is_not_in_memory_as_a_whole(tmp_path):
    """Ten minutes of windows that follow each other would be 80 MB of sums, 20 MB of samples."""
    rows = [row(tone(440, 30.0), 30.0 * n) for n in range(20)]
    table = pa.Table.from_pylist(rows, schema=TABLES["audio"].schema)
    pq.write_table(table, tmp_path / "audio.parquet", row_group_size=4)
    windows = [Window(start, start + 1.0) for start in np.arange(0.0, 599.0, 0.5)]
    tracemalloc.start()
    try:
        audio = ds.dataset(tmp_path / "audio.parquet")
        heard = read_sound(audio, {"v": "w"}, ["v"] * len(windows), windows, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not is_missing(heard).any()
    assert peak < 60e6
