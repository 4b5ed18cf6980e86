"""Attacks by video files: on the decoder, by a decoder that is taken over, by what it tells.

A decoder is taken over as a defect of a library would do it: the encoder of JPEG files that it
loads is one that runs the attacker's code amid a video, in the process that decodes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.corpus import make_corpus
from tests.media_files import decoders, make_clip
from tests.mp4_boxes import repeat_sample
from tests.security.decoding import EVERY_FRAME, frames_of, reason_of
from vidpipe.errors import MediaError
from vidpipe.media import (
    DecodeLimit,
    Decoder,
    DecoderKilledError,
    ExtractOptions,
    decoding,
    limits,
    time_limits,
)
from vidpipe.media.landlock import landlock_version
from vidpipe.reasons import REASONS

linux = pytest.mark.skipif(sys.platform != "linux", reason="the walls are those of Linux")
needs_landlock = pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")
is_x86 = os.uname().machine == "x86_64"
# Calls that open ways out, each of which takes zeros in place of what it needs: on x86-64, aarch64.
CALLS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kill": (62, 129),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "open_by_handle_at": (304, 265),
    "memfd_create": (319, 279),
    "execveat": (322, 281),
    "openat2": (437, 437),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "personality": (135, 92),
    "prctl": (157, 167),
    "ioctl": (16, 29),
    "socketpair": (53, 199),
    "shmget": (29, 194),
    "msgget": (68, 186),
}
TAKEN_OVER = """
import ctypes, errno, mmap, os, resource, signal, socket, subprocess, sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    if libc.syscall(number, *map(ctypes.c_long, arguments)) < 0:
        raise OSError(ctypes.get_errno(), "the call failed")


def attack():
{attack}

def encode_jpeg_yuv_planes(*_, **__):
    try:
        told = f"done {{attack()!r}}"
    except BaseException as error:
        told = f"{{type(error).__name__}} {{error}}"
    raise ValueError(f"attack: {{told}}")
"""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video."""
    return make_clip(tmp_path / "clip.mp4", tone_hz=None)


@pytest.fixture
def attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: Path) -> Callable[[str], str]:
    """Runs code in a decoder that is taken over; returns what the decoder tells of it."""

    def run(code: str) -> str:
        code = textwrap.indent(textwrap.dedent(code), "    ")
        (tmp_path / "simplejpeg.py").write_text(TAKEN_OVER.format(attack=code))
        monkeypatch.syspath_prepend(tmp_path)
        with Decoder() as decoder, pytest.raises(MediaError) as caught:
            frames_of(decoder, clip)
        assert REASONS[caught.value.reason] == "quarantined"
        assert not decoders()
        return str(caught.value).removeprefix("The decoder failed on it: ValueError: attack: ")

    return run


def limit_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch, **constants: float) -> None:
    """Gives the decoder other limits of CPU; those by the clock stay."""
    lines = "".join(f"time_limits.{name} = {value}\n" for name, value in constants.items())
    code = f"from vidpipe.media import time_limits, worker\n{lines}worker.main()\n"
    (folder / "limited.py").write_text(code)
    monkeypatch.setattr(decoding, "COMMAND", [sys.executable, str(folder / "limited.py")])


def make_endless(path: Path) -> Path:
    """Makes a video of 6 h, each of whose frames is the same key frame."""
    make_clip(path, "-frames:v", "1", "-qp", "40", size="1920x1080", tone_hz=None)
    path.write_bytes(repeat_sample(path.read_bytes(), 5000, 6 * 3600 - 1))
    return path


# --- A decoder that is taken over ----------------------------------------------------------------


@linux
@pytest.mark.parametrize(
    "kind",
    [
        "AF_INET, socket.SOCK_STREAM",
        "AF_INET, socket.SOCK_DGRAM",
        "AF_INET6, socket.SOCK_STREAM",
        "AF_UNIX, socket.SOCK_STREAM",
        "AF_NETLINK, socket.SOCK_RAW",
        "AF_PACKET, socket.SOCK_RAW",
    ],
)
def test_a_decoder_that_is_taken_over_has_no_network(attack, listener, kind):
    """Tries: a decoder that is taken over sends what it read to a server.

    Stopped by: seccomp; and it has a network of its own where that is allowed.
    """
    answer = attack(
        f"""
        with socket.socket(socket.{kind}) as sender:
            sender.connect({listener.getsockname()!r})
        """
    )
    assert answer.startswith("PermissionError")


@needs_landlock
@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{home}/.aws/credentials", "{home}/.vidpipe/stack.json", "{home}"]
)
def test_a_decoder_that_is_taken_over_reads_no_other_file(attack, tmp_path, path):
    """Tries: a decoder that is taken over reads passwords and keys, or looks what there is.

    Stopped by: Landlock: it may read its video and the modules of Python.
    """
    for name in (".aws/credentials", ".vidpipe/stack.json"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("secret")
    path = path.format(home=tmp_path)
    read = "os.listdir(path)" if os.path.isdir(path) else "open(path).read()"
    assert attack(f"path = {path!r}\nreturn {read}").startswith("PermissionError")


@needs_landlock
@pytest.mark.parametrize("name", ["environ", "mem", "maps", "cwd/a", "root/etc/passwd", "fd/0"])
def test_a_decoder_that_is_taken_over_cannot_look_into_other_processes(attack, name):
    """Tries: a decoder that is taken over reads memory and environment of its stage.

    Stopped by: Landlock; the kernel lets no process of a domain look into one outside of it.
    """
    answer = attack(f"return open('/proc/{os.getpid()}/{name}', 'rb').read(16)")
    assert answer.startswith("PermissionError")


@linux
@pytest.mark.parametrize(
    "code",
    [
        "open({path!r}, 'w')",
        "open({path!r}, 'a')",
        "os.open({path!r}, os.O_RDONLY | os.O_CREAT)",
        "os.truncate({clip!r}, 0)",
        "os.unlink({clip!r})",
        "os.rename({clip!r}, {path!r})",
        "os.link({clip!r}, {path!r})",
        "os.symlink('/etc/passwd', {path!r})",
        "os.mkdir({path!r})",
        "os.mkfifo({path!r})",
        "os.chmod({clip!r}, 0o4777)",
        "os.utime({clip!r})",
        "os.setxattr({clip!r}, 'user.a', b'a')",
    ],
)
def test_a_decoder_that_is_taken_over_changes_no_file(attack, tmp_path, clip, code):
    """Tries: a decoder that is taken over writes, replaces or removes files of its user.

    Stopped by: seccomp, which lets it open files to read only; Landlock; a file size limit of 0.
    """
    before, path = clip.read_bytes(), tmp_path / "written"
    answer = attack(code.format(path=str(path), clip=str(clip)))
    assert answer.startswith("PermissionError")
    assert clip.read_bytes() == before and not path.exists()


@linux
@pytest.mark.parametrize(
    "code",
    [
        "os.execv('/bin/sh', ['sh', '-c', 'id'])",
        "subprocess.run(['/bin/sh', '-c', 'id'])",
        "os.posix_spawn('/bin/sh', ['sh', '-c', 'id'], {})",
        "os.system('id') == 0 or os.execv('/bin/sh', ['sh'])",
    ],
)
def test_a_decoder_that_is_taken_over_runs_no_program(attack, code):
    """Tries: a decoder that is taken over runs a shell, or a program that gives it privileges.

    Stopped by: seccomp and Landlock; what it ran would gain no privileges (no_new_privs).
    """
    assert attack(code).startswith("PermissionError")


@linux
@pytest.mark.parametrize(
    "code",
    [
        # One of each: should nothing stop the attack, it does no harm.
        "os.fork() or os._exit(0)",
        "threading.Thread(target=int).start()",
    ],
)
def test_a_decoder_that_is_taken_over_multiplies_in_vain(attack, code):
    """Tries: a decoder that is taken over makes processes or threads, to fill the machine.

    Stopped by: seccomp: it can make none.
    """
    assert attack(code).startswith(("PermissionError", "RuntimeError can't start new thread"))


@linux
@pytest.mark.parametrize("sent", ["SIGKILL", "SIGSTOP", "SIGTERM"])
def test_a_decoder_that_is_taken_over_harms_no_other_process(attack, sent):
    """Tries: a decoder that is taken over kills or stops processes of the same user.

    Stopped by: seccomp; and Landlock where it knows signals.
    """
    # Its target is started here: should nothing stop the attack, it does no harm.
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        answer = attack(f"os.kill({other.pid}, signal.{sent})")
        assert answer.startswith("PermissionError")
        assert psutil.Process(other.pid).status() != psutil.STATUS_STOPPED
        assert other.poll() is None
        other.kill()


@linux
@pytest.mark.parametrize("name", CALLS)
def test_a_decoder_that_is_taken_over_gets_no_further_into_the_kernel(attack, name):
    """Tries: a decoder that is taken over calls what kernels have had holes in, or ways to others.

    Stopped by: seccomp, which knows only the calls that decoding needs.
    """
    answer = attack(f"call({CALLS[name][not is_x86]}, 0, 0, 0, 0, 0, 0)")
    assert answer.startswith("PermissionError")


@linux
@pytest.mark.skipif(not is_x86, reason="x32 is a second set of calls of x86-64")
def test_a_decoder_that_is_taken_over_cannot_use_other_numbers_of_the_same_calls(attack):
    """Tries: a decoder that is taken over makes its calls as a program for x32, past the filter.

    Stopped by: the filter looks at the architecture first, and kills it.
    """
    assert "SIGSYS" in attack("call(0x40000000 | 41, 2, 1, 0)")


@linux
def test_a_decoder_that_is_taken_over_cannot_bring_its_own_code(attack):
    """Tries: a decoder that is taken over makes bytes of the video executable.

    Stopped by: seccomp: no memory becomes executable after the libraries are loaded.
    """
    answer = attack("mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)")
    assert answer.startswith("PermissionError")


@linux
@pytest.mark.parametrize(
    "code",
    [
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
        "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))",
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))",
        "os.nice(-1)",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    ],
)
def test_a_decoder_that_is_taken_over_keeps_its_limits(attack, code):
    """Tries: a decoder that is taken over lifts its limits, or sets those of others.

    Stopped by: hard limits, which only root lifts; seccomp for those of others.
    """
    if os.geteuid() == 0 and "setrlimit" in code:
        pytest.skip("root may lift limits: stages run as others")
    assert attack(code).startswith(("PermissionError", "ValueError not allowed"))


@linux
def test_a_decoder_that_is_taken_over_does_not_learn_of_other_videos(attack):
    """Tries: a decoder that is taken over reads the jobs of its parent, with their files.

    Stopped by: the child that decodes does not have that pipe.
    """
    assert attack("return os.read(0, 9)") == "done b''"


@pytest.mark.parametrize(
    "content",
    [
        r"b'\xff' * 4096",
        r"b'\x04\0\0\0\0\0\0\0null'",
        r"b'\x0d\0\0\0\0\0\0\0{\"kind\": \"x\"}'",
        r"b'\x15\0\0\0\0\0\0\0{\"kind\": \"VideoInfo\"}'",
        r"b'[' * 100000",
        r"b'\xa0\x86\x01\0\0\0\0\0' + b'[' * 100000",
    ],
)
def test_a_decoder_that_is_taken_over_cannot_confuse_the_stage(
    tmp_path, monkeypatch, clip, content
):
    """Tries: a decoder that is taken over writes something else to the stage than frames.

    Stopped by: parts are JSON of known kinds, of a bounded size; the rest quarantines the video.
    """
    code = f"import os\ndef encode_jpeg_yuv_planes(*_):\n  while True: os.write(1, {content})\n"
    (tmp_path / "simplejpeg.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with Decoder() as decoder:
        assert REASONS[reason_of(decoder, clip)] == "quarantined"
    assert not decoders()


@pytest.mark.parametrize(
    "code", ["time.sleep(600)", "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"]
)
def test_a_decoder_that_is_taken_over_does_not_hold_up_the_rest(monkeypatch, attack, code):
    """Tries: a decoder that is taken over never ends, and does not heed the signal to end.

    Stopped by: a limit by the clock, at which the stage kills it.
    """
    monkeypatch.setattr(time_limits, "BASE_S", 1.0)
    monkeypatch.setattr(time_limits, "S_PER_S", 0.0)
    assert "took longer than 1 s" in attack(code)


def test_no_secret_of_the_environment_is_seen(monkeypatch):
    """Tries: a decoder that is taken over looks for keys in its own environment.

    Stopped by: it is given PATH and the folders of modules, and nothing else.
    """
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    code = "import os; print(os.environ)"
    with limits.start_limited([sys.executable, "-c", code]) as process:
        words, _ = process.communicate(timeout=300)
    assert b"PATH" in words and b"hidden" not in words


# --- Files that take too much --------------------------------------------------------------------


def test_a_small_file_that_claims_six_hours_gets_the_time_of_a_small_file(tmp_path, monkeypatch):
    """Tries: some KB claim 6 h, all samples of which lie at the same place, to keep a CPU busy.

    Stopped by: the time for decoding is bounded by the bytes of the file, whatever it claims.
    """
    video = make_endless(tmp_path / "a.mp4")
    assert video.stat().st_size < 60_000
    limit_cpu(tmp_path, monkeypatch, BASE_S=1.0, S_PER_BYTE=20e-6)
    with Decoder() as decoder, pytest.raises(MediaError, match="more CPU than") as caught:
        list(decoder.decode(video, EVERY_FRAME, DecodeLimit(max_s=600.0)))
    assert caught.value.reason == "timed_out"
    assert "the limit of a file of 0.0" in str(caught.value)
    assert not decoders()


def test_decoding_takes_no_longer_than_the_setting_says(tmp_path):
    """Tries: a large file keeps a CPU busy for as long as its bytes and its length allow.

    Stopped by: `[extract] max_decode_s`, which the message names.
    """
    video = make_endless(tmp_path / "a.mp4")
    with Decoder() as decoder, pytest.raises(MediaError) as caught:
        list(decoder.decode(video, EVERY_FRAME, DecodeLimit(max_s=1.0)))
    assert caught.value.reason == "timed_out"
    assert "the limit of [extract] max_decode_s. Raise it" in str(caught.value)


@linux
def test_a_picture_that_unpacks_to_gigabytes_takes_no_memory_of_others(tmp_path, monkeypatch):
    """Tries: a few KB unpack to pictures that fill the memory of the machine.

    Stopped by: a limit of the address space of the decoder.
    """
    video = make_clip(tmp_path / "a.mp4", "-frames:v", "1", size="16384x4096", tone_hz=None)
    assert video.stat().st_size < 1 << 20
    monkeypatch.setattr(limits, "MEMORY_BYTES", 340 << 20)
    with Decoder() as decoder:
        assert reason_of(decoder, video) == "out_of_memory"
        # What needs less has enough.
        assert frames_of(decoder, make_clip(tmp_path / "small.mp4"))


@pytest.mark.parametrize("name", ["16000x16000.gif", "65535x65535.gif", "16384x4100.mkv"])
def test_a_header_of_huge_pictures_is_refused_before_they_are_made(tmp_path, name):
    """Tries: a header of some bytes claims pictures of billions of pixels.

    Stopped by: `max_pixels` and FFmpeg's own limit, before memory is taken.
    """
    make_corpus(tmp_path, (name,))
    with Decoder() as decoder:
        assert reason_of(decoder, tmp_path / name) in ("too_large", "no_frames")


@pytest.mark.parametrize(
    ("sent", "reason"), [(signal.SIGSEGV, "unreadable"), (signal.SIGKILL, "out_of_memory")]
)
def test_a_crash_is_the_outcome_of_its_video_and_the_next_one_is_decoded(tmp_path, sent, reason):
    """Tries: a file crashes the decoder, for the rest of the batch to be lost.

    Stopped by: a process decodes for the stage, and a child of it each video.
    """
    clip = make_clip(tmp_path / "a.mp4", fps=50, duration_s=20)
    options = ExtractOptions(fps=100, short_side=0)
    with Decoder() as decoder:
        with pytest.raises(MediaError) as caught:
            for _ in decoder.decode(clip, options):
                for child in (c for worker in decoders() for c in worker.children()):
                    child.send_signal(sent)
        assert caught.value.reason == reason
        assert isinstance(caught.value, DecoderKilledError) == (sent == signal.SIGKILL)
        *_, summary = decoder.decode(clip, options)
        assert summary.frames == 1000
    assert not decoders()


# --- What it tells -------------------------------------------------------------------------------


def test_names_and_languages_cannot_command_a_terminal(tmp_path):
    """Tries: names and metadata hold the control codes of terminals.

    Stopped by: what comes from strangers is escaped where it is printed.
    """
    clips, output = tmp_path / "clips", tmp_path / "output"
    clips.mkdir()
    escape = "\x1b]0;owned\x07\x1b[2J"
    metadata = ("-metadata:s:a:0", f"language={escape}", "-metadata", f"title={escape}")
    make_clip(clips / f"good{escape}.mkv", *metadata)
    (clips / f"bad{escape}.mp4").write_bytes(escape.encode() * 9)
    ended = subprocess.run(
        [sys.executable, "-m", "vidpipe", "extract", str(clips), "--output", str(output)],
        capture_output=True,
        cwd=Path(__file__).parents[2],
    )
    printed = ended.stdout + ended.stderr
    assert ended.returncode == 0, printed
    assert rb"bad\x1b]0;owned" in printed
    assert b"\x1b" not in printed and b"\x07" not in printed
    assert pq.read_table(output / "videos")["audio_language"].to_pylist() == [escape]


def test_a_link_to_a_secret_shows_nothing_of_it(tmp_path):
    """Tries: a folder of videos holds links to files with secrets.

    Stopped by: what is no video is an outcome, and its message quotes no content.
    """
    clips, output = tmp_path / "clips", tmp_path / "output"
    clips.mkdir()
    (tmp_path / "credentials").write_text("[default]\naws_secret_access_key = hidden\n")
    (clips / "a.mp4").symlink_to(tmp_path / "credentials")
    ended = subprocess.run(
        [sys.executable, "-m", "vidpipe", "extract", str(clips), "--output", str(output)],
        capture_output=True,
        cwd=Path(__file__).parents[2],
    )
    assert b"hidden" not in ended.stdout + ended.stderr
    (outcome,) = pq.read_table(output / "outcomes").to_pylist()
    assert outcome["reason"] == "unreadable" and "hidden" not in outcome["message"]
