"""Windows become moments, moments segments, and segments are matched with the truth once each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.consensus import Span
from vidpipe.datasets.windows import Segment, Window
from vidpipe.evaluation.timeline import (
    average_precision_at,
    find_segments,
    moments_of,
    score_moments,
)


def test_moments_have_the_mean_of_the_windows_that_show_them():
    windows = [Window(0.0, 2.0), Window(1.0, 3.0)]
    scores = np.array([[1.0], [0.0]])
    found = score_moments(np.array([0.5, 1.5, 2.5, 9.0]), windows, scores)
    assert found[:, 0].tolist() == [1.0, 0.5, 0.0, 0.0]


def find(*scores: float, decision: float = 0.8) -> list[Segment]:
    return find_segments(len(scores) / 2, np.array(scores)[:, None], ["a"], np.array([decision]))


def test_a_segment_goes_on_while_the_score_is_not_low():
    assert find(0.1, 0.5, 0.9, 0.5, 0.85, 0.5, 0.3) == [Segment(0.5, 3.0, "a", 0.9)]
    assert find(0.9, 0.1, 0.9) == [Segment(0.0, 0.5, "a", 0.9), Segment(1.0, 1.5, "a", 0.9)]
    assert find(0.7, 0.7) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0.05, 1))
def test_every_moment_that_reaches_the_decision_is_in_one_segment(scores, decision):
    found = find(*scores, decision=decision)
    for number, score in enumerate(scores):
        at_s = (number + 0.5) / 2
        holding = [of for of in found if of.start_s <= at_s <= of.end_s]
        assert len(holding) <= 1
        if score >= decision:
            assert holding and holding[0].score >= score
    assert all(
        before.end_s < after.start_s for before, after in zip(found, found[1:], strict=False)
    )


def test_a_moment_is_half_a_second_and_a_short_video_has_one():
    assert moments_of(2.0).tolist() == [0.25, 0.75, 1.25, 1.75]
    assert moments_of(0.1).tolist() == [0.05]


def test_each_true_segment_is_found_once():
    truth = {"v": [Span(0, 2, "a")], "w": [Span(5, 9, "a")]}
    found = {
        "v": [Segment(0, 2, "a", 0.9), Segment(0, 1.9, "a", 0.8)],
        "w": [Segment(5, 7, "a", 0.7)],
    }
    # Right, found again, and half of it: 1 · 1/2 + 2/3 · 1/2 up to one half, 1 · 1/2 above it.
    assert average_precision_at(0.5, truth, found) == pytest.approx(1 / 2 + 1 / 3)
    assert average_precision_at(0.7, truth, found) == pytest.approx(1 / 2)
    assert average_precision_at(0.5, truth, {}) == 0.0
    assert np.isnan(average_precision_at(0.5, {}, found))
