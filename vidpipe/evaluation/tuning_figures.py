"""Pictures of a tuning: how its trials went, and what made the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

FEW_TRIALS = 30  # of fewer the best tenth are too few to be told from chance


def draw_history(
    numbers: Sequence[int],
    values: Sequence[float],
    whole: Sequence[bool],
    headline: str,
    title: str,
) -> Figure:
    """How good each trial is, and the best of those that learnt to the end so far.

    Args:
        numbers: Of the trials.
        values: On the validation videos.
        whole: Whether each learnt to its end.
        headline: What is measured.
        title: What is tuned.
    """
    figure = Figure(figsize=(7, 4), layout="constrained", dpi=120)
    axes = figure.add_subplot()
    at, reached, ended = np.array(numbers), np.array(values), np.array(whole, bool)
    axes.scatter(at[ended], reached[ended], color="C0", label="learnt to the end", zorder=3)
    axes.scatter(
        at[~ended], reached[~ended], facecolors="none", edgecolors="0.5", label="ended before"
    )
    best = np.maximum.accumulate(reached[ended])
    if len(best):
        # The last step goes on beyond the last trial: one alone would be no line.
        steps = [*at[ended], at.max() + 0.5], [*best, best[-1]]
        axes.plot(*steps, color="C0", drawstyle="steps-post", label="the best so far")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"{headline} on the validation videos")
    axes.set_title(title, parse_math=False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_importances(importances: Mapping[str, float], trials: int, title: str) -> Figure:
    """How much each parameter has to do with the best trials, the most first.

    Args:
        importances: Of the parameters.
        trials: Of how many trials.
        title: What is tuned.
    """
    figure = Figure(
        figsize=(7, 1.4 + 0.35 * max(len(importances), 1)), layout="constrained", dpi=120
    )
    if not importances:
        figure.suptitle(title, parse_math=False)
        figure.text(0.5, 0.4, "Too few trials ended to tell what matters.", ha="center")
        return figure
    if trials < FEW_TRIALS:
        title += f"\nof {trials} trials alone: a hint, no more"
    axes = figure.add_subplot()
    names = sorted(importances, key=importances.__getitem__)
    bars = axes.barh(names, [importances[name] for name in names], color="C0")
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.margins(x=0.15)
    axes.set_xlabel("share of what matters (PED-ANOVA)")
    axes.set_title(title, parse_math=False)
    return figure
