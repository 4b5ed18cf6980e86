"""One decode of a video into JPEG frames and 16 kHz audio, by one ffmpeg, in bounded memory.

Frames carry their own presentation time: `select` lets through the first frame at or after each
moment n / fps and leaves its time alone. Times count from the start of the container, as a player's
clock does; so does the audio, whose late start and gaps are filled with silence.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import ffmpeg

from vidpipe.errors import MediaError
from vidpipe.media import limits
from vidpipe.media.binary import ffmpeg_path
from vidpipe.media.probing import FORMATS, PROTOCOLS, VideoInfo

SAMPLE_RATE_HZ = 16_000
SAMPLE_BYTES = 2
AUDIO_CHUNK_S = 30
WORDS_KEPT = 20
# A decoder that is slower than this has lost its way.
BASE_S, S_PER_S = 60.0, 20.0

_SHOWN = re.compile(
    r"Parsed_showinfo.* n: *\d+ pts: *(?P<pts>-?\d+|NOPTS) pts_time:(?P<time>\S+) "
    r".* s:(?P<width>\d+)x(?P<height>\d+) .*iskey:(?P<key>[01])"
)


@dataclass(frozen=True)
class ExtractOptions:
    """What is kept of a video; part of what makes two extractions the same.

    Attributes:
        fps: Frames per second of video, at most.
        short_side: Pixels of the shorter side; pictures that are smaller, or 0, keep their size.
        jpeg_quality: 1 (worst) to 100.
        max_duration_s: Longer videos are not extracted.
        max_pixels: Larger pictures are not extracted.
    """

    fps: float
    short_side: int
    jpeg_quality: int
    max_duration_s: float = 6 * 3600.0
    max_pixels: int = 1 << 26


@dataclass(frozen=True)
class Frame:
    """A kept frame.

    Attributes:
        index: 0, 1, 2 … among the kept.
        pts: Presentation time in the time base of the stream, from the start of the container.
        time_s: The same in seconds.
        key_frame: Whether it was coded without reference to others.
        width: Pixels.
        height: Pixels.
        jpeg: The picture.
    """

    index: int
    pts: int | None
    time_s: float
    key_frame: bool
    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True)
class AudioChunk:
    """A stretch of sound, at most 30 s.

    Attributes:
        start_s: On the clock of the frames.
        end_s: As start_s.
        samples: 16 kHz, mono, signed 16 bit, little endian.
    """

    start_s: float
    end_s: float
    samples: bytes


def decode(path: Path, info: VideoInfo, options: ExtractOptions) -> Iterator[Frame | AudioChunk]:
    """Decodes a video once; frames and audio come as they are made.

    Args:
        path: A local file.
        info: What `probe` told of it.
        options: What to keep.

    Raises:
        MediaError: It is too long, too large, too slow, damaged at its end, or does not decode;
            what came before is then not to be used.
    """
    if info.duration_s > options.max_duration_s:
        raise MediaError(
            "too_long", f"{info.duration_s:.0f} s are more than {options.max_duration_s:.0f} s."
        )
    if info.width * info.height > options.max_pixels:
        raise MediaError("too_large", f"{info.width}×{info.height} are too many pixels.")
    limit_s = BASE_S + S_PER_S * info.duration_s
    with contextlib.ExitStack() as stack:
        audio_read = audio_write = None
        if info.audio_codec:
            audio_read, audio_write = os.pipe()
            audio_file = stack.enter_context(os.fdopen(audio_read, "rb"))
        command = _command(path, options, audio_write)
        process = limits.start_limited(
            command, cpu_s=int(limit_s), pass_fds=[audio_write] if audio_write else []
        )
        stack.enter_context(process)
        stack.callback(limits.stop, process)
        readers = _Readers()
        stack.callback(readers.stop)
        log = _Log()
        readers.start(log.read, process.stderr)
        readers.start(_frames, process.stdout, log)
        if audio_write:
            os.close(audio_write)
            readers.start(_audio, audio_file)
        yield from readers.parts(time.monotonic() + limit_s, limit_s)
        process.wait()
        _judge(process, log, limit_s)


def _command(path: Path, options: ExtractOptions, audio_fd: int | None) -> list[str]:
    source = ffmpeg.input(
        f"file:{path}",
        threads=1,
        protocol_whitelist=PROTOCOLS,
        format_whitelist=FORMATS,
    )
    grid = f"floor({{}}*{options.fps}+0.001)"
    picture = (
        source["V:0"]
        .filter(
            "select",
            f"isnan(prev_selected_t)+gt({grid.format('t')},{grid.format('prev_selected_t')})",
        )
        .filter("scale", *_size(options.short_side), out_range="full")
        .filter("setsar", "1")
        .filter("format", "yuv420p")
        .filter("showinfo", checksum=0)
    )
    outputs = [
        ffmpeg.output(
            picture,
            "pipe:1",
            format="mpjpeg",
            vcodec="mjpeg",
            fps_mode="passthrough",
            threads=1,
            **{"q:v": round(2 + (100 - options.jpeg_quality) * 29 / 99), "strict": "unofficial"},
        )
    ]
    if audio_fd is not None:
        sound = source["a:0"].filter("aresample", SAMPLE_RATE_HZ, **{"async": 1, "first_pts": 0})
        outputs.append(
            ffmpeg.output(
                sound, f"pipe:{audio_fd}", format="s16le", acodec="pcm_s16le", ac=1, threads=1
            )
        )
    quiet = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]
    return ffmpeg.merge_outputs(*outputs).compile(
        cmd=[ffmpeg_path(), *quiet, "-filter_threads", "1", "-filter_complex_threads", "1"]
    )


def _size(short_side: int) -> tuple[str, str]:
    """Width and height for `scale`: square pixels, the shorter side cut down, never enlarged."""
    if not short_side:
        return "iw*sar", "ih"
    fits = f"lte(min(iw*sar,ih),{short_side})"
    return (
        f"if({fits},iw*sar,if(gte(iw*sar,ih),iw*sar*{short_side}/ih,{short_side}))",
        f"if({fits},ih,if(gte(iw*sar,ih),{short_side},ih*{short_side}/(iw*sar)))",
    )


class _Readers:
    """Threads that read ffmpeg's pipes side by side, so that none fills up and stops it."""

    def __init__(self) -> None:
        self._parts: queue.Queue = queue.Queue(maxsize=8)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, read: Callable, pipe: BinaryIO, *arguments) -> None:
        def work() -> None:
            end: Exception | None = None
            try:
                for part in read(pipe, *arguments):
                    if not self._put(part):
                        return
            except Exception as error:
                end = error
            self._put(end)

        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def parts(self, deadline_s: float, limit_s: float) -> Iterator[Frame | AudioChunk]:
        """Yields what the threads read, until all have ended."""
        running = len(self._threads)
        while running:
            try:
                part = self._parts.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise MediaError(
                    "timed_out", f"Decoding took longer than {limit_s:.0f} s."
                ) from None
            if part is None:
                running -= 1
            elif isinstance(part, Exception):
                raise part
            else:
                yield part

    def stop(self) -> None:
        self._stopped.set()
        # Their pipes end with the process, which is stopped after this.

    def _put(self, part: Frame | AudioChunk | Exception | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._parts.put(part, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False


class _Log:
    """What ffmpeg says: a line for each kept frame, and its complaints."""

    def __init__(self) -> None:
        self.shown: queue.SimpleQueue[re.Match | None] = queue.SimpleQueue()
        self.errors: collections.deque[str] = collections.deque(maxlen=WORDS_KEPT)

    def read(self, pipe: BinaryIO) -> Iterator[Frame | AudioChunk]:
        for line in pipe:
            text = line.decode(errors="replace").strip()
            if shown := _SHOWN.search(text):
                self.shown.put(shown)
            elif "[error]" in text or "[fatal]" in text:
                self.errors.append(re.sub(r"\[[^]]* @ 0x[0-9a-f]+\] |\[(error|fatal)\] ", "", text))
        self.shown.put(None)
        return
        yield  # a generator of nothing

    def words(self) -> str:
        return "; ".join(dict.fromkeys(self.errors)) or "ffmpeg gave no reason"


def _frames(pipe: BinaryIO, log: _Log) -> Iterator[Frame]:
    """Reads pictures as the mpjpeg muxer frames them, each with the line that tells its time."""
    index = 0
    while line := pipe.readline():
        if not line.lower().startswith(b"content-length:"):
            continue
        size = int(line.partition(b":")[2])
        pipe.readline()
        jpeg = pipe.read(size)
        shown = log.shown.get(timeout=60)
        if shown is None or len(jpeg) != size:
            return  # ffmpeg ended in the middle; how it ended tells why
        pts = shown["pts"]
        yield Frame(
            index=index,
            pts=int(pts) if pts != "NOPTS" else None,
            time_s=float(shown["time"]) if shown["time"] != "NOPTS" else 0.0,
            key_frame=shown["key"] == "1",
            width=int(shown["width"]),
            height=int(shown["height"]),
            jpeg=jpeg,
        )
        index += 1


def _audio(pipe: BinaryIO) -> Iterator[AudioChunk]:
    start_s = 0.0
    while samples := pipe.read(AUDIO_CHUNK_S * SAMPLE_RATE_HZ * SAMPLE_BYTES):
        end_s = start_s + len(samples) / SAMPLE_BYTES / SAMPLE_RATE_HZ
        yield AudioChunk(start_s, end_s, samples)
        start_s = end_s


def _judge(process: subprocess.Popen[bytes], log: _Log, limit_s: float) -> None:
    words = log.words()
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise MediaError("timed_out", f"Decoding took more than {limit_s:.0f} s of CPU.")
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise MediaError("unreadable", f"The decoder crashed on it ({name}).")
    if "Cannot allocate memory" in words:
        raise MediaError("out_of_memory", words)
    if "partial file" in words:
        raise MediaError("truncated", words)
    if process.returncode:
        raise MediaError("no_frames", words)
