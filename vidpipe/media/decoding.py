"""One decode of a video into JPEG frames and 16 kHz audio, by one ffmpeg, in bounded memory.

Frames carry their own presentation time: `select` lets through the first frame at or after each
moment n / fps and leaves its time alone. Times count from the start of the container, as a player's
clock does; so does the audio, whose late start and gaps are filled with silence.

A damaged video decodes as far as it can; how much of it was damaged is told at the end.
"""

from __future__ import annotations

import contextlib
import itertools
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
WORDS_KEPT = 5
# A decoder that is slower than this has lost its way.
BASE_S, S_PER_S = 60.0, 20.0
# How ffmpeg exits when a signal, such as that of the CPU limit, ends it.
ENDED_BY_SIGNAL = 255

# Before this line ffmpeg describes the video, with titles and comments that may say anything.
_BEGINNING = "[info] Stream mapping:"
# Its threads write into each other's lines, so this may stand anywhere in one.
_SHOWN = re.compile(
    r"n: *(?P<n>\d+) pts: *(?P<pts>-?\d+) pts_time:(?P<time>\S+) .*"
    r" s:(?P<width>\d+)x(?P<height>\d+) .*iskey:(?P<key>[01])"
)
# From the start of the line, where no title can stand.
_CONTEXT = r"\[[^]]* @ 0x[0-9a-f]+\] "
_TOLD = re.compile(rf"(?:{_CONTEXT})*\[(?P<level>error|fatal|warning)\] (?P<words>.*)")
_CUT = re.compile(r"stream \d+, offset \w+: partial file|File ended prematurely")
_SPOILT = re.compile("corrupt decoded frame|Error submitting packet to decoder|Decoding error")


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
    pts: int
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


@dataclass(frozen=True)
class Summary:
    """The last part of a decode that came to the end of the video.

    Attributes:
        frames: How many came.
        audio_s: Length of the audio that came.
        decode_errors: How many pictures and packets of sound were lost or spoilt, also of those
            between the kept frames; 0 where the video is whole.
    """

    frames: int
    audio_s: float
    decode_errors: int


Part = Frame | AudioChunk | Summary


def decode(path: Path, info: VideoInfo, options: ExtractOptions) -> Iterator[Part]:
    """Decodes a video once; frames and audio come as they are made, and a summary at the end.

    Close what it returns where you may leave it early: `with contextlib.closing(decode(…)) as p`.

    Args:
        path: A local file.
        info: What `probe` told of it.
        options: What to keep.

    Raises:
        MediaError: It is too long, too large, too slow, cut short, or does not decode; what came
            before is then not to be used.
    """
    if info.duration_s > options.max_duration_s:
        raise MediaError(
            "too_long", f"{info.duration_s:.0f} s are more than {options.max_duration_s:.0f} s."
        )
    if info.width * info.height > options.max_pixels:
        raise MediaError("too_large", f"{info.width}×{info.height} are too many pixels.")
    limit_s = BASE_S + S_PER_S * info.duration_s
    frames, audio_s = 0, 0.0
    with contextlib.ExitStack() as stack:
        audio_fds = []
        if info.audio_codec:
            audio_read, audio_write = (
                stack.enter_context(os.fdopen(fd, mode))
                for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
            )
            audio_fds = [audio_write.fileno()]
        process = limits.start_limited(
            _command(path, options, *audio_fds), cpu_s=int(limit_s), pass_fds=audio_fds
        )
        stack.enter_context(process)
        readers = stack.enter_context(_Readers())
        stack.callback(limits.stop, process)
        log = _Log()
        readers.start(log.read, process.stderr)
        readers.start(_frames, process.stdout, log)
        if audio_fds:
            audio_write.close()
            readers.start(_audio, audio_read)
        for part in readers.parts(time.monotonic() + limit_s, limit_s):
            if isinstance(part, Frame):
                frames, end_s = frames + 1, part.time_s
            else:
                audio_s = end_s = part.end_s
            # The container may have told of fewer.
            if end_s > options.max_duration_s:
                raise MediaError("too_long", f"It goes on after {options.max_duration_s:.0f} s.")
            yield part
        process.wait()
        _judge(process, log, limit_s, frames)
        if log.sound_changed and audio_s > info.duration_s + 1:
            # ffmpeg begins the clock of the sound anew.
            raise MediaError("unsupported_codec", "The format of its sound changes midway.")
        yield Summary(frames, audio_s, log.decode_errors)


def _command(path: Path, options: ExtractOptions, audio_fd: int | None = None) -> list[str]:
    source = ffmpeg.input(
        f"file:{path}",
        threads=1,
        protocol_whitelist=PROTOCOLS,
        format_whitelist=FORMATS,
    )
    # Containers round times, most of them to the millisecond.
    grid = f"floor(({{}}+0.001)*{options.fps})"
    picture = (
        source["V:0"]
        .filter(
            "select",
            f"isnan(prev_selected_t)+gt({grid.format('t')},{grid.format('prev_selected_t')})",
        )
        # What JPEG files hold, whatever the video did.
        .filter("scale", *_size(options.short_side), out_range="full", out_color_matrix="bt601")
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
            enc_time_base="filter",  # or frames that are close together would be at the same time
            map_metadata=-1,
            threads=1,
            **{"q:v": round(2 + (100 - options.jpeg_quality) * 29 / 99), "strict": "unofficial"},
        )
    ]
    if audio_fd is not None:
        outputs.append(
            ffmpeg.output(
                source["a:0"],
                f"pipe:{audio_fd}",
                # A graph of its own, which goes on where the size of the picture changes.
                af=f"aresample={SAMPLE_RATE_HZ}:async=1:first_pts=0",
                format="s16le",
                acodec="pcm_s16le",
                ac=1,
                map_metadata=-1,
                threads=1,
            )
        )
    quiet = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "repeat+level+info"]
    # A track that does not decode leaves the other of use.
    quiet += ["-max_error_rate", "1"]
    return ffmpeg.merge_outputs(*outputs).compile(
        cmd=[ffmpeg_path(), *quiet, "-filter_threads", "1", "-filter_complex_threads", "1"]
    )


def _size(short_side: int) -> tuple[str, str]:
    """Width and height for `scale`: square pixels, the shorter side cut down, never enlarged."""
    if not short_side:
        return "round(iw*sar)", "ih"
    fits = f"lte(min(iw*sar,ih),{short_side})"
    return (
        f"round(if({fits},iw*sar,if(gte(iw*sar,ih),iw*sar*{short_side}/ih,{short_side})))",
        f"round(if({fits},ih,if(gte(iw*sar,ih),{short_side},ih*{short_side}/(iw*sar))))",
    )


class _Readers:
    """Threads that read ffmpeg's pipes side by side, so that none fills up and stops it."""

    def __init__(self) -> None:
        self._parts: queue.Queue = queue.Queue(maxsize=8)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> _Readers:
        return self

    def __exit__(self, *_exc_info) -> None:
        # Their pipes ended with the process.
        self._stopped.set()
        for thread in self._threads:
            thread.join()

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

    def _put(self, part: Frame | AudioChunk | Exception | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._parts.put(part, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False


class _Log:
    """What ffmpeg says: a line for each kept frame, and what was wrong."""

    def __init__(self) -> None:
        self.shown: queue.SimpleQueue[re.Match | None] = queue.SimpleQueue()
        self.decode_errors = 0
        self.frames_differ = False
        self.sound_changed = False
        self.cut: str | None = None
        self.out_of_memory = False
        self._words: dict[str, None] = {}

    def read(self, pipe: BinaryIO) -> Iterator[Frame | AudioChunk]:
        begun = False
        for line in pipe:
            text = line.decode(errors="replace").rstrip()
            begun = begun or text == _BEGINNING
            if begun and (shown := _SHOWN.search(text)):
                self.shown.put(shown)
            told = _TOLD.match(text)
            if begun or told:
                self._hear(text)
            # The first errors tell why, the others what came of it.
            if told and told["level"] != "warning" and len(self._words) < WORDS_KEPT:
                self._words[told["words"]] = None
        self.shown.put(None)
        yield from ()

    def _hear(self, words: str) -> None:
        self.decode_errors += len(_SPOILT.findall(words))
        if cut := _CUT.search(words):
            self.cut = cut[0]
        if "Cannot allocate memory" in words:
            self.out_of_memory = True
        if "Reconfiguring filter graph because audio" in words:
            self.sound_changed = True

    def words(self) -> str:
        return "; ".join(self._words) or "ffmpeg gave no reason"


def _frames(pipe: BinaryIO, log: _Log) -> Iterator[Frame]:
    """Reads pictures as the mpjpeg muxer frames them, each with the line that tells its time."""
    first, number = None, -1
    for index in itertools.count():
        jpeg = _read_jpeg(pipe)
        shown = log.shown.get()
        if jpeg is None or shown is None:
            log.frames_differ = jpeg is not None or shown is not None
            return  # how ffmpeg ended tells why
        # It counts anew where the size of the picture changes.
        if int(shown["n"]) not in (number + 1, 0):
            raise MediaError("internal", f"ffmpeg did not tell the time of frame {index}.")
        number = int(shown["n"])
        # Where the size changes midway, ffmpeg scales to that of the first frame. Of some codecs it
        # guesses the start of the container too late.
        first = first or shown
        yield Frame(
            index=index,
            pts=int(shown["pts"]) - min(int(first["pts"]), 0),
            time_s=float(shown["time"]) - min(float(first["time"]), 0.0),
            key_frame=shown["key"] == "1",
            width=int(first["width"]),
            height=int(first["height"]),
            jpeg=jpeg,
        )


def _read_jpeg(pipe: BinaryIO) -> bytes | None:
    while line := pipe.readline():
        if line.lower().startswith(b"content-length:"):
            size = int(line.partition(b":")[2])
            pipe.readline()
            jpeg = pipe.read(size)
            return jpeg if len(jpeg) == size else None
    return None


def _audio(pipe: BinaryIO) -> Iterator[AudioChunk]:
    start_s = 0.0
    while samples := pipe.read(AUDIO_CHUNK_S * SAMPLE_RATE_HZ * SAMPLE_BYTES):
        end_s = start_s + len(samples) / SAMPLE_BYTES / SAMPLE_RATE_HZ
        yield AudioChunk(start_s, end_s, samples)
        start_s = end_s


def _judge(process: subprocess.Popen[bytes], log: _Log, limit_s: float, frames: int) -> None:
    if process.returncode in (ENDED_BY_SIGNAL, -signal.SIGXCPU):
        raise MediaError("timed_out", f"Decoding took more than {limit_s:.0f} s of CPU.")
    if process.returncode == -signal.SIGKILL:
        raise MediaError("out_of_memory", "The system killed its decoder, most likely for memory.")
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        raise MediaError("unreadable", f"The decoder crashed on it ({name}).")
    if log.out_of_memory:
        gigabytes = limits.MEMORY_BYTES / 1e9
        raise MediaError("out_of_memory", f"Decoding takes more than {gigabytes:.1f} GB of memory.")
    if log.cut:
        raise MediaError("truncated", log.cut)
    if not frames:
        raise MediaError("no_frames", f"There is a video stream, but no frame of it: {log.words()}")
    if process.returncode:
        raise MediaError("unreadable", log.words())
    if log.frames_differ:
        raise MediaError("internal", f"ffmpeg told the times of other than the {frames} frames.")
