"""Searching a lake for what should not be in it, in all that lies in its bucket."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.avro.file import AvroFile
from pyiceberg.typedef import Record

from vidpipe.lake.tables import Lake


def traces(lake: Lake, *needles: str | bytes) -> dict[str, list[str]]:
    """Which objects hold a needle: their bytes, or a value in Parquet or Avro.

    Args:
        lake: Everything below its URI is searched.
        needles: What is searched for.

    Returns:
        For each needle, as text, the URIs.
    """
    found: dict[str, list[str]] = {str(needle): [] for needle in needles}
    for listed in lake.store.list(f"{lake.uri}/"):
        told = b"\0".join([listed.uri.encode(), *_values(lake, listed.uri)])
        for needle in needles:
            if (needle.encode() if isinstance(needle, str) else needle) in told:
                found[str(needle)].append(listed.uri)
    return found


def _values(lake: Lake, uri: str) -> Iterator[bytes]:
    content = lake.store.get(uri)
    yield content
    if uri.endswith(".parquet"):
        table = pq.ParquetFile(io.BytesIO(content)).read()
        for column in table.columns:
            yield from _flat(column.to_pylist())
    if uri.endswith(".avro"):
        with AvroFile(lake.iceberg("outcomes").io.new_input(uri)) as records:
            yield from _flat(list(records))


def _flat(value: Any) -> Iterator[bytes]:
    match value:
        case bytes():
            yield value
        case str():
            yield value.encode()
        case dict():
            yield from _flat([*value.keys(), *value.values()])
        case list() | tuple():
            for member in value:
                yield from _flat(member)
        case Record():
            for number in range(len(value)):
                yield from _flat(value[number])
