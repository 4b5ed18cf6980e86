"""Families are ranked by what they do on the validation videos, and shown as they are ranked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vidpipe.evaluation.intervals import Interval
from vidpipe.evaluation.ranking import Ranked, rank, show_ranking

share = st.integers(0, 4).map(lambda n: n / 4)


def model(architecture: str, accuracy: float | None, loss: float | None, test: float) -> Ranked:
    interval = Interval(test, test)
    return Ranked(
        architecture, "accuracy", accuracy, loss, test, interval, test, 1e6, 1e9, 0.1, 60.0, "run"
    )


@given(st.lists(st.tuples(share, share, share), min_size=1, max_size=6))
def test_the_best_on_validation_is_first_whatever_the_test_says(numbers):
    models = [model(str(n), *values) for n, values in enumerate(numbers)]
    ranking = rank(models)
    keys = [(-m.validation, m.validation_loss, int(m.architecture)) for m in ranking]
    assert keys == sorted(keys)
    assert set(ranking) == set(models)


def test_without_validation_videos_the_order_given_stays():
    models = [model("a", None, None, 0.1), model("b", None, None, 0.9)]
    assert rank(models) == models


def test_the_table_has_a_line_for_each():
    ranking = [model("cnn", 0.9, 0.1, 0.75), model("attention", None, None, 0.5)]
    heading, *lines = show_ranking(ranking).splitlines()
    assert heading.split()[:4] == ["architecture", "validation", "accuracy", "test"]
    assert lines[0].split() == [
        *("cnn", "0.900", "0.750", "0.750", "to", "0.750", "0.750"),
        *("1,000,000", "1", "0.1000", "60"),
    ]
    assert lines[1].split()[:2] == ["attention", "0.500"]


def test_the_table_in_markdown_has_the_same_cells():
    ranking = [model("cnn_rnn", 0.9, 0.1, 0.75), model("attention", None, None, 0.5)]
    heading, rule, *lines = show_ranking(ranking, markdown=True).splitlines()
    assert set(rule) == {"|", "-"} and rule.count("|") == heading.count("|") == 10
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:5] == ["cnn_rnn", "0.900", "0.750", "0.750 to 0.750", "0.750"]
    assert cells[1][:3] == ["attention", "", "0.500"]
