"""The Parquet files of the tables, one at a time and in bounded memory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidpipe.errors import BadInputError
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES

_SUFFIX = re.compile(r"(-without-[0-9a-f]{16})?\.parquet$")


def read_columns(lake: Lake, uri: str, columns: list[str]) -> pa.Table:
    """Reads some columns of a file."""
    with pq.ParquetFile(_path(uri), filesystem=lake.filesystem) as file:
        return file.read(columns=columns)


def read_batches(lake: Lake, uri: str, columns: list[str]) -> Iterator[pa.Table]:
    """Yields some columns of a file that anybody may have put there, a batch of rows at a time.

    A small file may claim any number of rows, so that as a whole it does not fit in memory.

    Raises:
        BadInputError: It is no Parquet file with these columns.
    """
    try:
        with pq.ParquetFile(_path(uri), filesystem=lake.filesystem) as file:
            if missing := set(columns) - set(file.schema_arrow.names):
                raise BadInputError(f"{uri} has no column {min(missing)}.")
            for batch in file.iter_batches(columns=columns):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        # pyarrow has one word for a server that is away and for a footer that is damaged.
        if isinstance(error, OSError) and "thrift" not in str(error):
            raise
        raise BadInputError(f"{uri} is no Parquet file: {error}") from error


def without(lake: Lake, table: str, uri: str, gone: pa.ChunkedArray) -> str | None:
    """A file of a table without some of its rows.

    Args:
        lake: The lake.
        table: The table.
        uri: The file, which stays as it is.
        gone: Of each row, whether it is left out.

    Returns:
        The file itself where nothing is left out, None where everything is, else a copy, which is
        there when it is whole.
    """
    if not pc.any(gone).as_py():
        return uri
    kept = gone.length() - pc.sum(gone).as_py()
    if not kept:
        return None
    # Named by what was left out of what, so that all who make it make the same; and no longer when
    # something is left out once more.
    told = uri.encode() + gone.combine_chunks().to_numpy(zero_copy_only=False).tobytes()
    digest = hashlib.sha256(told).hexdigest()[:16]
    target = _SUFFIX.sub(f"-without-{digest}.parquet", uri)
    if not _is_whole(lake, target, kept):
        _copy_without(lake, table, uri, target, gone)
    return target


def _is_whole(lake: Lake, uri: str, rows: int) -> bool:
    try:
        return pq.read_metadata(_path(uri), filesystem=lake.filesystem).num_rows == rows
    except (FileNotFoundError, pa.ArrowInvalid):
        return False


def _copy_without(lake: Lake, table: str, uri: str, target: str, gone: pa.ChunkedArray) -> None:
    schema = TABLES[table].schema
    with (
        pq.ParquetFile(_path(uri), filesystem=lake.filesystem) as source,
        pq.ParquetWriter(
            _path(target),
            schema,
            filesystem=lake.filesystem,
            compression="zstd",
            write_page_index=True,
            # JPEG bytes do not repeat and do not compress.
            use_dictionary=[f.name for f in schema if pa.types.is_string(f.type)],
        ) as writer,
    ):
        start = 0
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            kept = rows.filter(pc.invert(gone.slice(start, rows.num_rows)))
            start += rows.num_rows
            if kept.num_rows:
                writer.write_table(kept.cast(schema))


def _path(uri: str) -> str:
    return uri.removeprefix("s3://")
