"""Pictures of an evaluation: what is taken for what, and the clips behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from vidpipe.evaluation.comparison import Comparison
from vidpipe.evaluation.metrics import Evaluation, average_precision
from vidpipe.evaluation.ranking import Ranked
from vidpipe.evaluation.several import SeveralLabels
from vidpipe.evaluation.slices import Slice

AnyEvaluation = Evaluation | SeveralLabels

LABEL_CHARS = 28
SHEET_CLIPS = 12
SHEET_FRAMES = 8
SHEET_PIXELS = 240  # of the longer side of a frame, or a little less than twice as many
CURVES = 10  # classes that a picture of curves can tell apart
WIDEST, NARROWEST = 7.0, 1.5  # of curves, in points


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


def find_mistakes(evaluation: AnyEvaluation) -> np.ndarray:
    """The mistakes that `draw_mistakes` shows, the most confident first."""
    return evaluation.mistakes()[:SHEET_CLIPS]


def draw_mistakes(
    evaluation: AnyEvaluation, clips: Sequence[np.ndarray], names: Sequence[str], title: str
) -> Figure:
    """A row of frames for each misclassified clip, the most confident first.

    Args:
        evaluation: Of these clips.
        clips: uint8 `(frames, height, width, 3)` each, in the order of the evaluation.
        names: What to call the clips.
        title: What is evaluated.
    """
    wrong, shown = len(evaluation.mistakes()), find_mistakes(evaluation)
    heading = f"{title}: {wrong} of {len(evaluation.scores)} misclassified"
    if len(shown) < wrong:
        heading += f", the {len(shown)} most confident"
    captions = _captions(evaluation, names, shown)
    return _draw_strips([clips[n] for n in shown], captions, heading, "No clip is misclassified.")


def find_suspects(evaluation: AnyEvaluation) -> np.ndarray:
    """The clips that `draw_suspects` shows, the most doubtful first."""
    return evaluation.suspects()[:SHEET_CLIPS]


def draw_suspects(
    evaluation: AnyEvaluation, clips: Sequence[np.ndarray], names: Sequence[str], title: str
) -> Figure:
    """A row of frames for each clip whose label may be wrong; arguments as of `draw_mistakes`."""
    shown = find_suspects(evaluation)
    heading = f"{title}: labels to look at, {len(evaluation.suspects())} of {len(clips)}"
    captions = _captions(evaluation, names, shown)
    return _draw_strips([clips[n] for n in shown], captions, heading, "No label is suspected.")


def draw_flips(
    clips: Sequence[np.ndarray], captions: Sequence[str], flips: int, title: str
) -> Figure:
    """A row of frames for each video that another model calls otherwise.

    Args:
        clips: uint8 `(frames, height, width, 3)` each.
        captions: What to say of each, in lines.
        flips: How many there are in all.
        title: Which models.
    """
    heading = f"{title}: {flips} change their label"
    if len(clips) < flips:
        heading += f", the {len(clips)} surest"
    return _draw_strips(clips, captions, heading, "No label changes.")


def draw_pairs(pairs: Sequence[tuple[np.ndarray, np.ndarray]], captions: Sequence[str]) -> Figure:
    """Draws pairs of videos that look alike, one above the other.

    Args:
        pairs: Two clips each, uint8 `(frames, height, width, 3)`.
        captions: What to say of each pair, in lines.
    """
    clips = [np.concatenate(pair, axis=1) for pair in pairs]
    return _draw_strips(clips, captions, "Near duplicates: each frame above its pair", "No pairs.")


def shrink(pictures: np.ndarray) -> np.ndarray:
    """Pictures `(…, height, width, 3)` as a film strip shows them, in memory of their own."""
    step = max(1, max(pictures.shape[-3:-1]) // SHEET_PIXELS)
    return np.array(pictures[..., ::step, ::step, :])


def _captions(evaluation: AnyEvaluation, names: Sequence[str], shown: np.ndarray) -> list[str]:
    told = [evaluation.told(number) for number in shown]
    return [
        f"{names[number]}\n{truth}\ntaken for {predicted}"
        for number, (truth, predicted) in zip(shown, told, strict=True)
    ]


def _draw_strips(
    clips: Sequence[np.ndarray], captions: Sequence[str], heading: str, none: str
) -> Figure:
    figure = Figure(figsize=(10, 0.6 + 1.2 * max(len(clips), 1)), layout="constrained", dpi=100)
    figure.suptitle(heading, parse_math=False)
    if not len(clips):
        figure.text(0.5, 0.4, none, ha="center", size="large")
        return figure
    frames = len(clips[0])
    columns = min(SHEET_FRAMES, frames)
    moments = np.linspace(0, frames - 1, columns).round().astype(int)
    grid = figure.subplots(len(clips), columns, squeeze=False)
    for row, clip, caption in zip(grid, clips, captions, strict=True):
        for axes, moment in zip(row, moments, strict=True):
            axes.imshow(shrink(clip[moment]))
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(
            "\n".join(map(_short, caption.splitlines())),
            rotation=0,
            ha="right",
            va="center",
            size="small",
            parse_math=False,
        )
    return figure


def draw_reliability(evaluation: AnyEvaluation, title: str) -> Figure:
    """Accuracy over confidence, where they should be the same, and how many videos stand for it."""
    bins = evaluation.reliability()
    figure = Figure(figsize=(5, 6), layout="constrained", dpi=120)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="calibrated")
    confidence, accuracy = [b.confidence for b in bins], [b.accuracy for b in bins]
    above.plot(confidence, accuracy, marker="o", label=f"ECE {evaluation.ece:.3f}")
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    above.set_ylabel("share that is right")
    above.set_title(title, parse_math=False)
    above.legend(loc="upper left")
    below.bar(confidence, [b.videos for b in bins], width=0.05)
    below.set_xlabel("confidence")
    below.set_ylabel("videos")
    return figure


def draw_precision_recall(evaluation: AnyEvaluation, title: str) -> Figure:
    """Precision over recall of each class against all others; the hardest, where there are many."""
    truth = evaluation.is_true
    classes = [index for index in range(len(evaluation.labels)) if truth[:, index].any()]
    of_class = {c: average_precision(truth[:, c], evaluation.scores[:, c]) for c in classes}
    shown = sorted(sorted(classes, key=of_class.__getitem__)[:CURVES])
    figure = Figure(figsize=(6.5, 5), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    # Curves that are the same lie on each other: those below are wider, so that all are seen.
    widths = np.linspace(min(WIDEST, NARROWEST * len(shown)), NARROWEST, len(shown))
    for index, width in zip(shown, widths, strict=True):
        order = np.argsort(-evaluation.scores[:, index], kind="stable")
        hits = truth[order, index].cumsum()
        precision = np.append(1.0, hits / np.arange(1, len(hits) + 1))
        recall = np.append(0.0, hits / hits[-1])
        name = f"{_short(evaluation.labels[index])} {of_class[index]:.2f}"
        axes.plot(recall, precision, label=name, drawstyle="steps-pre", linewidth=width)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    more = f", the {len(shown)} hardest classes" if len(shown) < len(classes) else ""
    axes.set_title(f"{title}{more}", parse_math=False)
    legend = figure.legend(loc="outside right upper", title="average precision")
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def draw_slices(slices: Sequence[Slice], headline: str, title: str) -> Figure:
    """The headline metric of each slice with its interval; the line is that of all videos."""
    figure = Figure(figsize=(7, 1.2 + 0.35 * len(slices)), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    names = [f"{_short(s.name)}: {_short(s.value)} ({s.videos})" for s in slices]
    for row, of in enumerate(slices):
        axes.plot([of.interval.low, of.interval.high], [row, row], color="C0", linewidth=2)
        axes.plot(of.metric, row, marker="o", color="C0")
    axes.set_yticks(range(len(slices)), names)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.axvline(slices[0].metric, color="0.7", linestyle="--")
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(headline)
    axes.set_title(title, parse_math=False)
    return figure


def draw_comparison(comparison: Comparison, headline: str, title: str) -> Figure:
    """The headline metrics of challenger and champion on each slice, joined by a line."""
    pairs = comparison.slices
    figure = Figure(figsize=(7, 1.6 + 0.35 * len(pairs)), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    for row, pair in enumerate(pairs):
        better = pair.challenger >= pair.champion
        axes.plot([pair.champion, pair.challenger], [row, row], color="C2" if better else "C3")
    rows = range(len(pairs))
    axes.scatter([p.champion for p in pairs], rows, color="0.6", label="champion", zorder=3)
    axes.scatter([p.challenger for p in pairs], rows, color="C0", label="challenger", zorder=3)
    axes.set_yticks(rows, [f"{_short(p.name)}: {_short(p.value)} ({p.videos})" for p in pairs])
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(headline)
    axes.set_title(
        f"{title}\nbetter by {comparison.difference:+.3f} ({comparison.interval})", parse_math=False
    )
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_ranking(ranking: Sequence[Ranked], title: str) -> Figure:
    """The headline metric with its interval over CPU time a clip; the area tells the weights."""
    figure = Figure(figsize=(7, 5.5), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    largest = max(of.parameters for of in ranking)
    for place, of in enumerate(ranking):
        seconds, low_high = of.cpu_seconds_per_clip, of.test_interval
        colour = f"C{place}"
        name = f"{place + 1}. {_short(of.architecture)}, {_count(of.parameters)}"
        axes.plot([seconds, seconds], low_high, color=colour, linewidth=2, label=name)
        axes.scatter(
            seconds,
            of.test,
            s=40 + 360 * of.parameters / max(largest, 1),
            color=colour,
            alpha=0.6,
            zorder=3,
        )
    times_s = [of.cpu_seconds_per_clip for of in ranking]
    axes.set_xscale("log")
    # However alike they are, two of the ticks at least are in sight.
    axes.set_xlim(min(times_s) / 2, max(times_s) * 2)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlabel("CPU seconds a clip")
    axes.set_ylabel(f"{ranking[0].headline} on the test videos")
    order = "ranked by validation" if ranking[0].is_validated else "none was validated"
    axes.set_title(f"{title}, {order}", parse_math=False)
    # Beside their points the names of models that are alike would lie on each other.
    legend = figure.legend(loc="outside lower center", ncols=2)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _count(weights: float) -> str:
    return f"{weights / 1e6:.3g} M weights" if weights >= 1e6 else f"{weights / 1e3:.3g} k weights"


def _short(label: str) -> str:
    """A label as it may stand in a picture: on one line, and not too long."""
    line = " ".join(label.split())
    return line if len(line) <= LABEL_CHARS else f"{line[: LABEL_CHARS - 1]}…"
