"""ffmpeg-python, as it is mostly met: one run for the frames, a second one for the sound."""

from __future__ import annotations

import os

import common
import ffmpeg

QUIET = ("-nostdin", "-loglevel", "error")


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    program = [os.environ["FFMPEG"], *QUIET]
    (
        ffmpeg.input(str(source), threads=1)
        .filter("fps", fps=common.FPS, round="up")
        .filter("scale", -2, common.SHORT_SIDE)
        .output(str(output / "%06d.jpg"), **{"q:v": common.FFMPEG_QUALITY}, threads=1)
        .run(cmd=program)
    )
    (
        ffmpeg.input(str(source))
        .audio.output(str(output / "audio.wav"), ac=1, ar=common.SAMPLE_RATE_HZ)
        .run(cmd=program)
    )


if __name__ == "__main__":
    main()
