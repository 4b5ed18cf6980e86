"""FFmpeg: probe a video and decode it, in a process of its own, within limits."""

from __future__ import annotations

__all__ = [
    "AudioChunk",
    "DecodeLimit",
    "Decoder",
    "DecoderKilledError",
    "ExtractOptions",
    "Frame",
    "Summary",
    "VideoInfo",
    "check_sandbox",
    "decode",
    "decoder_version",
    "ffmpeg_path",
    "probe",
]

_MODULES = {
    "AudioChunk": "parts",
    "DecodeLimit": "time_limits",
    "Decoder": "decoding",
    "DecoderKilledError": "decoding",
    "ExtractOptions": "options",
    "Frame": "parts",
    "Summary": "parts",
    "VideoInfo": "parts",
    "check_sandbox": "sandbox",
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
