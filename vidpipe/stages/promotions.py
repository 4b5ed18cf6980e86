"""Writes rows of the table `promotions`: which version became the champion of a task, and why."""

from __future__ import annotations

from datetime import datetime

from vidpipe import tracking
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import now


def write_promotion(
    attempt: Attempt,
    task: str,
    version: tracking.Version,
    *,
    replaced: str | None,
    why: str,
    work_key: str,
    promoted_by: str = "",
    promoted_at: datetime | None = None,
) -> None:
    """Writes one row; the caller declares its item.

    Args:
        attempt: The attempt that promoted.
        task: The task.
        version: The new champion.
        replaced: Number of the champion before; None: there was none.
        why: The reason, in words.
        work_key: Work key of the item.
        promoted_by: A person or a system; empty: the run of the attempt.
        promoted_at: Empty: now.
    """
    run_key = attempt.manifest.run_key
    attempt.write(
        "promotions",
        [
            {
                "task": task,
                "model": version.name,
                "model_version": version.version,
                "promoted_at": promoted_at or now(),
                "promoted_by": promoted_by or run_key,
                "replaced_version": replaced,
                "why": why,
                "work_key": work_key,
                "run_key": run_key,
            }
        ],
    )
