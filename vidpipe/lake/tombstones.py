"""Tombstones: hashes of what was forgotten, by which it is known when it comes back.

A name is a video id, a source's URI, an object as `URI@version`, or a run key; a tombstone is its
SHA-256. `vidpipe.schemas` tells which columns of a table hold names. A place is the URI where an
object lay: it bars nothing, what else comes there is welcome; but people know what they want to
have back by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES


def tombstone(name: str) -> str:
    """What is kept of a name."""
    return hashlib.sha256(name.encode()).hexdigest()


class Forgotten:
    """The names that are forgotten: `name in forgotten`.

    Args:
        tombstones: Theirs.
    """

    def __init__(self, tombstones: set[str]):
        self._tombstones = tombstones

    def __contains__(self, name: object) -> bool:
        # Most lakes have forgotten nothing, and are asked of every object and row.
        return bool(self._tombstones) and tombstone(str(name)) in self._tombstones

    def __bool__(self) -> bool:
        return bool(self._tombstones)


def read_forgotten(lake: Lake, *, but: str = "") -> Forgotten:
    """What is forgotten now, also where its publication is still under way.

    Args:
        lake: The lake.
        but: A run whose own tombstones do not count.
    """
    return Forgotten(
        {
            row["tombstone"]
            for row in tombstones(lake)
            if row["run_key"] != but and row["kind"] != "place"
        }
    )


def tombstones(lake: Lake) -> list[dict[str, Any]]:
    """The rows of `forgotten` that hold: the newest of each, unless it was lifted."""
    newest = {}
    for row in lake.dataset_now("forgotten").to_table().sort_by("forgotten_at").to_pylist():
        newest[row["tombstone"], row["belongs_to"]] = row
    return [row for row in newest.values() if not row["lifted"]]


def belonging_to(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The tombstones of a name and of what was forgotten with it, but by no name of its own.

    Of a place they are those of all that was forgotten of the objects that lay there.
    """
    places = [row for row in rows if row["kind"] == "place"]
    stones = {tombstone(name)}
    stones |= {row["belongs_to"] for row in places if row["tombstone"] in stones}
    own = [row for row in rows if stones & {row["tombstone"], row["belongs_to"]}]
    others = {row["tombstone"] for row in own if row["kind"] != "place"} - stones
    return own + [
        row
        for row in rows
        if row["belongs_to"] in others and row["tombstone"] not in (*stones, row["belongs_to"])
    ]


def tombstone_row(
    run_key: str,
    at: datetime,
    name: str,
    *,
    kind: str,
    belongs_to: str,
    why: str = "",
) -> dict[str, Any]:
    """A row of `forgotten`.

    Args:
        run_key: The run that forgets.
        at: When.
        name: What is forgotten.
        kind: video, source, object, place or run.
        belongs_to: The name that it is lifted with.
        why: In words of whoever asked for it.
    """
    row = {
        "tombstone": tombstone(name),
        "kind": kind,
        "belongs_to": tombstone(belongs_to),
        "lifted": False,
        "forgotten_at": at,
        "why": why,
    }
    return with_keys(row, run_key)


def with_keys(row: dict[str, Any], run_key: str) -> dict[str, Any]:
    """A row of `forgotten` as one of a run."""
    work_key = layout.make_work_key(run_key, row["tombstone"], row["belongs_to"])
    return {**row, "work_key": work_key, "run_key": run_key}


def name_columns(table: str) -> list[str]:
    """The columns of a table that are read to find names."""
    return sorted({column for name in TABLES[table].names for column in name.split("@")})


def naming(table: str, rows: pa.Table, named: Container[str]) -> pa.ChunkedArray:
    """Which rows of a table hold one of the names: a boolean a row."""
    found = pa.chunked_array([pa.repeat(False, rows.num_rows)])
    for name in TABLES[table].names:
        columns = [rows[column] for column in name.split("@")]
        # A value of two columns is null where one of them is.
        values = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "@")
        known = [value for value in pc.unique(values).to_pylist() if value in named]
        hits = pc.is_in(values, value_set=pa.array(known, values.type))
        found = pc.or_(found, hits)
    return found
