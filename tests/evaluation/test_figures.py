"""Pictures can be drawn of any result, and show what they are to show."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from vidpipe.evaluation.figures import (
    CURVES,
    SHEET_CLIPS,
    draw_confusion,
    draw_mistakes,
    draw_precision_recall,
    draw_ranking,
    draw_reliability,
    draw_slices,
    draw_suspects,
    find_suspects,
)
from vidpipe.evaluation.intervals import Interval
from vidpipe.evaluation.metrics import evaluate
from vidpipe.evaluation.ranking import Ranked
from vidpipe.evaluation.slices import slice_up

HOSTILE = ["$\\frac{", "a\nb", "x" * 300]


def picture(figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file)


def texts(figure) -> list[str]:
    found = [figure.get_suptitle()] + [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
        found += [axes.get_ylabel(), axes.get_title()]
        found += [label.get_text() for label in axes.get_yticklabels()]
    return found


def test_the_confusion_matrix_shows_the_counts():
    result = evaluate(
        np.eye(3)[[0, 1, 1, 2, 2, 2]], ["a", "b", "c"], ["a", "b", "b", "c", "c", "b"]
    )
    figure = draw_confusion(result, "motion")
    assert {"a", "b", "c", "1", "2", "motion"} <= set(texts(figure))
    assert min(picture(figure).size) > 300


@pytest.mark.parametrize("classes", [2, 60])
def test_any_number_of_classes_and_any_label_can_be_drawn(classes):
    labels = [*HOSTILE, *(f"class {n}" for n in range(classes))][:classes]
    result = evaluate(np.eye(classes), labels, labels[::-1])
    clips = np.zeros((classes, 2, 8, 8, 3), np.uint8)
    assert max(picture(draw_confusion(result, labels[0])).size) < 4000
    assert max(picture(draw_mistakes(result, clips, labels, labels[0])).size) < 4000


def test_the_sheet_shows_frames_truth_and_prediction_of_the_most_confident():
    videos = SHEET_CLIPS + 5
    scores = np.stack([np.linspace(0.99, 0.6, videos), 1 - np.linspace(0.99, 0.6, videos)], axis=1)
    result = evaluate(scores, ["left", "right"], ["right"] * videos)
    clips = np.zeros((videos, 12, 8, 8, 3), np.uint8)
    clips[..., 0] = 255
    names = [f"clip-{number:02d}.mp4" for number in range(videos)]
    figure = draw_mistakes(result, clips, names, "motion")
    shown = texts(figure)
    assert f"motion: {videos} of {videos} misclassified, the {SHEET_CLIPS} most confident" in shown
    assert sum(text == "clip-00.mp4\nright\ntaken for left 0.99" for text in shown) == 1
    assert sum("taken for" in text for text in shown) == SHEET_CLIPS
    red = np.asarray(picture(figure).convert("RGB")).reshape(-1, 3)
    assert (red == (255, 0, 0)).all(axis=1).mean() > 0.2


def test_a_sheet_without_mistakes_says_so():
    result = evaluate(np.eye(2), ["a", "b"], ["a", "b"])
    figure = draw_mistakes(result, np.zeros((2, 1, 8, 8, 3), np.uint8), ["x", "y"], "motion")
    assert "No clip is misclassified." in texts(figure)


def doubtful() -> tuple:
    random = np.random.default_rng(0)
    scores = random.dirichlet(np.ones(3), 40)
    truth = [HOSTILE[n % 3] for n in range(40)]
    clips = random.integers(0, 256, (40, 4, 8, 8, 3), dtype=np.uint8)
    return evaluate(scores, HOSTILE, truth), clips


def test_suspected_labels_are_shown_with_what_they_may_be():
    result, clips = doubtful()
    figure = draw_suspects(result, clips, [f"{n}.mp4" for n in range(40)], "motion")
    shown = find_suspects(result)
    found = texts(figure)
    assert f"motion: labels to look at, {len(result.suspects())} of 40" in found
    assert 0 < len(shown) <= SHEET_CLIPS
    assert all(any(text.startswith(f"{n}.mp4") for text in found) for n in shown)
    picture(figure)


def test_calibration_and_curves_say_their_numbers():
    result, _ = doubtful()
    reliability, curves = (
        draw_reliability(result, "motion"),
        draw_precision_recall(result, "motion"),
    )
    assert f"ECE {result.ece:.3f}" in [
        text.get_text() for text in reliability.axes[0].get_legend().get_texts()
    ]
    assert len(curves.legends[0].get_texts()) == 3
    assert min(picture(reliability).size) > 300 and min(picture(curves).size) > 300


@pytest.mark.parametrize("classes", [2, 5])
def test_curves_that_are_the_same_are_all_seen(classes):
    names = [f"c{n}" for n in range(classes)]
    figure = draw_precision_recall(evaluate(np.eye(classes), names, names), "motion")
    figure.legends[0].remove()
    seen = np.asarray(picture(figure).convert("RGB"), float) / 255
    for line in figure.axes[0].lines:
        assert np.abs(seen - to_rgb(line.get_color())).max(axis=2).min() < 0.1


def test_of_many_classes_the_hardest_are_shown():
    names = [f"c{n:02}" for n in range(30)]
    scores = np.random.default_rng(0).dirichlet(np.ones(30), 300)
    figure = draw_precision_recall(evaluate(scores, names, names * 10), "motion")
    assert len(figure.legends[0].get_texts()) == CURVES
    assert figure.axes[0].get_title() == f"motion, the {CURVES} hardest classes"


def test_slices_are_drawn_with_their_names():
    result, _ = doubtful()
    described = [{"duration": HOSTILE[n % 2], "source": "all the same"} for n in range(40)]
    videos = [str(n) for n in range(40)]
    slices = slice_up(result, described, videos, videos)
    figure = draw_slices(slices, "accuracy", "motion")
    assert [label.partition(":")[0] for label in texts(figure) if ":" in label] == [
        "all",
        "duration",
        "duration",
    ]
    picture(figure)


@pytest.mark.parametrize("models", [1, 5])
def test_a_ranking_shows_each_family_at_its_cost_with_its_interval(models):
    ranking = [
        Ranked(
            f"family {n}", "accuracy", 0.9, 0.1, 0.8 - n / 10, Interval(0.7 - n / 10, 0.9), 0.8,
            10.0 ** (n + 3), 1e9, 0.01 * (n + 1), 60.0, "run",
        )
        for n in range(models)
    ]  # fmt: skip
    figure = draw_ranking(ranking, "motion")
    (axes,) = figure.axes
    assert axes.get_title() == "motion, ranked by validation"
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[of.cpu_seconds_per_clip, end] for end in of.test_interval] for of in ranking
    ]
    (legend,) = figure.legends
    assert [text.get_text().partition(",")[0] for text in legend.get_texts()] == [
        f"{n + 1}. family {n}" for n in range(models)
    ]
    sizes = [points.get_sizes()[0] for points in axes.collections]
    assert sizes == sorted(sizes)
    assert min(picture(figure).size) > 300


def test_a_ranking_of_models_that_are_alike_can_be_read():
    ranking = [
        Ranked(
            f"$family {n}", "accuracy", 1.0, 0.1, 1.0, Interval(0.9, 1.0), 1.0, 1e5, 1e9,
            0.0190 + n / 1000, 60.0, "run",
        )
        for n in range(3)
    ]  # fmt: skip
    figure = draw_ranking(ranking, "motion")
    picture(figure)
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert [label.get_text() for at, label in ticks if low < at < high] == ["0.01", "0.02", "0.03"]
    assert not any(label.get_text() for label in axes.get_xticklabels(minor=True))
    boxes = [text.get_window_extent() for text in figure.legends[0].get_texts()]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert not any(axes.get_window_extent().overlaps(box) for box in boxes)


def test_a_ranking_without_validation_does_not_claim_one():
    of = Ranked(
        "cnn", "accuracy", None, None, 0.8, Interval(0.7, 0.9), 0.8, 1e6, 1e9, 0.1, 60.0, "run"
    )
    (axes,) = draw_ranking([of], "motion").axes
    assert axes.get_title() == "motion, none was validated"
