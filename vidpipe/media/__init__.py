"""FFmpeg: probe a video and decode it, in a process of its own, within limits."""

from __future__ import annotations

__all__ = [
    "AudioChunk",
    "Decoder",
    "DecoderKilledError",
    "ExtractOptions",
    "Frame",
    "Summary",
    "VideoInfo",
    "decode",
    "decoder_version",
    "ffmpeg_path",
    "probe",
]

_MODULES = {
    "AudioChunk": "parts",
    "Decoder": "decoding",
    "DecoderKilledError": "decoding",
    "ExtractOptions": "options",
    "Frame": "parts",
    "Summary": "parts",
    "VideoInfo": "parts",
    "decode": "decoding",
    "decoder_version": "version",
    "ffmpeg_path": "binary",
    "probe": "decoding",
}


def __getattr__(name: str):
    # The process that decodes imports this package too, and needs few of its modules.
    import importlib

    if name not in _MODULES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"vidpipe.media.{_MODULES[name]}"), name)
