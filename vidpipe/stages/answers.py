"""What people answered to reviews: how many of a champion's labels are right.

Only the even draw of a review is measured on. What it was drawn of are the labels that nobody had
looked at, so that is what the precision is of.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from pyiceberg.expressions import EqualTo

from vidpipe.config import Settings
from vidpipe.console import echo
from vidpipe.datasets.annotations import Key, Statement, current_labels
from vidpipe.errors import BadInputError, NothingToDoError, UsageError, VidpipeError
from vidpipe.evaluation.reviews import (
    DISAGREEING,
    RANDOM,
    UNCERTAIN,
    Precision,
    Share,
    answers_to,
    measure,
)
from vidpipe.lake.results import show_rows
from vidpipe.lake.tables import Lake

_FILE = re.compile(r"[a-z-]+\.(json|xml)|cvat/[a-z0-9]+\.(json|xml)")


@dataclass(frozen=True)
class Review:
    """A review, and what came of it.

    Attributes:
        run_key: The run that picked.
        rows: Its rows of the table `reviews`.
        answered: Videos of which people say something by now.
        precision: By its even draw; None where it had none.
    """

    run_key: str
    rows: list[dict[str, Any]]
    answered: set[str]
    precision: Precision | None

    @property
    def model_version(self) -> str:
        """Whose labels are looked at."""
        return self.rows[0]["model_version"]

    @property
    def drawn(self) -> set[str]:
        """The videos of the even draw."""
        return {row["video_id"] for row in self.rows if row["picked_for"] == RANDOM}


def read_reviews(
    lake: Lake,
    snapshots: dict[str, int],
    task: str,
    current: Mapping[Key, Iterable[Statement]],
) -> list[Review]:
    """The reviews of a task, newest first.

    Args:
        lake: The lake.
        snapshots: Snapshot ids of the tables.
        task: The task.
        current: What people say of it.
    """
    rows = lake.dataset("reviews", where=EqualTo("task", task), snapshots=snapshots).to_table(
        filter=ds.field("task") == task
    )
    by_run: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for row in rows.sort_by([("picked_at", "descending"), ("run_key", "ascending")]).to_pylist():
        by_run[row["run_key"]].append(row)
    answers = answers_to(
        {(r["video_id"], r["label"]) for of in by_run.values() for r in of}, current
    )
    answered = {video_id for video_id, _ in answers}
    return [
        Review(
            run_key, of_run, answered & {r["video_id"] for r in of_run}, measure(of_run, answers)
        )
        for run_key, of_run in by_run.items()
    ]


def note_precision(task: str, reviews: Iterable[Review]) -> None:
    """Notes in MLflow, with each model version, the precision by its newest review with answers.

    What cannot be noted is told, and no more: the tables have all of it.
    """
    newest: dict[str, Precision] = {}
    for review in reviews:
        if review.precision and review.precision.labels.judged:
            newest.setdefault(review.model_version, review.precision)
    if not newest:
        return
    from vidpipe import tracking  # MLflow takes seconds, and most imports answer no review

    for number, precision in newest.items():
        metrics = {"review_judged": precision.labels.judged}
        for name, share in (("", precision.labels), ("_accepted", precision.accepted)):
            if share.judged:
                low, high = share.interval
                metrics |= {
                    f"review_precision{name}": share.value,
                    f"review_precision{name}_low": low,
                    f"review_precision{name}_high": high,
                }
        try:
            if version := tracking.find_version(task, number):
                tracking.open_run(version.run_id).log_metrics(metrics)
        except VidpipeError as error:
            echo(f"MLflow is not told of the precision of version {number}: {error}")


def print_reviews(task: str, save: Path | None = None, settings: Settings | None = None) -> None:
    """Prints the reviews of a task, and what they tell of its champions.

    Args:
        task: The task.
        save: A new folder, for the files of the newest one.
        settings: Where the lake is; the process's own by default.

    Raises:
        NothingToDoError: There is none whose files could be saved.
        UsageError: The folder is there already.
        BadInputError: Its files are gone.
    """
    lake = Lake(settings)
    snapshots = lake.published()
    annotations = lake.dataset("annotations", where=EqualTo("task", task), snapshots=snapshots)
    current = current_labels(annotations.to_table(filter=ds.field("task") == task))
    reviews = read_reviews(lake, snapshots, task, current)
    if not reviews:
        none = f"Task {task!r} has no review yet: `vidpipe run review --param task={task}`."
        if save:
            raise NothingToDoError(none)
        echo(none)
        return
    if save:
        _save(lake, reviews[0].rows[0]["files_uri"], save)
        return
    show_rows(
        ["picked", "version", RANDOM, DISAGREEING, UNCERTAIN, "answered", "precision", "from", "to"]
        + ["judged"],
        map(_shown, reviews),
    )
    newest = reviews[0].rows[0]
    echo("", f"Files of the newest, with links until {newest['links_until']:%Y-%m-%d %H:%M} UTC:")
    echo(newest["files_uri"])


def _shown(review: Review) -> list[Any]:
    labels = review.precision.labels if review.precision else Share(0, 0, 0)
    picked = {row["video_id"]: row["picked_for"] for row in review.rows}
    counts = collections.Counter(picked.values())
    measured: list[Any] = [None] * 3
    if labels.judged:
        measured = [round(value, 3) for value in (labels.value, *labels.interval)]
    return [
        f"{review.rows[0]['picked_at']:%Y-%m-%d %H:%M}",
        review.model_version,
        *(counts[of] for of in (RANDOM, DISAGREEING, UNCERTAIN)),
        len(review.answered),
        *measured,
        labels.judged,
    ]


def _save(lake: Lake, files_uri: str, folder: Path) -> None:
    uris = {found.uri.removeprefix(files_uri): found.uri for found in lake.store.list(files_uri)}
    if not uris:
        raise BadInputError(
            "The files of the newest review are gone: a video of it was forgotten. Review anew."
        )
    try:
        folder.mkdir(mode=0o700, parents=True)  # links are as secret as passwords
        (folder / "cvat").mkdir()
        for path, uri in uris.items():
            if _FILE.fullmatch(path):
                (folder / path).write_bytes(lake.store.get(uri))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}.") from error
    echo(f"{folder}: {len(uris)} files. Who has them sees the videos, as long as the links hold.")
