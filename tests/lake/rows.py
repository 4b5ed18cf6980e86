"""Publishing rows as stages do: an attempt, a publication."""

from __future__ import annotations

import collections
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from vidpipe.errors import MediaError
from vidpipe.lake import layout
from vidpipe.lake.publication import publish
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def publish_rows(
    lake: Lake,
    run_key: str,
    stage: str,
    rows: dict[str, list[dict[str, Any]]],
    *,
    not_done: dict[str, str] | None = None,
    finish: bool = True,
) -> str:
    """Publishes rows of a run, each an item of its own that is done.

    Args:
        lake: The lake.
        run_key: The run.
        stage: The stage that made them.
        rows: Table → rows; columns that a row leaves out get a value of their type.
        not_done: Item → reason of the outcome of further items.
        finish: Whether the publication takes place.

    Returns:
        The URI of the publication.
    """
    manifest = Manifest(run_key, stage, planned_at=DAY.isoformat())
    with Attempt(manifest, lake.store, lake.uri) as attempt:
        for table, given in rows.items():
            spec = TABLES[table]
            parts = collections.defaultdict(list)
            for number, values in enumerate(given):
                work_key = layout.make_work_key(run_key, table, number)
                row = {f.name: _default(f) for f in spec.schema}
                row |= {"work_key": work_key, "run_key": run_key} | values
                attempt.outcome(f"{table}/{number}", work_key, video_id=row.get("video_id"))
                parts[tuple(str(row[c])[:10] for c in spec.partition)].append(row)
            for part in parts.values():
                attempt.write(table, part)
        for item, reason in (not_done or {}).items():
            uri = f"s3://b/{item.partition('@')[0]}"
            with attempt.item({"item": item, "source_uri": uri}):
                raise MediaError(reason, f"{item} is {reason}")
        report = attempt.finish()
    tables = collections.defaultdict(list)
    for file in report.files:
        tables[file["table"]].append(file["uri"])
    uri = f"{layout.run_uri(lake.uri, run_key)}/publish/test.json"
    lake.store.put_json(uri, {"run_key": run_key, "base": lake.published(), "tables": tables})
    if finish:
        publish(lake, uri)
    return uri


def _default(field: pa.Field) -> Any:
    if field.nullable:
        return None
    if pa.types.is_timestamp(field.type):
        return DAY
    if pa.types.is_string(field.type):
        return ""
    return b"" if pa.types.is_binary(field.type) else False if field.type == pa.bool_() else 0
