"""One attempt at a shard: its rows become immutable Parquet files, and then a report.

    with attempt.item(item) as rows:          # a MediaError in here is that item's outcome
        rows.write("frames", [{...}, ...])
        rows.done(work_key, video_id=...)

Rows of an item that ends otherwise than done are dropped. Nothing is visible before `finish`.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import operator
import secrets
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidpipe.console import echo
from vidpipe.errors import MediaError, VidpipeError
from vidpipe.lake import layout
from vidpipe.reasons import REASONS
from vidpipe.schemas import TABLES
from vidpipe.stages.manifest import PLAN, Manifest, Report, now
from vidpipe.stages.scratch import ScratchFolder
from vidpipe.stages.working import WorkingFile
from vidpipe.text import lines_of

if TYPE_CHECKING:
    # boto3, which files at hand do not need, takes longer to import than a clip to extract.
    from vidpipe.lake.store import ObjectStore

MESSAGE_CHARS = 500
FILE_BYTES = 512 * 1024 * 1024
SPOOL_BYTES = 1024 * 1024  # of rows in memory, for each table of each item at hand
ROW_GROUP_BYTES = 4 * 1024 * 1024  # a row group ends there, or at the rows its table allows
SORTED_BYTES = 16 * 1024 * 1024  # less than this is sorted as a whole
PROGRESS_EVERY_S = 2.0


class Attempt:
    """Collects what a stage produces and writes it out in one go.

    Args:
        manifest: What is to be done.
        store: Where files and the report go; None where nothing is uploaded (see `merge`).
        lake_uri: The lake.
        scratch_in: Where its temporary folder is; where the system has them by default.

    Attributes:
        result: Small JSON for the stages that follow; ends in the report.
        helps: Whether another process, of the same command, tells what comes of the work.
        name: Unique among all attempts, so that no attempt ever writes over another.
    """

    def __init__(
        self,
        manifest: Manifest,
        store: ObjectStore | None = None,
        lake_uri: str = "",
        *,
        scratch_in: Path | None = None,
    ):
        self.manifest = manifest
        self.store = store
        self.lake_uri = lake_uri
        self.name = f"{now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self.result: dict[str, Any] = {}
        self.helps = False
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._spools: dict[str, list[Path]] = collections.defaultdict(list)
        self._folder = ScratchFolder(scratch_in)
        self._started_s = time.monotonic()
        self._shown_s = 0.0
        self._files: list[dict[str, Any]] = []
        self._working = WorkingFile(manifest)
        self._lock = threading.Lock()

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, *_exc_info) -> None:
        self._folder.remove()

    @property
    def scratch(self) -> Path:
        """A folder of this attempt's own, gone when it ends."""
        return self._folder.path

    @contextlib.contextmanager
    def item(self, item: dict[str, Any]) -> Iterator[ItemRows]:
        """Works on one item: exactly one outcome comes of it, whatever happens inside.

        Several threads may work on an item each.

        Stop signals and services that are away are no fault of the item and pass through.
        """
        rows = ItemRows(self, item)
        try:
            yield rows
            if rows.outcome is None:
                raise AssertionError("the stage set no outcome")
            rows.close()
        except MediaError as error:
            rows.end(REASONS[error.reason], error.reason, str(error))
        except (VidpipeError, OSError):
            rows.clear()
            raise
        except MemoryError as error:
            rows.end("quarantined", "out_of_memory", f"It takes more memory than there is: {error}")
        except Exception as error:
            # A defect of ours must not take the other items of the shard with it.
            traceback.print_exc()
            rows.end("failed", "internal", f"{type(error).__name__}: {error}")
        if rows.outcome["status"] != "done":
            rows.clear()
        self._keep(rows)

    def require_fits(self, item: dict[str, Any]) -> None:
        """Raises a MediaError where an item took more memory than there is; see `working.py`."""
        self._working.require_fits(item["item"])

    def fits(self, item: dict[str, Any]) -> bool:
        """Whether `require_fits` has nothing against an item."""
        try:
            self.require_fits(item)
        except MediaError:
            return False
        return True

    def working(self, *items: dict[str, Any]) -> AbstractContextManager[None]:
        """Notes that items are what takes memory now, should this process not survive it."""
        return self._working.holding(*(item["item"] for item in items))

    @property
    def ended(self) -> int:
        """How many items have an outcome."""
        return len(self._outcomes)

    @property
    def alone(self) -> bool:
        """Whether to work on one item at a time, as several took too much memory."""
        return self._working.alone

    def outcome(
        self,
        item: str,
        work_key: str,
        *,
        video_id: str | None = None,
        source_uri: str | None = None,
    ) -> None:
        """Says that an item that the stage found by itself is done."""
        rows = ItemRows(self, {"item": item, "source_uri": source_uri})
        rows.done(work_key, video_id=video_id)
        self._keep(rows)

    def skip(self, stage: str, item: dict[str, Any], reason: str, message: str) -> None:
        """Ends an item that the stage found by itself, and that a later stage is not given."""
        rows = ItemRows(self, item, stage)
        rows.skip(reason, message)
        self._keep(rows)

    def write(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows that belong to the whole attempt; their items are declared by `outcome`."""
        spool = Spool(self, table)
        spool.write(rows)
        spool.close()
        self._spools[table] += spool.paths

    def progress(self, done: int, of: int, note: str = "") -> None:
        """Prints a line of progress, at most every two seconds and at the end."""
        if done < of and time.monotonic() - self._shown_s < PROGRESS_EVERY_S:
            return
        self._shown_s = time.monotonic()
        echo(f"{self.manifest.stage} {done}/{of} {note}".rstrip())
        if self.manifest.items:
            self._tell(self.manifest.stage, self.manifest.shard, done=done, planned=0)

    def announce(self, stage: str, items: int, unit: str = "videos") -> None:
        """Tells how many items were planned for a stage, for those who watch the run."""
        self._tell(stage, PLAN, done=0, planned=items, unit=unit)

    def conclude(self, summary: str) -> None:
        """Says in one line what came of it; those who watch the run see it at the end."""
        echo(*lines_of(f"{self.manifest.stage}: {summary}"))
        self.result["summary"] = summary

    def _tell(self, stage: str, shard: str, **told: int | str) -> None:
        uri = layout.progress_uri(self.lake_uri, self.manifest.run_key, stage, shard)
        # Only for people: no work is given up because it cannot be told.
        with contextlib.suppress(VidpipeError):
            self.store.put_json(uri, told)

    def finish(self) -> Report:
        """Writes the files, then the report that makes them count.

        Raises:
            AssertionError: A planned item has no outcome.
        """
        self.end_items()
        self.upload()
        uri = layout.reports_uri(
            self.lake_uri, self.manifest.run_key, self.manifest.stage, self.manifest.shard
        )
        report = Report(
            run_key=self.manifest.run_key,
            stage=self.manifest.stage,
            shard=self.manifest.shard,
            manifest_hash=self.manifest.hash,
            attempt=self.name,
            files=self._files,
            counts=dict(collections.Counter(o["status"] for o in self._outcomes.values())),
            result=self.result,
            seconds=round(time.monotonic() - self._started_s, 3),
            finished_at=now().isoformat(),
            uri=f"{uri}{self.name}.json",
        )
        self.store.put_json(report.uri, dataclasses.asdict(report))
        return report

    def end_items(self) -> None:
        """Writes the outcomes of the items.

        Raises:
            AssertionError: A planned item has none.
        """
        planned = [item["item"] for item in self.manifest.items]
        if planned and set(planned) != set(self._outcomes):
            missing = set(planned) ^ set(self._outcomes)
            raise AssertionError(f"{len(missing)} items without outcome, such as {missing.pop()!r}")
        of_stage = operator.itemgetter("stage")
        outcomes = sorted(self._outcomes.values(), key=of_stage)
        for _, of_one in itertools.groupby(outcomes, of_stage):  # a file each, as it is partitioned
            self.write("outcomes", of_one)

    def merge(self) -> Iterator[tuple[str, Path]]:
        """Yields a table and a local Parquet file of it, of all that was collected so far."""
        for table in sorted(self._spools):
            for path in _merge(table, self._spools.pop(table), self.scratch):
                yield table, path

    def upload(self) -> list[dict[str, Any]]:
        """Writes what was collected so far; returns the files of this attempt, as in its report."""
        manifest = self.manifest
        for table, path in self.merge():
            folder = layout.data_uri(
                self.lake_uri, table, manifest.run_key, manifest.stage, manifest.shard, self.name
            )
            uri = f"{folder}/{len(self._files):05d}.parquet"
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self.store.upload(path, uri)
            self._files.append(
                {
                    "table": table,
                    "uri": uri,
                    "size_bytes": path.stat().st_size,
                    "sha256": digest,
                    "rows": pq.read_metadata(path).num_rows,
                }
            )
            path.unlink()
        return self._files

    def _keep(self, rows: ItemRows) -> None:
        with self._lock:
            if rows.name in self._outcomes:
                raise AssertionError(f"two outcomes for {rows.name!r}")
            self._outcomes[rows.name] = rows.outcome
            for table, spool in rows.spools.items():
                self._spools[table] += spool.paths


class ItemRows:
    """The rows and the outcome of one item."""

    def __init__(self, attempt: Attempt, item: dict[str, Any], stage: str = ""):
        self.name: str = item["item"]
        self.outcome: dict[str, Any] | None = None
        self.spools: dict[str, Spool] = {}
        self._attempt = attempt
        self._item = item
        self._stage = stage or attempt.manifest.stage
        self._started_s = time.monotonic()
        self._known: dict[str, Any] = {}

    def write(self, table: str, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows, in the table's sort order; those of `work_key` and `run_key` included."""
        if table not in self.spools:
            self.spools[table] = Spool(self._attempt, table)
        self.spools[table].write(rows)

    def clear(self) -> None:
        """Drops the rows added so far."""
        for spool in self.spools.values():
            spool.discard()
        self.spools = {}

    def identify(self, work_key: str, video_id: str | None = None) -> None:
        """Tells what the item is as soon as it is known, for outcomes of any status."""
        self._known = {"work_key": work_key, "video_id": video_id}

    def done(self, work_key: str, *, video_id: str | None = None) -> None:
        """Ends the item well: its rows count."""
        self.identify(work_key, video_id)
        self.end("done")

    def skip(self, reason: str, message: str = "") -> None:
        """Ends the item because nothing was to be done."""
        self.end("skipped", reason, message)

    def end(self, status: str, reason: str | None = None, message: str | None = None) -> None:
        """Sets the outcome."""
        manifest = self._attempt.manifest
        self.outcome = {
            "stage": self._stage,
            "item": self.name,
            "work_key": self._known.get("work_key"),
            "run_key": manifest.run_key,
            "source_uri": self._item.get("source_uri"),
            "source_version": self._item.get("source_version"),
            "video_id": self._known.get("video_id") or self._item.get("video_id"),
            "status": status,
            "reason": reason,
            "message": message[:MESSAGE_CHARS] if message else None,
            "attempt": self._attempt.name,
            "seconds": round(time.monotonic() - self._started_s, 3),
            "shard": manifest.shard,
            "code_version": manifest.code_version,
            "finished_at": now(),
        }

    def close(self) -> None:
        """Closes the spool files."""
        for spool in self.spools.values():
            spool.close()


class Spool:
    """Rows of one table on local disk, in bounded memory."""

    def __init__(self, attempt: Attempt, table: str):
        self._schema = TABLES[table].schema
        self._path = attempt.scratch / f"{table}-{secrets.token_hex(8)}.arrow"
        self._writer = pa.OSFile(str(self._path), "wb")
        self._stream = pa.ipc.new_stream(self._writer, self._schema)
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0
        self.paths: list[Path] = []

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Adds rows."""
        for row in rows:
            self._rows.append(row)
            self._bytes += sum(len(v) for v in row.values() if isinstance(v, bytes)) + 200
            if self._bytes > SPOOL_BYTES:
                self._flush()

    def close(self) -> None:
        """Writes what is buffered."""
        if not self.paths:
            self._flush()
            self._stream.close()
            self._writer.close()
            self.paths = [self._path]

    def discard(self) -> None:
        """Removes what was written."""
        self._rows = []
        self.close()
        for path in self.paths:
            path.unlink()

    def _flush(self) -> None:
        if self._rows:
            # As one value, a list of structs, they are read three times as fast as by from_pylist.
            rows = pa.scalar(self._rows, pa.list_(pa.struct(self._schema))).values
            self._stream.write_batch(pa.RecordBatch.from_struct_array(rows))
            self._rows, self._bytes = [], 0


def _merge(table: str, spools: list[Path], folder: Path) -> Iterator[Path]:
    """Joins spools, by the sort columns of their first rows, into Parquet files of bounded size.

    A file holds one value of every partition column; spools of a partitioned table hold one each.
    """
    spec = TABLES[table]
    by_partition: dict[tuple, list[tuple[tuple, Path]]] = collections.defaultdict(list)
    for path in spools:
        with pa.ipc.open_stream(path) as stream:
            try:
                first = stream.read_next_batch().slice(0, 1).to_pylist()[0]
            except StopIteration:
                continue  # no rows
        order = tuple((first[c] is not None, first[c]) for c in spec.sort)
        by_partition[tuple(map(_partition_value, (first[c] for c in spec.partition)))].append(
            (order, path)
        )
    small = sum(p.stat().st_size for p in spools) < SORTED_BYTES
    for paths in by_partition.values():
        batches = _batches([path for _, path in sorted(paths)])
        if small:
            # Rows of many small items: sort them all.
            whole = pa.Table.from_batches(batches, schema=spec.schema)
            batches = iter(whole.sort_by([(c, "ascending") for c in spec.sort]).to_batches())
        batch = next(batches, None)
        while batch is not None:
            target = folder / f"{table}-{secrets.token_hex(8)}.parquet"
            with pq.ParquetWriter(
                target,
                spec.schema,
                compression="zstd",
                write_page_index=True,
                # JPEG bytes do not repeat and do not compress.
                use_dictionary=[f.name for f in spec.schema if pa.types.is_string(f.type)],
            ) as writer:
                pending: list[pa.RecordBatch] = []
                while batch is not None and target.stat().st_size < FILE_BYTES:
                    pending.append(batch)
                    batch = next(batches, None)
                    rows = sum(b.num_rows for b in pending)
                    size_bytes = sum(b.nbytes for b in pending)
                    full = rows >= spec.row_group_rows or size_bytes >= ROW_GROUP_BYTES
                    if batch is None or full:
                        writer.write_table(
                            pa.Table.from_batches(pending), row_group_size=spec.row_group_rows
                        )
                        pending = []
                if pending:
                    writer.write_table(
                        pa.Table.from_batches(pending), row_group_size=spec.row_group_rows
                    )
            yield target


def _batches(paths: list[Path]) -> Iterator[pa.RecordBatch]:
    for path in paths:
        # By its path it would be mapped, and count as memory as a whole.
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield from stream


def _partition_value(value: Any) -> Any:
    return value.date() if isinstance(value, datetime) else value
