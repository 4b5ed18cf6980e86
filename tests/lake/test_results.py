"""Writing what was asked."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import pty
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lake.rows import publish_rows
from vidpipe.errors import UsageError
from vidpipe.lake.results import print_tables, write_result

RESULT = pa.table(
    {
        "name": ['a,\n"b"', "\x1b[31m[red]\u202e", None],
        "at": pa.array([datetime(2026, 1, 31, 12, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
        "day": [date(2026, 1, 31)] * 3,
        "jpeg": [b"123", b"", None],
        "total": pa.array([Decimal(3), Decimal("1.5"), None]),
        "score": [0.5, math.nan, None],
        "parts": [[1, 2], [], None],
    }
)


def test_json_lines(capsys):
    write_result(RESULT, "json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {
        "name": 'a,\n"b"',
        "at": "2026-01-31T12:00:00+00:00",
        "day": "2026-01-31",
        "jpeg": "<3 bytes>",
        "total": 3,
        "score": 0.5,
        "parts": [1, 2],
    }
    assert rows[1]["score"] is None and rows[1]["total"] == 1.5
    assert set(rows[2].values()) == {None, "2026-01-31T12:00:00+00:00", "2026-01-31"}


def test_csv(capsys):
    write_result(RESULT, "csv")
    header, first, *_ = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == RESULT.column_names
    assert first == [
        'a,\n"b"',
        "2026-01-31T12:00:00+00:00",
        "2026-01-31",
        "<3 bytes>",
        "3",
        "0.5",
        "[1, 2]",
    ]


def test_a_piped_table_is_plain_and_whole(capsys):
    write_result(RESULT.append_column("long", pa.array(["x" * 500] * 3)), "table")
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert len(lines) == 1 + RESULT.num_rows
    assert lines[0].split()[:2] == ["name", "at"]
    assert "nan" in lines[2] and "x" * 500 in lines[1] and r"a,\n" in lines[1]
    assert "\x1b" not in out and "\u202e" not in out and r"\x1b[31m[red]\u202e" in out


def test_in_a_terminal_a_table_is_framed():
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        write_result(RESULT.select(["name", "score"]), "table")
    out = b""
    # Linux ends a terminal with EIO, others with nothing to read.
    with contextlib.suppress(OSError):
        while chunk := os.read(leader, 100_000):
            out += chunk
    os.close(leader)
    out = out.decode()
    assert "─" in out and "3 rows" in out and r"\x1b[31m[red]" in out


@pytest.mark.parametrize("output_format", ["table", "csv", "json"])
def test_a_file_holds_what_the_screen_shows(tmp_path, capsys, output_format):
    write_result(RESULT, output_format)
    write_result(RESULT, output_format, tmp_path / "out")
    assert (tmp_path / "out").read_text("utf-8") == capsys.readouterr().out
    assert os.listdir(tmp_path) == ["out"]


def test_parquet_keeps_everything(tmp_path):
    write_result(RESULT, "parquet", tmp_path / "out.parquet")
    again = pq.read_table(tmp_path / "out.parquet")
    assert again.schema == RESULT.schema and again["jpeg"].equals(RESULT["jpeg"])


def test_parquet_needs_a_file():
    with pytest.raises(UsageError, match="--output"):
        write_result(RESULT, "parquet")


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        write_result(RESULT, "csv", tmp_path / "missing" / "out.csv")


def test_that_there_are_no_rows_is_told_but_not_to_programs(capsys):
    shown = {}
    for output_format in ("table", "csv", "json"):
        write_result(RESULT.slice(0, 0), output_format)
        shown[output_format] = capsys.readouterr().out
    header, count = shown["table"].splitlines()
    assert (header.split(), count) == (RESULT.column_names, "0 rows")
    assert shown["csv"] == ",".join(RESULT.column_names) + "\n" and shown["json"] == ""


def test_tables_are_printed(lake, capsys):
    publish_rows(lake, "r1", "label", {"labels": [{"task": "motion", "video_id": "a"}]})
    print_tables(lake.settings)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["labels"].split()[1:3] == ["table", "1"] and lines["labels"].endswith("r1")
    assert lines["current_labels"].split() == ["current_labels", "view"]
