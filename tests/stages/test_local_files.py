"""vidpipe extract FILE… --output DIR: the work of a stage on files at hand, with no stack."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from tests.media_files import make_clip
from vidpipe.errors import EXIT_TEMPORARY, EXIT_USAGE
from vidpipe.schemas import TABLES
from vidpipe.stages.scratch import ScratchFolder


def start(
    folder: Path, *arguments: str | Path, before: Callable[[], None] = lambda: None
) -> subprocess.Popen:
    """Starts the command as a person in a folder does, with nothing configured."""
    environment = {name: value for name, value in os.environ.items() if "VIDPIPE" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "vidpipe", "extract", *map(str, arguments)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: (
            # Who starts the tests in the background starts them deaf to these.
            signal.signal(signal.SIGINT, signal.SIG_DFL),
            signal.signal(signal.SIGHUP, signal.SIG_DFL),
            before(),
        ),
    )


def extract(folder: Path, *arguments: str | Path) -> tuple[int, str]:
    with start(folder, *arguments) as process:
        _, told = process.communicate(timeout=300)
    return process.returncode, told


def rows(folder: Path, table: str) -> list[dict]:
    return pq.read_table(folder / table).to_pylist()


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Two good videos, one of them twice, and files that are none."""
    folder = tmp_path_factory.mktemp("clips")
    make_clip(folder / "a.mp4", duration_s=2.0)
    make_clip(folder / "b 'ü\n.mkv", size="64x96", tone_hz=None)
    (folder / "deep").mkdir()
    (folder / "deep" / "copy of a.mp4").write_bytes((folder / "a.mp4").read_bytes())
    (folder / "deep" / "empty.mp4").touch()
    (folder / "notes.txt").write_text("no video")
    (folder / "nowhere.mp4").symlink_to(folder / "gone.mp4")
    (folder / os.fsdecode(b"latin \xff.mp4")).write_bytes((folder / "notes.txt").read_bytes())
    return folder


def test_every_file_has_its_outcome_and_good_ones_their_rows(clips, tmp_path):
    exit_code, told = extract(tmp_path, clips, "--output", "out", "--fps", "5")
    assert exit_code == 0, told
    assert "2 done, 1 failed, 3 quarantined, 1 skipped" in told
    assert "empty. The object holds no bytes." in told
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["audio", "frames", "outcomes", "videos"]
    outcomes = {Path(row["item"]).name: row for row in rows(out, "outcomes")}
    assert {name: (row["status"], row["reason"]) for name, row in outcomes.items()} == {
        "a.mp4": ("done", None),
        "b 'ü\n.mkv": ("done", None),
        "copy of a.mp4": ("skipped", "duplicate"),
        "empty.mp4": ("quarantined", "empty"),
        "notes.txt": ("quarantined", "unreadable"),
        "nowhere.mp4": ("failed", "denied"),
        "latin \\xff.mp4": ("quarantined", "unreadable"),
    }
    assert len(rows(out, "frames")) == 10 + 5
    assert {row["sampling"] for row in rows(out, "frames")} == {"fps=5"}
    [sound] = rows(out, "audio")
    assert sound["video_id"] == outcomes["a.mp4"]["video_id"]
    for table in ("frames", "audio", "videos", "outcomes"):
        assert pq.read_table(out / table).schema.names == TABLES[table].schema.names


def test_of_unusable_files_the_tables_are_empty(clips, tmp_path):
    assert extract(tmp_path, clips / "notes.txt", "--output", "out")[0] == 0
    for table in ("frames", "audio", "videos"):
        read = pq.read_table(tmp_path / "out" / table)
        assert (read.num_rows, read.schema.names) == (0, TABLES[table].schema.names)
    assert len(rows(tmp_path / "out", "outcomes")) == 1


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", size="640x360", duration_s=3)
    options = ("--sampling", "all", "--short-side", "0")
    # As a disk does on which no larger file has place: one of frames, or the canary as well.
    for size_bytes in (300_000, 20_000):
        limited = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size_bytes, -1))
        with start(tmp_path, clip, "--output", "out", *options, before=limited) as process:
            _, told = process.communicate(timeout=300)
        assert process.returncode == EXIT_TEMPORARY, told
        assert ("canary" if size_bytes < 100_000 else "File too large") in told
        assert "Traceback" not in told
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_folder_in_which_an_extraction_was_killed_takes_the_next(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", size="640x360", fps=50, duration_s=30)
    with start(tmp_path, clip, "--output", "out", "--sampling", "all") as process:
        while not list(tmp_path.glob("out/*/frames-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate(timeout=300)
    assert len(list((tmp_path / "out").iterdir())) == 1
    exit_code, told = extract(tmp_path, clip, "--output", "out")
    assert exit_code == 0, told
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_what_a_killed_process_left_the_next_removes(tmp_path):
    kept = ScratchFolder(tmp_path)
    held_by_other = [sys.executable, "-c", _HOLDS, tmp_path]
    with subprocess.Popen(held_by_other, stdout=subprocess.PIPE, text=True) as process:
        folder = Path(process.stdout.readline().strip())
        ScratchFolder(tmp_path).remove()
        assert kept.path.exists() and folder.exists()
        process.kill()
    ScratchFolder(tmp_path).remove()
    assert list(tmp_path.iterdir()) == [kept.path]


def test_without_locks_there_are_temporary_folders_that_only_their_owner_removes(
    tmp_path, monkeypatch
):
    def no_lock(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_lock)
    one, other = ScratchFolder(tmp_path), ScratchFolder(tmp_path)
    other.remove()
    assert list(tmp_path.iterdir()) == [one.path]


def test_two_names_that_are_told_alike_are_refused_before_anything_is_done(tmp_path):
    for name in (b"a\xff.mp4", rb"a\xff.mp4"):
        (tmp_path / os.fsdecode(name)).touch()
    exit_code, told = extract(tmp_path, ".", "--output", "out")
    assert exit_code == EXIT_USAGE and "rename one of them" in told


_HOLDS = """
import pathlib, sys, time
from vidpipe.stages.scratch import ScratchFolder
print(ScratchFolder(pathlib.Path(sys.argv[1])).path, flush=True)
time.sleep(600)
"""


def test_options_reach_the_decoder(clips, tmp_path):
    size = ("--size", "40x30", "--fit", "pad", "--sampling", "all", "--jpeg-quality", "50")
    assert extract(tmp_path, clips / "a.mp4", "--output", "out", *size)[0] == 0
    frames = rows(tmp_path / "out", "frames")
    assert len(frames) == 20
    assert {(row["width"], row["height"], row["sampling"]) for row in frames} == {(40, 30, "all")}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.mp4", "--output", "out"], "There is no file 'nowhere.mp4'."),
        (["{clips}"], "Give files and a folder"),
        (["{clips}", "--output", "."], "must be an empty folder, or not be there"),
        (["{clips}", "--output", "out", "--size", "40"], "--size looks like 224x224"),
        (["{clips}", "--output", "out", "--size", "0x0"], "--size looks like 224x224"),
        (["s3://videos/a.mp4", "--output", "out"], "is for the DAG ingest"),
        (["{clips}", "--output", "s3://lake/out"], "is for the DAG ingest"),
        (["{clips}", "--output", "out", "--fps", "0"], "fps must be from 0.001 to 1000"),
        (["{clips}", "--output", "out", "--sampling", "some"], "sampling must be one of fps,"),
        (["{clips}", "--output", "file/out"], "file/out cannot be made"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(clips, tmp_path, arguments, told):
    (tmp_path / "file").touch()
    exit_code, words = extract(tmp_path, *(a.format(clips=clips) for a in arguments))
    assert exit_code == EXIT_USAGE
    assert words.startswith("vidpipe: ") and told in words and words.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_it_with_its_decoders_and_leaves_no_folder(tmp_path, signum):
    clip = make_clip(tmp_path / "a.mp4", size="640x360", fps=50, duration_s=30)
    with start(tmp_path, clip, "--output", "out", "--sampling", "all") as process:
        decoders: list[psutil.Process] = []
        while len(decoders) < 2:  # the process, and its child with the video
            assert process.poll() is None
            decoders = psutil.Process(process.pid).children(recursive=True)
            time.sleep(0.01)
        process.send_signal(signum)
        _, told = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "Traceback" not in told
    assert psutil.wait_procs(decoders, timeout=60)[1] == []
    assert not (tmp_path / "out").exists()
