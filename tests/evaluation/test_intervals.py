"""Intervals hold what they promise, and groups are drawn whole."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.evaluation.intervals import bootstrap, sureness, wilson


def test_the_interval_of_a_share_is_about_that_of_the_binomial():
    right = np.arange(400) % 4 > 0
    low, high = bootstrap(lambda rows: right[rows].mean(), [str(n) for n in range(400)])
    deviation = np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - 1.96 * deviation, abs=0.01)
    assert high == pytest.approx(0.75 + 1.96 * deviation, abs=0.01)


def test_items_of_one_group_do_not_make_it_surer():
    right = np.repeat(np.arange(40) % 4 > 0, 20)  # what a group has, all of it has
    of_items = bootstrap(lambda rows: right[rows].mean(), [str(n) for n in range(800)])
    of_groups = bootstrap(lambda rows: right[rows].mean(), [str(n // 20) for n in range(800)])
    assert of_groups.high - of_groups.low > 3 * (of_items.high - of_items.low)


def test_groups_are_drawn_whole_in_any_order_of_the_items():
    groups = ["b", "a", "b", "c", "a", "b"]

    def check(rows: np.ndarray) -> float:
        counts = np.bincount(rows, minlength=6)
        assert len(set(counts[[0, 2, 5]])) == 1 and len(set(counts[[1, 4]])) == 1
        return 0.0

    bootstrap(check, groups)


def test_the_same_seed_gives_the_same():
    values = np.random.default_rng(0).random(30)
    groups = [str(n) for n in range(30)]
    one, again, other = (
        bootstrap(lambda rows: values[rows].mean(), groups, seed=seed) for seed in (0, 0, 1)
    )
    assert one == again != other


def test_a_difference_is_sure_when_one_is_better_everywhere_and_not_when_by_chance():
    random = np.random.default_rng(0)
    groups = [str(n) for n in range(200)]
    better = np.full(200, 0.1)
    assert sureness(lambda rows: better[rows].mean(), groups, 0.05) == 1
    assert sureness(lambda rows: better[rows].mean(), groups, 0.2) == 0
    chance = random.normal(0, 1, 200)
    chance -= chance.mean()
    assert 0.4 < sureness(lambda rows: chance[rows].mean(), groups, 0.0) < 0.6


def test_where_all_are_right_or_none_the_interval_has_a_width():
    groups = [str(n) for n in range(48)]
    assert bootstrap(lambda rows: 1.0, groups) == wilson(48, 48)
    assert bootstrap(lambda rows: 0.0, groups) == wilson(0, 48)


@pytest.mark.parametrize("count", [1, 4, 29])
def test_of_few_groups_that_are_all_right_the_interval_has_a_width(count):
    groups = [str(n // 2) for n in range(2 * count)]
    assert bootstrap(lambda rows: 1.0, groups) == wilson(count, count)
    # Two models that are alike on each may still be as far apart as so few can hide.
    low, high = bootstrap(lambda rows: 0.0, groups, lowest=-1.0)
    assert -low == pytest.approx(high) and high > 0.3


@pytest.mark.parametrize(
    ("better", "of", "sure"),
    # As many heads in a row, and the mean of chances where the rest is the same for both.
    [(1, 1, 0.5), (2, 2, 0.75), (3, 3, 0.875), (4, 4, 0.9375), (4, 12, 0.9375), (0, 4, 0.0)],
)
def test_of_few_groups_a_difference_is_no_surer_than_tosses_of_a_coin(better, of, sure):
    gain = np.repeat(np.arange(of) < better, 3).astype(float)
    groups = [str(n // 3) for n in range(3 * of)]
    assert sureness(lambda rows: gain[rows].mean(), groups, 0.0) == pytest.approx(sure, abs=0.01)


def test_one_group_may_be_all_that_a_metric_can_be_measured_on():
    true = np.array([True, False, False])

    def difference(rows: np.ndarray) -> float:
        return 1.0 if true[rows].any() else float("nan")

    assert sureness(difference, ["a", "b", "c"], 0.0) == 0.0


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0)],
)
def test_wilson_holds_for_few_and_for_all(hits, of, low, high):
    """Values of Wilson's formula, as tables of it have them."""
    assert wilson(hits, of) == pytest.approx((low, high), abs=1e-4)
