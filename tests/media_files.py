"""Small media, good and bad, made with the ffmpeg of the product."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil

from vidpipe.media import ffmpeg_path

# A clip of `ramp` tells in the grey of a frame which frame it was.
RAMP_FIRST, RAMP_STEP = 30, 8

# Codecs that are made fast; quality 1 to keep the picture.
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "1", "-pix_fmt", "yuv420p")


def run_ffmpeg(*arguments: str | Path) -> None:
    """Runs ffmpeg as anybody would, without limits."""
    subprocess.run(
        [ffmpeg_path(), "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)],
        check=True,
        timeout=600,
    )


def make_clip(
    path: Path,
    *output: str,
    size: str = "96x64",
    fps: int = 10,
    duration_s: float = 1.0,
    tone_hz: int | None = 440,
) -> Path:
    """Makes a clip of ffmpeg's test picture and a tone, coded as `output` says (H.264, AAC)."""
    sound = (
        ["-f", "lavfi", "-i", f"sine=f={tone_hz}:r=44100:d={duration_s}", "-c:a", "aac"]
        if tone_hz
        else []
    )
    picture = f"testsrc=s={size}:r={fps}:d={duration_s}"
    run_ffmpeg("-f", "lavfi", "-i", picture, *sound, *H264, *output, path)
    return path


def make_ramp(
    path: Path, *output: str, frames: int = 20, fps: int = 10, filters: str = "null"
) -> Path:
    """Makes a clip without sound whose frames get lighter one by one (`number_of`)."""
    ramp = (
        f"nullsrc=s=64x64:r={fps}:d={frames / fps},format=gray,"
        f"geq=lum='{RAMP_FIRST}+{RAMP_STEP}*N',{filters}"
    )
    run_ffmpeg("-f", "lavfi", "-i", ramp, "-fps_mode", "passthrough", *H264, *output, path)
    return path


def number_of(level: float) -> int:
    """Which frame of a ramp is as light as this, of 255 in full range."""
    return round((level - RAMP_FIRST) / RAMP_STEP)


def cut(source: Path, target: Path, share: float) -> Path:
    """The first part of a file."""
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


def damage(source: Path, target: Path) -> Path:
    """An MP4 with zeros in the middle of its payload; its index is whole."""
    content = bytearray(source.read_bytes())
    start = content.index(b"mdat") + 4
    size = int.from_bytes(content[start - 8 : start - 4], "big") - 8
    hole = slice(start + size // 3, start + size // 2)
    content[hole] = bytes(hole.stop - hole.start)
    target.write_bytes(content)
    return target


def decoders() -> list[psutil.Process]:
    """The programs that read media and are children of this process now."""
    return [
        child
        for child in psutil.Process().children()
        if "limits.py" in (line := " ".join(child.as_dict(["cmdline"])["cmdline"] or []))
        or "vidpipe.media.worker" in line
    ]
