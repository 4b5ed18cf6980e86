"""A stage that is told to stop, or whose parent is killed, ends and leaves no process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.runs import stage
from tests.servers import config_file

OPTIONS = {"fps": 4.0, "short_side": 64}


def start(lake, folder: Path, *arguments: str) -> subprocess.Popen:
    """Starts a stage as Airflow's operator does: a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "vidpipe", *arguments],
        env=os.environ | {"VIDPIPE_CONFIG": str(config_file(lake, folder / "vidpipe.toml"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_a_stop_signal_ends_a_stage_in_time_with_75_and_leaves_no_child(
    lake, bucket, media, tmp_path
):
    for path in media.videos:
        bucket.put(path.name, path)
    plan = stage(lake, "run", "discover", **OPTIONS)
    process = start(lake, tmp_path, "extract", "--shard", plan.result["shards"][0])
    assert any(line.startswith(b"extract 1/") for line in process.stdout)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.terminate()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 75
    assert b"Stopped by a signal" in errors
    assert psutil.wait_procs(children, timeout=60)[1] == []


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
    running = psutil.Process(int(pid_file.read_text()))
    while not running.children():
        time.sleep(0.01)
    processes = [running, *running.children(recursive=True)]
    parent.kill()
    parent.wait()
    assert psutil.wait_procs(processes, timeout=300)[1] == []


def test_a_stop_can_be_deferred_to_where_the_work_can_stop_and_is_not_forgotten():
    code = (
        "import os, signal\n"
        "from vidpipe.errors import StoppedError\n"
        "from vidpipe.stages.runner import obey_stop_signals, stops_deferred\n"
        "obey_stop_signals()\n"
        "try:\n"
        "    with stops_deferred() as stopping:\n"
        "        before = stopping()\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        print(before, stopping())\n"
        "except StoppedError as error:\n"
        "    print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.stdout.splitlines() == [
        "False True",
        "Stopped by a signal; the work at hand was dropped.",
    ]
