"""The numbers are those that scikit-learn gives, also where a model knows other classes."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.evaluation.metrics import evaluate

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
