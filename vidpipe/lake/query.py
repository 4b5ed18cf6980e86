"""Asking the tables in SQL: DuckDB over the Iceberg tables at one published state, read-only.

A statement is checked three times: DuckDB's own parser must find one SELECT, or one EXPLAIN of it,
in the text that runs; the only table functions it may call are those of `TABLE_FUNCTIONS`; and
DuckDB runs it in memory, locked, without access to files, extensions or variables of Python. Time
and memory of a statement are limited.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from vidpipe.config import Settings
from vidpipe.errors import TemporaryError, UsageError
from vidpipe.lake.store_errors import os_error
from vidpipe.lake.tables import PUBLISHED, Lake, as_utc
from vidpipe.lake.views import VIEWS
from vidpipe.memory import free_bytes
from vidpipe.schemas import TABLES
from vidpipe.text import printable

# Those that read nothing but their arguments.
TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})

TIMEOUT_S = 600
# The parser takes up to 7 KB of memory for each character, before anything can interrupt it.
MAX_SQL_CHARS = 100_000
# Of the memory that is free: what DuckDB may take, and the result beside it.
_DUCKDB_SHARE, _RESULT_SHARE = 0.5, 0.25
_MEMORY_BYTES = 16e9  # where nobody knows how much is free
_BATCH_ROWS = 2_048  # so many rows come at once, before the result is measured again
_GRACE_S = 2.0  # after which a statement that does not react to an interrupt is left alone
_INTERRUPTS = 20
THREAD = "query"  # the name of the thread that asks
_STARTS = {"explain", "analyze"}
# Errors while rows are fetched have no class of their own, but DuckDB's words.
_DUCKDB_ERROR = re.compile(r"[A-Z][A-Za-z /-]* Error: ")
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_NO_COLUMN = re.compile(r'(?:Referenced column|does not have a column named) "([^"]*)"')


def run_query(
    sql: str,
    settings: Settings | None = None,
    *,
    at: datetime | None = None,
    timeout_s: float = TIMEOUT_S,
) -> pa.Table:
    """Runs one SELECT over the tables and views as of the last publication.

    Columns and filters are pushed down: what is not asked for is not read. DuckDB does not count
    all that its functions take: SQL of strangers belongs into `vidpipe query`, a process with a
    limit of its own.

    Args:
        sql: One statement in DuckDB's SQL: SELECT, WITH, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN.
        settings: Where the lake is; the process's own by default.
        at: As of the last publication at this time (UTC where it names no zone).
        timeout_s: Time limit of the statement.

    Raises:
        UsageError: It is no such statement, it names what does not exist, or it needs too much
            memory.
        DeniedError: The object store refuses the credentials.
        TemporaryError: The object store or the catalog does not answer, or the statement takes
            longer than the time limit.

    Example:
        >>> from vidpipe.lake.query import run_query
        >>> run_query("select label, count(*) as videos from current_labels group by 1").to_pandas()
    """
    if len(sql) > MAX_SQL_CHARS:
        raise UsageError(
            f"The SQL is too long. Received: {len(sql):,} characters. At most {MAX_SQL_CHARS:,} are"
            " read: join tables instead of listing values."
        )
    return answer(sql, settings, at=at, timeout_s=timeout_s)


def answer(
    sql: str,
    settings: Settings | None = None,
    *,
    at: datetime | None = None,
    timeout_s: float = TIMEOUT_S,
) -> pa.Table:
    """Runs SQL of vidpipe's own, of any length; else as `run_query`."""
    connection = _sandbox()

    def ask() -> pa.Table:
        with connection:
            statement, names = _checked(connection, sql)
            read = _with_views(connection, names)
            try:
                lake = Lake(settings)
                _offer(connection, lake, read, lake.published(as_utc(at)))
                return _fetch(connection, statement)
            except (duckdb.Error, RuntimeError, MemoryError) as error:
                raise _translate(error, names) from error
            except OSError as error:
                if _DUCKDB_ERROR.match(str(error)):
                    raise _translate(error, names) from error
                raise os_error(f"The tables cannot be read: {error}") from error

    return _within(timeout_s, ask, connection)


def _within(
    timeout_s: float, ask: Callable[[], pa.Table], connection: duckdb.DuckDBPyConnection
) -> pa.Table:
    """Runs a statement in a thread of its own, so that Ctrl-C and the time limit always end it.

    Some functions do not react to an interrupt: their thread is left alone.
    """
    results: list[pa.Table] = []
    errors: list[BaseException] = []
    # Not `thread.join`: where Ctrl-C interrupts that, Python 3.11 takes the thread for ended.
    ended = threading.Event()

    def run() -> None:
        try:
            results.append(ask())
        except BaseException as error:
            errors.append(error)
        finally:
            ended.set()

    threading.Thread(target=run, name=THREAD, daemon=True).start()
    try:
        ended.wait(timeout_s)
    finally:
        in_time = ended.is_set()
        if not in_time:
            # Several times: an interrupt before the statement runs is lost.
            for _ in range(_INTERRUPTS):
                with contextlib.suppress(duckdb.ConnectionException):  # closed: it ends just now
                    connection.interrupt()
                if ended.wait(_GRACE_S / _INTERRUPTS):
                    break
    if not in_time:
        raise TemporaryError(
            f"The query was stopped: it takes longer than its time limit of {timeout_s:g} s. Ask"
            " for less, or allow more time with --timeout."
        )
    if errors:
        raise errors[0]
    return results[0]


def _fetch(connection: duckdb.DuckDBPyConnection, statement: str) -> pa.Table:
    """Runs a statement; DuckDB's own memory limit does not count the rows that have left it."""
    reader = connection.sql(statement).to_arrow_reader(_BATCH_ROWS)
    batches, left_bytes = [], _RESULT_SHARE * _free_bytes()
    for batch in reader:
        left_bytes -= batch.nbytes
        if left_bytes < 0:
            raise MemoryError
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _free_bytes() -> float:
    free = free_bytes()
    return free if math.isfinite(free) else _MEMORY_BYTES


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


def _checked(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[str, set[str]]:
    """The statement as it is to run, and the names of the tables and views in it.

    Raises:
        UsageError: It is not one statement that only reads.
    """
    try:
        statements = connection.extract_statements(sql)
    except TypeError:
        raise UsageError(f"The SQL is no valid text. Received: {_one_line(sql)[:80]!r}") from None
    except (duckdb.Error, MemoryError) as error:
        line = printable(_one_line(str(error).partition("LINE ")[0]).partition("Error: ")[2])
        raise UsageError(f"The SQL cannot be read: {line}.") from error
    if len(statements) == 1:
        [statement] = statements
        explain, select = "", statement.query
        if statement.type == duckdb.StatementType.EXPLAIN:
            explain, select = _split_explain(select)
        if (names := _mentioned(connection, select)) is not None:
            return explain + select, names
    raise UsageError(
        "One statement that only reads is allowed: SELECT, WITH, DESCRIBE, SUMMARIZE, SHOW or"
        f" EXPLAIN of one. Received: {_one_line(sql)[:80]!r}"
    )


def _split_explain(statement: str) -> tuple[str, str]:
    """EXPLAIN or EXPLAIN ANALYZE, and the statement that it is about, by DuckDB's own tokens."""
    text = statement.encode()
    start = 0
    words = []
    for position, kind in duckdb.tokenize(statement):
        if kind == duckdb.token_type.comment:
            continue
        start = position
        word = re.match(rb"\w*", text[position:])[0].decode().lower()
        if len(words) == len(_STARTS) or word not in _STARTS:
            break
        words.append(word)
    return " ".join([*words, ""]), text[start:].decode()


def _mentioned(connection: duckdb.DuckDBPyConnection, select: str) -> set[str] | None:
    """Names of the tables and views that a statement names; None where it is not one SELECT.

    Raises:
        UsageError: It calls a table function that is not allowed.
    """
    [[tree]] = connection.execute("select json_serialize_sql(?)", [select]).fetchall()
    parsed = json.loads(tree)
    if parsed["error"] or len(parsed["statements"]) != 1:
        return None
    names = set()
    for node in _nodes(parsed["statements"]):
        function = node["function"]["function_name"] if node["type"] == "TABLE_FUNCTION" else None
        if function and function.lower() not in TABLE_FUNCTIONS:
            raise UsageError(
                f"{printable(function)} may not be used as a table. Allowed are the tables of"
                f" `vidpipe tables` and {', '.join(sorted(TABLE_FUNCTIONS))}."
            )
        if node["type"] == "BASE_TABLE":
            names.add(node["table_name"].lower())
    return names


def _with_views(connection: duckdb.DuckDBPyConnection, names: set[str]) -> set[str]:
    """What is read where these are named: the tables that views are made of, too."""
    in_views = (_mentioned(connection, VIEWS[name]) for name in names & set(VIEWS))
    return names.union(*(_with_views(connection, more) for more in in_views))


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


def _sandbox() -> duckdb.DuckDBPyConnection:
    """A DuckDB that reads and writes nothing outside, and whose settings nobody changes."""
    connection = duckdb.connect(
        config={
            "enable_external_access": False,
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "memory_limit": f"{int(_DUCKDB_SHARE * _free_bytes())}B",
            # Nothing is written, so nothing that is too large for memory either.
            "temp_directory": "",
        }
    )
    connection.execute("set timezone = 'UTC'")
    connection.execute("set lock_configuration = true")
    return connection


def _offer(
    connection: duckdb.DuckDBPyConnection, lake: Lake, names: set[str], snapshots: dict[str, int]
) -> None:
    """Makes the tables and views known; only those that are named are opened."""
    for name, spec in TABLES.items():
        # What is not mentioned still is to be listed and described, and opening costs requests.
        opened = lake.dataset(name, snapshots=snapshots) if name in names else None
        connection.register(name, opened or spec.schema.empty_table())
    for name, view in VIEWS.items():
        connection.execute(f"create view {name} as {view}")


def _translate(error: Exception, names: set[str]) -> BaseException:
    message = printable(_one_line(str(error).partition("LINE 1:")[0]))
    if "failed: IOError" in message or "failed: OSError" in message:
        return os_error(f"The tables cannot be read: {message}")
    if isinstance(error, MemoryError) or message.startswith("Out of Memory Error"):
        return UsageError(
            "The query needs more memory than it may take, of what is free on this machine: ask"
            " for fewer columns or rows."
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
