"""What the peers share: the job, as vidpipe's own defaults put it.

Each peer is a script, `with_NAME.py INPUT OUTPUT`: two frames a second, the shorter side 224, JPEG,
and 16 kHz mono where it can, into the new folder OUTPUT; it decodes with one thread. They are
written as their users write them, with what their documentation advises for this.
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

FPS = 2
INTERVAL_S = 1 / FPS
SHORT_SIDE = 224
WIDTH, HEIGHT = 398, SHORT_SIDE  # of 16:9
JPEG_QUALITY = 90  # as libjpeg counts
FFMPEG_QUALITY = 5  # as FFmpeg counts; what vidpipe makes of its 90
SAMPLE_RATE_HZ = 16_000
# FFmpeg's times are binary fractions of their own; the moment itself counts as reached.
ROUNDING_S = 0.001


def arguments() -> tuple[Path, Path]:
    """INPUT, and OUTPUT as a new folder."""
    source, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True)
    return source, output


def frame_path(output: Path, number: int) -> Path:
    """Where a picture goes."""
    return output / f"{number:06d}.jpg"


def open_sound(output: Path) -> wave.Wave_write:
    """A file for the sound."""
    sound = wave.open(str(output / "audio.wav"), "wb")
    sound.setnchannels(1)
    sound.setsampwidth(2)
    sound.setframerate(SAMPLE_RATE_HZ)
    return sound
