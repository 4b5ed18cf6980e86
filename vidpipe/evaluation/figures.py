"""Pictures of an evaluation: what is taken for what, and the clips behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vidpipe.evaluation.metrics import Evaluation

LABEL_CHARS = 24
SHEET_CLIPS = 12
SHEET_FRAMES = 8


def draw_confusion(evaluation: Evaluation, title: str) -> Figure:
    """The confusion matrix: number of videos in each field, colour by share of the class."""
    counts, size = evaluation.confusion, len(evaluation.labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3.0 + 0.6 * size, 24.0)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_short(label) for label in evaluation.labels]
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set_parse_math(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title(title, parse_math=False)
    axes.spines[:].set_visible(False)
    for row, column in np.argwhere(counts):
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else "black",
        )
    bar = figure.colorbar(image, ax=axes, label="share of the class", shrink=0.8)
    bar.outline.set_visible(False)
    return figure


def find_mistakes(evaluation: Evaluation) -> np.ndarray:
    """The misclassified clips that `draw_mistakes` shows, the most confident first."""
    wrong = np.flatnonzero(evaluation.predicted != evaluation.truth)
    confidence = evaluation.scores[wrong, evaluation.predicted[wrong]]
    return wrong[np.argsort(-confidence)][:SHEET_CLIPS]


def draw_mistakes(
    evaluation: Evaluation, clips: np.ndarray, names: Sequence[str], title: str
) -> Figure:
    """A row of frames for each misclassified clip, the most confident first.

    Args:
        evaluation: Of these clips.
        clips: uint8 `(videos, frames, height, width, 3)`, in the order of the evaluation.
        names: Of the clips' videos.
        title: What is evaluated.
    """
    wrong = np.count_nonzero(evaluation.predicted != evaluation.truth)
    shown = find_mistakes(evaluation)
    heading = f"{title}: {wrong} of {len(evaluation.truth)} misclassified"
    if len(shown) < wrong:
        heading += f", the {len(shown)} most confident"
    figure = Figure(figsize=(10, 0.6 + 1.2 * max(len(shown), 1)), layout="constrained", dpi=100)
    figure.suptitle(heading, parse_math=False)
    if not len(shown):
        figure.text(0.5, 0.4, "No clip is misclassified.", ha="center", size="large")
        return figure
    columns = min(SHEET_FRAMES, clips.shape[1])
    moments = np.linspace(0, clips.shape[1] - 1, columns).round().astype(int)
    grid = figure.subplots(len(shown), columns, squeeze=False)
    for row, video in zip(grid, shown, strict=True):
        for axes, moment in zip(row, moments, strict=True):
            axes.imshow(clips[video, moment])
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        truth = evaluation.labels[evaluation.truth[video]]
        predicted = evaluation.labels[evaluation.predicted[video]]
        score = evaluation.scores[video, evaluation.predicted[video]]
        row[0].set_ylabel(
            f"{_short(names[video])}\n{_short(truth)}\ntaken for {_short(predicted)} {score:.2f}",
            rotation=0,
            ha="right",
            va="center",
            size="small",
            parse_math=False,
        )
    return figure


def _short(label: str) -> str:
    """A label as it may stand in a picture: on one line, and not too long."""
    line = " ".join(label.split())
    return line if len(line) <= LABEL_CHARS else f"{line[: LABEL_CHARS - 1]}…"
