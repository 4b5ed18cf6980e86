"""Which decoder is at work."""

from __future__ import annotations

import functools
from importlib import metadata


@functools.cache
def decoder_version() -> str:
    """Such as `PyAV 18.1.0`, which carries FFmpeg; two extractions by others are not the same."""
    return f"PyAV {metadata.version('av')}"
