"""maintain: removes what is left over: checkpoints, and features of frozen backbones.

A training removes its own when it ends well. One that failed keeps them, so that its task can be
cleared and go on; after some days without a sign of its run they go. Features are kept for the next
training that sees frames alike; where none came for long, they go.
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
FEATURE_DAYS = 30.0


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Removes checkpoints and features.

    Config: checkpoint_days (a run that left nothing new for so long is over; null: 7), feature_days
    (features that no training used for so long are not wanted; null: 30).

    Result: checkpoints, of how many runs, and their size_bytes; features and their
    features_size_bytes.

    Raises:
        UsageError: One is no number of days, or less than one.
    """
    # A training at work leaves something new every few minutes, but may wait long for its GPUs.
    left = _left_over(lake, _since(manifest, "checkpoint_days", CHECKPOINT_DAYS))
    # What says that others are whole goes first.
    for found in sorted(left, key=lambda found: not found.uri.endswith(".json")):
        lake.store.delete(found.uri)
    unused = _unused(lake, _since(manifest, "feature_days", FEATURE_DAYS))
    for found in unused:
        lake.store.delete(found.uri)
    checkpoints = sum(found.uri.endswith(".npz") for found in left)
    features = sum(found.uri.endswith(".npz") for found in unused)
    size_bytes, features_size_bytes = (
        sum(found.size_bytes for found in of) for of in (left, unused)
    )
    runs = len({_run_key(lake, found) for found in left})
    attempt.conclude(
        f"removed {checkpoints} checkpoints of {runs} runs, {size_bytes / 1e6:.1f} MB, and the"
        f" features of {features} videos, {features_size_bytes / 1e6:.1f} MB"
    )
    attempt.result |= {
        "checkpoints": checkpoints,
        "runs": runs,
        "size_bytes": size_bytes,
        "features": features,
        "features_size_bytes": features_size_bytes,
    }


def _since(manifest: Manifest, name: str, default: float) -> datetime:
    days = manifest.config.get(name)
    days = default if days is None else days
    if not isinstance(days, int | float) or days < 1:
        raise UsageError(f"{name} must be a number, 1 or more. Received: {days!r}")
    return now() - timedelta(days=days)


def _unused(lake: Lake, since: datetime) -> list[StoredObject]:
    """Features by backbones that no training used since then."""
    folder_uri = layout.features_uri(lake.uri)
    by_key = collections.defaultdict(list)
    for found in lake.store.list(folder_uri):
        by_key[found.uri.removeprefix(folder_uri).partition("/")[0]].append(found)
    return [
        found
        for of_key in by_key.values()
        if max(found.modified_at for found in of_key) < since
        for found in of_key
    ]


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
