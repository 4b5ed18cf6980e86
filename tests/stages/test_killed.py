"""A stage that is killed with -9 and run again leaves what an undisturbed one does."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs import audit_and_publish, rows, shards, stage
from tests.servers import config_file, new_lake

# What a run without a disturbance would have otherwise, too.
DIFFERS = ("run_key", "attempt", "seconds", "finished_at", "ingested_at", "seen_at", "work_key")
OPTIONS = {"fps": 4.0, "short_side": 64}
TABLES = ("sources", "videos", "frames", "audio", "outcomes")


def start(lake, folder: Path, *arguments: str) -> subprocess.Popen:
    """Starts a stage as Airflow's operator does: a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vidpipe", *arguments],
        env=os.environ | {"VIDPIPE_CONFIG": str(config_file(lake, folder / "vidpipe.toml"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def kill_after(process: subprocess.Popen, seconds: float) -> bool:
    """Kills a process with -9; whether it was still at work."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    finally:
        process.stdout.close()
        process.stderr.close()
    return False


def tables_of(lake) -> dict[str, list]:
    return {name: rows(lake, name, ignore=DIFFERS) for name in TABLES}


@pytest.fixture
def undisturbed(s3_server, bucket, lake, media, tmp_path):
    """The tables after a run in which nothing happened."""
    for path in (*media.videos[:4], *media.broken):
        bucket.put(path.name, path)
    other = new_lake(s3_server.settings, tmp_path, f"undisturbed-{random.randrange(10**9)}")
    other.settings = dataclasses.replace(other.settings, sources=lake.settings.sources)
    plan = stage(other, "run", "discover", **OPTIONS)
    shards(other, plan)
    audit_and_publish(other, "run", plan)
    return tables_of(other)


def test_extract_killed_at_random_moments(lake, bucket, media, undisturbed, tmp_path):
    plan = stage(lake, "run", "discover", **OPTIONS)
    (uri,) = plan.result["shards"]
    killed = [
        kill_after(start(lake, tmp_path, "extract", "--shard", uri), random.uniform(0.5, 3.5))
        for _ in range(4)
    ]
    assert any(killed)
    shards(lake, plan)
    audit_and_publish(lake, "run", plan)
    assert tables_of(lake) == undisturbed


def test_publish_killed_at_random_moments(lake, bucket, media, undisturbed, tmp_path):
    plan = stage(lake, "run", "discover", **OPTIONS)
    shards(lake, plan)
    audit = stage(lake, "run", "audit", plan=plan.uri)
    params = '{"publication": "' + audit.result["publication"] + '"}'
    for _ in range(4):
        process = start(lake, tmp_path, "publish", "--run-key", "run", "--params", params)
        kill_after(process, random.uniform(1.5, 4.0))
        seen = tables_of(lake)
        # Half a run is never seen.
        assert seen == undisturbed or not any(seen.values())
    stage(lake, "run", "publish", publication=audit.result["publication"])
    assert tables_of(lake) == undisturbed


def test_a_stop_signal_ends_a_stage_in_time_with_75_and_leaves_no_child(
    lake, bucket, media, tmp_path
):
    for path in media.videos:
        bucket.put(path.name, path)
    plan = stage(lake, "run", "discover", **OPTIONS)
    process = start(lake, tmp_path, "extract", "--shard", plan.result["shards"][0])
    assert process.stdout.readline().startswith(b"extract 1/")
    process.terminate()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 75
    assert b"Stopped by a signal" in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_stage_ends_when_its_parent_is_killed(lake, bucket, media, tmp_path):
    for path in media.videos:
        bucket.put(path.name, path)
    plan = stage(lake, "run", "discover", **OPTIONS)
    config = config_file(lake, tmp_path / "vidpipe.toml")
    pid_file = tmp_path / "pid"
    # A parent that starts the stage, tells its pid, and then only waits.
    code = (
        "import subprocess, sys, time, pathlib\n"
        "command = [sys.executable, '-m', 'vidpipe', 'extract', '--shard', sys.argv[1]]\n"
        "p = subprocess.Popen(command)\n"
        "pathlib.Path(sys.argv[2]).write_text(str(p.pid)); time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, plan.result["shards"][0], str(pid_file)],
        env=os.environ | {"VIDPIPE_CONFIG": str(config)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not pid_file.exists() or not pid_file.read_text():
        time.sleep(0.05)
    pid = int(pid_file.read_text())
    time.sleep(2.0)
    parent.kill()
    parent.wait()
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the stage outlived its parent by 20 s")
