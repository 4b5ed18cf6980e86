"""The Iceberg tables: the lake that they are in, and what of it is published."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchTableError,
)
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.name_mapping import MappedField, NameMapping
from pyiceberg.transforms import DayTransform, IdentityTransform

from vidpipe.config import Settings, load_settings, no_setting
from vidpipe.errors import TemporaryError, UsageError
from vidpipe.lake import layout
from vidpipe.lake.store import ObjectStore, open_store
from vidpipe.schemas import TABLES, Table

NAMESPACE = "vidpipe"
# Summary entries of snapshots of `outcomes`; see `vidpipe/lake/publication.py`.
PUBLISHED = "vidpipe.run-key"
SNAPSHOTS = "vidpipe.snapshots"
_NO_TABLE = "There is no table {0!r}. There are: {1}."


class Lake:
    """The object store and the catalog of one deployment.

    Args:
        settings: Where they are; the process's own by default.
    """

    def __init__(self, settings: Settings | None = None):
        self.settings = settings or load_settings()
        if not (self.settings.lake.uri and self.settings.lake.catalog_uri):
            raise UsageError(no_setting("No lake is configured", "[lake] uri and catalog_uri"))
        self.uri = self.settings.lake.uri
        # S3 servers other than Amazon's often know no trailing checksums; pyarrow's S3 takes this
        # from the environment only.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")

    @functools.cached_property
    def store(self) -> ObjectStore:
        """The object store."""
        return open_store(self.settings)

    @functools.cached_property
    def catalog(self) -> Catalog:
        """The Iceberg catalog."""
        try:
            return load_catalog(
                "vidpipe",
                uri=self.settings.lake.catalog_uri,
                warehouse=self.uri,
                **{
                    "py-io-impl": "vidpipe.lake.fileio.LakeFileIO",
                    **_pyiceberg_s3(self.settings),
                },
            )
        except Exception as error:
            line = " ".join(str(error).split())[:300]
            raise TemporaryError(f"The table catalog cannot be opened: {line}") from error

    @functools.cached_property
    def filesystem(self) -> pyarrow.fs.FileSystem:
        """The object store as pyarrow reads it."""
        s3 = self.settings.s3
        endpoint = s3.endpoint_url
        return pyarrow.fs.S3FileSystem(
            access_key=s3.access_key_id or None,
            secret_key=s3.secret_access_key or None,
            region=s3.region or None,
            endpoint_override=endpoint.split("://", 1)[-1] or None,
            scheme=endpoint.split("://", 1)[0] if endpoint else "https",
            connect_timeout=10,
            request_timeout=60,
        )

    def iceberg(self, name: str) -> IcebergTable:
        """Loads a table as it is now, publications under way included; for writers.

        One that is not there yet is created; one of an older version gets the new columns.

        Raises:
            UsageError: There is no such table.
        """
        return self.find_iceberg(name) or self._create(name)

    def find_iceberg(self, name: str) -> IcebergTable | None:
        """As `iceberg`, but None where nothing was ever written to the table.

        Raises:
            UsageError: There is no such table.
        """
        if name not in TABLES:
            raise UsageError(_NO_TABLE.format(name, ", ".join(TABLES)))
        try:
            table = self.catalog.load_table(f"{NAMESPACE}.{name}")
        except NoSuchTableError:
            return None
        spec = TABLES[name]
        if not {*spec.schema.names} <= {*table.schema().column_names}:
            # Two that do so at once make the same of it; the second finds it done.
            with contextlib.suppress(CommitFailedException), table.update_schema() as update:
                update.union_by_name(_iceberg_schema(spec))
            table.refresh()
        return table

    def _create(self, name: str) -> IcebergTable:
        spec = TABLES[name]
        self.catalog.create_namespace_if_not_exists(NAMESPACE)
        return self.catalog.create_table_if_not_exists(
            f"{NAMESPACE}.{name}",
            schema=_iceberg_schema(spec),
            location=layout.table_uri(self.uri, name),
            partition_spec=_partition_spec(spec),
            properties={
                # vidpipe retries by itself: pyiceberg's retry skips the check for
                # files that are in the table already.
                "commit.retry.num-retries": "0",
                # Cut off after 16 characters, as they are otherwise, run keys look alike.
                "write.metadata.metrics.column.run_key": "full",
                "write.metadata.delete-after-commit.enabled": "true",
                "write.metadata.previous-versions-max": "100",
            },
        )

    def publications(self) -> Iterator[Publication]:
        """Yields the publications that the history still holds, newest first."""
        table = self.iceberg("outcomes")
        snapshot = table.current_snapshot()
        while snapshot is not None:
            properties = snapshot.summary.additional_properties if snapshot.summary else {}
            if SNAPSHOTS in properties:
                yield Publication(
                    properties[PUBLISHED],
                    datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
                    {**json.loads(properties[SNAPSHOTS]), "outcomes": snapshot.snapshot_id},
                )
            parent = snapshot.parent_snapshot_id
            snapshot = table.snapshot_by_id(parent) if parent else None

    def published(self, at: datetime | None = None) -> dict[str, int]:
        """Snapshot ids of all tables as of the last complete publication.

        Readers read the tables at these, so that nobody sees half a run. Tables without rows
        have none.

        Args:
            at: As of the last publication at this time instead.

        Raises:
            UsageError: The history that is kept begins after `at`.
        """
        oldest = None
        for publication in self.publications():
            if at is None or publication.published_at <= at:
                return publication.snapshots
            oldest = publication
        if oldest is not None:
            raise UsageError(
                f"Nothing is kept of what was published by {at:%Y-%m-%d %H:%M:%S}; the history"
                f" begins at {oldest.published_at:%Y-%m-%d %H:%M:%S} (UTC)."
            )
        return {}

    def dataset(
        self,
        name: str,
        *,
        where: BooleanExpression | None = None,
        snapshots: dict[str, int] | None = None,
    ) -> ds.Dataset:
        """Opens a table as a pyarrow dataset, as of the last publication.

        Args:
            name: The table.
            where: Only files that may hold such rows are opened (by partition and by statistics);
                the rows still are to be filtered by whoever reads.
            snapshots: What `published` returned, to read several tables at the same state.

        Returns:
            A dataset of the table's columns; without files where nothing was published.
        """
        snapshot_id = (self.published() if snapshots is None else snapshots).get(name)
        if snapshot_id is None:
            return ds.dataset(TABLES[name].schema.empty_table())
        table = self.iceberg(name)
        if table.snapshot_by_id(snapshot_id) is None:
            # Something was forgotten since: a state that held it is gone. What a run was planned on
            # is there all the same, as tables only grow otherwise and it knows its work keys.
            snapshot_id = self.published()[name]
        return self._open(table, name, snapshot_id, where)

    def dataset_now(self, name: str) -> ds.Dataset:
        """Opens a table as it is now, publications under way included; for writers."""
        table = self.find_iceberg(name)
        if table is None or (snapshot := table.current_snapshot()) is None:
            return ds.dataset(TABLES[name].schema.empty_table())
        return self._open(table, name, snapshot.snapshot_id)

    def _open(
        self,
        table: IcebergTable,
        name: str,
        snapshot_id: int,
        where: BooleanExpression | None = None,
    ) -> ds.Dataset:
        scan = table.scan(row_filter=where or AlwaysTrue(), snapshot_id=snapshot_id)
        files = sorted((task.file for task in scan.plan_files()), key=lambda file: file.file_path)
        parquet = ds.ParquetFileFormat()
        fragments = [
            parquet.make_fragment(
                file.file_path.removeprefix("s3://"),
                self.filesystem,
                partition_expression=_guarantee(name, file, scan.projection()),
            )
            for file in files
        ]
        return ds.FileSystemDataset(fragments, TABLES[name].schema, parquet, self.filesystem)


class Publication(NamedTuple):
    """A run that was published: its run key, when, and the tables' snapshot ids from then on."""

    run_key: str
    published_at: datetime
    snapshots: dict[str, int]


def as_utc(at: datetime | None) -> datetime | None:
    """Returns a time with its zone: UTC where it names none."""
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def _guarantee(name: str, file: DataFile, schema: Schema) -> pc.Expression:
    """What the statistics say of all rows of a file: by it, scans skip files without opening them.

    Of the columns by which the rows are laid out, as the others are the same everywhere.
    """
    spec = TABLES[name]
    lowest, highest, nulls = (
        statistic or {}
        for statistic in (file.lower_bounds, file.upper_bounds, file.null_value_counts)
    )
    guarantee = pc.scalar(True)
    for column in {*spec.partition, *spec.sort, "run_key"}:
        field = schema.find_field(column)
        lower, upper = lowest.get(field.field_id), highest.get(field.field_id)
        # Bounds say nothing of nulls, nor those of floating point numbers of NaN.
        if lower is None or upper is None or nulls.get(field.field_id) != 0:
            continue
        kind = spec.schema.field(column).type
        if not pa.types.is_floating(kind):
            low, high = (pa.scalar(from_bytes(field.field_type, b), kind) for b in (lower, upper))
            guarantee &= (pc.field(column) >= low) & (pc.field(column) <= high)
    return guarantee


def _iceberg_schema(spec: Table) -> Schema:
    """Columns numbered from one, as a new table numbers them."""
    mapping = NameMapping(
        [MappedField(field_id=n, names=[name]) for n, name in enumerate(spec.schema.names, 1)]
    )
    return pyarrow_to_schema(spec.schema, mapping)


def _partition_spec(spec: Table) -> PartitionSpec:
    fields = []
    for number, column in enumerate(spec.partition):
        by_day = pa.types.is_timestamp(spec.schema.field(column).type)
        fields.append(
            PartitionField(
                source_id=_iceberg_schema(spec).find_field(column).field_id,
                field_id=1000 + number,
                transform=DayTransform() if by_day else IdentityTransform(),
                name=f"{column}_day" if by_day else column,
            )
        )
    return PartitionSpec(*fields)


def _pyiceberg_s3(settings: Settings) -> dict[str, str]:
    s3 = settings.s3
    properties = {
        "s3.endpoint": s3.endpoint_url,
        "s3.region": s3.region,
        "s3.access-key-id": s3.access_key_id,
        "s3.secret-access-key": s3.secret_access_key,
        "s3.connect-timeout": "10",
        "s3.request-timeout": "60",
    }
    return {k: v for k, v in properties.items() if v}
