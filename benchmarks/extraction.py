"""What an extraction costs: vidpipe, and others that do the same job, against decoding alone.

The yardstick D is the CPU time of FFmpeg that decodes every frame of the file with one thread and
throws them away. The job: two frames a second, the shorter side 224, JPEG, and 16 kHz mono. Each
is measured as a process with all its children, in turns, between two yardsticks: their mean is its
D, for a shared machine is not always equally fast.

    python benchmarks/extraction.py --folder /tmp/extraction
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq
from media import Media, make

from vidpipe.media import ffmpeg_path

HERE = Path(__file__).parent
SAMPLINGS = ("fps", "reference", "keyframes", "all")
# Which environment each needs: the name of its file of requirements.
PEERS = {
    "pyav": "requirements",
    "pyav_skipping": "requirements",
    "opencv": "requirements",
    "decord": "requirements",
    "torchcodec": "requirements",
    "daft": "requirements",
    "video2dataset": "requirements-video2dataset",
    "ffmpeg_python": "requirements",
    "ffmpeg_files": "requirements",
    "ffmpeg_pipe": "requirements",
}
WITHOUT_AUDIO = ("opencv", "daft", "video2dataset")
SOUND_TOLERANCE_S = 0.2  # what a codec adds at the start and the end
SCALED_FILES = 4
SHORT_S = 6  # of a video for warming up
LOOK_EVERY_S = 0.5
LIMIT_S = 3600
SAMPLE_RATE_HZ = 16_000
_PR_SET_CHILD_SUBREAPER = 36


class Cost(NamedTuple):
    """What a run took.

    Attributes:
        cpu_s: Of the process and all that came of it.
        wall_s: By the clock.
        peak_bytes: Most resident memory of each process, by its command line.
    """

    cpu_s: float
    wall_s: float
    peak_bytes: dict[str, int]

    def peak_mb(self, having: str = "") -> float:
        """Of the largest process whose command line has these words."""
        found = [size for command, size in self.peak_bytes.items() if having in command]
        return max(found, default=0) / 1e6


class FailedError(Exception):
    """A run did not do its job."""


def run(command: list[str], environment: dict[str, str] | None = None) -> Cost:
    """Runs a command and measures it.

    Raises:
        FailedError: It ended otherwise than well, or not at all.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.monotonic()
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(
            command,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
        )
        peaks: dict[str, int] = {}
        ended = threading.Event()
        looker = threading.Thread(target=_look, args=(process.pid, peaks, ended))
        looker.start()
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        wall_s = time.monotonic() - started_s
        ended.set()
        looker.join()
        # Children that outlived it are handed to this process, so that their time counts.
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()
        told.seek(0)
        words = told.read().decode(errors="replace").strip().splitlines()
    if code:
        raise FailedError(f"ended with {code}: {words[-1] if words else 'it said nothing'}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu_s, wall_s, peaks)


def _look(root: int, peaks: dict[str, int], ended: threading.Event) -> None:
    """Notes the most memory of each process of a tree; what is asked of the kernel is a maximum."""
    while not ended.wait(LOOK_EVERY_S):
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                with contextlib.suppress(OSError):
                    stat = Path("/proc", entry, "stat").read_text()
                    parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
        tree = {root}
        for _ in range(8):  # generations
            tree |= {pid for pid, parent in parents.items() if parent in tree}
        for pid in tree:
            with contextlib.suppress(OSError, IndexError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                status = Path(f"/proc/{pid}/status").read_text()
                size = int(status.partition("VmHWM:")[2].split()[0]) * 1024
                peaks[command] = max(peaks.get(command, 0), size)


def yardstick(path: Path) -> float:
    """CPU seconds of decoding every frame."""
    decode = [ffmpeg_path(), "-nostdin", "-threads", "1", "-i", str(path), "-f", "null", "-"]
    return run(decode).cpu_s


def vidpipe_command(source: Path, output: Path, *options: str) -> list[str]:
    """vidpipe, as its users call it."""
    program = str(Path(sysconfig.get_path("scripts"), "vidpipe"))
    return [program, "extract", str(source), "--output", str(output), *options]


class Peers:
    """Others that do the job, in environments of their own.

    Args:
        folder: Keeps the environments.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._faults: dict[str, list[str]] = {}

    def command(self, name: str, source: Path, output: Path) -> list[str]:
        """How a peer is called; makes its environment if need be."""
        python = self._python(PEERS[name])
        return [str(python), str(HERE / "peers" / f"with_{name}.py"), str(source), str(output)]

    def environment(self, name: str) -> dict[str, str]:
        """Variables for a peer."""
        told = {"FFMPEG": ffmpeg_path()}
        if name == "torchcodec":
            # It loads the FFmpeg that it finds under the usual names; PyAV's have others.
            libraries = self._folder / "libraries"
            carried = next(self._python(PEERS[name]).parents[1].glob("lib/*/site-packages/av.libs"))
            libraries.mkdir(exist_ok=True)
            for path in carried.glob("lib*.so.*"):
                stem, _, version = path.name.partition("-")
                number = version.partition(".so.")[2].partition(".")[0]
                if (
                    stem.startswith(("libav", "libsw"))
                    and not (link := libraries / f"{stem}.so.{number}").is_symlink()
                ):
                    link.symlink_to(path)
            told["LD_LIBRARY_PATH"] = f"{libraries}:{carried}"
        return told

    def faults(self, name: str) -> str:
        """What could not be installed of what it needs."""
        return "; ".join(self._faults.get(PEERS[name], []))

    def _python(self, requirements: str) -> Path:
        folder = self._folder / requirements
        python = folder / "bin" / "python"
        if requirements not in self._faults:
            self._faults[requirements] = []
            uv = str(Path(sysconfig.get_path("scripts"), "uv"))
            if not python.exists():
                subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(folder)], check=True)
            install = [uv, "pip", "install", "-q", "-p", str(python)]
            wanted = HERE / "peers" / f"{requirements}.txt"
            if subprocess.run([*install, "-r", str(wanted)], capture_output=True).returncode:
                # One that is not to be had takes no other with it.
                lines = [w for w in wanted.read_text().split("\n") if w and w[0] != "#"]
                for line in lines:
                    done = subprocess.run([*install, line], capture_output=True, text=True)
                    if done.returncode:
                        why = " ".join(done.stderr.split())[:200]
                        self._faults[requirements].append(f"{line} does not install: {why}")
        return python


class Row(NamedTuple):
    """A line of the table, one for each round."""

    ratio: float
    cost: Cost
    output_bytes: int
    frames: int


def compare(media: Media, names: list[str], repeats: int, folder: Path) -> None:
    """Measures everyone on a video in turns, and prints a table."""
    peers = Peers(folder / "peers")
    rows: dict[str, list[Row]] = {name: [] for name in names}
    failed: dict[str, str] = {}
    yardsticks = []
    short = make(folder, media.height, SHORT_S)
    for turn in range(repeats):
        yardsticks.append(yardstick(media.path))
        # Who comes first is another one each time.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name in failed:
                continue
            with _new_folder(folder) as output:
                try:
                    if not rows[name]:
                        # Its programs are read from disk and compiled: not counted.
                        run(*_called(name, short.path, output, peers))
                        shutil.rmtree(output)
                        yardsticks.append(yardstick(media.path))
                    cost = run(*_called(name, media.path, output, peers))
                    yardsticks.append(yardstick(media.path))
                    around_s = statistics.mean(yardsticks[-2:])
                    rows[name].append(_row(media, name, around_s, cost, output))
                except (FailedError, StopIteration) as error:
                    if name.startswith("vidpipe"):
                        raise
                    failed[name] = peers.faults(name) or str(error)
                    continue
            print(f"  {name}: {rows[name][-1].ratio:.3f} D", file=sys.stderr, flush=True)
    d_s = statistics.median(yardsticks)
    print(f"\n{media}; D = {d_s:.1f} s of CPU ({min(yardsticks):.1f} to {max(yardsticks):.1f})\n")
    print("| | by D | least to most | CPU s | wall s | largest process MB | output MB | frames |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, measured in rows.items():
        if not measured:
            continue
        ratios = [row.ratio for row in measured]
        note = ", without audio" if name in WITHOUT_AUDIO else ""
        print(
            f"| {name}{note} | **{statistics.median(ratios):.3f}**"
            f" | {min(ratios):.3f} to {max(ratios):.3f}"
            f" | {statistics.median(row.cost.cpu_s for row in measured):.1f}"
            f" | {statistics.median(row.cost.wall_s for row in measured):.1f}"
            f" | {max(row.cost.peak_mb() for row in measured):.0f}"
            f" | {measured[0].output_bytes / 1e6:.1f} | {measured[0].frames} |"
        )
    for name, why in failed.items():
        print(f"\nNot measured: {name}: {why}")
    sys.stdout.flush()


def _called(name: str, source: Path, output: Path, peers: Peers) -> tuple[list, dict]:
    """A command, and variables for it."""
    if name.startswith("vidpipe"):
        options = ("--workers", "1", "--sampling", name.removeprefix("vidpipe "))
        return vidpipe_command(source, output, *options), {}
    return peers.command(name, source, output), peers.environment(name)


def _row(media: Media, name: str, yardstick_s: float, cost: Cost, output: Path) -> Row:
    """Checks what came out.

    Raises:
        FailedError: It is not the right number of frames, or not all of the sound.
    """
    expected = {"vidpipe keyframes": media.key_frames, "vidpipe all": media.frames}
    wanted = expected.get(name, media.moments)
    # Others round a time at the end in their own way.
    allowed = 0 if name.startswith("vidpipe") else 1
    files = [path for path in output.rglob("*") if path.suffix in (".jpg", ".parquet", ".wav")]
    frames = sum(_frames_in(path) for path in files)
    if abs(frames - wanted) > allowed:
        raise FailedError(f"{frames} frames came out, not {wanted}")
    sound_s = sum(_sound_s_in(path) for path in files)
    if name not in WITHOUT_AUDIO and abs(sound_s - media.duration_s) > SOUND_TOLERANCE_S:
        raise FailedError(f"{sound_s:.1f} s of sound came out, not {media.duration_s}")
    return Row(cost.cpu_s / yardstick_s, cost, sum(p.stat().st_size for p in files), frames)


def _frames_in(path: Path) -> int:
    if path.suffix == ".jpg":
        return 1
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            return file.metadata.num_rows if "jpeg" in file.schema_arrow.names else 0
    return 0


def _sound_s_in(path: Path) -> float:
    if path.suffix == ".wav":
        with wave.open(str(path)) as sound:
            return sound.getnframes() / sound.getframerate()
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as file:
            if "samples" in file.schema_arrow.names:
                samples = file.read(["samples"])["samples"]
                return pc.sum(pc.binary_length(samples)).as_py() / 2 / SAMPLE_RATE_HZ
    return 0.0


def scale(media: Media, repeats: int, folder: Path) -> None:
    """Prints what a second worker gains."""
    with _new_folder(folder) as source:
        source.mkdir()
        for number in range(SCALED_FILES):
            copy = source / f"{number}.mp4"
            shutil.copyfile(media.path, copy)
            # Equal bytes would be extracted once: an empty box makes each another file.
            with copy.open("ab") as file:
                file.write(struct.pack(">I4s", 8 + number, b"free") + bytes(number))
        walls: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(repeats):
            for workers, taken in walls.items():
                with _new_folder(folder) as output:
                    command = vidpipe_command(source, output, "--workers", str(workers))
                    taken.append(run(command).wall_s)
    gains = [one / two for one, two in zip(*walls.values(), strict=True)]
    print(
        f"\nTwo workers on {SCALED_FILES} times {media.path.name}: {statistics.median(gains):.2f}"
        f" times as fast as one ({min(gains):.2f} to {max(gains):.2f});"
        f" {statistics.median(walls[1]):.1f} s and {statistics.median(walls[2]):.1f} s by the"
        f" clock, on {os.cpu_count()} cores",
        flush=True,
    )


def remember(short: Media, long: Media, folder: Path) -> None:
    """Prints how much memory a video takes, and a longer one."""
    for media in (short, long):
        with _new_folder(folder) as output:
            cost = run(vidpipe_command(media.path, output, "--workers", "1"))
            print(
                f"\n{media.path.name}: decoder {cost.peak_mb('vidpipe.media.worker'):.0f} MB,"
                f" vidpipe itself {cost.peak_mb('vidpipe extract'):.0f} MB at most;"
                f" {cost.cpu_s:.0f} s of CPU",
                flush=True,
            )


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A path for a folder that is not there yet, and not there any longer afterwards."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as made:
        yield Path(made, "output")


def main() -> None:
    """Makes videos, and measures."""
    everyone = [*(f"vidpipe {sampling}" for sampling in SAMPLINGS), *PEERS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="keeps videos and environments of peers (default: a new one)"
    )
    parser.add_argument("--parts", nargs="+", default=["compare", "scale", "memory"])
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"among {', '.join(everyone)}")
    parser.add_argument("--heights", nargs="+", type=int, default=[720, 1080])
    parser.add_argument("--seconds", type=int, default=180, help="length of the videos")
    parser.add_argument("--long", type=int, default=3600, help="length of the one for the memory")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    with contextlib.ExitStack() as stack:
        folder = chosen.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="vidpipe-"))
        )
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        names = chosen.only or everyone
        if unknown := set(names) - set(everyone):
            parser.error(f"{unknown.pop()!r} is none of {', '.join(everyone)}")
        parts: dict[str, Callable[[], None]] = {
            "compare": lambda: [
                compare(make(folder, height, chosen.seconds), names, chosen.repeats, folder)
                for height in chosen.heights
            ],
            "scale": lambda: scale(
                make(folder, chosen.heights[0], chosen.seconds), chosen.repeats, folder
            ),
            "memory": lambda: remember(
                make(folder, chosen.heights[-1], 60),
                make(folder, chosen.heights[-1], chosen.long),
                folder,
            ),
        }
        for part in chosen.parts:
            parts[part]()


if __name__ == "__main__":
    main()
