"""Windows are as many as were asked for, or cover the whole video, and stay within it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.windows import Window, windows_of
from vidpipe.models.architectures import Sampling

SIZE = {"frames": 4, "height": 8, "width": 8}


def test_the_whole_video_is_one_window_whose_parts_have_a_frame_in_their_middle():
    (window,) = windows_of(Sampling(**SIZE), 1.0, 9.0)
    assert window == Window(1.0, 9.0)
    assert list(window.moments(4)) == [2.0, 4.0, 6.0, 8.0]


def test_several_clips_of_the_whole_video_lie_between_each_other():
    windows = windows_of(Sampling(**SIZE, clips=2), 0.0, 8.0)
    moments = sorted(at for window in windows for at in window.moments(4))
    assert np.allclose(np.diff(moments), 1.0)


@pytest.mark.parametrize(("clips", "starts"), [(1, [4.0]), (2, [0.0, 8.0]), (3, [0.0, 4.0, 8.0])])
def test_short_clips_are_spread_evenly(clips, starts):
    windows = windows_of(Sampling(**SIZE, window_s=2.0, clips=clips), 0.0, 10.0)
    assert [window.start_s for window in windows] == starts
    assert {window.end_s - window.start_s for window in windows} == {2.0}


def test_each_window_has_all_crops():
    windows = windows_of(Sampling(**SIZE, clips=2, crops=3), 0.0, 8.0)
    assert [window.crop for window in windows] == [0, 1, 2, 0, 1, 2]


@given(
    start_s=st.floats(0, 100),
    length_s=st.floats(0, 500),
    window_s=st.floats(0.1, 50),
)
def test_sliding_windows_cover_the_video_each_half_over_the_one_before(start_s, length_s, window_s):
    sampling = Sampling(**SIZE, window_s=window_s, sliding=True)
    windows = windows_of(sampling, start_s, start_s + length_s)
    assert windows[0].start_s == start_s
    assert windows[-1].end_s == pytest.approx(start_s + length_s)
    for before, after in zip(windows, windows[1:], strict=False):
        assert before.start_s < after.start_s <= before.end_s - window_s / 2 + 1e-6
    assert all(w.end_s - w.start_s <= window_s + 1e-6 for w in windows)
    assert len(windows) <= 2 + 2 * length_s / window_s
