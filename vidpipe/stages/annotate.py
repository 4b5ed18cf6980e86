"""annotate: imports a file of what people say of videos; see `docs/annotations.md`.

What a file says of a task, video, range and annotator replaces all that was said of it before; the
rest stays. What was replaced or withdrawn stays in `annotations`; `current_annotations` shows what
holds.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow.dataset as ds
from pyiceberg.expressions import EqualTo

from vidpipe.console import echo
from vidpipe.datasets.agreement import measure_agreement
from vidpipe.datasets.annotations import (
    Annotation,
    Key,
    Statement,
    current_labels,
    to_row,
)
from vidpipe.datasets.formats import AUTO
from vidpipe.datasets.formats.budget import Budget
from vidpipe.datasets.formats.given import (
    MAX_BYTES,
    SIDECAR,
    Given,
    is_read,
    of_file,
    of_folder,
    too_large,
)
from vidpipe.datasets.formats.importing import parse_annotations
from vidpipe.datasets.video_names import read_video_names
from vidpipe.errors import BadInputError, DeniedError, NotFoundError, UsageError
from vidpipe.lake import layout
from vidpipe.lake.store import ObjectStore
from vidpipe.lake.tables import Lake
from vidpipe.stages.answers import note_precision, read_reviews
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest
from vidpipe.text import near_texts, printable

CHANGES_SHOWN = 40
LABELS_SHOWN = 5


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Imports `config["file"]` (an S3 URI) as annotations of `config["task"]`.

    Config: task, file (of a file, an archive, or a folder, which ends in a slash), format (null:
    as it is recognised), several (whether a video may have several labels at once), video (the one
    video that the file is about), first_frame (the number of a video's first frame, 0 or 1),
    skip_faulty (leave out what is faulty instead of refusing the file), diff (only tell what would
    change).

    Where it answers a review, what that tells of the model is told, too, and noted in MLflow.

    Result: counts of what was added, replaced, unchanged and withdrawn, by video, range and
    annotator.

    Raises:
        BadInputError: The file has faults, listed by line, or no video is known yet; nothing is
            imported.
        UsageError: The task, the format or the video is none.
    """
    config = manifest.config
    task, file = config.get("task") or "", config.get("file") or ""
    if not re.fullmatch(layout.TASK_PATTERN, task):
        raise UsageError(f"A task is a word of small letters, such as motion. Received: {task!r}")
    budget = Budget(lake.settings.annotate)
    given = _fetch(lake.store, file)
    snapshots = lake.published()
    names = read_video_names(lake, snapshots)
    if not names.videos:
        raise BadInputError(
            "No video is known yet, so nothing can be said of any: run ingest first."
        )
    imported = parse_annotations(
        given,
        names,
        format=config.get("format") or AUTO,
        several=bool(config.get("several")),
        video=config.get("video"),
        first_frame=config.get("first_frame") or 0,
        skip_faulty=bool(config.get("skip_faulty")),
        budget=budget,
    )
    for line in imported.told:
        echo(line)
    rows_of_task = lake.dataset("annotations", where=EqualTo("task", task), snapshots=snapshots)
    current = current_labels(rows_of_task.to_table(filter=ds.field("task") == task))
    new_labels = _new_labels(imported.annotations, current)
    changes = {"added": 0, "replaced": 0, "unchanged": 0, "withdrawn": 0}
    first_lines: list[str] = []
    changed: dict[Key, list[Annotation]] = {}
    for key, of_key in _by_key(imported.annotations).items():
        change, before, after = _change(key, of_key, current)
        changes[change] += 1
        if change != "unchanged":
            changed[key] = of_key
            if len(first_lines) < CHANGES_SHOWN:
                first_lines.append(_line(of_key[0], before, after))
    if not config.get("diff"):
        attempt.write("annotations", _rows(attempt, task, given.name, changed))
    more = len(changed) - CHANGES_SHOWN
    for line in first_lines + ([f"… and {more} more"] if more > 0 else []):
        echo(line)
    counts = ", ".join(f"{n} {change}" for change, n in changes.items())
    if imported.skipped:
        counts += f", {imported.skipped} faulty left out"
    told = [
        f"{task}: " + ("nothing was imported; it would be " if config.get("diff") else "") + counts,
        new_labels,
        measure_agreement(current).summary,
        *_answered(lake, snapshots, task, current, changed, note=not config.get("diff")),
    ]
    attempt.conclude("; ".join(filter(None, told)))
    attempt.result |= {
        "changes": changes,
        "skipped": imported.skipped,
        "format": imported.format,
        "base": snapshots,
    }


def _new_labels(annotations: list[Annotation], current: dict[Key, frozenset[Statement]]) -> str:
    """Labels that are new to a task with annotations, in words: some may be misspelt.

    Args:
        annotations: What is imported.
        current: What was said of the task before.
    """
    known = {s.label for of_key in current.values() for s in of_key if s.label is not None}
    labels = (a.said.label for a in annotations if a.said is not None)
    counts = collections.Counter(label for label in labels if label not in {None, *known})
    if not known or not counts:
        return ""
    told = []
    candidates = sorted(known)
    # What is misspelt is rare.
    for label, n in sorted(counts.items(), key=lambda item: (item[1], item[0]))[:LABELS_SHOWN]:
        near = near_texts(label, candidates, 1)
        told.append(f"{label} ({n}" + "".join(f", near: {of}" for of in near) + ")")
    return printable("new labels: " + ", ".join(told + ["…"] * (len(counts) > LABELS_SHOWN)))


def _answered(
    lake: Lake,
    snapshots: dict[str, int],
    task: str,
    current: dict[Key, frozenset[Statement]],
    changed: Iterable[Key],
    *,
    note: bool,
) -> list[str]:
    """What is known of models by the reviews that the changes answer, in words.

    Args:
        lake: The lake.
        snapshots: Snapshot ids of the tables.
        task: The task.
        current: What people say of it, the changes included.
        changed: What changes.
        note: Whether MLflow is to know it.
    """
    videos = {key.video_id for key in changed}
    reviews = read_reviews(lake, snapshots, task, current)
    answered = [review for review in reviews if not videos.isdisjoint(review.drawn)]
    if note:
        versions = {review.model_version for review in answered}
        note_precision(task, [r for r in reviews if r.model_version in versions])
    return [f"labels of version {r.model_version}: {r.precision}" for r in answered]


def _fetch(store: ObjectStore, uri: str) -> Given:
    """The file, or the files of the folder, that is to be imported."""
    if uri.endswith("/"):
        return of_folder(uri.rstrip("/").rpartition("/")[2], _files_below(store, uri))
    name = uri.rpartition("/")[2]
    return of_file(name, _content(store, uri), _sidecar(store, f"{uri}.{SIDECAR}"))


def _files_below(store: ObjectStore, uri: str) -> Iterator[tuple[str, bytes]]:
    for found in store.list(uri):
        path = found.uri.removeprefix(uri)
        if is_read(path):
            yield path, _content(store, found.uri, found.size_bytes)


def _content(store: ObjectStore, uri: str, size_bytes: int | None = None) -> bytes:
    if (store.head(uri).size_bytes if size_bytes is None else size_bytes) > MAX_BYTES:
        raise too_large(uri)
    return store.get(uri, MAX_BYTES)  # it may have grown since


def _sidecar(store: ObjectStore, uri: str) -> bytes | None:
    try:
        return _content(store, uri)
    except (NotFoundError, DeniedError):
        # Who may not list a bucket is denied what is not there.
        return None


def _by_key(annotations: list[Annotation]) -> dict[Key, list[Annotation]]:
    by_key: dict[Key, list[Annotation]] = {}
    for annotation in annotations:
        by_key.setdefault(annotation.key, []).append(annotation)
    return by_key


def _change(
    key: Key, annotations: list[Annotation], current: dict[Key, frozenset[Statement]]
) -> tuple[str, frozenset[Statement], frozenset[Statement]]:
    """What changes, in a word, from what to what; `current` is as it is then."""
    before = current.pop(key, frozenset())
    after = frozenset(a.said for a in annotations if a.said is not None)
    if after:
        current[key] = after
    if before == after:
        return "unchanged", before, after
    word = "added" if not before else "replaced" if after else "withdrawn"
    return word, before, after


def _line(first: Annotation, before: frozenset[Statement], after: frozenset[Statement]) -> str:
    """A change as a line."""
    about = f"{first.where}: {first.video}{_span(first.key)}"
    if not before:
        return printable(f"+ {about}: {_told(after)}")
    if not after:
        return printable(f"- {about}: {_told(before)}")
    return printable(f"~ {about}: {_told(before)} → {_told(after)}")


def _span(key: Key) -> str:
    if key.start_s is None:
        return ""
    return f" {key.start_s:g} s" if key.is_instant else f" {key.start_s:g}–{key.end_s:g} s"


def _told(statements: frozenset[Statement]) -> str:
    counts = collections.Counter("nothing" if s.label is None else s.label for s in statements)
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LABELS_SHOWN]
    told = [label if n == 1 else f"{n} × {label}" for label, n in most]
    return ", ".join(told + ["…"] * (len(counts) > LABELS_SHOWN))


def _rows(
    attempt: Attempt, task: str, name: str, changed: dict[Key, list[Annotation]]
) -> Iterator[dict[str, Any]]:
    """The rows of all that changes; what is said of a video is one item."""
    manifest = attempt.manifest
    work_keys: dict[str, str] = {}
    sources: collections.Counter[str] = collections.Counter()
    for key in sorted(changed, key=lambda k: (k.video_id, k.start_s or 0.0)):
        if key.video_id not in work_keys:
            work_key = layout.make_work_key(manifest.run_key, "annotate", name, key.video_id)
            work_keys[key.video_id] = work_key
            attempt.outcome(f"{name}:{key.video_id}", work_key, video_id=key.video_id)
        for annotation in changed[key]:
            source = f"{name}:{annotation.where.removeprefix('line ')}"
            sources[source] += 1
            yield {
                "task": task,
                **to_row(annotation),
                # Several may come of one place: what the sidecar tells of it, say.
                "source": source if sources[source] == 1 else f"{source} ({sources[source]})",
                "annotated_at": manifest.planned_time,
                "work_key": work_keys[key.video_id],
                "run_key": manifest.run_key,
            }
