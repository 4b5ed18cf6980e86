"""What a tuning found can be drawn, however little that is."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from vidpipe.evaluation.tuning_figures import draw_history, draw_importances


def picture(figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file)


def test_the_best_so_far_never_falls_and_counts_whole_trials_only():
    figure = draw_history(
        [0, 1, 2, 4], [0.5, 0.9, 0.7, 0.6], [True, False, True, True], "map", "motion: $4 trials"
    )
    (axes,) = figure.axes
    assert axes.get_ylabel() == "map on the validation videos"
    (best,) = axes.lines
    assert best.get_xydata().tolist() == [[0, 0.5], [2, 0.7], [4, 0.7], [4.5, 0.7]]
    whole, ended = (points.get_offsets().tolist() for points in axes.collections)
    assert (len(whole), ended) == (3, [[1, 0.9]])
    assert min(picture(figure).size) > 300


def test_the_best_so_far_is_a_line_even_of_one_trial():
    (axes,) = draw_history([0, 1, 2], [0.3, 0.2, 0.1], [True, False, False], "map", "motion").axes
    (best,) = axes.lines
    assert best.get_xydata().tolist() == [[0, 0.3], [2.5, 0.3]]


def test_what_matters_most_is_on_top():
    found = {"dropout": 0.2, "learning_rate": 0.7, "ema": 0.1}
    figure = draw_importances(found, 40, "motion")
    (axes,) = figure.axes
    assert axes.get_title() == "motion"
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        *("ema", "dropout", "learning_rate")
    ]
    assert min(picture(figure).size) > 200


def test_of_few_trials_what_matters_is_but_a_hint():
    (axes,) = draw_importances({"dropout": 0.2, "ema": 0.8}, 4, "motion").axes
    assert axes.get_title() == "motion\nof 4 trials alone: a hint, no more"


@pytest.mark.parametrize(
    "figure", [draw_importances({}, 0, "motion"), draw_history([], [], [], "", "")]
)
def test_nothing_can_be_drawn_too(figure):
    assert min(picture(figure).size) > 100
