"""limits: what a program that reads untrusted media may take, and that it never outlives us."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.media_files import decoders, make_clip, run_ffmpeg
from vidpipe.errors import MediaError
from vidpipe.media import ExtractOptions, decode, decoding, limits, probe

OPTIONS = ExtractOptions(fps=100, short_side=0, jpeg_quality=90)


def run_python(code: str, *, cpu_s: int = 60) -> tuple[int, str]:
    process = limits.start_limited([sys.executable, "-c", code], cpu_s=cpu_s)
    output, errors = process.communicate(timeout=60)
    return process.returncode, (output + errors).decode()


def test_cpu_is_limited():
    returncode, _ = run_python("while True: pass", cpu_s=1)
    assert returncode == -signal.SIGXCPU


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no limit of the address space")
def test_memory_is_limited():
    returncode, words = run_python(f"bytearray({limits.MEMORY_BYTES})")
    assert returncode == 1
    assert "MemoryError" in words


def test_no_file_can_be_written(tmp_path):
    _, words = run_python(f"open({str(tmp_path / 'a')!r}, 'wb', buffering=0).write(b'x')")
    assert "File too large" in words
    assert (tmp_path / "a").stat().st_size == 0


def test_no_secret_of_the_environment_is_seen(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    _, words = run_python("import os; print(os.environ)")
    assert "PATH" in words
    assert "hidden" not in words


def test_stop_ends_a_program_with_its_children_and_may_be_called_twice():
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)"
    wait = "import time; time.sleep(600)"
    process = limits.start_limited(
        [sys.executable, "-c", f"{child}; print('started', flush=True); {wait}"], cpu_s=60
    )
    with process:
        process.stdout.readline()
        started = psutil.Process(process.pid).children()
        limits.stop(process)
        gone, alive = psutil.wait_procs(started, timeout=30)
        assert len(gone) == 1 and not alive
        limits.stop(process)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_program_dies_with_a_parent_that_is_killed():
    # One that reads and writes nothing, and so is not told by its pipes.
    sleeper = "import time; print('started', flush=True); time.sleep(600)"
    code = f"""
import sys, time
from vidpipe.media import limits
process = limits.start_limited([sys.executable, "-c", {sleeper!r}], cpu_s=60)
process.stdout.readline()
print("started", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"started\n"
        [child] = psutil.Process(parent.pid).children()
        parent.kill()
    gone, _ = psutil.wait_procs([child], timeout=30)
    assert gone == [child]


def test_a_decoder_that_takes_too_much_cpu_is_ended(tmp_path, monkeypatch):
    second = make_clip(tmp_path / "second.mp4", size="1280x720", fps=50, tone_hz=None)
    clip = tmp_path / "a.mp4"
    run_ffmpeg("-stream_loop", "20", "-i", second, "-c", "copy", clip)
    info = probe(clip)
    monkeypatch.setattr(decoding, "BASE_S", 1.0)
    monkeypatch.setattr(decoding, "S_PER_S", 0.0)
    with pytest.raises(MediaError, match="CPU") as caught:
        for _ in decode(clip, info, OPTIONS):
            time.sleep(0.01)  # ffmpeg is never waited for, so the clock on the wall decides nothing
    assert caught.value.reason == "timed_out"


def test_a_decoder_that_says_nothing_for_too_long_is_ended(tmp_path, monkeypatch):
    clip = make_clip(tmp_path / "a.mp4")
    info = probe(clip)
    monkeypatch.setattr(decoding, "BASE_S", 0.0)
    monkeypatch.setattr(decoding, "S_PER_S", 0.0)
    with pytest.raises(MediaError) as caught:
        list(decode(clip, info, OPTIONS))
    assert caught.value.reason == "timed_out"
    assert not decoders()


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has no limit of the address space")
def test_a_picture_that_needs_too_much_memory_is_told_as_such(tmp_path, monkeypatch):
    clip = make_clip(tmp_path / "a.mp4", "-frames:v", "1", size="8192x2304", tone_hz=None)
    info = probe(clip)
    monkeypatch.setattr(limits, "MEMORY_BYTES", 280 << 20)
    with pytest.raises(MediaError) as caught:
        list(decode(clip, info, OPTIONS))
    assert caught.value.reason == "out_of_memory"
