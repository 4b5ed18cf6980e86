"""The numbers are those that scikit-learn gives, also where a model knows other classes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.evaluation.metrics import NEVER, average_precision, evaluate
from vidpipe.evaluation.several import SeveralLabels, evaluate_several

CLASSES = ["a", "b", "c", "d", "e"]


@given(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_numbers_agree_with_scikit_learn(truth, seed):
    scores = np.random.default_rng(seed).dirichlet(np.ones(5), len(truth)).astype(np.float32)
    result = evaluate(scores, CLASSES, truth)
    predicted = [CLASSES[index] for index in scores.argmax(axis=1)]
    assert result.accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
    np.testing.assert_array_equal(
        result.confusion,
        sklearn.metrics.confusion_matrix(truth, predicted, labels=result.labels),
    )
    precision, recall, f1, videos = sklearn.metrics.precision_recall_fscore_support(
        truth, predicted, labels=sorted(set(truth)), zero_division=0
    )
    found = result.per_class()
    assert [row["label"] for row in found] == sorted(set(truth))
    for name, expected in (
        ("precision", precision),
        ("recall", recall),
        ("f1", f1),
        ("videos", videos),
    ):
        assert [row[name] for row in found] == pytest.approx(list(expected))
    assert result.macro_f1 == pytest.approx(f1.mean())
    most_frequent = max(set(truth), key=truth.count)
    by_chance = sklearn.metrics.accuracy_score(truth, [most_frequent] * len(truth))
    assert result.by_chance == pytest.approx(by_chance)
    best = [{CLASSES[i] for i in row} for row in np.argsort(-scores, axis=1)[:, :3]]
    assert result.metrics()["top_3_accuracy"] == pytest.approx(
        np.mean([label in found for label, found in zip(truth, best, strict=True)])
    )


@pytest.mark.parametrize("classes, k", [(2, None), (3, 2), (4, 2), (5, 3), (20, 5)])
def test_k_is_below_the_number_of_classes_and_above_one(classes, k):
    names = [f"c{n:02}" for n in range(classes)]
    metrics = evaluate(np.eye(classes), names, names).metrics()
    assert {name for name in metrics if name.startswith("top")} == (
        {f"top_{k}_accuracy"} if k else set()
    )


def test_a_class_that_the_model_does_not_know_is_never_right():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    result = evaluate(scores, ["old", "a"], ["new", "a", "a"])
    assert result.labels == ["a", "new", "old"]
    assert result.accuracy == pytest.approx(1 / 3)
    # Classes without a video have no recall, and are left out of the mean.
    assert {row["label"] for row in result.per_class()} == {"a", "new"}


@given(st.integers(2, 60), st.integers(0, 2**32 - 1), st.booleans())
def test_average_precision_agrees_with_scikit_learn_also_for_equal_scores(videos, seed, coarse):
    random = np.random.default_rng(seed)
    scores = random.random(videos)
    scores = scores.round(1) if coarse else scores
    truth = random.random(videos) < 0.4
    truth[0] = True
    expected = sklearn.metrics.average_precision_score(truth, scores)
    assert average_precision(truth, scores) == pytest.approx(expected)


def test_of_a_class_without_a_video_there_is_no_average_precision():
    truth = np.array([[True, False], [False, False]])
    result = SeveralLabels(["a", "b"], truth, np.array([[0.9, 0.8], [0.1, 0.7]]), np.full(2, 0.5))
    assert np.isnan(result.average_precisions[1])
    assert result.metrics() == {"map": 1.0, "macro_f1": 1.0, "ece": pytest.approx(0.425)}
    assert [row["label"] for row in result.per_class()] == ["a"]


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_precision_and_recall_of_several_labels_agree_with_scikit_learn(videos, seed):
    random = np.random.default_rng(seed)
    truth, scores = random.random((videos, 4)) < 0.5, random.random((videos, 4))
    thresholds = random.random(4)
    found = SeveralLabels(CLASSES[:4], truth, scores, thresholds).per_class()
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        truth, scores >= thresholds, zero_division=0
    )
    there = np.flatnonzero(truth.any(axis=0))
    assert [row["precision"] for row in found] == pytest.approx(list(precision[there]))
    assert [row["recall"] for row in found] == pytest.approx(list(recall[there]))
    assert [row["f1"] for row in found] == pytest.approx(list(f1[there]))


def test_confidence_that_is_met_is_no_calibration_error_and_one_that_is_not_is():
    # Ten predictions with 0.8, of which eight are right.
    scores = np.tile([0.8, 0.2], (10, 1))
    result = evaluate(scores, ["a", "b"], ["a"] * 8 + ["b"] * 2)
    assert result.ece == pytest.approx(0, abs=1e-6)
    assert result.reliability() == [(10, pytest.approx(0.8), pytest.approx(0.8))]
    wrong = evaluate(scores, ["a", "b"], ["b"] * 10)
    assert wrong.ece == pytest.approx(0.8)


@given(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=60), st.integers(0, 2**32 - 1))
def test_what_is_accepted_is_right_as_often_as_asked(truth, seed):
    scores = np.random.default_rng(seed).dirichlet(np.ones(5), len(truth)).astype(np.float32)
    result = evaluate(scores, CLASSES, truth)
    thresholds = result.accepting_thresholds(0.7)
    assert thresholds.keys() == set(result.labels)
    best = scores.max(axis=1)
    for index, label in enumerate(result.labels):
        accepted = (result.predicted == index) & (best >= np.float32(thresholds[label]))
        if accepted.any():
            assert (result.truth[accepted] == index).mean() >= 0.7


def test_thresholds_are_the_lowest_that_will_do():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.4, 0.6]])
    result = evaluate(scores, ["a", "b"], ["a", "a", "b", "a", "a"])
    assert result.accepting_thresholds(0.75) == {"a": pytest.approx(0.6), "b": NEVER}
    assert result.accepting_thresholds(0.9) == {"a": pytest.approx(0.8), "b": NEVER}


def test_where_the_surest_are_wrong_too_often_not_even_they_are_accepted():
    # What float32 makes of a sure softmax, or sigmoid.
    scores = np.array([[1.0, 0.0]] * 4, np.float32)
    for result in (
        evaluate(scores, ["a", "b"], ["a", "a", "b", "b"]),
        evaluate_several(scores, ["a", "b"], [["a"], ["a"], ["b"], ["b"]], {}),
    ):
        thresholds = result.accepting_thresholds(0.9)
        assert thresholds["a"] > scores.max()
        assert json.loads(json.dumps(thresholds, allow_nan=False)) == thresholds
        assert result.accepting_thresholds(0.5)["a"] == 1.0


def test_a_label_that_all_speaks_against_is_suspected_first():
    truth = ["a"] * 10 + ["b"] * 10
    scores = np.tile([0.9, 0.1], (20, 1))
    scores[10:] = [0.1, 0.9]
    scores[3], scores[14], scores[5] = [0.02, 0.98], [0.97, 0.03], [0.45, 0.55]
    result = evaluate(scores, ["a", "b"], truth)
    # The last is misclassified, but by no score that is usual.
    assert list(result.suspects()) == [3, 14]


def test_an_evaluation_of_some_rows_counts_them_as_often_as_they_are_there():
    result = evaluate(np.eye(2)[[0, 1, 1]], ["a", "b"], ["a", "b", "a"])
    assert result.take(np.array([0, 0, 2])).accuracy == pytest.approx(2 / 3)
