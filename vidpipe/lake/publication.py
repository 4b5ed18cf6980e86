"""Publishing: the files of one run become rows, once, and no reader ever sees half a run.

A publication is a JSON object that `audit` wrote: which files go into which tables. One at a time
is under way in a lake: its intent is a snapshot of `outcomes` that names it, and iceberg's own
optimistic commit decides who may start. Whoever meets an intent rolls that publication forward
before its own, so that one cut off half way is finished by the next. Every step may be done twice:
a table that holds rows of the run key is done, and `outcomes`, committed last together with the
snapshot ids of all tables, is the end.

Forgetting is a publication, too: one that takes rows out of the tables. Whatever is published after
it is published without the rows of what is forgotten.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, EqualTo, In
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot

from vidpipe.errors import BadInputError, NotFoundError
from vidpipe.lake import forgetting
from vidpipe.lake.commits import commits, tries
from vidpipe.lake.files import read_columns, without
from vidpipe.lake.tables import PUBLISHED, SNAPSHOTS, Lake
from vidpipe.lake.tombstones import Forgotten, name_columns, naming, read_forgotten
from vidpipe.schemas import TABLES

PUBLISHING = "vidpipe.publishing"
_PATIENCE_S = 10.0
_READERS = 16


def publish(lake: Lake, publication_uri: str) -> None:
    """Publishes what `publication_uri` lists; harmless when it is published already.

    Args:
        lake: The lake.
        publication_uri: A JSON object with `run_key`, `base` (snapshot ids of the tables when the
            run was planned) and `tables` (table → URIs of Parquet files); where something is to be
            forgotten with it, `forgetting`: the URI of the names.

    Raises:
        TemporaryError: Others were committing all the time.
        BadInputError: Its files are gone, with what was forgotten.
    """
    publication = lake.store.get_json(publication_uri)
    if not publication["tables"]:
        return
    for _ in tries("outcomes"):
        outcomes = lake.iceberg("outcomes")
        run_key = publication["run_key"]
        forgotten = read_forgotten(lake)
        # Of a run that has a tombstone nothing is left, but it was published.
        if _holds_run(outcomes, run_key) or run_key in forgotten:
            return
        under_way = _under_way(outcomes)
        if under_way is None:
            if forgotten:
                _check_files(lake, publication)
            if _start(outcomes, publication_uri):
                _roll_forward(lake, publication_uri)
        elif not _ends_soon(lake, under_way):
            _roll_forward(lake, under_way)


def _check_files(lake: Lake, publication: dict[str, Any]) -> None:
    """Makes sure that files are there: once it has begun, a publication must come to its end."""
    uris = [uri for of_table in publication["tables"].values() for uri in of_table]
    try:
        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(lake.store.head, uris))
    except NotFoundError as error:
        raise BadInputError(
            f"Files of {publication['run_key']} are gone: what they held was forgotten after it"
            " had stood still for long. Run it anew."
        ) from error


def _start(outcomes: IcebergTable, publication_uri: str) -> bool:
    nothing = TABLES["outcomes"].schema.empty_table()
    return commits(
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

    def goes_on() -> bool:
        return _under_way(lake.iceberg("outcomes")) == publication_uri

    # The same for all who roll it forward: no other publication, and so no other forgetting, is
    # under way.
    forgotten = _forgotten_of(lake, publication)
    for name, uris in publication["tables"].items():
        if name != "outcomes":
            fresh = _without_forgotten(lake, name, uris, forgotten)
            _add_rows(lake, name, fresh, run_key, publication["base"].get(name), goes_on)
    if names := forgetting.read_names(lake, publication.get("forgetting")):
        for name in TABLES:
            forgetting.take_out(lake, name, names, run_key, goes_on)
    of_outcomes = _without_forgotten(lake, "outcomes", publication["tables"]["outcomes"], forgotten)
    for _ in tries("outcomes"):
        outcomes = lake.iceberg("outcomes")
        if _under_way(outcomes) != publication_uri:
            return  # somebody else rolled it forward meanwhile
        properties = {PUBLISHED: run_key, SNAPSHOTS: json.dumps(_snapshots(lake))}
        if commits(lambda: _add_files(outcomes, of_outcomes, properties)):  # noqa: B023
            return


def _snapshots(lake: Lake) -> dict[str, int]:
    """What the other tables are at; those that are not there, or are empty, are left out."""
    tables = {name: lake.find_iceberg(name) for name in TABLES if name != "outcomes"}
    current = {name: table.current_snapshot() for name, table in tables.items() if table}
    return {name: snapshot.snapshot_id for name, snapshot in current.items() if snapshot}


def _add_rows(
    lake: Lake,
    name: str,
    uris: list[str],
    run_key: str,
    base: int | None,
    goes_on: Callable[[], bool],
) -> None:
    for _ in tries(name):
        table = lake.iceberg(name)
        # Asked after the table was loaded. Whoever ended this publication meanwhile and forgot all
        # of its rows has committed to the table: before, and that is seen here; or after, and the
        # commit fails.
        if not goes_on() or _holds_run(table, run_key):
            return
        fresh = _without_published_work(lake, table, name, uris, base)
        if not fresh:
            return
        if commits(lambda: _add_files(table, fresh, {PUBLISHED: run_key})):  # noqa: B023
            return


class _LeftOut:
    """What a publication leaves out: names that are forgotten, and what was read by them."""

    def __init__(self, forgotten: Forgotten, videos: set[str]):
        self._forgotten = forgotten
        self._videos = videos

    def __contains__(self, name: object) -> bool:
        return name in self._videos or name in self._forgotten

    def __bool__(self) -> bool:
        return bool(self._forgotten)


def _forgotten_of(lake: Lake, publication: dict[str, Any]) -> _LeftOut:
    """What is forgotten among what is published.

    Of a source that is forgotten the video goes as well, whose other rows do not name the source.
    """
    forgotten = read_forgotten(lake, but=publication["run_key"])
    videos: set[str] = set()
    for name, uris in publication["tables"].items() if forgotten else ():
        columns = {"source_uri", "video_id"}
        if columns <= set(TABLES[name].schema.names):
            for uri in uris:
                rows = read_columns(lake, uri, sorted({*columns, *name_columns(name)}))
                named = rows.filter(naming(name, rows, forgotten))["video_id"]
                videos.update(pc.unique(named.drop_null()).to_pylist())
    return _LeftOut(forgotten, videos)


def _without_forgotten(lake: Lake, name: str, uris: list[str], forgotten: _LeftOut) -> list[str]:
    """Leaves out the rows of what was forgotten since they were made."""
    if not forgotten or not TABLES[name].names:
        return uris
    columns = name_columns(name)
    fresh = (
        without(lake, name, uri, naming(name, read_columns(lake, uri, columns), forgotten))
        for uri in uris
    )
    return [uri for uri in fresh if uri]


def _add_files(table: IcebergTable, uris: list[str], properties: dict[str, str]) -> None:
    # That the files are not in the table yet is known: no row of this run is.
    table.add_files(uris, snapshot_properties=properties, check_duplicate_files=False)


def _without_published_work(
    lake: Lake, table: IcebergTable, name: str, uris: list[str], base: int | None
) -> list[str]:
    """Leaves out rows whose work other runs published since this run was planned."""
    other_runs = set()
    snapshot = table.current_snapshot()
    cut_off = False
    while snapshot is not None and snapshot.snapshot_id != base:
        other_runs.add(_property(snapshot, PUBLISHED))
        parent = snapshot.parent_snapshot_id
        cut_off = parent is None and snapshot.sequence_number > 1
        snapshot = table.snapshot_by_id(parent) if parent else None
    other_runs.discard(None)
    if not other_runs and not cut_off:
        return uris
    # Where forgetting cut the history off, any run may have been.
    of_others = AlwaysTrue() if cut_off else In("run_key", other_runs)
    published = (
        table.scan(row_filter=of_others, selected_fields=("work_key",))
        .to_arrow()["work_key"]
        .unique()
    )
    fresh = []
    for uri in uris:
        keys = read_columns(lake, uri, ["work_key"])["work_key"]
        fresh.append(without(lake, name, uri, pc.is_in(keys, value_set=published)))
    return [uri for uri in fresh if uri]


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
