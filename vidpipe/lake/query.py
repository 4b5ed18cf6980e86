"""Asking the tables in SQL: DuckDB over the Iceberg tables at one published state, read-only.

A statement is checked three times: it must parse as one SELECT, the only table functions it may
call are those of `TABLE_FUNCTIONS`, and DuckDB runs it in memory, locked, without access to files,
extensions or variables of Python.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from vidpipe.config import Settings
from vidpipe.errors import UsageError
from vidpipe.lake.store_errors import os_error
from vidpipe.lake.tables import PUBLISHED, Lake, as_utc
from vidpipe.lake.views import VIEWS
from vidpipe.schemas import TABLES

# Those that read nothing but their arguments.
TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})

_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s", re.IGNORECASE)
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_NO_COLUMN = re.compile(r'(?:Referenced column|does not have a column named) "([^"]*)"')


def run_query(
    sql: str, settings: Settings | None = None, *, at: datetime | None = None
) -> pa.Table:
    """Runs one SELECT over the tables and views as of the last publication.

    Columns and filters are pushed down: what is not asked for is not read.

    Args:
        sql: One statement in DuckDB's SQL: SELECT, WITH, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN.
        settings: Where the lake is; the process's own by default.
        at: As of the last publication at this time (UTC where it names no zone).

    Raises:
        UsageError: It is no such statement, it names what does not exist, or it needs too much
            memory.
        DeniedError: The object store refuses the credentials.
        TemporaryError: The object store or the catalog does not answer.

    Example:
        >>> from vidpipe.lake.query import run_query
        >>> run_query("select label, count(*) as videos from current_labels group by 1").to_pandas()
    """
    names = _mentioned(sql)
    read = _with_views(names)
    lake = Lake(settings)
    try:
        with _connect(lake, read, lake.published(as_utc(at))) as connection:
            return connection.sql(sql).to_arrow_table()
    except (duckdb.Error, RuntimeError) as error:
        raise _translate(error, names) from error
    except OSError as error:
        raise os_error(f"The tables cannot be read: {error}") from error


@dataclass(frozen=True)
class TableInfo:
    """What is known of a table or view without reading data.

    Attributes:
        rows: Rows of a table; None for a view.
        size_bytes: Size of its files; None for a view.
        published_at: When rows last came in (UTC); None where none ever did.
        run_key: The run that they came from.
    """

    name: str
    kind: str
    rows: int | None = None
    size_bytes: int | None = None
    published_at: datetime | None = None
    run_key: str | None = None


def list_tables(settings: Settings | None = None) -> list[TableInfo]:
    """Lists tables and views as of the last publication, from their metadata only."""
    lake = Lake(settings)
    published = lake.published()
    infos = [_describe(lake, name, published.get(name)) for name in TABLES]
    return infos + [TableInfo(name, "view") for name in VIEWS]


def _describe(lake: Lake, name: str, snapshot_id: int | None) -> TableInfo:
    if snapshot_id is None:
        return TableInfo(name, "table", rows=0, size_bytes=0)
    table = lake.iceberg(name)
    snapshot = table.snapshot_by_id(snapshot_id)
    totals = snapshot.summary.additional_properties
    rows, size_bytes = int(totals["total-records"]), int(totals["total-files-size"])
    while snapshot and PUBLISHED not in snapshot.summary.additional_properties:
        # A commit that brought no rows, such as a compaction.
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent else None
    if snapshot is None:
        return TableInfo(name, "table", rows, size_bytes)
    return TableInfo(
        name,
        "table",
        rows,
        size_bytes,
        datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
        snapshot.summary.additional_properties[PUBLISHED],
    )


def _mentioned(sql: str) -> set[str]:
    """Names of the tables and views that a statement names.

    Raises:
        UsageError: It is not one statement that only reads.
    """
    explained = _EXPLAIN.sub("", sql, count=1)
    with duckdb.connect() as connection:
        [answer] = connection.execute("select json_serialize_sql(?)", [explained]).fetchone()
    parsed = json.loads(answer)
    if parsed["error"] and parsed["error_type"] == "parser":
        raise UsageError(f"The SQL cannot be read: {_one_line(parsed['error_message'])}.")
    if parsed["error"] or len(parsed["statements"]) != 1:
        raise UsageError(
            "One statement that only reads is allowed: SELECT, WITH, DESCRIBE, SUMMARIZE, SHOW or"
            f" EXPLAIN of one. Received: {_one_line(sql)[:80]!r}"
        )
    names = set()
    for node in _nodes(parsed["statements"]):
        function = node["function"]["function_name"] if node["type"] == "TABLE_FUNCTION" else None
        if function and function.lower() not in TABLE_FUNCTIONS:
            raise UsageError(
                f"{function} may not be used as a table. Allowed are the tables of `vidpipe tables`"
                f" and {', '.join(sorted(TABLE_FUNCTIONS))}."
            )
        if node["type"] == "BASE_TABLE":
            names.add(node["table_name"].lower())
    return names


def _with_views(names: set[str]) -> set[str]:
    """What is read where these are named: the tables that views are made of, too."""
    return names.union(*(_with_views(_mentioned(VIEWS[name])) for name in names & set(VIEWS)))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All typed nodes of a syntax tree, however deep it is."""
    rest = [tree]
    while rest:
        found = rest.pop()
        if isinstance(found, dict):
            if isinstance(found.get("type"), str):
                yield found
            rest.extend(found.values())
        elif isinstance(found, list):
            rest.extend(found)


def _connect(lake: Lake, names: set[str], snapshots: dict[str, int]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        config={
            "enable_external_access": False,
            "python_enable_replacements": False,
            "memory_limit": "50%",
            # Nothing is written, so nothing that is too large for memory either.
            "temp_directory": "",
        }
    )
    connection.execute("set timezone = 'UTC'")
    for name, spec in TABLES.items():
        # What is not mentioned still is to be listed and described, and opening costs requests.
        opened = lake.dataset(name, snapshots=snapshots) if name in names else None
        connection.register(name, opened or spec.schema.empty_table())
    for name, view in VIEWS.items():
        connection.execute(f"create view {name} as {view}")
    connection.execute("set lock_configuration = true")
    return connection


def _translate(error: Exception, names: set[str]) -> BaseException:
    message = _one_line(str(error).partition("LINE 1:")[0])
    if message == "Query interrupted":
        return KeyboardInterrupt()
    if "failed: IOError" in message or "failed: OSError" in message:
        return os_error(f"The tables cannot be read: {message}")
    if isinstance(error, duckdb.OutOfMemoryException):
        return UsageError(
            "The query needs more than half of the memory: ask for fewer columns or rows."
        )
    message = message.partition("Error: ")[2] or message
    if match := _NO_TABLE.search(message):
        there_are = ", ".join([*TABLES, *VIEWS])
        return UsageError(f"There is no table {match[1]!r}. There are: {there_are}.")
    if match := _NO_COLUMN.search(message):
        return UsageError(f"There is no column {match[1]!r}. There are: {_columns_of(names)}.")
    return UsageError(f"The query failed: {message}")


def _columns_of(names: set[str]) -> str:
    with duckdb.connect() as connection:
        for name, spec in TABLES.items():
            connection.register(name, spec.schema.empty_table())
        for name, view in VIEWS.items():
            connection.execute(f"create view {name} as {view}")
        return "; ".join(
            f"{name} ({', '.join(connection.sql(f'from {name}').columns)})"
            for name in sorted(names & {*TABLES, *VIEWS})
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())
