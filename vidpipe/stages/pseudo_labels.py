"""Labels of a model in place of missing ones: self-training (Lee 2013, Pseudo-Label)."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow.dataset as ds

from vidpipe.errors import BadInputError
from vidpipe.lake.tables import Lake


def read_pseudo_labels(
    lake: Lake,
    snapshots: dict[str, int],
    task: str,
    version: str,
    score: float,
    labels: Collection[str],
) -> dict[str, tuple[str]]:
    """The labels that a version of a model gave, of which it was sure.

    Args:
        lake: Where the table `labels` is.
        snapshots: Snapshot ids of the tables.
        task: Of the labels.
        version: Of the model.
        score: The lowest that counts.
        labels: The classes; a model may know others.

    Returns:
        The label of each video.

    Raises:
        BadInputError: The version gave no label.
    """
    rows = lake.dataset("labels", snapshots=snapshots).to_table(
        columns=["video_id", "label", "score", "labelled_at", "model_version"],
        filter=ds.field("task") == task,
    )
    versions = set(rows["model_version"].to_pylist())
    if version not in versions:
        found = ", ".join(sorted(versions, key=lambda v: (len(v), v))) or "none"
        raise BadInputError(
            f"Version {version!r} of task {task!r} gave no labels that could stand for missing"
            f" ones. Those that did: {found}."
        )
    of_version = rows.filter(ds.field("model_version") == version).sort_by("labelled_at")
    newest = {row["video_id"]: row for row in of_version.to_pylist()}
    return {
        video_id: (row["label"],)
        for video_id, row in newest.items()
        if row["score"] >= score and row["label"] in labels
    }
