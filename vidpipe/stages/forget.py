"""forget: a video, or all that a source ever was, leaves the lake and never comes back.

Its rows leave every table that is registered in `vidpipe/schemas.py`, the states of the tables
before that expire, what runs left of it beside the tables is deleted, and so are the pictures of it
in MLflow. What is kept is a hash of each name (table `forgotten`), by which it is known when it
comes back. The objects in the watched buckets are their owner's: they are only read, and stay.

Cut off anywhere and run again it ends the same: what is to be forgotten is noted first, and the
note deleted last.
"""

from __future__ import annotations

import collections
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa

from vidpipe import tracking
from vidpipe.config import load_settings
from vidpipe.console import echo
from vidpipe.errors import DeniedError, NotFoundError, TemporaryError, UsageError
from vidpipe.lake import forgetting, layout, publication
from vidpipe.lake.tables import Lake
from vidpipe.lake.tombstones import (
    belonging_to,
    name_columns,
    naming,
    tombstone,
    tombstone_row,
    tombstones,
    with_keys,
)
from vidpipe.schemas import TABLES
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, now
from vidpipe.stages.staged import staged_objects, unfinished
from vidpipe.stages.subject import Subject, begun_uri, find_subject
from vidpipe.text import printable

IDLE_HOURS = 24.0
NAMES_SHOWN = 20


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Forgets, tells what it would forget, or lifts that.

    Config: video (a video_id, or the s3:// URI of a source), dry_run (only tell), lift (let it in
    again), why (in words, kept with the tombstones), idle_hours (a run that left nothing new for so
    long has ended; null: 24).

    Result: what `Found.counts` tells, and `models`: those that learnt from it. No names.

    Raises:
        UsageError: Nothing is known by that name; or it is to be lifted and is not forgotten.
        TemporaryError: A run that has not ended holds it still, and all else is done; or it was met
            again. A new run goes on.
    """
    name = manifest.config.get("video") or ""
    if manifest.config.get("lift"):
        _lift(manifest, attempt, lake, name)
        return
    subject = find_subject(lake, name)
    found = _look(manifest, lake, subject)
    _require_known(lake, subject, found)
    attempt.result |= {**found.counts, "models": found.models}
    for line in found.lines():
        echo(line)
    if manifest.config.get("dry_run"):
        attempt.conclude(f"would remove {found.summary}")
        return
    lake.store.put_json(begun_uri(lake, name), subject.to_json())
    _publish_forgetting(manifest, attempt, lake, subject, found)
    if held_by := _delete(manifest, lake, subject, found):
        raise TemporaryError(
            f"{sum(map(len, held_by.values()))} staged objects are left to {len(held_by)} runs that"
            f" have not ended, such as {min(held_by)}; all else is forgotten. Forget it once more"
            " when they have."
        )
    lake.store.delete(begun_uri(lake, name))
    attempt.conclude(f"removed {found.summary}")


@dataclass(frozen=True)
class Found:
    """What there is of a subject.

    Attributes:
        rows: Rows of each table that has some.
        files: Data files that hold them.
        snapshots: States of the tables that expire.
        staged: Objects of runs that are in no table.
        pictures: Runs in MLflow that show it.
        models: Model, version and aliases of those that learnt from it.
        runs: Runs of which nothing but this is published.
        objects: URIs in the buckets it was read from.
    """

    rows: dict[str, int]
    files: int
    snapshots: int
    staged: list[str]
    pictures: list[tracking.Run]
    models: list[dict[str, Any]]
    runs: set[str]
    objects: list[str]

    @property
    def counts(self) -> dict[str, Any]:
        """As numbers."""
        return {
            "rows": self.rows,
            "files": self.files,
            "snapshots": self.snapshots,
            "staged": len(self.staged),
            "pictures": len(self.pictures),
        }

    @property
    def summary(self) -> str:
        """In one line."""
        rows = sum(self.rows.values())
        learnt = [f"{m['model']} version {m['version']}" for m in self.models]
        return (
            f"{rows} rows of {len(self.rows)} tables, {len(self.staged)} staged objects,"
            f" pictures of {len(self.pictures)} MLflow runs;"
            f" models that learnt from it: {', '.join(learnt) or 'none'}"
        )

    def lines(self) -> list[str]:
        """For people."""
        tables = ", ".join(f"{n} of {table}" for table, n in self.rows.items())
        lines = [
            f"rows: {tables or 'none'}",
            f"data files that hold them: {self.files}",
            f"states of the tables that expire: {self.snapshots};"
            " what `--at` and `vidpipe changes` know begins anew",
            f"staged objects: {len(self.staged)}",
            f"runs in MLflow with pictures of it: {len(self.pictures)}",
            f"objects it was read from: {len(self.objects)}; they are their owner's and stay",
            *(f"  {printable(uri)}" for uri in self.objects[:NAMES_SHOWN]),
            *["  …"] * (len(self.objects) > NAMES_SHOWN),
        ]
        for model in self.models:
            what = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
            lines.append(
                f"learnt from it, and stays: {model['model']} version {model['version']}{what}"
            )
        return lines


def _look(manifest: Manifest, lake: Lake, subject: Subject) -> Found:
    """Looks everywhere, and changes nothing."""
    rows, files, snapshots = {}, 0, 0
    for name in TABLES:
        table = lake.iceberg(name)
        held = forgetting.held(lake, table, name, subject.names)
        if held:
            rows[name] = sum(of_file.rows for of_file in held)
            files += len(held)
        current = table.current_snapshot()
        # The state in which the rows are goes as well.
        snapshots += len(forgetting.old_snapshots(table, current and current.snapshot_id))
        snapshots += bool(held)
    staged = staged_objects(lake, subject, _tell)
    pictures, models = _in_mlflow(subject)
    return Found(
        rows,
        files,
        snapshots,
        staged,
        pictures,
        models,
        _runs(lake, subject),
        sorted(subject.uris),
    )


def _require_known(lake: Lake, subject: Subject, found: Found) -> None:
    """Refuses a name that was mistyped: it would cost the history, and bar who comes by it."""
    if found.rows or found.staged or found.pictures or subject.objects:
        return
    if belonging_to(tombstones(lake), subject.name):
        return
    if subject.sources:
        with contextlib.suppress(NotFoundError, DeniedError):
            lake.store.head(subject.name)
            return
    raise UsageError(
        f"Nothing is known of {printable(subject.name)}: no table, no run that has not ended and no"
        " bucket has it."
    )


def _tell(progress: str) -> None:
    echo(f"forget: {progress}")


def _in_mlflow(subject: Subject) -> tuple[list[tracking.Run], list[dict[str, Any]]]:
    if not load_settings().mlflow.tracking_uri:
        return [], []
    models = []
    for task, dataset in sorted(subject.datasets):
        for trained in tracking.runs_of_dataset(task, dataset):
            if version := tracking.version_of_run(task, trained.id):
                aliases = tracking.aliases(version)
                models.append(
                    {"model": version.name, "version": version.version, "aliases": aliases}
                )
    return tracking.runs_showing(sorted(subject.videos)), models


def _runs(lake: Lake, subject: Subject) -> set[str]:
    """The runs of which all outcomes go: nothing but a tombstone tells that they were published."""
    rows: collections.Counter[str] = collections.Counter()
    gone: collections.Counter[str] = collections.Counter()
    columns = ["run_key", *name_columns("outcomes")]
    for batch in lake.dataset_now("outcomes").to_batches(columns=columns):
        table = pa.Table.from_batches([batch])
        rows.update(table["run_key"].to_pylist())
        named = table.filter(naming("outcomes", table, subject.names))
        gone.update(named["run_key"].to_pylist())
    return {run_key for run_key, count in gone.items() if count == rows[run_key]}


# === Rows ===


def _publish_forgetting(
    manifest: Manifest, attempt: Attempt, lake: Lake, subject: Subject, found: Found
) -> None:
    """Puts up the tombstones and takes the rows out, in one publication."""
    known = {(row["tombstone"], row["belongs_to"]) for row in tombstones(lake)}
    runs = (("run", run_key, subject.name) for run_key in found.runs)
    rows = [
        tombstone_row(
            manifest.run_key,
            manifest.planned_time,
            name,
            kind=kind,
            belongs_to=belongs_to,
            why=manifest.config.get("why") or "",
        )
        for kind, name, belongs_to in (*subject.tombstones(), *runs)
    ]
    rows = [row for row in rows if (row["tombstone"], row["belongs_to"]) not in known]
    if not rows and not found.rows:
        return  # an earlier attempt has come as far
    for name in found.rows:
        forgetting.prepare(lake, name, subject.names, _tell)
    _publish(manifest, attempt, lake, rows, forgetting=begun_uri(lake, subject.name))
    if any(forgetting.held(lake, lake.iceberg(name), name, subject.names) for name in TABLES):
        # This run was published by an earlier attempt, and does so only once.
        raise TemporaryError("It was met again since this run began: forget it once more.")


def _lift(manifest: Manifest, attempt: Attempt, lake: Lake, name: str) -> None:
    """Lets in again what was forgotten by a name. Its rows are gone: it is new."""
    held = belonging_to(tombstones(lake), name)
    # That a run was published stays true.
    held = [row for row in held if row["kind"] != "run"]
    if not held:
        raise UsageError(f"{name} is not forgotten: there is nothing to lift.")
    told = f"{len(held)} tombstones"
    if manifest.config.get("dry_run"):
        attempt.conclude(f"would lift {told}")
        return
    lifted = {
        "lifted": True,
        "forgotten_at": manifest.planned_time,
        "why": manifest.config.get("why") or "",
    }
    rows = [with_keys(row | lifted, manifest.run_key) for row in held]
    _publish(manifest, attempt, lake, rows)
    attempt.conclude(f"lifted {told}; the next ingest takes in again what it finds")


def _publish(
    manifest: Manifest, attempt: Attempt, lake: Lake, rows: list[dict[str, Any]], **more: Any
) -> None:
    """Publishes rows of `forgotten`, and that this run is done."""
    attempt.write("forgotten", rows)
    attempt.write("outcomes", [_outcome(manifest, attempt)])
    tables = collections.defaultdict(list)
    for file in attempt.upload():
        tables[file["table"]].append(file["uri"])
    uri = f"{layout.run_uri(lake.uri, manifest.run_key)}/publish/{attempt.name}.json"
    base = lake.published()
    lake.store.put_json(uri, {"run_key": manifest.run_key, "base": base, "tables": tables, **more})
    publication.publish(lake, uri)


def _outcome(manifest: Manifest, attempt: Attempt) -> dict[str, Any]:
    item = tombstone(manifest.config["video"])
    return {
        "stage": manifest.stage,
        "item": item,
        "work_key": layout.make_work_key(manifest.run_key, manifest.stage, item),
        "run_key": manifest.run_key,
        "source_uri": None,
        "source_version": None,
        "video_id": None,
        "status": "done",
        "reason": None,
        "message": None,
        "attempt": attempt.name,
        "seconds": 0.0,
        "shard": manifest.shard,
        "code_version": manifest.code_version,
        "finished_at": now(),
    }


# === What held them ===


def _delete(manifest: Manifest, lake: Lake, subject: Subject, found: Found) -> dict[str, list[str]]:
    """Deletes all that holds it still, but what runs need that have not ended; returns that."""
    for shown in found.pictures:
        shown.remove_pictures()
    published = lake.published()
    for name in TABLES:
        forgetting.expire(lake, name, published.get(name))
    idle_hours = manifest.config.get("idle_hours")
    idle_since = now() - timedelta(hours=IDLE_HOURS if idle_hours is None else idle_hours)
    staged = staged_objects(lake, subject, _tell)
    held_by = unfinished(lake, staged, idle_since)
    held = {uri for uris in held_by.values() for uri in uris}
    for uri in staged:
        if uri not in held:
            lake.store.delete(uri)
    for name in TABLES:
        forgetting.delete_dead_manifests(lake, name, now() - timedelta(hours=IDLE_HOURS))
    return held_by
