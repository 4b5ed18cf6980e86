"""Asking in SQL: what is read, what errors say; what is refused: tests/security/test_query.py."""

from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lake.meter import Meter
from tests.lake.rows import DAY, publish_rows
from tests.servers import config_file, new_lake
from vidpipe.config import Settings
from vidpipe.errors import TemporaryError, UsageError
from vidpipe.lake.query import list_tables, run_query
from vidpipe.lake.tables import Lake
from vidpipe.lake.views import VIEWS
from vidpipe.schemas import TABLES

JPEG_BYTES = 200_000


@pytest.fixture(scope="module")
def full(s3_server, tmp_path_factory) -> Lake:
    """A lake with frames of two days, and labels of two tasks."""
    lake = new_lake(s3_server.settings, tmp_path_factory.mktemp("full"), "full")
    frames = [
        {
            "video_id": f"v{day}",
            "frame_index": n,
            "jpeg": secrets.token_bytes(JPEG_BYTES),
            "ingested_at": DAY + timedelta(day),
        }
        for day in (0, 1)
        for n in range(5)
    ]
    publish_rows(lake, "ingest-1", "extract", {"frames": frames})
    labels = [
        {"task": task, "video_id": video, "label": "up", "score": 0.5, "labelled_at": DAY}
        for task in ("motion", "mood")
        for video in ("v0", "v1")
    ]
    publish_rows(lake, "label-1", "label", {"labels": labels})
    return lake


def _received_bytes(settings: Settings, sql: str) -> tuple[int, list]:
    with Meter(settings.s3.endpoint_url) as meter:
        s3 = dataclasses.replace(settings.s3, endpoint_url=meter.endpoint_url)
        rows = run_query(sql, dataclasses.replace(settings, s3=s3)).to_pylist()
        return meter.received_bytes, rows


def test_rows_come_back_typed(full):
    result = run_query(
        "select task, count(*) as n, max(labelled_at) as at from labels group by 1 order by 1",
        full.settings,
    )
    assert result.to_pylist() == [
        {"task": "mood", "n": 2, "at": DAY},
        {"task": "motion", "n": 2, "at": DAY},
    ]


def test_counting_frames_reads_no_jpeg(full):
    received, rows = _received_bytes(full.settings, "select count(*) as n from frames")
    assert rows == [{"n": 10}]
    everything, _ = _received_bytes(full.settings, "select jpeg from frames")
    assert received < JPEG_BYTES
    assert everything > 10 * JPEG_BYTES


def test_one_day_of_frames_reads_no_other_day(full):
    received, rows = _received_bytes(
        full.settings,
        f"select octet_length(jpeg) as n from frames where ingested_at >= '{DAY + timedelta(1)}'",
    )
    assert rows == [{"n": JPEG_BYTES}] * 5
    assert 5 * JPEG_BYTES < received < 6 * JPEG_BYTES


@pytest.fixture(scope="module")
def with_a_lost_file(s3_server, tmp_path_factory) -> Lake:
    """A lake whose labels of the task mood cannot be read any more."""
    lake = new_lake(s3_server.settings, tmp_path_factory.mktemp("lost"), "lost")
    for run, task in (("r1", "motion"), ("r2", "mood")):
        publish_rows(lake, run, "label", {"labels": [{"task": task, "video_id": "v"}]})
    for found in lake.store.list(f"{lake.uri}/tables/labels/data/r2/"):
        lake.store.delete(found.uri)
    return lake


@pytest.mark.parametrize(
    "condition", ["task = 'motion'", "task in ('motion', 'x')", "task > 'moop'", "run_key = 'r1'"]
)
def test_a_filter_opens_only_files_that_may_match(with_a_lost_file, condition):
    rows = run_query(f"select task from labels where {condition}", with_a_lost_file.settings)
    assert rows.to_pylist() == [{"task": "motion"}]


def test_a_file_that_cannot_be_read_is_told(with_a_lost_file):
    with pytest.raises(TemporaryError, match="cannot be read"):
        run_query("select task from labels", with_a_lost_file.settings)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_statistics_never_hide_a_row(bounds, data):
    """The statistics hold the first characters of long texts only."""
    dataset, texts = bounds
    known = data.draw(st.sampled_from(texts))
    cut = data.draw(st.integers(0, len(known)))
    for text in (known, known[:cut], known[:cut] + "\U0010ffff"):
        for condition in (ds.field("source_uri") == text, ds.field("source_uri") >= text):
            expected = sum(t == text if "==" in str(condition) else t >= text for t in texts)
            assert dataset.count_rows(filter=condition) == expected


@pytest.fixture(scope="module")
def bounds(s3_server, tmp_path_factory):
    """Files whose bounds are long, empty, or cannot be made greater by cutting."""
    texts = ["", "a", "s3://b/" + "x" * 40, "s3://b/" + "x" * 39 + "y", "é" * 30, "\U0010ffff" * 20]
    lake = new_lake(s3_server.settings, tmp_path_factory.mktemp("bounds"), "bounds")
    for number, text in enumerate(texts):
        publish_rows(lake, f"r{number}", "discover", {"sources": [{"source_uri": text}]})
    return lake.dataset("sources"), texts


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from labels;",
        "-- how many\nselect count(*) from labels",
        "with l as (from labels) select count(*) from l",
        "explain select * from labels",
        "EXPLAIN ANALYZE select * from labels",
        "describe labels",
        "describe select task from labels",
        "summarize labels",
        "show tables",
        "from main.LABELS",
        "values (1)",
        "select * from range(3), unnest([1, 2])",
        "select table_name from information_schema.tables",
    ],
)
def test_statements_that_only_read_are_run(full, sql):
    assert run_query(sql, full.settings).num_rows


def test_show_tables_lists_tables_and_views(full):
    names = run_query("show tables", full.settings)["name"].to_pylist()
    assert sorted(names) == sorted([*TABLES, *VIEWS])


@pytest.mark.parametrize(
    "sql, words",
    [
        ("select * from lables", ["no table 'lables'", "labels", "current_labels"]),
        ("select lable from labels", ["no column 'lable'", "labels (task, video_id, "]),
        ("select l.nope from current_labels l", ["no column 'nope'. There are: current_labels (s"]),
        ("selec 1", ["cannot be read", '"selec"']),
        ("select cast('a' as int)", ["Could not convert string 'a'"]),
        ("select * from range(1) where nope(1)", ["nope does not exist"]),
    ],
)
def test_errors_name_what_is_wrong_and_what_exists(full, sql, words):
    with pytest.raises(UsageError) as caught:
        run_query(sql, full.settings)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_server_that_is_away_is_a_temporary_error(full):
    s3 = dataclasses.replace(full.settings.s3, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(TemporaryError):
        run_query("from labels", dataclasses.replace(full.settings, s3=s3))


def test_a_publication_under_way_is_not_seen(lake):
    publish_rows(lake, "r1", "label", {"labels": [{"task": "motion", "video_id": "a"}]})
    for name in ("labels", "outcomes"):
        lake.iceberg(name).append(
            run_query(f"from {name}", lake.settings).cast(TABLES[name].schema)
        )
    assert run_query("from labels", lake.settings).num_rows == 1
    assert {info.name: info.rows for info in list_tables(lake.settings)}["labels"] == 1


def test_the_past_can_be_asked(lake):
    publish_rows(lake, "r1", "label", {"labels": [{"task": "motion", "video_id": "a"}]})
    first = next(lake.publications()).published_at
    publish_rows(lake, "r2", "label", {"labels": [{"task": "motion", "video_id": "b"}]})
    now = datetime.now(UTC).replace(tzinfo=None)
    assert run_query("from labels", lake.settings, at=first).num_rows == 1
    assert run_query("from labels", lake.settings, at=now).num_rows == 2
    with pytest.raises(UsageError, match="the history begins at"):
        run_query("from labels", lake.settings, at=DAY - timedelta(days=9_000))


def test_an_empty_lake_answers(lake):
    assert run_query("from current_labels", lake.settings).num_rows == 0
    assert all(not info.rows for info in list_tables(lake.settings))


def test_tables_are_listed_with_rows_size_and_last_publication(full):
    infos = {info.name: info for info in list_tables(full.settings)}
    assert infos["frames"].rows == 10 and infos["frames"].run_key == "ingest-1"
    assert infos["frames"].size_bytes > 10 * JPEG_BYTES
    assert infos["labels"].rows == 4 and infos["labels"].run_key == "label-1"
    assert infos["outcomes"].run_key == "label-1"
    assert datetime.now(UTC) - infos["labels"].published_at < timedelta(hours=1)
    assert infos["videos"].rows == 0 and infos["videos"].published_at is None
    assert infos["champions"].kind == "view" and infos["champions"].rows is None


def test_ctrl_c_interrupts(full):
    script = textwrap.dedent(
        """
        import signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from vidpipe.config import LakeSettings, S3Settings, Settings
        from vidpipe.lake.query import run_query
        settings = Settings(
            lake=LakeSettings(*sys.argv[1:3]), s3=S3Settings(sys.argv[3], "", *sys.argv[4:6])
        )
        print("asking", flush=True)
        try:
            run_query("select count(*) from range(10000000000000) t where range % 7 = 8", settings)
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    lake, s3 = full.settings.lake, full.settings.s3
    arguments = [lake.uri, lake.catalog_uri, s3.endpoint_url, s3.access_key_id]
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments, s3.secret_access_key],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout.readline() == "asking\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(signal.SIGINT)
        try:
            assert process.communicate(timeout=300)[0] == "interrupted\n"
        finally:
            process.kill()


@pytest.mark.parametrize(
    "rows",
    ["range(10000000000000) t where range % 7 = 8", "range(100000000000) a, range(1000000) b"],
)
def test_ctrl_c_ends_the_command(full, tmp_path, rows):
    """Also where DuckDB does not react: its threads would complain when Python ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "vidpipe", "query", f"select count(*) from {rows}"],
        env=os.environ | {"VIDPIPE_CONFIG": str(config_file(full, tmp_path / "vidpipe.toml"))},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # More than it takes to start: it is at work on the statement.
        while psutil.Process(process.pid).cpu_times().user < 8:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            out, errors = process.communicate(timeout=300)
        finally:
            process.kill()
    assert (process.returncode, out) == (1, "")
    assert errors.rstrip().endswith("Aborted!") and "terminate" not in errors
