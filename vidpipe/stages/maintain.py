"""maintain: removes the checkpoints of trainings that nobody will go on with.

A training removes its own when it ends well. One that failed keeps them, so that its task can be
cleared and go on; after some days without a sign of its run they go.
"""

from __future__ import annotations

import collections
from datetime import datetime, timedelta

from vidpipe.errors import UsageError
from vidpipe.lake import layout
from vidpipe.lake.store import StoredObject
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, now

CHECKPOINT_DAYS = 7.0


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Removes checkpoints.

    Config: checkpoint_days (a run that left nothing new for so long is over; null: 7).

    Result: checkpoints, of how many runs, and their bytes.

    Raises:
        UsageError: It is no number of days, or less than one.
    """
    days = manifest.config.get("checkpoint_days")
    days = CHECKPOINT_DAYS if days is None else days
    # A training at work leaves something new every few minutes, but may wait long for its GPUs.
    if not isinstance(days, int | float) or days < 1:
        raise UsageError(f"checkpoint_days must be a number, 1 or more. Received: {days!r}")
    left = _left_over(lake, now() - timedelta(days=days))
    # What says that others are whole goes first.
    for found in sorted(left, key=lambda found: not found.uri.endswith(".json")):
        lake.store.delete(found.uri)
    checkpoints = sum(found.uri.endswith(".npz") for found in left)
    size_bytes = sum(found.size_bytes for found in left)
    runs = len({_run_key(lake, found) for found in left})
    attempt.conclude(f"removed {checkpoints} checkpoints of {runs} runs, {size_bytes / 1e6:.1f} MB")
    attempt.result |= {"checkpoints": checkpoints, "runs": runs, "size_bytes": size_bytes}


def _left_over(lake: Lake, idle_since: datetime) -> list[StoredObject]:
    """Checkpoints of runs that left nothing new since then."""
    newest: dict[str, datetime] = {}
    checkpoints = collections.defaultdict(list)
    for found in lake.store.list(layout.run_uri(lake.uri, "")):
        run_key = _run_key(lake, found)
        newest[run_key] = max(found.modified_at, newest.get(run_key, found.modified_at))
        if found.uri.startswith(f"{layout.run_uri(lake.uri, run_key)}/checkpoints/"):
            checkpoints[run_key].append(found)
    return [
        found
        for run_key, of_run in checkpoints.items()
        if newest[run_key] < idle_since
        for found in of_run
    ]


def _run_key(lake: Lake, found: StoredObject) -> str:
    return found.uri.removeprefix(layout.run_uri(lake.uri, "")).partition("/")[0]
