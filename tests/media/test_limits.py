"""limits: what a program that reads untrusted media may take, and that it never outlives us."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.media_files import decoders, make_clip, run_ffmpeg
from vidpipe.errors import MediaError
from vidpipe.media import Decoder, ExtractOptions, decode, decoding, limits
from vidpipe.reasons import REASONS

OPTIONS = ExtractOptions(fps=100, short_side=0, jpeg_quality=90)


def run_python(code: str) -> tuple[int, str]:
    told = "import sys; sys.stderr = sys.stdout\n"
    process = limits.start_limited([sys.executable, "-c", told + code])
    output, _ = process.communicate(timeout=300)
    return process.returncode, output.decode()


def test_cpu_is_limited():
    returncode, _ = run_python(
        "from vidpipe.media import limits; limits.limit_cpu(1, 9)\nwhile True: pass"
    )
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


def test_what_a_program_complains_of_never_makes_it_wait():
    write = "try: os.write(2, b'x' * 4096)\n  except OSError: pass"
    code = f"import os\nfor _ in range(1000):\n  {write}"
    with limits.start_limited([sys.executable, "-c", code]) as process:
        assert process.wait(300) == 0
        assert process.stderr.read(1) == b"x"


def test_a_decoder_that_cannot_start_says_why(tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec is not what it was')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MediaError, match="libavcodec is not what it was") as caught:
        list(decode(tmp_path / "a.mp4", OPTIONS))
    assert caught.value.reason == "internal"


def test_what_a_file_does_to_the_decoder_is_its_own_fault(tmp_path, monkeypatch):
    (tmp_path / "simplejpeg.py").write_text(
        "def encode_jpeg_yuv_planes(*_): raise ValueError('31 is not a valid Type')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    clip = make_clip(tmp_path / "a.mp4", tone_hz=None)
    with pytest.raises(MediaError, match="ValueError: 31 is not a valid Type") as caught:
        list(decode(clip, OPTIONS))
    assert REASONS[caught.value.reason] == "quarantined"


def test_stop_ends_a_program_with_its_children_and_may_be_called_twice():
    child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)"
    wait = "import time; time.sleep(600)"
    process = limits.start_limited(
        [sys.executable, "-c", f"{child}; print('started', flush=True); {wait}"]
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
process = limits.start_limited([sys.executable, "-c", {sleeper!r}])
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
    # Its own limit alone: the clock's stays.
    (tmp_path / "limited.py").write_text(
        "from vidpipe.media import time_limits, worker\n"
        "time_limits.BASE_S, time_limits.S_PER_S = 1.0, 0.0\nworker.main()\n"
    )
    monkeypatch.setattr(decoding, "COMMAND", [sys.executable, str(tmp_path / "limited.py")])
    with pytest.raises(MediaError, match="more CPU than") as caught:
        list(decode(clip, OPTIONS))
    assert caught.value.reason == "timed_out"
    assert not decoders()


def test_a_decoder_that_was_killed_between_two_videos_is_started_anew(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with Decoder() as decoder:
        for _ in range(3):
            *_, summary = decoder.decode(clip, OPTIONS)
            assert summary.frames == 10
            while len(found := decoders()) > 1:  # the child that did it is about to end
                time.sleep(0.01)
            [idle] = found
            idle.kill()
            idle.wait(timeout=60)
    assert not decoders()


def test_one_process_serves_many_videos_each_by_a_child_of_its_own(tmp_path):
    good = make_clip(tmp_path / "a.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    served = set()
    with Decoder() as decoder:
        for path in (good, tmp_path / "bad.mp4", good):
            with contextlib.suppress(MediaError):
                list(decoder.decode(path, OPTIONS))
            served |= {process.pid for process in decoders()}
    assert len(served) == 1
    assert not decoders()
