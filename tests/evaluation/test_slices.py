"""Slices hold the videos that they are named after, and say how sure their accuracy is."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.evaluation.metrics import evaluate
from vidpipe.evaluation.several import evaluate_several
from vidpipe.evaluation.slices import describe, slice_up

VIDEO = {
    "duration_s": 12.0,
    "width": 1080,
    "height": 1920,
    "source_uri": "s3://videos/2026/north/clip.mp4",
    "repeated_frames": None,
    "interpolated_frames": 0,
}


@pytest.mark.parametrize(
    "change, name, value",
    [
        ({"duration_s": 9.99}, "duration", "below 10 s"),
        ({"duration_s": 10}, "duration", "10 s to 1 min"),
        ({"duration_s": 7200}, "duration", "above 10 min"),
        ({}, "short side", "1080 and above"),
        ({"height": 719}, "short side", "360 to 719"),
        ({}, "source", "videos/2026"),
        ({"source_uri": "s3://videos/clip.mp4"}, "source", "videos"),
        ({}, "imputed frames", "none"),
        ({"repeated_frames": 1}, "imputed frames", "some"),
    ],
)
def test_a_video_is_in_the_slices_that_it_belongs_to(change, name, value):
    assert describe({**VIDEO, **change})[name] == value


def test_each_slice_is_measured_by_itself_and_what_all_share_is_none():
    truth = ["a", "b"] * 20
    scores = np.array([[0.9, 0.1], [0.1, 0.9]] * 10 + [[0.9, 0.1]] * 20)
    described = [{"duration": "short" if n < 20 else "long", "source": "one"} for n in range(40)]
    videos = [str(n) for n in range(40)]
    found = slice_up(evaluate(scores, ["a", "b"], truth), described, videos, videos)
    assert [(s.name, s.value, s.videos, s.metric) for s in found] == [
        ("all", "all", 40, 0.75),
        ("duration", "short", 20, 1.0),
        ("duration", "long", 20, 0.5),
    ]
    assert found[2].interval.low < 0.5 < found[2].interval.high


def test_the_interval_of_a_slice_is_of_its_own_videos():
    truth = [["a"], ["b"]] * 60
    right, wrong = [[0.9, 0.1], [0.1, 0.9]], [[0.1, 0.9], [0.9, 0.1]]
    scores = np.array(right * 30 + wrong * 30)
    described = [{"source": "north" if n < 60 else "south"} for n in range(120)]
    videos = [str(n) for n in range(120)]
    for result in (
        evaluate(scores, ["a", "b"], [label for (label,) in truth]),
        evaluate_several(scores, ["a", "b"], truth, {}),
    ):
        _, north, south = slice_up(result, described, videos, videos)
        assert north.interval == pytest.approx((0.94, 1.0), abs=1e-3)
        assert south.interval.low <= south.metric <= south.interval.high < 0.7


def test_moments_of_a_video_count_as_one_video():
    described = [{"source": "north" if n < 40 else "south"} for n in range(120)]
    videos = [str(n // 40) for n in range(120)]
    result = evaluate_several(np.full((120, 1), 0.9), ["a"], [["a"]] * 120, {})
    found = slice_up(result, described, videos, videos)
    assert [(of.value, of.videos) for of in found] == [("all", 3), ("north", 1), ("south", 2)]
