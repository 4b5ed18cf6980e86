"""Forgetting in the tables: rows leave, then the states and the files that held them.

Rows are taken out file by file, as a part of a publication (`vidpipe/lake/publication.py`), so that
readers see all of it at once or nothing. Afterwards the snapshots before that publication expire,
and the files that held the rows are deleted. Every step may be done twice, and finds by itself what
is left to do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterator
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.avro.file import AvroFile
from pyiceberg.expressions import AlwaysFalse, BooleanExpression, In, Or
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_ENTRY_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Snapshot

from vidpipe.errors import BadInputError, NotFoundError
from vidpipe.lake import layout
from vidpipe.lake.commits import commits, tries
from vidpipe.lake.files import read_batches, without
from vidpipe.lake.tables import PUBLISHED, Lake
from vidpipe.lake.tombstones import name_columns, naming
from vidpipe.schemas import TABLES


def read_names(lake: Lake, uri: str | None) -> set[str]:
    """The names that are to be forgotten; none any more where that has ended."""
    if uri is None:
        return set()
    try:
        document = lake.store.get_json(uri)
    except NotFoundError:
        return set()
    return {*document["videos"], *document["objects"], *document["sources"]}


# === Rows ===


class Held(NamedTuple):
    """A file of a table that holds rows of what is to be forgotten.

    Attributes:
        file: The file.
        gone: Of each of its rows, whether it goes.
    """

    file: DataFile
    gone: pa.ChunkedArray

    @property
    def rows(self) -> int:
        """How many go."""
        return pc.sum(self.gone).as_py()


def held(lake: Lake, table: IcebergTable, name: str, names: set[str]) -> list[Held]:
    """The files of a table, as it is now, that hold rows which name one of `names`."""
    if not names or not TABLES[name].names or table.current_snapshot() is None:
        return []
    found = []
    for task in table.scan(row_filter=_may_name(name, names)).plan_files():
        batches = read_batches(lake, task.file.file_path, name_columns(name))
        chunks = [chunk for rows in batches for chunk in naming(name, rows, names).chunks]
        gone = pa.chunked_array(chunks, pa.bool_())
        if pc.any(gone).as_py():
            found.append(Held(task.file, gone))
    return found


def _may_name(name: str, names: set[str]) -> BooleanExpression:
    """Chooses files by their statistics."""
    condition: BooleanExpression = AlwaysFalse()
    for named in TABLES[name].names:
        column, joined, _ = named.partition("@")
        values = {n.rpartition("@")[0] for n in names} if joined else names
        condition = Or(condition, In(column, values))
    return condition


def prepare(lake: Lake, name: str, names: set[str], tell: Callable[[str], None]) -> None:
    """Writes the files that are to stand in for those that hold rows.

    Ahead, because others wait while rows are taken out, and these files may be large.
    """
    found = held(lake, lake.iceberg(name), name, names)
    for number, of_file in enumerate(found, 1):
        without(lake, name, of_file.file.file_path, of_file.gone)
        tell(f"{name}: file {number} of {len(found)} is written anew")


def take_out(
    lake: Lake, name: str, names: set[str], run_key: str, goes_on: Callable[[], bool]
) -> None:
    """Takes the rows of a table that name one of `names` out of its current state.

    Args:
        lake: The lake.
        name: The table.
        names: What is forgotten.
        run_key: The run that forgets.
        goes_on: Whether that is still under way; asked after a table was loaded, so that whoever
            ended it meanwhile makes the commit fail.
    """
    for _ in tries(name):
        table = lake.iceberg(name)
        if not goes_on():
            return
        found = held(lake, table, name, names)
        if found:
            fresh = [without(lake, name, f.file.file_path, f.gone) for f in found]
            commits(lambda: _replace(table, found, [uri for uri in fresh if uri]))  # noqa: B023
        elif any(map(_lists_nothing, _manifests(table, table.current_snapshot()))):
            # What was taken out is listed once more, with its statistics, by the snapshot that did
            # so; the next one goes without. Only that of `outcomes` ends a publication.
            properties = {} if name == "outcomes" else {PUBLISHED: run_key}
            nothing = TABLES[name].schema.empty_table()
            commits(lambda: table.append(nothing, snapshot_properties=properties))  # noqa: B023
        else:
            return


def _replace(table: IcebergTable, found: list[Held], fresh: list[str]) -> None:
    with table.transaction() as transaction, transaction.update_snapshot().overwrite() as overwrite:
        for of_file in found:
            overwrite.delete_data_file(of_file.file)
        for uri in fresh:
            overwrite.append_data_file(parquet_file_to_data_file(table.io, table.metadata, uri))


def _lists_nothing(manifest: ManifestFile) -> bool:
    return not (manifest.has_added_files() or manifest.has_existing_files())


def _manifests(table: IcebergTable, snapshot: Snapshot | None) -> list[ManifestFile]:
    return snapshot.manifests(table.io) if snapshot else []


# === States ===


def old_snapshots(table: IcebergTable, newest: int | None) -> list[Snapshot]:
    """The snapshots before one, which is kept with those after it; of None all are kept."""
    kept = set()
    snapshot = table.current_snapshot()
    while snapshot is not None:
        kept.add(snapshot.snapshot_id)
        if snapshot.snapshot_id == newest:
            return [s for s in table.snapshots() if s.snapshot_id not in kept]
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent else None
    return []


def expire(lake: Lake, name: str, newest: int | None) -> None:
    """Removes the states of a table before a snapshot, and the manifests that only they had."""
    for _ in tries(name):
        table = lake.iceberg(name)
        old = old_snapshots(table, newest)
        if not old:
            return
        lists = {uri for snapshot in old for uri in _metadata_of(table, snapshot)}
        ids = [snapshot.snapshot_id for snapshot in old]
        if commits(lambda: table.maintenance.expire_snapshots().by_ids(ids).commit()):  # noqa: B023
            for uri in lists - _referenced(lake.iceberg(name)):
                lake.store.delete(uri)
            return


def _metadata_of(table: IcebergTable, snapshot: Snapshot) -> Iterator[str]:
    yield snapshot.manifest_list
    for manifest in _manifests(table, snapshot):
        yield manifest.manifest_path


def _referenced(table: IcebergTable) -> set[str]:
    """Manifests and lists of them that a state of the table needs."""
    return set(itertools.chain.from_iterable(_metadata_of(table, s) for s in table.snapshots()))


# === Files that are in no table ===


def stray_files(lake: Lake, name: str, names: set[str]) -> Iterator[str]:
    """Files below a table that hold such rows and are not, or no longer, in it.

    Left by attempts that failed, by publications that left the rows out, by forgetting.
    """
    if not names or not TABLES[name].names:
        return
    table = lake.iceberg(name)
    in_table = {
        entry.data_file.file_path
        for manifest in _manifests(table, table.current_snapshot())
        for entry in manifest.fetch_manifest_entry(table.io)
    }
    for found in lake.store.list(f"{layout.table_uri(lake.uri, name)}/data/"):
        if found.uri not in in_table and found.uri.endswith(".parquet"):
            if _names_any(lake, name, found.uri, names):
                yield found.uri


def _names_any(lake: Lake, name: str, uri: str, names: Container[str]) -> bool:
    try:
        batches = read_batches(lake, uri, name_columns(name))
        return any(pc.any(naming(name, rows, names)).as_py() for rows in batches)
    except FileNotFoundError:
        return False  # somebody else deleted it meanwhile
    except (BadInputError, pa.ArrowException):
        return True  # no file of this table: nobody can prove that it names nothing


def delete_dead_manifests(lake: Lake, name: str, before: datetime) -> None:
    """Deletes manifests that no state of a table needs, and that tell of files which are gone.

    Such were left by commits that were cut off. Those of a commit that is under way list files that
    are there, and stay; what nothing needs for long goes in any case.
    """
    folder = layout.table_uri(lake.uri, name)
    listed = [found for found in lake.store.list(f"{folder}/metadata/") if ".avro" in found.uri]
    # A file is there before the manifest that lists it.
    files = {found.uri for found in lake.store.list(f"{folder}/data/")}
    table = lake.iceberg(name)
    needed = _referenced(table)
    for found in listed:
        if found.uri not in needed and (
            found.modified_at < before or not files.issuperset(_lists(table, found.uri))
        ):
            lake.store.delete(found.uri)


def _lists(table: IcebergTable, uri: str) -> set[str]:
    """The files of a manifest that no snapshot tells of; a list of manifests names none."""
    if uri.rpartition("/")[2].startswith("snap-"):
        return set()
    with AvroFile[ManifestEntry](
        table.io.new_input(uri),
        MANIFEST_ENTRY_SCHEMAS[DEFAULT_READ_VERSION],
        read_types={-1: ManifestEntry, 2: DataFile},
        read_enums={0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
    ) as entries:
        return {entry.data_file.file_path for entry in entries}
