"""The runtime `local`: what a process says, how it ends, and that nothing of it survives."""

from __future__ import annotations

import logging
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.airflow_runs import wait_for_end
from vidpipe import memory
from vidpipe.orchestration import local_process
from vidpipe.orchestration.local_process import LocalProcess
from vidpipe.version import code_version

LOG = logging.getLogger(__name__)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a shell script in the place of `python -m vidpipe`; returns what writes it."""

    def write(text: str) -> None:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{text}\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))

    return write


def wait_for(path: Path) -> int:
    while not (path.exists() and path.read_text().strip()):
        time.sleep(0.05)
    return int(path.read_text())


def test_lines_go_to_the_log(program, caplog: pytest.LogCaptureFixture):
    program("echo one; echo; echo 'two %s' >&2; printf '\\377three'; exit 3")

    with caplog.at_level(logging.INFO):
        assert LocalProcess().run(["extract"], LOG) == (3, "�three")

    assert [record.getMessage() for record in caplog.records] == ["one", "two %s", "�three"]


def test_indented_lines_belong_to_what_is_said_last(program):
    program("echo working; printf 'vidpipe: 2 faults:\\n  line 2: x\\n  line 9: y\\n'; exit 65")
    assert LocalProcess().run(["annotate"], LOG) == (
        65,
        "vidpipe: 2 faults: line 2: x; line 9: y",
    )


def test_what_tensorflow_writes_when_it_starts_is_not_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    script = tmp_path / "vidpipe.py"
    script.write_text(
        "import tensorflow as tf\n"
        "tf.transpose(tf.zeros((2, 4), tf.uint8)).numpy()\n"  # a complaint of oneDNN
        "rows = tf.data.Dataset.range(3).map(lambda n: n)\n"  # and one of tf.data
        "list(rows.with_options(tf.data.Options()).as_numpy_iterator())\n"
        "print('E0000 00:00:1.5 7 node_def_util.cc:682] NodeDef mentions attribute x')\n"
        "print('E0000 00:00:1.5 7 gpu_device.cc:1] no memory')\n"
    )
    monkeypatch.chdir(tmp_path)  # a module of the folder comes before the package

    with caplog.at_level(logging.INFO):
        assert LocalProcess().run([], LOG)[0] == 0

    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["E0000 00:00:1.5 7 gpu_device.cc:1] no memory"]


def test_command_and_environment(program):
    program('echo "$@ $VIDPIPE_CODE_VERSION"')

    assert LocalProcess().run(["extract", "--shard", "s3://a/b c"], LOG) == (
        0,
        f"-m vidpipe extract --shard s3://a/b c {code_version()}",
    )


def test_real_command_ends_with_its_code():
    assert LocalProcess().run(["discover"], LOG)[0] == 2
    assert LocalProcess().run(["--version"], LOG)[0] == 0


def test_child_left_behind_is_ended(program, tmp_path: Path):
    """It holds the pipe: without its end the task would wait for ever."""
    pid = tmp_path / "pid"
    program(f"sleep 600 & echo $! > {shlex.quote(str(pid))}; kill -9 $$")

    assert LocalProcess().run(["extract"], LOG)[0] == -9
    wait_for_end(wait_for(pid))


@pytest.mark.parametrize("stubborn", [False, True])
def test_stop_ends_all(program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool):
    monkeypatch.setattr(local_process, "STOP_WITHIN_S", 1)
    pid = tmp_path / "pid"
    trap = "trap '' TERM;" if stubborn else ""
    program(f"{trap} sleep 600 & echo $! > {shlex.quote(str(pid))}; wait")
    process = LocalProcess()
    ended = []
    runner = threading.Thread(
        target=lambda: ended.append(process.run(["extract"], LOG)[0]), daemon=True
    )
    runner.start()
    child = wait_for(pid)

    process.stop()
    runner.join(300)

    assert ended == [-9 if stubborn else -15]
    wait_for_end(child)


def test_stop_while_it_starts_ends_it(program, monkeypatch: pytest.MonkeyPatch):
    """A stop signal may come when the process is there and nobody holds it yet."""
    program("exec sleep 600")
    process = LocalProcess()
    start = subprocess.Popen

    def start_and_stop(*args, **kwargs):
        started = start(*args, **kwargs)
        process.stop()
        return started

    monkeypatch.setattr(subprocess, "Popen", start_and_stop)
    assert process.run(["extract"], LOG)[0] == -signal.SIGTERM


def test_stop_before_the_start_and_after_the_end(program):
    program("exit 0")
    process = LocalProcess()
    process.stop()
    assert process.run(["extract"], LOG)[0] == 0
    process.stop()


def take_memory(size_bytes: int, held: str = "[]") -> str:
    """A script that is at work on items and takes so much memory, in a child."""
    code = f"x = bytearray({size_bytes}); import time; time.sleep(600)"
    return f"echo '{held}' > $VIDPIPE_WORKING_FILE; echo hello; {sys.executable} -c '{code}'; true"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_too_much_memory_ends_it_with_its_children(program):
    program(take_memory(800_000_000, held="[3, 17]"))
    process = LocalProcess(limit_bytes=300e6)

    assert process.run(["label"], LOG) == (-signal.SIGKILL, "hello")

    assert process.memory.over_limit and process.working == [3, 17]
    assert "GB of memory, more than the 0.3 GB that it may" in process.memory.why


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_the_largest_stage_ends_where_the_machine_has_no_memory_left(
    program, monkeypatch: pytest.MonkeyPatch
):
    program(take_memory(200_000_000))
    monkeypatch.setattr(memory, "free_bytes", lambda: 1e6)
    process = LocalProcess()
    others = {1: 100_000_000}
    monkeypatch.setattr(
        memory, "used_by_stages", lambda: {**others, process.pid: memory.used_by_tree(process.pid)}
    )

    assert process.run(["label"], LOG)[0] == -signal.SIGKILL

    assert not process.memory.over_limit
    assert "of its stages this one took most" in process.memory.why


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
def test_the_kernel_takes_stages_first(program):
    """And is told what a stage may take, to keep within it."""
    program("sleep 1; cat /proc/$$/oom_score_adj; echo $VIDPIPE_MEMORY_STAGE_GB")
    assert LocalProcess(limit_bytes=5e9).run(["label"], LOG) == (0, "5.000")
    program("sleep 1; cat /proc/self/oom_score_adj")
    assert LocalProcess().run(["label"], LOG) == (0, str(memory.STAGE_OOM_SCORE))
