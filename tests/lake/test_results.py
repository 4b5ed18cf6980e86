"""Writing what was asked."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import math
import os
import pty
import re
import struct
import sys
import termios
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lake.rows import publish_rows
from vidpipe.errors import UsageError
from vidpipe.lake.results import format_of, print_tables, write_result
from vidpipe.lake.terminal import shorten, show_on_terminal

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


def on_terminal(show, *arguments, columns=80, **options):
    """What a function prints on a terminal, without colors."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    chunks = []

    def read():
        # Linux ends a terminal with EIO, others with nothing to read.
        with contextlib.suppress(OSError):
            while chunk := os.read(leader, 100_000):
                chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(follower, "w") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        patch.setenv("COLUMNS", str(columns))
        show(*arguments, **options)
    reader.join()
    os.close(leader)
    text = b"".join(chunks).decode().replace("\r\n", "\n")
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


IDS = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(10)]
LABELS = pa.table(
    {
        "source_uri": [f"s3://videos/clips/clip-{n}.mp4" for n in range(10)],
        "in_bucket": [True] * 10,
        "task": ["motion"] * 10,
        "video_id": IDS,
        "start_s": [0.0] * 10,
        "end_s": [2.0] * 10,
        "label": ["left"] * 10,
        "score": [0.987123456] * 10,
        "accepted": [True] * 10,
        "model": ["vidpipe-motion"] * 10,
        "model_version": ["3"] * 10,
        "labelled_at": pa.array(
            [datetime(2026, 1, 31, 12, 0, 0, 5)] * 10, pa.timestamp("us", "UTC")
        ),
        "work_key": [id[:32] for id in IDS],
        "run_key": ["vidpipe-label_nightly-1"] * 10,
    }
)


def test_on_a_terminal_rows_that_fit_are_a_table():
    out = on_terminal(write_result, RESULT.select(["name", "score"]), "table")
    assert "─" in out and "3 rows" in out and r"\x1b[31m[red]" in out


def test_on_a_terminal_rows_that_are_too_wide_are_blocks():
    out = on_terminal(write_result, LABELS, "table", sql="select * from current_labels")
    lines = out.splitlines()
    # It was 169 lines, of ids that were folded.
    assert len(lines) <= 82 and all(len(line) <= 80 for line in lines)
    assert f"video_id       {IDS[3][:12]} " in out and IDS[3][:13] not in out
    assert "0.987 " in out and "0.9871" not in out and "2026-01-31 12:00:00" in out
    assert "vidpipe-label_nightly-1" not in out and IDS[3][:32] not in out
    assert lines[-2].startswith("10 rows. Left out: work_key, run_key. Ids are cut")
    assert lines[-1].startswith("Everything: --format csv")
    wide = on_terminal(write_result, LABELS, "table", sql="from current_labels", columns=200)
    assert len(wide.splitlines()) == 14


def test_on_a_terminal_a_column_that_the_statement_names_is_shown():
    sql = "select label, RUN_KEY from current_labels"
    out = on_terminal(write_result, LABELS.select(["label", "run_key"]), "table", sql=sql)
    assert "vidpipe-label_nightly-1" in out and out.splitlines()[-1] == "10 rows."
    only = on_terminal(write_result, LABELS.select(["run_key"]), "table", sql="from runs")
    assert "vidpipe-label_nightly-1" in only


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.5"),
        (1234.56789, "1234.568"),
        (0.000123456, "0.000123"),
        (0.0999999, "0.1"),
        (-1e-12, "-1e-12"),
        (1e300, "1e+300"),
        (0.0, "0.0"),
        (math.nan, "nan"),
        (True, "true"),
        (12, "12"),
        (IDS[0], IDS[0][:12]),
        (f"motion/{IDS[0]}", f"motion/{IDS[0][:12]}"),
        (f"s3://videos/{IDS[0]}", f"s3://videos/{IDS[0]}"),
        (f"s3://videos/a.mp4@{IDS[0][:32]}", f"s3://videos/a.mp4@{IDS[0][:32]}"),
        ("decade", "decade"),
        (b"123", "<3 bytes>"),
        ([0.5, None], "[0.5, null]"),
        ([date(2026, 1, 31)], '["2026-01-31"]'),
        ("a\x1b[31m", r"a\x1b[31m"),
    ],
)
def test_values_are_shortened(value, shown):
    assert shorten(value) == shown


def test_long_and_wide_values_are_whole_in_a_block():
    rows = [["ジャンプ" * 30, "x" * 300, None, "short"]]
    out = on_terminal(lambda: show_on_terminal(["a", "b", "c", "d"], rows, sys.stdout), columns=60)
    text = out.replace("\n", "")
    assert "ジャンプ" * 30 in text and "x" * 300 in text and "short" in text


def test_no_rows_on_a_terminal_are_told():
    out = on_terminal(write_result, LABELS.slice(0, 0), "table", columns=250)
    assert "source_uri" in out and "0 rows" in out


@pytest.mark.parametrize("output_format", ["table", "csv", "json"])
def test_a_file_holds_what_the_screen_shows(tmp_path, capsys, output_format):
    write_result(RESULT, output_format)
    screen = capsys.readouterr().out
    write_result(RESULT, output_format, tmp_path / "out")
    assert (tmp_path / "out").read_text("utf-8") == screen
    assert os.listdir(tmp_path) == ["out"]
    assert capsys.readouterr().out == f"{RESULT.num_rows} rows → {tmp_path / 'out'}\n"


def test_the_ending_of_a_file_tells_its_format(tmp_path):
    assert format_of(None) == "table"
    endings = {name: format_of(Path(name)) for name in ("a.CSV", "a.jsonl", "a.parquet", "a.txt")}
    assert list(endings.values()) == ["csv", "json", "parquet", "table"]
    with pytest.raises(UsageError, match=r"\.csv, .* or add --format\. Received: 'a\.xlsx'"):
        format_of(Path("folder/a.xlsx"))


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
    shown = on_terminal(print_tables, lake.settings).splitlines()
    assert len(shown) == len(lines) + 1 and all(len(line) <= 80 for line in shown)
