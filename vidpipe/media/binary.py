"""Which ffmpeg makes clips: canaries, and those of the demo. Videos are decoded by PyAV."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import imageio_ffmpeg

from vidpipe.config import load_settings
from vidpipe.errors import UsageError


@functools.cache
def ffmpeg_path() -> str:
    """The ffmpeg that the configuration names, else the one that the imageio-ffmpeg wheel carries.

    Raises:
        UsageError: There is neither.
    """
    configured = load_settings().extract.ffmpeg_path
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise UsageError(
                "VIDPIPE_EXTRACT_FFMPEG_PATH must name a program that can be run, or be empty for"
                f" the ffmpeg of the imageio-ffmpeg wheel. Received: {configured!r}"
            )
        return found
    # Where the wheel carries none, it goes on to look at the PATH: not what was asked for.
    try:
        carried = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        carried = ""
    if not Path(carried).is_relative_to(Path(imageio_ffmpeg.__file__).parent):
        raise UsageError(
            "The imageio-ffmpeg wheel carries no ffmpeg for this machine:"
            " name one by VIDPIPE_EXTRACT_FFMPEG_PATH."
        )
    return carried
