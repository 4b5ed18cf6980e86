"""Manifests say what a task is to do, reports what an attempt at it did.

Both are small JSON objects.

Light on purpose (no pyarrow, no Airflow): Airflow's operator reads them too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vidpipe.errors import BadInputError, NotFoundError, UsageError
from vidpipe.lake import layout

if TYPE_CHECKING:
    from vidpipe.lake.store import ObjectStore

PLAN = "plan"  # the shard of a stage that is not cut into shards
WHY_CHARS = 1000


@dataclass(frozen=True)
class Manifest:
    """What one task is to do.

    Attributes:
        run_key: The DAG run.
        stage: The stage, as in `vidpipe STAGE`.
        shard: Its number as five digits, or `plan` for a stage that is one task.
        config: The stage's configuration; whatever it names is JSON.
        items: What is to get an outcome, each with its name under `item`. A stage that finds its
            items itself (discover, snapshot) has none here.
        planned_at: When the run was planned: the ingestion time of its rows, one for all shards.
        code_version: The version of vidpipe that planned it.
    """

    run_key: str
    stage: str
    shard: str = PLAN
    config: dict[str, Any] = field(default_factory=dict)
    items: list[dict[str, Any]] = field(default_factory=list)
    planned_at: str = ""
    code_version: str = ""

    @property
    def hash(self) -> str:
        """Hash of what is to be done (not of when it was planned)."""
        content = {k: v for k, v in dataclasses.asdict(self).items() if k != "planned_at"}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def planned_time(self) -> datetime:
        """`planned_at` as a time (UTC)."""
        return datetime.fromisoformat(self.planned_at)

    @classmethod
    def read(cls, store: ObjectStore, uri: str) -> Manifest:
        """Reads a manifest.

        Raises:
            UsageError: The object is no manifest.
        """
        try:
            return cls(**store.get_json(uri))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{uri} is no shard manifest: {error}") from error

    def write(self, store: ObjectStore, uri: str) -> None:
        """Writes the manifest."""
        store.put_json(uri, dataclasses.asdict(self))


@dataclass(frozen=True)
class Report:
    """What a complete attempt did. It is written last: an attempt without one never happened.

    Attributes:
        manifest_hash: Hash of the manifest that it answers.
        attempt: Name of the attempt.
        files: Per file: table, uri, size_bytes, sha256, rows.
        counts: Items per status.
        result: What the stage tells its successors, small: URIs, numbers.
        seconds: How long it took.
        finished_at: When (UTC).
    """

    run_key: str
    stage: str
    shard: str
    manifest_hash: str
    attempt: str
    files: list[dict[str, Any]]
    counts: dict[str, int]
    result: dict[str, Any]
    seconds: float
    finished_at: str
    uri: str = ""


def find_report(store: ObjectStore, lake_uri: str, manifest: Manifest) -> Report | None:
    """Returns the first complete report that answers this very manifest, or None."""
    prefix = layout.reports_uri(lake_uri, manifest.run_key, manifest.stage, manifest.shard)
    for found in store.list(prefix):
        report = Report(**store.get_json(found.uri))
        if report.manifest_hash == manifest.hash:
            return report
    return None


def give_up(store: ObjectStore, lake_uri: str, manifest: Manifest, reason: str, why: str) -> None:
    """Leaves why a try of a shard ends without a report, for the audit; a report still counts more.

    Args:
        reason: A word of the outcomes, `stage_failed` or `out_of_budget`.
        why: In words, for people.
    """
    uri = layout.given_up_uri(lake_uri, manifest.run_key, manifest.stage, manifest.shard)
    store.put_json(uri, {"reason": reason, "message": why[:WHY_CHARS]})


def forget_given_up(store: ObjectStore, lake_uri: str, manifest: Manifest) -> None:
    """Removes what an earlier try left."""
    uri = layout.given_up_uri(lake_uri, manifest.run_key, manifest.stage, manifest.shard)
    store.delete(uri)


def find_given_up(store: ObjectStore, lake_uri: str, manifest: Manifest) -> dict[str, str] | None:
    """Reason and message that the last try of a shard left, or None."""
    uri = layout.given_up_uri(lake_uri, manifest.run_key, manifest.stage, manifest.shard)
    with contextlib.suppress(NotFoundError):
        return store.get_json(uri)
    return None


def read_result(store: ObjectStore, lake_uri: str, manifest_uri: str) -> dict[str, Any]:
    """What the task with this manifest told those after it.

    Raises:
        BadInputError: It did not end.
    """
    manifest = Manifest.read(store, manifest_uri)
    report = find_report(store, lake_uri, manifest)
    if report is None:
        raise BadInputError(
            f"{manifest.stage} {manifest.shard} of this run has no report: run it first."
        )
    return report.result


@dataclass
class Progress:
    """How far a stage of a run is, all its shards together.

    Attributes:
        unit: What is counted, such as videos or epochs.
    """

    done: int = 0
    planned: int = 0
    unit: str = ""


def read_progress(store: ObjectStore, lake_uri: str, run_key: str) -> dict[str, Progress]:
    """How far each stage of a run is, by its name."""
    progress: dict[str, Progress] = {}
    prefix = layout.progress_uri(lake_uri, run_key)
    # A listing may name an object twice while it is being replaced.
    for uri in {found.uri for found in store.list(prefix)}:
        stage = uri.removeprefix(prefix).partition("/")[0]
        told = store.get_json(uri)
        of_stage = progress.setdefault(stage, Progress())
        of_stage.done += told["done"]
        of_stage.planned += told["planned"]
        of_stage.unit = told.get("unit", of_stage.unit)
    return progress


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)
