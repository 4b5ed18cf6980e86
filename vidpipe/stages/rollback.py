"""rollback: the champion before the present one labels again, and its labels are current."""

from __future__ import annotations

import pyarrow.dataset as ds

from vidpipe import tracking
from vidpipe.errors import BadInputError, NothingToDoError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.promotions import write_promotion


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Gives the alias back, and writes that down in `promotions`, by which `current_labels` goes.

    Config: task, why.

    Result: model, model_version, replaced_version.

    Raises:
        NothingToDoError: There was none before.
        BadInputError: It is not in the registry any more.
    """
    task = manifest.config["task"]
    champion = tracking.champion(task)
    if champion is None:
        raise NothingToDoError(f"Task {task!r} has no champion.")
    rows = lake.dataset("promotions", snapshots=lake.published()).to_table(
        filter=ds.field("task") == task
    )
    promotions = rows.sort_by("promoted_at").to_pylist()
    # What it replaced when it came first: a rollback to it replaced what was worse.
    of_champion = (row for row in promotions if row["model_version"] == champion.version)
    before = next((row["replaced_version"] for row in of_champion), None)
    if before is None:
        raise NothingToDoError(
            f"Version {champion.version} is the first champion of task {task!r}: there is none to"
            " go back to."
        )
    version = tracking.find_version(task, before)
    if version is None:
        raise BadInputError(
            f"Version {before} of {champion.name}, the champion before, is not in MLflow any more."
        )
    tracking.set_alias(version, tracking.CHAMPION)
    work_key = layout.make_work_key(task, "promote", before, manifest.run_key)
    attempt.outcome(f"{task}/{before}", work_key)
    why = manifest.config.get("why") or "Rolled back."
    write_promotion(attempt, task, version, replaced=champion.version, why=why, work_key=work_key)
    tracking.describe_decision(champion, "rolled back", why)
    tracking.describe_decision(version, "promoted again", why)
    attempt.conclude(
        f"{version.name}: version {before} is the champion again, in place of {champion.version};"
        " videos that it never labelled keep the labels of others, until"
        f" vidpipe run relabel --param task={task}"
    )
    attempt.result |= {
        "model": version.name,
        "model_version": before,
        "replaced_version": champion.version,
    }
