"""annotate: imports a file of labels that people gave; see `vidpipe/datasets/annotations.py`.

A row replaces the row of the same task, video, range and annotator; the others stay. What was
replaced or withdrawn stays in `annotations`; `current_annotations` shows what holds.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow.dataset as ds

from vidpipe.datasets.annotations import (
    Annotation,
    VideoNames,
    current_labels,
    parse_annotations,
)
from vidpipe.errors import UsageError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest

CHANGES_SHOWN = 40


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Imports `config["file"]` (an S3 URI) as annotations of `config["task"]`.

    With `config["diff"]` it only tells what would change.

    Result: counts of added, replaced, unchanged and withdrawn rows.

    Raises:
        BadInputError: The file has faults, listed by line; nothing is imported.
    """
    task, file = manifest.config.get("task") or "", manifest.config.get("file") or ""
    if not re.fullmatch(layout.TASK_PATTERN, task):
        raise UsageError(f"A task is a word of small letters, such as motion. Received: {task!r}")
    name = file.rpartition("/")[2]
    snapshots = lake.published()
    videos = _video_names(lake, snapshots)
    annotations = parse_annotations(name, lake.store.get(file), videos)
    rows_of_task = lake.dataset("annotations", snapshots=snapshots).to_table(
        filter=ds.field("task") == task
    )
    current = current_labels(rows_of_task)
    changes = {"added": 0, "replaced": 0, "unchanged": 0, "withdrawn": 0}
    shown: list[str] = []
    rows: list[dict[str, Any]] = []
    for annotation in annotations:
        change, line = _change(annotation, current.get(annotation.key))
        changes[change] += 1
        if change != "unchanged":
            shown.append(line)
            if not manifest.config.get("diff"):
                rows.append(_row(attempt, task, name, annotation))
    attempt.write("annotations", rows)
    more = len(shown) - CHANGES_SHOWN
    for line in shown[:CHANGES_SHOWN] + ([f"… and {more} more"] if more > 0 else []):
        print(line)
    attempt.conclude(f"{task}: " + ", ".join(f"{n} {change}" for change, n in changes.items()))
    attempt.result |= {"changes": changes, "base": snapshots}


def _video_names(lake: Lake, snapshots: dict[str, int]) -> VideoNames:
    sources = lake.dataset("sources", snapshots=snapshots).to_table(
        columns=["source_uri", "video_id", "deleted", "seen_at"]
    )
    by_uri: dict[str, str] = {}
    for row in sources.sort_by("seen_at").to_pylist():
        # The video of a source that is gone can still be named.
        if row["video_id"]:
            by_uri[row["source_uri"]] = row["video_id"]
    videos = lake.dataset("videos", snapshots=snapshots).to_table(
        columns=["video_id", "duration_s"]
    )
    return VideoNames(
        by_uri,
        dict(zip(videos["video_id"].to_pylist(), videos["duration_s"].to_pylist(), strict=True)),
    )


def _change(annotation: Annotation, before: str | None) -> tuple[str, str]:
    span = "" if annotation.start_s is None else f" {annotation.start_s:g}–{annotation.end_s:g} s"
    about = f"line {annotation.line}: {annotation.video}{span}"
    if annotation.delete:
        if before is None:
            return "unchanged", ""
        return "withdrawn", f"- {about}: {before}"
    if before == annotation.label:
        return "unchanged", ""
    if before is None:
        return "added", f"+ {about}: {annotation.label}"
    return "replaced", f"~ {about}: {before} → {annotation.label}"


def _row(attempt: Attempt, task: str, name: str, annotation: Annotation) -> dict[str, Any]:
    manifest = attempt.manifest
    source = f"{name}:{annotation.line}"
    work_key = layout.make_work_key(manifest.run_key, "annotate", source)
    attempt.outcome(source, work_key, video_id=annotation.video_id)
    return {
        "task": task,
        "video_id": annotation.video_id,
        "start_s": annotation.start_s,
        "end_s": annotation.end_s,
        "label": annotation.label,
        "annotator": annotation.annotator,
        "source": source,
        "annotated_at": manifest.planned_time,
        "withdrawn": annotation.delete,
        "work_key": work_key,
        "run_key": manifest.run_key,
    }
