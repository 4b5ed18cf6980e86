"""relabel: plans the labelling of what a new champion makes stale, and no more; `label` does it.

Stale is a video with labels of the task, none of which is of the champion. What it costs is told
before anything is done.
"""

from __future__ import annotations

import ast
import collections
import contextlib
from collections.abc import Callable
from typing import Any

from vidpipe import tracking
from vidpipe.console import echo
from vidpipe.datasets.windows import windows_of
from vidpipe.errors import NothingToDoError
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import Sampling, chosen
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.backlog import stale_videos
from vidpipe.stages.label import plan_shards, record_promotion
from vidpipe.stages.label_notes import explain_no_champion, explain_thresholds
from vidpipe.stages.manifest import Manifest

SECONDS_PER_CLIP = "test_cpu_seconds_per_clip"


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Plans shards of the stage `label`, least sure first.

    Config: task, dry_run (only tell; then there are no shards), max_videos, max_hours.

    Result: `shards`, `base` (snapshot ids read) and counts: stale, selected, left, hours (of video
    that is selected), cpu_hours (of the model on that; null where nobody measured).

    Raises:
        NothingToDoError: There is no champion yet.
    """
    config = manifest.config
    task = config.get("task") or ""
    champion = tracking.champion(task)
    if champion is None:
        raise NothingToDoError(explain_no_champion(task))
    snapshots = lake.published()
    stale = stale_videos(lake, snapshots, task, champion.version)
    selected = stale[: config.get("max_videos") or len(stale)]
    left = len(stale) - len(selected)
    hours = sum(video["duration_s"] for video in selected) / 3600
    cpu_hours = estimate_cpu_hours(champion, selected)
    by = collections.Counter(video["labelled_by"] for video in stale)
    for version, count in sorted(by.items()):
        echo(f"labelled by version {version} last, and not by {champion.version}: {count} videos")
    uris: list[str] = []
    if not config.get("dry_run"):
        uris = plan_shards(attempt, lake, snapshots, task, champion, selected, 0)
        record_promotion(attempt, lake, snapshots, task, champion)
        attempt.announce("label", len(selected), unit="labels")
    command = f"; to do it: vidpipe run relabel --param task={task} --param dry_run=false"
    attempt.conclude(
        f"{task}: {len(stale)} videos have labels, but none by version {champion.version};"
        f" {'would label' if config.get('dry_run') else 'labels'} {len(selected)} of them,"
        f" {hours:.2f} hours of video, {_told(cpu_hours)}; {left} left to later runs"
        + (command if selected and config.get("dry_run") else "")
        + (explain_thresholds(champion, None) if selected else "")
    )
    attempt.result |= {
        "shards": uris,
        "base": snapshots,
        "counts": {
            "stale": len(stale),
            "selected": len(selected),
            "left": left,
            "hours": hours,
            "cpu_hours": cpu_hours,
        },
    }


def estimate_cpu_hours(version: tracking.Version, videos: list[dict[str, Any]]) -> float | None:
    """What a model takes of a CPU for videos, by what its evaluation took; None: it had none."""
    mlflow_run = tracking.open_run(version.run_id)
    seconds_per_clip = mlflow_run.metrics().get(SECONDS_PER_CLIP)
    clips_of = _clips_of(mlflow_run)
    if seconds_per_clip is None or clips_of is None:
        return None
    return seconds_per_clip * sum(clips_of(video["duration_s"]) for video in videos) / 3600


def _clips_of(mlflow_run: tracking.Run) -> Callable[[float], int] | None:
    """How many clips the model sees of a video of so many seconds."""
    params = {}
    for name, value in mlflow_run.params().items():
        with contextlib.suppress(ValueError, SyntaxError):  # a text
            params[name] = ast.literal_eval(value)
    try:
        sampling = chosen(Sampling, params)
    except KeyError:
        return None  # made elsewhere
    return lambda duration_s: len(windows_of(sampling, 0.0, duration_s))


def _told(cpu_hours: float | None) -> str:
    if cpu_hours is None:
        return "at a cost that its evaluation did not measure"
    return f"for which the model takes about {cpu_hours:.3g} CPU hours"
