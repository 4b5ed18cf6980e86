"""Attacks by SQL: `vidpipe query` and `run_query` read the tables, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.lake.rows import DAY, publish_rows
from tests.servers import config_file, new_lake
from vidpipe.errors import EXIT_TEMPORARY, EXIT_USAGE, TemporaryError, UsageError
from vidpipe.lake.query import MAX_SQL_CHARS, run_query
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES

LABELS = 13


@pytest.fixture(scope="module")
def full(s3_server, tmp_path_factory) -> Lake:
    """A lake with labels."""
    lake = new_lake(s3_server.settings, tmp_path_factory.mktemp("full"), "attacked")
    labels = [
        {"task": "motion", "video_id": f"v{n}", "label": "up", "labelled_at": DAY}
        for n in range(LABELS)
    ]
    publish_rows(lake, "label-1", "label", {"labels": labels})
    return lake


@pytest.fixture
def secret(tmp_path, monkeypatch) -> Path:
    """A file with a password, alone in the working folder."""
    file = tmp_path / "secret.csv"
    file.write_text("password\nhunter2\n")
    monkeypatch.chdir(tmp_path)
    return file


def refuse(lake: Lake, sql: str, secret: Path | None = None) -> str:
    """Makes sure that SQL is refused in one line, and nothing is told or changed; the message."""
    if secret:
        sql = sql.format(file=secret, folder=secret.parent)
    with pytest.raises(UsageError) as caught:
        run_query(sql, lake.settings)
    message = str(caught.value)
    assert "hunter2" not in message and "\n" not in message
    if secret:
        assert os.listdir(secret.parent) == [secret.name] and "hunter2" in secret.read_text()
    assert run_query("select count(*) as n from labels", lake.settings)["n"].to_pylist() == [LABELS]
    return message


def vidpipe_query(lake: Lake, folder: Path, *arguments: str, prepare: str = "") -> tuple[int, str]:
    """Runs `vidpipe query` as a process, after Python code; exit code and what stderr says."""
    config_file(lake, folder / "vidpipe.toml")
    script = f"{textwrap.dedent(prepare)}\nfrom vidpipe.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", script, "query", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('{file}')",
        "select * from read_text('{file}')",
        "select * from read_blob('{file}')",
        "select * from read_json('{file}')",
        "select * from READ_PARQUET('{file}')",
        "select * from parquet_metadata('{file}')",
        "select * from sniff_csv('{file}')",
        "select * from glob('/*')",
        "select (select content from read_text('{file}'))",
        "with x as (select * from read_text('{file}')) select * from x",
        "select * from labels where exists (from read_text('{file}'))",
        "select l.* from labels l, lateral (from read_text('{file}')) t",
        "describe select * from read_text('{file}')",
        "explain select * from read_text('{file}')",
        "explain analyze select * from read_text('{file}')",
        "select * from query('select * from read_text(''{file}'')')",
        "select * from query_table(['{file}'])",
        "select * from json_execute_serialized_sql('x')",
    ],
)
def test_functions_that_read_files(full, secret, sql):
    """Tries: reads a file of the machine by a function of DuckDB, at whatever depth it stands.

    Stopped by: the syntax tree is searched for table functions that are not allowed; DuckDB runs
    without access to files.
    """
    refuse(full, sql, secret)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from '{file}'",
        'select * from "{file}"',
        "select * from '{folder}/*'",
        "from 'https://example.com/a.csv'",
        "from 's3://videos/a.parquet'",
        "summarize '{file}'",
    ],
)
def test_files_as_tables(full, secret, sql):
    """Tries: names a file, a pattern or an address where a table is expected.

    Stopped by: DuckDB runs without access to anything outside.
    """
    refuse(full, sql, secret)


@pytest.mark.parametrize(
    "sql",
    [
        "copy labels to '{file}'",
        "copy (select 1) to '{folder}/new' (format parquet)",
        "export database '{folder}/new'",
        "import database '{folder}'",
        "create table x as select 1",
        "create macro f() as table select * from read_text('{file}')",
        "insert into labels select * from labels",
        "with x as (select 1) insert into labels from x",
        "delete from labels",
        "update labels set label = 'x'",
        "drop view current_labels",
        "create or replace view current_labels as select 1",
        "checkpoint",
        "begin",
        "use other",
    ],
)
def test_statements_that_write(full, secret, sql):
    """Tries: writes a file, changes a table or a view, or defines a function.

    Stopped by: DuckDB's parser says what kind of statement it is; only SELECT and EXPLAIN run.
    """
    assert "One statement that only reads" in refuse(full, sql, secret)


@pytest.mark.parametrize(
    "sql",
    [
        "explain copy labels to '{folder}/new'",
        "explain analyze copy labels to '{folder}/new'",
        "explain (analyze) copy labels to '{folder}/new'",
        "explain analyze create table x as select 1",
        "explain/**/ analyze copy labels to '{folder}/new'",
        "explain -- of a query\nanalyze copy labels to '{folder}/new'",
        "explain analyze analyze",
    ],
)
def test_writing_in_an_explain(full, secret, sql):
    """Tries: hides what writes in an EXPLAIN ANALYZE, which runs it.

    Stopped by: what EXPLAIN is about must itself parse as one SELECT.
    """
    assert "One statement that only reads" in refuse(full, sql, secret)


@pytest.mark.parametrize(
    "sql",
    [
        "attach '{file}' as other",
        "attach ':memory:' as other",
        "attach 'postgres:host=10.0.0.1' as other",
        "install httpfs",
        "install httpfs from 'https://example.com'",
        "load httpfs",
        "load '{file}'",
        "select st_point(1, 2)",
        "select '10.0.0.1'::inet",
        "from read_xlsx('{file}')",
    ],
)
def test_other_databases_and_extensions(full, secret, sql):
    """Tries: attaches another database, or loads an extension, which is native code.

    Stopped by: they are no SELECT; none is installed or loaded because a function of it is named.
    """
    refuse(full, sql, secret)


@pytest.mark.parametrize(
    "sql",
    [
        "pragma database_list",
        "pragma enable_profiling",
        "set enable_external_access = true",
        "set global python_enable_replacements = true",
        "reset memory_limit",
        "call duckdb_tables()",
        "prepare p as select 1",
        "execute p",
        "select * from enable_logging()",
        "select * from pragma_version()",
    ],
)
def test_settings_and_prepared_statements(full, secret, sql):
    """Tries: lifts the limits by a setting, a pragma, a call or a prepared statement.

    Stopped by: they are no SELECT, and the configuration is locked.
    """
    refuse(full, sql, secret)


@pytest.mark.parametrize(
    "sql",
    [
        "select getenv('HOME')",
        "select * from duckdb_secrets()",
        "select * from duckdb_settings()",
        "select * from which_secret('s3://lake', 's3')",
        "select * from pandas_scan(1)",
        "select * from arrow_scan(1, 2, 3)",
        "select * from some_variable",
        "select * from full",
    ],
)
def test_secrets_and_variables_of_python(full, secret, sql):
    """Tries: reads the environment, secrets of DuckDB, variables or memory of Python.

    Stopped by: functions that are not allowed, and replacement scans that are switched off.
    """
    some_variable = TABLES["labels"].schema.empty_table()  # noqa: F841
    refuse(full, sql, secret)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1; select 2",
        "select 1; copy labels to '{folder}/new'",
        "select 1; attach ':memory:'",
        "select 1 -- harmless\n; copy labels to '{folder}/new'",
        "select 1 /* ; */ ; copy labels to '{folder}/new'",
        "explain select 1; copy labels to '{folder}/new'",
        "select 1\0; copy labels to '{folder}/new'",
        "",
        "-- nothing",
        ";",
    ],
)
def test_several_statements(full, secret, sql):
    """Tries: puts a second statement behind the first, also behind comments or a NUL.

    Stopped by: DuckDB's own parser must find exactly one statement in the text that runs.
    """
    refuse(full, sql, secret)


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) as n -- explain\nfrom labels",
        "select count(*) as n /* explain analyze */ from labels",
        "-- explain this\nselect count(*) as n from labels",
        "select count(*) as n from labels where 'explain ' = 'explain '",
        "/* é */ select count(*) as n from labels -- é explain ",
    ],
)
def test_comment_that_makes_another_statement(full, sql):
    """Tries: writes `explain` in a comment or a text, so that another statement is checked than
    the one that runs: it said 0 where there are 13.

    Stopped by: the checked text is the text that runs; EXPLAIN is found by DuckDB's tokens.
    """
    assert run_query(sql, full.settings)["n"].to_pylist() == [LABELS]


ENDLESS = [
    "with recursive t as (select 1 as n union all select n + 1 from t) select count(*) from t",
    "select sum(range) from range(1000000000000)",
    "select count(*) from range(1000000) a, range(1000000) b, range(1000000) c"
    " where a.range + b.range + c.range % 7 = 9",
    "select sleep_ms(1000000000)",
    "explain analyze select sum(range) from range(1000000000000)",
]


@pytest.mark.parametrize("sql", ENDLESS)
def test_statements_that_never_end(full, sql):
    """Tries: keeps the processors busy for good.

    Stopped by: the time limit interrupts the statement.
    """
    with pytest.raises(TemporaryError, match=r"time limit of 0\.3 s"):
        run_query(sql, full.settings, timeout_s=0.3)


def test_statement_that_ends_as_the_time_is_over(full, monkeypatch):
    """Tries: ends, and closes its connection, just as it is to be interrupted.

    Stopped by: the time limit ends it all the same, in one line.
    """

    def close(connection, statement):
        connection.close()
        time.sleep(1)

    monkeypatch.setattr("vidpipe.lake.query._fetch", close)
    with pytest.raises(TemporaryError, match=r"time limit of 0\.3 s"):
        run_query("select 1 as n", full.settings, timeout_s=0.3)


def test_function_that_cannot_be_interrupted(full, tmp_path):
    """Tries: calls a function that computes for hours in one row and obeys no interrupt.

    Stopped by: the statement runs in a thread that the command does not wait for.
    """
    sql = "select levenshtein(repeat('a', 5000000), repeat('b', 5000000))"
    exit_code, err = vidpipe_query(full, tmp_path, sql, "--timeout", "0.3")
    assert exit_code == EXIT_TEMPORARY
    assert err.startswith("vidpipe: The query was stopped") and err.count("\n") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "select range from range(10000000000)",
        "select repeat('x', 1000000) from range(1000000)",
        "select list(range) from range(10000000000)",
        "select string_agg(repeat('x', 1000), '') from range(10000000)",
        "select * from range(1000000000) order by hash(range)",
    ],
)
def test_results_that_take_all_memory(full, monkeypatch, sql):
    """Tries: asks for more rows, longer texts or lists than the memory holds.

    Stopped by: limits for DuckDB and for the result, both shares of the memory that is free;
    nothing is written to the disk instead.
    """
    monkeypatch.setattr("vidpipe.lake.query.free_bytes", lambda: 400e6)
    with pytest.raises(UsageError, match="memory"):
        run_query(sql, full.settings)


@pytest.mark.parametrize(
    "sql",
    [
        "select damerau_levenshtein(repeat('a', 12000), repeat('b', 12000))",
        "select length(repeat('x', 4000000000))",
        "select len(range(1000000000))",
    ],
)
def test_functions_that_take_memory_unseen(full, tmp_path, sql):
    """Tries: calls a function whose memory DuckDB does not count: gigabytes for one row.

    Stopped by: `vidpipe query` limits the memory of its own process, on Linux.
    """
    exit_code, err = vidpipe_query(
        full,
        tmp_path,
        sql,
        prepare="""
            import vidpipe.memory
            vidpipe.memory.free_bytes = lambda: 1e9
        """,
    )
    assert exit_code == EXIT_USAGE
    assert "needs more memory" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "sql",
    [
        "select " + "(" * 49_000 + "1" + ")" * 49_000,
        "select " + "[" * 49_000 + "1" + "]" * 49_000,
        "select " + "not " * 24_000 + "true",
        "select " + "1+" * 49_000 + "1",
        "select " + "case when true then " * 4_000 + "1" + " end" * 4_000,
        "select " + "(select " * 10_000 + "1" + ")" * 10_000,
        "select '" + "[" * 90_000 + "'::json -> 'a'",
    ],
)
def test_deep_nesting(full, sql):
    """Tries: nests so deep that the parser overflows its stack, and the process dies.

    Stopped by: DuckDB's own limit of depth; what is left is one line.
    """
    assert len(sql) < MAX_SQL_CHARS
    refuse(full, sql)


@pytest.mark.parametrize("sql", ["select " + "(" * 5_000_000, "select " + "1," * 5_000_000 + "1"])
def test_megabytes_of_sql(full, sql):
    """Tries: sends 10 MB of SQL, for each of which the parser takes gigabytes.

    Stopped by: the length of a statement is limited, before it is parsed.
    """
    assert "too long" in refuse(full, sql)


def test_text_that_is_no_unicode(full, tmp_path):
    """Tries: passes bytes that are no UTF-8 as a statement.

    Stopped by: it is refused in one line.
    """
    assert "no valid text" in refuse(full, "select '\udc80'")
    exit_code, err = vidpipe_query(full, tmp_path, os.fsdecode(b"select '\x80\x1b[31m'"))
    assert exit_code == EXIT_USAGE and err.count("\n") == 1 and "\x1b" not in err
