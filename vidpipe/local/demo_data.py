"""Demo videos that are made, not shipped: short clips whose truth is known.

The motion of a clip is one of four directions. The object leaves the picture on one side and comes
back on the other, so that in every class its position, size and look have the same distribution:
one frame tells nothing, the order of frames tells all. The colour of the object is the control: one
frame is enough. Both are independent of each other and of all else. Beside the clips lie files
that are broken on purpose, `motion.csv` and `appearance.csv` (columns `video,label`, for
`vidpipe annotate`) and `truth.json`.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import tempfile
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from vidpipe.local.speech import SAMPLE_RATE_HZ, speak
from vidpipe.media import ffmpeg_path

MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 230),
    "yellow": (230, 210, 40),
}
SHAPES = ("disc", "square", "triangle")
WORDS = ("one", "two", "three", "four", "five", "yes", "no", "stop", "go", "hello")

_SIZES = ((128, 128), (160, 120), (192, 144), (256, 144), (144, 192), (128, 224))
_RATES_FPS = (12, 15, 24, 25, 30)
# The roles that a few clips play, by the number of the clip.
_ROTATED, _VARIABLE_RATE = 1, 2
_SILENT_EVERY = 10


@dataclass(frozen=True)
class DemoData:
    """What was made.

    Attributes:
        folder: Where everything lies.
        videos: The good clips, by number.
        broken: Reason of `vidpipe.reasons.REASONS` by the file that must be quarantined for it.
        motion_csv: Label of the motion of each good clip.
        appearance_csv: Label of the colour of each good clip.
        truth_json: For each good clip: size, times of the frames, the object and its boxes in each
            frame (`x, y, width, height` in 0..1 of the picture as shown; an object that crosses an
            edge has a box at each), the words spoken and when.
    """

    folder: Path
    videos: tuple[Path, ...]
    broken: dict[Path, str]
    motion_csv: Path
    appearance_csv: Path
    truth_json: Path


@dataclass(frozen=True)
class _Clip:
    """What one clip shows and how; lengths are in pixels, positions and speed in pictures."""

    name: str
    motion: str
    color: str
    shape: str
    width: int
    height: int
    fps: int
    duration_s: float
    radius: int
    x: float
    y: float
    speed: float
    words: tuple[tuple[str, float], ...]  # with the start in seconds
    silent: bool
    rotated: bool
    variable_rate: bool
    background_seed: int

    def frame_times_s(self) -> list[float]:
        """Times of the frames that the file holds."""
        kept = range(round(self.duration_s * self.fps))
        if self.variable_rate:
            kept = [n for n in kept if n % 3 == 0 or n >= self.fps]
        return [n / self.fps for n in kept]


def make_demo_videos(
    folder: Path,
    *,
    clips: int = 240,
    seed: int = 0,
) -> DemoData:
    """Makes `clips` good clips and a few broken files; the same pixels for the same seed.

    Args:
        folder: Made if it does not exist.
        clips: Number of good clips; motions and colours are as even among them as they can be.
        seed: Another seed gives other clips of the same distribution.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spoken = speak(WORDS)
    plan = [_plan_clip(number, seed, spoken) for number in range(clips)]
    # Each thread mostly waits for an encoder, which is a process of its own.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda clip: _make_clip(folder, clip, spoken), plan))
    truth_json = folder / "truth.json"
    truth_json.write_text(json.dumps([_truth(clip, spoken) for clip in plan]), encoding="utf-8")
    return DemoData(
        folder=folder,
        videos=tuple(folder / clip.name for clip in plan),
        broken=_make_broken(folder, folder / plan[0].name),
        motion_csv=_write_labels(folder / "motion.csv", {c.name: c.motion for c in plan}),
        appearance_csv=_write_labels(folder / "appearance.csv", {c.name: c.color for c in plan}),
        truth_json=truth_json,
    )


def _plan_clip(number: int, seed: int, spoken: dict[str, np.ndarray]) -> _Clip:
    random = np.random.default_rng([seed, number])
    motions, colors = list(MOTIONS), list(COLORS)
    width, height = _SIZES[random.integers(len(_SIZES))]
    duration_s = float(random.uniform(2.0, 3.0))
    words, start_s = [], float(random.uniform(0.1, 0.4))
    for word in random.choice(WORDS, size=2, replace=False):
        words.append((str(word), round(start_s, 3)))
        start_s += len(spoken[word]) / SAMPLE_RATE_HZ + float(random.uniform(0.1, 0.3))
    silent = number % _SILENT_EVERY == _SILENT_EVERY - 1
    return _Clip(
        name=f"clip_{number:03}.mp4",
        motion=motions[number % 4],
        color=colors[number // 4 % 4],
        shape=SHAPES[random.integers(len(SHAPES))],
        width=width,
        height=height,
        fps=30 if number == _VARIABLE_RATE else int(random.choice(_RATES_FPS)),
        duration_s=duration_s,
        radius=round(min(width, height) * random.uniform(0.13, 0.18)),
        x=float(random.uniform()),
        y=float(random.uniform()),
        speed=float(random.uniform(0.28, 0.42)),
        words=() if silent else tuple(words),
        silent=silent,
        rotated=number == _ROTATED,
        variable_rate=number == _VARIABLE_RATE,
        background_seed=int(random.integers(2**31)),
    )


# === Picture ===


def _background(clip: _Clip) -> np.ndarray:
    """Plain, a gradient or noise, always near grey: uint8 (height, width, 3)."""
    random = np.random.default_rng(clip.background_seed)
    tint = random.uniform(60, 170) + random.uniform(-12, 12, 3)
    picture = np.broadcast_to(tint, (clip.height, clip.width, 3)).copy()
    kind = random.integers(3)
    if kind == 1:
        slope = random.uniform(-35, 35, 2)
        rows = np.linspace(-1, 1, clip.height)[:, None, None]
        columns = np.linspace(-1, 1, clip.width)[None, :, None]
        picture += slope[0] * rows + slope[1] * columns
    elif kind == 2:
        coarse = random.normal(0, 14, (clip.height // 8 + 1, clip.width // 8 + 1, 1))
        picture += coarse.repeat(8, 0).repeat(8, 1)[: clip.height, : clip.width]
    return picture.clip(0, 255).astype(np.uint8)


def _mask(shape: str, radius: int) -> np.ndarray:
    """Which pixels of a square of twice the radius the shape covers."""
    y, x = np.mgrid[-radius:radius, -radius:radius] + 0.5
    if shape == "disc":
        return x**2 + y**2 <= radius**2
    if shape == "triangle":
        return np.abs(x) <= (y + radius) / 2
    return np.ones((2 * radius, 2 * radius), bool)


def _corner(clip: _Clip, time_s: float) -> tuple[int, int]:
    """Left and top pixel of the object's square at a time."""
    step_x, step_y = MOTIONS[clip.motion]
    x = (clip.x + step_x * clip.speed * time_s) % 1
    y = (clip.y + step_y * clip.speed * time_s) % 1
    return int(x * clip.width), int(y * clip.height)


def _frames(clip: _Clip):
    background = _background(clip)
    mask = _mask(clip.shape, clip.radius)
    for n in range(round(clip.duration_s * clip.fps)):
        left, top = _corner(clip, n / clip.fps)
        rows = (top + np.arange(len(mask))) % clip.height
        columns = (left + np.arange(len(mask))) % clip.width
        frame = background.copy()
        square = frame[np.ix_(rows, columns)]
        square[mask] = COLORS[clip.color]
        frame[np.ix_(rows, columns)] = square
        yield np.rot90(frame) if clip.rotated else frame


# === Files ===


def _sound(clip: _Clip, spoken: dict[str, np.ndarray]) -> np.ndarray:
    """Words over a faint hiss: int16 at `SAMPLE_RATE_HZ`."""
    random = np.random.default_rng(clip.background_seed)
    samples = random.normal(0, 60, round(clip.duration_s * SAMPLE_RATE_HZ))
    for word, start_s in clip.words:
        first = round(start_s * SAMPLE_RATE_HZ)
        heard = spoken[word][: len(samples) - first]
        samples[first : first + len(heard)] += heard
    return samples.clip(-32768, 32767).astype(np.int16)


def _make_clip(folder: Path, clip: _Clip, spoken: dict[str, np.ndarray]) -> None:
    width, height = (clip.height, clip.width) if clip.rotated else (clip.width, clip.height)
    with tempfile.TemporaryDirectory() as scratch:
        video = ffmpeg.input(
            "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", r=clip.fps
        )
        if clip.variable_rate:
            video = video.filter("select", rf"not(mod(n,3))+gte(n,{clip.fps})")
        streams = [video]
        if not clip.silent:
            sound = Path(scratch) / "sound.wav"
            with wave.open(str(sound), "wb") as file:
                file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
                file.writeframes(_sound(clip, spoken).tobytes())
            streams.append(ffmpeg.input(str(sound)))
        encoded = Path(scratch) / "encoded.mp4"
        output = ffmpeg.output(
            *streams,
            str(encoded),
            vcodec="libx264",
            preset="veryfast",
            crf=18,
            g=24,
            pix_fmt="yuv420p",
            threads=1,
            fps_mode="vfr",
            acodec="aac",
        )
        _ffmpeg(output, (frame.tobytes() for frame in _frames(clip)))
        if clip.rotated:
            turned = Path(scratch) / "turned.mp4"
            source = ffmpeg.input(str(encoded), display_rotation=-90)
            _ffmpeg(ffmpeg.output(source, str(turned), c="copy"))
            encoded = turned
        (folder / clip.name).write_bytes(encoded.read_bytes())


def _ffmpeg(output, stdin=()) -> None:
    command = output.compile(cmd=[ffmpeg_path(), "-nostdin", "-loglevel", "error", "-y"])
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors) as process:
            for data in stdin:
                process.stdin.write(data)
            process.stdin.close()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"ffmpeg ended with {process.returncode}: {errors.read()[-500:]!r}")


def _make_broken(folder: Path, good: Path) -> dict[Path, str]:
    broken = {
        folder / "broken_empty.mp4": "empty",
        folder / "broken_text.mp4": "unreadable",
        folder / "broken_half.mp4": "truncated",
        folder / "broken_audio_only.mp4": "no_video",
    }
    empty, text, half, audio_only = broken
    empty.write_bytes(b"")
    text.write_text("This is a text file, whatever its name says.\n" * 20, encoding="utf-8")
    content = good.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    _ffmpeg(ffmpeg.output(ffmpeg.input(str(good)).audio, str(audio_only), c="copy"))
    return broken


def _write_labels(path: Path, labels: dict[str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("video", "label"))
        writer.writerows(labels.items())
    return path


# === Truth ===


def _truth(clip: _Clip, spoken: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        "video": clip.name,
        "motion": clip.motion,
        "appearance": clip.color,
        "width": clip.width,
        "height": clip.height,
        "object": clip.shape,
        "frames": [
            {"time_s": round(time_s, 4), "boxes": _boxes(clip, time_s)}
            for time_s in clip.frame_times_s()
        ],
        "words": [
            {
                "word": word,
                "start_s": start_s,
                "end_s": round(start_s + len(spoken[word]) / SAMPLE_RATE_HZ, 3),
            }
            for word, start_s in clip.words
        ],
    }


def _boxes(clip: _Clip, time_s: float) -> list[list[float]]:
    left, top = _corner(clip, time_s)
    across = _spans(left, 2 * clip.radius, clip.width)
    down = _spans(top, 2 * clip.radius, clip.height)
    return [[x, y, width, height] for x, width in across for y, height in down]


def _spans(start: int, length: int, end: int) -> list[tuple[float, float]]:
    """The stretch from start, wrapped at end: each part's start and length in 0..1 of end."""
    inside = min(length, end - start)
    parts = [(start, inside), (0, length - inside)]
    return [(round(first / end, 4), round(size / end, 4)) for first, size in parts if size]
