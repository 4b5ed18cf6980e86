"""Explains before a labelling why nothing is labelled, or why labels will not be accepted."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vidpipe import tracking
from vidpipe.errors import BadInputError
from vidpipe.evaluation.metrics import NEVER

THRESHOLDS = "thresholds.json"  # of a run in MLflow
NAMES_SHOWN = 5


def explain_no_champion(task: str | None) -> str:
    """Explains what to do where a task, or any task, has no champion."""
    message = f"There is no champion model {f'of task {task!r} ' if task else ''}yet:"
    challengers = tracking.challengers().items()
    waiting = {name: version for name, version in challengers if task in (None, "", name)}
    if not waiting:
        return f"{message} annotate some videos, then run the DAG train."
    return f"{message} {_advice(waiting)}"


def explain_waiting(champions: Collection[str]) -> str:
    """Explains why tasks that have a model, but no champion, are not labelled.

    Args:
        champions: The tasks that have one.

    Returns:
        A line of its own, after a break; empty where there is no such task.
    """
    challengers = tracking.challengers().items()
    waiting = {task: version for task, version in challengers if task not in champions}
    if not waiting:
        return ""
    return f"\n{', '.join(waiting)}: no champion; {_advice(waiting)}"


def _advice(waiting: Mapping[str, tracking.Version]) -> str:
    commands = (f"vidpipe promote {task} {version.version}" for task, version in waiting.items())
    return (
        "what was trained was not promoted (`vidpipe models` tells why). To promote it all the"
        f" same: {'; '.join(commands)}"
    )


def explain_thresholds(version: tracking.Version, threshold: float | None) -> str:
    """Explains why labels of a version are not accepted, whatever their score.

    Args:
        version: The model.
        threshold: What is asked for in place of the thresholds of the model; None: nothing is.

    Returns:
        A line of its own, after a break; empty where every label may be accepted.
    """
    if threshold is not None:
        return ""
    try:
        run = tracking.open_run(version.run_id)
        thresholds = run.read_json(THRESHOLDS)
    except BadInputError:
        return ""  # made elsewhere
    never = [label for label, lowest in thresholds.items() if lowest >= NEVER]
    if not never:
        return ""
    which = "none of its labels is accepted"
    if len(never) < len(thresholds):
        others = len(never) - NAMES_SHOWN
        names = ", ".join(never[:NAMES_SHOWN]) + (f" and {others} more" if others > 0 else "")
        which = f"its labels {names} are never accepted"
    params = run.params()
    if int(params.get("validation_videos", 0)):
        precision = float(params["accept_precision"])
        why = (
            f"on the validation videos no score was right in {precision:.0%} of the cases"
            " (accept_precision)"
        )
    else:
        why = "there were no validation videos to set thresholds by"
    return (
        f"\nversion {version.version}: {which}, for {why}. Label more videos and train again, or"
        " choose a threshold of your own in label_nightly (--param threshold=0.5)."
    )
