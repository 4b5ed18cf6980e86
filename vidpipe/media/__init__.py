"""ffmpeg: probe a video, decode it, within limits."""

from __future__ import annotations
from vidpipe.media.binary import ffmpeg_path
