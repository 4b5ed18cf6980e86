"""ffmpeg: probe a video, decode it, within limits."""

from __future__ import annotations

__all__ = [
    "AudioChunk",
    "ExtractOptions",
    "Frame",
    "Summary",
    "VideoInfo",
    "decode",
    "decoder_version",
    "ffmpeg_path",
    "probe",
]


def __getattr__(name: str):
    # The process that probes imports this package too, and needs none of the rest.
    if name in ("AudioChunk", "ExtractOptions", "Frame", "Summary", "decode"):
        from vidpipe.media import decoding as module
    elif name in ("VideoInfo", "probe"):
        from vidpipe.media import probing as module
    elif name in ("decoder_version", "ffmpeg_path"):
        from vidpipe.media import binary as module
    else:
        raise AttributeError(name)
    return getattr(module, name)
