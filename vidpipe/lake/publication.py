"""Publishing: the files of one run become rows, once, and no reader ever sees half a run.

A publication is a JSON object that `audit` wrote: which files go into which tables. One at a time
is under way in a lake: its intent is a snapshot of `outcomes` that names it, and iceberg's own
optimistic commit decides who may start. Whoever meets an intent rolls that publication forward
before its own, so that one cut off half way is finished by the next. Every step may be done twice:
a table that holds rows of the run key is done, and `outcomes`, committed last together with the
snapshot ids of all tables, is the end.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from pyiceberg.expressions import EqualTo, In
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot
from sqlalchemy.exc import OperationalError

from vidpipe.errors import TemporaryError
from vidpipe.lake.tables import PUBLISHED, SNAPSHOTS, Lake
from vidpipe.schemas import TABLES

PUBLISHING = "vidpipe.publishing"
_TRIES = 100
_PATIENCE_S = 10.0


def publish(lake: Lake, publication_uri: str) -> None:
    """Publishes what `publication_uri` lists; harmless when it is published already.

    Args:
        lake: The lake.
        publication_uri: A JSON object with `run_key`, `base` (snapshot ids of the tables when the
            run was planned) and `tables` (table → URIs of Parquet files).

    Raises:
        TemporaryError: Others were committing all the time.
    """
    publication = lake.store.get_json(publication_uri)
    if not publication["tables"]:
        return
    for _ in _tries("outcomes"):
        outcomes = lake.iceberg("outcomes")
        if _holds_run(outcomes, publication["run_key"]):
            return
        under_way = _under_way(outcomes)
        if under_way is None:
            if _start(outcomes, publication_uri):
                _roll_forward(lake, publication_uri)
        elif not _ends_soon(lake, under_way):
            _roll_forward(lake, under_way)


def _start(outcomes: IcebergTable, publication_uri: str) -> bool:
    nothing = TABLES["outcomes"].schema.empty_table()
    return _commits(
        lambda: outcomes.append(nothing, snapshot_properties={PUBLISHING: publication_uri})
    )


def _ends_soon(lake: Lake, publication_uri: str) -> bool:
    """Whether whoever started a publication finishes it; helping a live one would only slow it."""
    patience_ends_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < patience_ends_s:
        time.sleep(random.uniform(0.5, 1.5))
        if _under_way(lake.iceberg("outcomes")) != publication_uri:
            return True
    return False


def _roll_forward(lake: Lake, publication_uri: str) -> None:
    publication = lake.store.get_json(publication_uri)
    run_key = publication["run_key"]
    for name, uris in publication["tables"].items():
        if name != "outcomes":
            _add_rows(lake, name, uris, run_key, publication["base"].get(name))
    for _ in _tries("outcomes"):
        outcomes = lake.iceberg("outcomes")
        if _under_way(outcomes) != publication_uri:
            return  # somebody else rolled it forward meanwhile
        current = {name: lake.iceberg(name).current_snapshot() for name in TABLES}
        del current["outcomes"]
        properties = {
            PUBLISHED: run_key,
            SNAPSHOTS: json.dumps({n: s.snapshot_id for n, s in current.items() if s}),
        }
        if _commits(lambda: _add_files(outcomes, publication["tables"]["outcomes"], properties)):  # noqa: B023
            return


def _add_rows(lake: Lake, name: str, uris: list[str], run_key: str, base: int | None) -> None:
    for _ in _tries(name):
        table = lake.iceberg(name)
        if _holds_run(table, run_key):
            return
        fresh = _without_published_work(lake, table, name, uris, base)
        if not fresh:
            return
        if _commits(lambda: _add_files(table, fresh, {PUBLISHED: run_key})):  # noqa: B023
            return


def _add_files(table: IcebergTable, uris: list[str], properties: dict[str, str]) -> None:
    # That the files are not in the table yet is known: no row of this run is.
    table.add_files(uris, snapshot_properties=properties, check_duplicate_files=False)


def _without_published_work(
    lake: Lake, table: IcebergTable, name: str, uris: list[str], base: int | None
) -> list[str]:
    """Leaves out rows whose work other runs published since this run was planned."""
    other_runs = set()
    snapshot = table.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != base:
        other_runs.add(_property(snapshot, PUBLISHED))
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent else None
    other_runs.discard(None)
    if not other_runs:
        return uris
    published = (
        table.scan(row_filter=In("run_key", other_runs), selected_fields=("work_key",))
        .to_arrow()["work_key"]
        .unique()
    )
    fresh = []
    for uri in uris:
        path = uri.removeprefix("s3://")
        keys = pq.read_table(path, columns=["work_key"], filesystem=lake.filesystem)["work_key"]
        known = pc.is_in(keys, value_set=published)
        if not pc.any(known).as_py():
            fresh.append(uri)
        elif not pc.all(known).as_py():
            fresh.append(_rewrite_without(lake, name, uri, published))
    return fresh


def _rewrite_without(lake: Lake, name: str, uri: str, published) -> str:
    schema = TABLES[name].schema
    path = uri.removeprefix("s3://")
    source = pq.ParquetFile(path, filesystem=lake.filesystem)
    # Named by what was left out, so that all who roll this publication forward write the same.
    left_out = hashlib.sha256("".join(sorted(published.to_pylist())).encode()).hexdigest()[:16]
    target = f"{path.removesuffix('.parquet')}-without-{left_out}.parquet"
    with pq.ParquetWriter(
        target, schema, filesystem=lake.filesystem, compression="zstd", write_page_index=True
    ) as writer:
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            rows = rows.filter(pc.invert(pc.is_in(rows["work_key"], value_set=published)))
            if rows.num_rows:
                writer.write_table(rows.cast(schema))
    return f"s3://{target}"


def _holds_run(table: IcebergTable, run_key: str) -> bool:
    # Outlives the snapshot. Files of other runs are told by their statistics, and not read.
    scan = table.scan(row_filter=EqualTo("run_key", run_key), selected_fields=("run_key",), limit=1)
    return scan.to_arrow().num_rows > 0


def _under_way(outcomes: IcebergTable) -> str | None:
    """The publication that was started and not finished, or None."""
    snapshot = outcomes.current_snapshot()
    while snapshot is not None:
        if _property(snapshot, PUBLISHED):
            return None
        if found := _property(snapshot, PUBLISHING):
            return found
        # A commit of somebody else's, such as a compaction: what was before it holds.
        parent = snapshot.parent_snapshot_id
        snapshot = outcomes.snapshot_by_id(parent) if parent else None
    return None


def _property(snapshot: Snapshot, name: str) -> str | None:
    return snapshot.summary.additional_properties.get(name) if snapshot.summary else None


def _commits(commit: Any) -> bool:
    """Whether a commit got through; one that lost against another is to be looked at anew."""
    try:
        commit()
    except (CommitFailedException, CommitStateUnknownException):
        return False
    except OperationalError as error:
        if "locked" not in str(error):
            raise TemporaryError(f"The table catalog does not answer: {error.orig}") from error
        return False
    return True


def _tries(name: str):
    for attempt in range(_TRIES):
        yield attempt
        time.sleep(random.uniform(0, min(0.05 * 2**attempt, 2.0)))
    raise TemporaryError(f"Table {name} could not be committed to: others commit all the time.")
