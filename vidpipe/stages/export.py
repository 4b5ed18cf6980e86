"""What people said, written as other tools have it; see `docs/annotations.md`."""

from __future__ import annotations

import collections
from pathlib import Path

import pyarrow.dataset as ds
from pyiceberg.expressions import EqualTo

from vidpipe.console import echo
from vidpipe.datasets.annotations import Key, Statement, current_labels
from vidpipe.datasets.formats.exporting import Exported, export_annotations
from vidpipe.datasets.formats.given import SIDECAR, make_zip
from vidpipe.datasets.formats.shape import Format
from vidpipe.datasets.formats.table import find_format, format_of_target
from vidpipe.datasets.video_names import read_video_names
from vidpipe.errors import NothingToDoError, UsageError
from vidpipe.lake.tables import Lake


def export(
    task: str, target: Path, format: str | None = None, annotator: str | None = None
) -> None:
    """Writes the annotations of a task that hold, and tells what the format cannot hold.

    Args:
        task: The task.
        target: A new file; or a new folder or `.zip`, where the format is a folder.
        format: Its name; None: as the ending of the target tells.
        annotator: Only what this one says; None: all.

    Raises:
        UsageError: There is no such format, the ending does not tell it, or the target cannot be
            written.
        NothingToDoError: There is nothing to be written.
    """
    of = find_format(format or format_of_target(target))
    beside = target.with_name(f"{target.name}.{SIDECAR}")
    for path in (target, beside):
        if path.exists():
            raise UsageError(f"{path} is there already: name another, or remove it.")
    lake = Lake()
    snapshots = lake.published()
    current = _current(lake, snapshots, task, annotator)
    exported = export_annotations(current, of, read_video_names(lake, snapshots))
    try:
        sidecar = _write(exported, of, target, beside)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror or error}.") from error
    rows = sum(map(len, current.values()))
    videos = len({key.video_id for key in current})
    echo(f"{target}: {rows} annotations of {videos} videos, as {of.title}.")
    if exported.lost:
        echo(f"{of.title} cannot hold, so that it is kept in {sidecar}:")
    for line in exported.lost:
        echo(f"  {line}")


def _current(
    lake: Lake, snapshots: dict[str, int], task: str, annotator: str | None
) -> dict[Key, frozenset[Statement]]:
    rows = lake.dataset("annotations", where=EqualTo("task", task), snapshots=snapshots)
    current = current_labels(rows.to_table(filter=ds.field("task") == task))
    if not current:
        raise NothingToDoError(
            f"Task {task!r} has no annotation. Import some with `vidpipe annotate FILE --task"
            f" {task}`."
        )
    if annotator is None:
        return current
    counts = collections.Counter(key.annotator for key in current)
    if annotator not in counts:
        names = ", ".join(repr(name) for name in sorted(counts))
        raise UsageError(f"{annotator!r} says nothing of task {task!r}. Those who do: {names}.")
    return {key: said for key, said in current.items() if key.annotator == annotator}


def _write(exported: Exported, of: Format, target: Path, beside: Path) -> Path:
    """Writes the files; returns where the sidecar is."""
    sidecar = exported.sidecar
    if isinstance(exported.content, bytes):
        if sidecar is not None:
            beside.write_bytes(sidecar)
        target.write_bytes(exported.content)
        return beside
    files = {**exported.content} | ({SIDECAR: sidecar} if sidecar is not None else {})
    if target.suffix.lower() == ".zip":
        target.write_bytes(make_zip(files))
    else:
        for path, content in files.items():
            # Paths that the format made, out of names of videos that are plain.
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(content)
    return target / SIDECAR
