"""Canaries: a made clip goes through every extraction, and must come out as it always did.

A decoder that drops frames, a filter that shifts times or colours, or audio at the wrong rate would
spoil every table in silence; here they fail the audit.
"""

from __future__ import annotations

import array
import io
import subprocess
from pathlib import Path

import ffmpeg
import numpy as np
from PIL import Image

from vidpipe.errors import TemporaryError
from vidpipe.media import AudioChunk, Decoder, ExtractOptions, Frame, ffmpeg_path

DURATION_S = 2.0
TONE_HZ = 440
# The clip is a ramp of grey, one step a frame, 10 frames a second.
STEP = 10
FIRST = 30


def extraction_problems(folder: Path, decoder: Decoder) -> list[str]:
    """Makes the clip, extracts it, and tells what did not come out as pinned; [] is well.

    Args:
        folder: Where the clip lies meanwhile.
        decoder: What is to be trusted.
    """
    path = folder / "canary.mkv"
    _make_clip(path)
    options = ExtractOptions(fps=5, short_side=32, jpeg_quality=95)
    parts = list(decoder.decode(path, options))
    path.unlink()
    frames = [part for part in parts if isinstance(part, Frame)]
    samples = array.array("h")
    for part in parts:
        if isinstance(part, AudioChunk):
            samples.frombytes(part.samples)
    return [*_frame_problems(frames), *_audio_problems(np.asarray(samples, dtype=np.float64))]


def _make_clip(path: Path) -> None:
    video = ffmpeg.input(
        f"nullsrc=s=64x64:r=10:d={DURATION_S},format=gray,geq=lum='{FIRST}+{STEP}*N'", f="lavfi"
    )
    audio = ffmpeg.input(f"sine=f={TONE_HZ}:r=44100:d={DURATION_S}", f="lavfi")
    command = ffmpeg.output(
        video, audio, str(path), vcodec="ffv1", pix_fmt="gray", acodec="pcm_s16le"
    ).compile(cmd=[ffmpeg_path(), "-nostdin", "-loglevel", "error"])
    made = subprocess.run(command, timeout=60, stderr=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        told = " ".join(made.stderr.split()) or f"ffmpeg ended with {made.returncode}"
        raise TemporaryError(f"The canary cannot be made in {path.parent}: {told}")


def _frame_problems(frames: list[Frame]) -> list[str]:
    expected_s = [n / 5 for n in range(int(DURATION_S * 5))]
    times_s = [round(frame.time_s, 3) for frame in frames]
    if times_s != expected_s:
        return [f"frames at {times_s} s instead of {expected_s} s"]
    problems = []
    for frame in frames:
        with Image.open(io.BytesIO(frame.jpeg)) as image:
            size, level = image.size, float(np.asarray(image.convert("L")).mean())
        pinned = FIRST + STEP * frame.time_s * 10
        if size != (32, 32) or abs(level - pinned) > 3:
            problems.append(
                f"frame at {frame.time_s} s is {size} of grey {level:.0f},"
                f" not (32, 32) of {pinned:.0f}"
            )
    return problems


def _audio_problems(samples: np.ndarray) -> list[str]:
    if abs(len(samples) / 16000 - DURATION_S) > 0.05:
        return [f"{len(samples)} samples instead of {DURATION_S * 16000:.0f}"]
    loudest_hz = float(np.argmax(np.abs(np.fft.rfft(samples)))) * 16000 / len(samples)
    if abs(loudest_hz - TONE_HZ) > 2:
        return [f"a tone of {loudest_hz:.0f} Hz instead of {TONE_HZ}"]
    return []
