"""Where there may be several labels: resampling is exact, and what is furthest off comes first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.evaluation.metrics import average_precision
from vidpipe.evaluation.several import NOTHING, evaluate_several


@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_what_is_drawn_several_times_counts_several_times(items, seed):
    random = np.random.default_rng(seed)
    scores = random.random((items, 3)).round(1).astype(np.float32)
    truth = [[c for c in "abc" if random.random() < 0.4] for _ in range(items)]
    result = evaluate_several(scores, list("abc"), truth, {})
    drawn = random.integers(0, items, items)
    among = random.integers(0, items, items // 2)
    taken = result.take(drawn).take(among)
    rows = drawn[among]
    repeated = evaluate_several(scores[rows], list("abc"), [truth[row] for row in rows], {})
    of_taken = dict(zip(taken.labels, taken.average_precisions, strict=True))
    for label, index in zip(repeated.labels, range(3), strict=False):
        expected = average_precision(repeated.is_true[:, index], repeated.scores[:, index])
        assert of_taken[label] == pytest.approx(expected, nan_ok=True)
    assert taken.macro_f1 == pytest.approx(repeated.macro_f1, nan_ok=True)
    assert taken.ece == pytest.approx(repeated.ece, abs=1e-6)
    assert taken.by_chance == pytest.approx(repeated.by_chance, nan_ok=True)
    assert len(taken.mistakes()) == len(repeated.mistakes())


def test_some_items_are_as_well_calibrated_as_they_are_by_themselves():
    truth = [["a"]] * 60 + [[]] * 60
    result = evaluate_several(np.full((120, 1), 0.9), ["a"], truth, {})
    assert result.ece == pytest.approx(0.4, abs=1e-6)
    assert result.take(np.arange(60)).ece == pytest.approx(0.1, abs=1e-6)


def test_chance_is_what_equal_scores_reach():
    truth = [["a", "b"], ["a"], [], ["a"]]
    result = evaluate_several(np.full((4, 3), 0.5), list("abc"), truth, {})
    assert result.by_chance == pytest.approx(result.value) == pytest.approx((0.75 + 0.25) / 2)
    of_first = result.take(np.array([0, 0, 1]))
    assert of_first.by_chance == pytest.approx(of_first.value) == pytest.approx((1 + 2 / 3) / 2)


def test_a_label_that_the_model_does_not_know_is_found_nowhere():
    result = evaluate_several(np.array([[0.9], [0.2]]), ["x"], [["x"], ["y"]], {})
    assert result.labels == ["x", "y"]
    assert list(result.average_precisions) == [1.0, 0.5]


def test_mistakes_and_doubtful_labels_come_with_the_furthest_off_first():
    scores = np.array([[0.9, 0.1], [0.8, 0.1], [0.2, 0.9], [0.97, 0.2], [0.3, 0.1]])
    truth = [["a"], ["a"], ["b"], ["b"], ["a"]]
    result = evaluate_several(scores, ["a", "b"], truth, {})
    assert list(result.mistakes()) == [3, 4]
    assert list(result.suspects()) == [3, 4]
    assert result.told(3) == ("b", "a 0.97")
    assert result.told(4) == ("a", NOTHING)


def test_a_label_that_is_accepted_from_less_on_is_predicted_from_there_on():
    scores = np.array([[0.4], [0.3], [0.1]])
    result = evaluate_several(scores, ["a"], [["a"], ["a"], []], {"a": 0.3})
    assert result.per_class()[0]["recall"] == 1.0
    assert result.accepting_thresholds(0.9) == {"a": pytest.approx(0.3)}
