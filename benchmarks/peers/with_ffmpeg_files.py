"""ffmpeg itself: one run that writes both, frames as files."""

from __future__ import annotations

import os
import subprocess

import common


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    filters = f"fps={common.FPS}:round=up,scale=-2:{common.SHORT_SIDE}"
    command = [
        os.environ["FFMPEG"],
        "-nostdin",
        "-loglevel",
        "error",
        "-threads",
        "1",
        "-i",
        source,
    ]
    command += ["-map", "0:v", "-vf", filters, "-q:v", str(common.FFMPEG_QUALITY)]
    command += ["-threads", "1", output / "%06d.jpg"]
    command += ["-map", "0:a", "-ac", "1", "-ar", str(common.SAMPLE_RATE_HZ), output / "audio.wav"]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
