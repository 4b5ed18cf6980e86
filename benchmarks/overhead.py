"""What Airflow, S3, audit and publishing cost beside the extraction itself, on short clips.

The same clips are extracted twice, by as many workers as there are cores: by `vidpipe extract` from
their folder, and by the DAG `ingest` in a stack of its own, started in a temporary folder. Compared
are the times by the clock.

    python benchmarks/overhead.py --clips 1000
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vidpipe.media import ffmpeg_path

VIDPIPE = Path(sys.executable).with_name("vidpipe")
KINDS = 8  # clips that are made; the others differ from them by their end only


def make_clips(folder: Path, count: int, seconds: int) -> None:
    """Makes clips of 1280 × 720 with sound, each of other bytes."""
    folder.mkdir()
    made = []
    for kind in range(min(KINDS, count)):
        made.append(folder.parent / f"{kind}.mp4")
        source = f"mandelbrot=s=1280x720:r=30:start_scale={3 / (kind + 1)}"
        subprocess.run(
            [
                *(ffmpeg_path(), "-nostdin", "-loglevel", "error"),
                *("-f", "lavfi", "-i", source, "-f", "lavfi", "-i", f"sine=f={300 + 50 * kind}"),
                *("-t", str(seconds), "-pix_fmt", "yuv420p", "-c:v", "libx264", "-c:a", "aac"),
                str(made[-1]),
            ],
            check=True,
        )
    choice = random.Random(0)
    for number in range(count):
        path = folder / f"clip{number:05d}.mp4"
        shutil.copyfile(made[number % len(made)], path)
        with path.open("ab") as file:
            # A box that players pass over (ISO/IEC 14496-12, 8.1.2): other bytes and another size,
            # for equal sizes may be equal bytes and are worked on one after the other.
            passed_over = choice.randbytes(choice.randrange(16, 8192))
            file.write((8 + len(passed_over)).to_bytes(4, "big") + b"free" + passed_over)


def timed(folder: Path, *arguments: str) -> float:
    """Runs a command of vidpipe in a folder; returns its seconds by the clock."""
    environment = {name: value for name, value in os.environ.items() if "VIDPIPE" not in name}
    started_s = time.monotonic()
    subprocess.run(
        [VIDPIPE, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - started_s


def main() -> None:
    """Measures, and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=10, help="length of a clip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidpipe-overhead-") as name:
        folder = Path(name)
        make_clips(folder / "clips", options.clips, options.seconds)
        extraction_s = timed(folder, "extract", "clips", "--output", "frames")
        print(f"vidpipe extract: {extraction_s:.1f} s", flush=True)
        timed(folder, "up")
        try:
            shutil.copytree(folder / "clips", folder / ".vidpipe/s3/videos", dirs_exist_ok=True)
            ingest_s = timed(folder, "run", "ingest")
        finally:
            timed(folder, "down")
        print(f"vidpipe run ingest: {ingest_s:.1f} s")
        print(f"{options.clips} clips of {options.seconds} s: {ingest_s / extraction_s - 1:+.0%}")


if __name__ == "__main__":
    main()
