"""Two models on the same videos: by how much one is better, how surely, and where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.evaluation.comparison import compare
from vidpipe.evaluation.figures import draw_comparison
from vidpipe.evaluation.metrics import Evaluation, evaluate

VIDEOS = 120
NAMES = [str(n) for n in range(VIDEOS)]
DESCRIBED = [{"source": "north" if n < 40 else "south"} for n in range(VIDEOS)]


def right_on(wrong: range) -> Evaluation:
    """A model that is right but on some videos."""
    truth = np.arange(VIDEOS) % 2
    predicted = truth.copy()
    predicted[list(wrong)] ^= 1
    return evaluate(np.eye(2)[predicted], ["a", "b"], ["ab"[t] for t in truth])


def test_a_better_one_is_surely_better_and_by_how_much():
    found = compare(right_on(range(6)), right_on(range(30)), DESCRIBED, NAMES, NAMES, margin=0.1)
    assert found.difference == pytest.approx(24 / VIDEOS)
    assert found.interval.low < 24 / VIDEOS < found.interval.high
    assert found.sureness > 0.95
    by_margin = compare(
        right_on(range(6)), right_on(range(30)), DESCRIBED, NAMES, NAMES, margin=0.3
    )
    assert by_margin.sureness < 0.05


def test_the_same_model_is_not_better():
    found = compare(right_on(range(9)), right_on(range(9)), DESCRIBED, NAMES, NAMES, margin=0.0)
    assert (found.difference, found.sureness) == (0.0, 0.0)


def test_a_slice_on_which_it_is_worse_is_told_with_both():
    found = compare(
        right_on(range(20)), right_on(range(60, 120)), DESCRIBED, NAMES, NAMES, margin=0.0
    )
    assert [(s.value, s.videos, s.challenger, s.champion) for s in found.slices] == [
        ("all", 120, pytest.approx(100 / 120), 0.5),
        ("north", 40, 0.5, 1.0),
        ("south", 80, 1.0, 0.25),
    ]
    figure = draw_comparison(found, "accuracy", "motion: version $2 and 1")
    assert "better by +0.333" in figure.axes[0].get_title()
    figure.savefig("/dev/null", format="png")


def test_equal_videos_of_one_group_make_it_less_sure():
    groups = [str(n // 30) for n in range(VIDEOS)]
    sure, unsure = (
        compare(right_on(range(5)), right_on(range(20)), DESCRIBED, NAMES, of, margin=0.0).sureness
        for of in (NAMES, groups)
    )
    assert unsure < 0.8 < sure
