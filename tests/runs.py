"""Runs without Airflow: stages called one after the other, as its tasks call them."""

from __future__ import annotations

from typing import Any

from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, Report, now
from vidpipe.stages.runner import run_stage


def stage(lake: Lake, run_key: str, name: str, **config: Any) -> Report:
    """Runs a stage that is one task."""
    return run_stage(
        Manifest(run_key, name, config=config, planned_at=now().isoformat(), code_version="test"),
        lake,
    )


def shards(lake: Lake, plan: Report) -> list[Report]:
    """Runs the shards that a plan made."""
    return [run_stage(Manifest.read(lake.store, uri), lake) for uri in plan.result["shards"]]


def audit_and_publish(lake: Lake, run_key: str, plan: Report, **config: Any) -> Report:
    """Ends a run."""
    audit = stage(lake, run_key, "audit", plan=plan.uri, **config)
    stage(lake, run_key, "publish", publication=audit.result["publication"])
    return audit


def ingest(lake: Lake, run_key: str, **config: Any) -> Report:
    """A whole run of the DAG `ingest`; returns the plan's report."""
    plan = stage(lake, run_key, "discover", **config)
    shards(lake, plan)
    audit_and_publish(lake, run_key, plan)
    return plan


def rows(lake: Lake, table: str, *, ignore: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The published rows of a table, sorted by its key, without the columns to ignore."""
    found = lake.dataset(table).to_table()
    columns = [c for c in found.column_names if c not in ignore]
    ordered = found.sort_by([(c, "ascending") for c in TABLES[table].key])
    return ordered.select(columns).to_pylist()


def label_rows(lake: Lake, run_key: str, work: list[str]) -> str:
    """Makes a run that labels videos, audits it, and returns its publication's URI.

    The labels are made up: it is publishing that is looked at.
    """
    plan = Manifest(run_key, "label", planned_at=now().isoformat())
    uri = layout.manifest_uri(lake.uri, run_key, "label", "plan", "00000")
    shard = Manifest(
        run_key,
        "label",
        "00000",
        items=[{"item": name, "video_id": name} for name in work],
        planned_at=now().isoformat(),
    )
    shard.write(lake.store, uri)
    with Attempt(plan, lake.store, lake.uri) as attempt:
        attempt.result = {"shards": [uri], "base": lake.published()}
        planned = attempt.finish()
    with Attempt(shard, lake.store, lake.uri) as attempt:
        for item in shard.items:
            with attempt.item(item) as item_rows:
                item_rows.write("labels", [_label(item["item"], run_key)])
                item_rows.done(f"work-{item['item']}", video_id=item["item"])
        attempt.finish()
    return stage(lake, run_key, "audit", plan=planned.uri).result["publication"]


def _label(name: str, run_key: str) -> dict[str, Any]:
    return {
        "task": "motion",
        "video_id": name,
        "start_s": 0.0,
        "end_s": 1.0,
        "label": "left",
        "score": 0.5,
        "accepted": True,
        "model": "vidpipe-motion",
        "model_version": "1",
        "labelled_at": now(),
        "work_key": f"work-{name}",
        "run_key": run_key,
    }
