"""Decodes videos in processes of their own, one after the other, within limits of each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vidpipe.errors import MediaError
from vidpipe.media import limits
from vidpipe.media.options import ExtractOptions
from vidpipe.media.parts import PIPE_BYTES, Part, PartReader, Progress, Refusal, Summary, VideoInfo
from vidpipe.media.time_limits import DecodeLimit
from vidpipe.reasons import REASONS

COMMAND = (sys.executable, "-B", "-m", "vidpipe.media.worker")
DEFAULT_LIMIT = DecodeLimit()
ENDS_WITHIN_S = 5.0
SAID_BYTES = 300


class DecoderKilledError(MediaError):
    """Somebody killed the decoder: the kernel, where memory runs out, or whoever else can."""


class Decoder:
    """Decodes videos, one at a time. Its process starts with the first, and anew after a crash.

    On Linux its process ends with the thread that first asked it for a video.

    Example:
        >>> with Decoder() as decoder:
        ...     for part in decoder.decode(path, ExtractOptions(fps=2)):
        ...         ...
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_exc_info) -> None:
        self.close()

    def close(self) -> None:
        """Lets its process end, which has nothing to do any longer."""
        if self._process is not None:
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDS_WITHIN_S)
            self._drop()

    def interrupt(self) -> None:
        """Kills its process, so that whoever waits for a video in another thread gets an error."""
        process = self._process
        if process is not None:
            limits.stop(process)

    def _drop(self) -> None:
        # Only where nobody reads: a number of a closed pipe may be another's the next moment.
        process, self._process = self._process, None
        if process is not None:
            limits.stop(process)
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()

    def decode(
        self, path: Path, options: ExtractOptions, limit: DecodeLimit = DEFAULT_LIMIT
    ) -> Iterator[Part]:
        """Decodes a video once: what it is, frames and sound as they are made, a summary.

        Args:
            path: A local file.
            options: What to keep.
            limit: How long it may take.

        Raises:
            MediaError: It is no video, too long, too large, too slow, lacks too much, or cannot be
                decoded; what came before is then not to be used.
            DecoderKilledError: Its process was killed, which may not be the video's fault.
        """
        whole = False
        try:
            for part in self._parts(path, options, limit):
                whole = isinstance(part, Summary | Refusal)
                if isinstance(part, Refusal):
                    reason = part.reason if part.reason in REASONS else "internal"
                    raise MediaError(reason, part.message)
                yield part
        finally:
            if not whole:  # left early, or it crashed
                self._drop()

    def _parts(self, path: Path, options: ExtractOptions, limit: DecodeLimit) -> Iterator[Part]:
        process = self._start()
        size_bytes = _size_bytes(path)
        job = {
            "path": str(path),
            "options": dataclasses.asdict(options),
            "size_bytes": size_bytes,
            "max_s": limit.max_s,
        }
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        limit_s = limit.seconds(0.0, size_bytes)
        started_s = time.monotonic()
        reader = PartReader()
        while True:
            remaining_s = started_s + limit_s - time.monotonic()
            if not select.select([process.stdout], [], [], max(0.0, remaining_s))[0]:
                allowed = limit.describe(limit_s, size_bytes)
                raise MediaError("timed_out", f"Decoding took longer than {allowed}")
            content = os.read(process.stdout.fileno(), PIPE_BYTES)
            if not content:
                raise self._crash(process, limit.describe(limit_s, size_bytes))
            try:
                parts = reader.feed(content)
            except ValueError as error:
                message = f"The decoder wrote something else than parts: {error}"
                raise MediaError("decoder_failed", message) from error
            for part in parts:
                match part:
                    case VideoInfo(duration_s=told_s) | Progress(read_s=told_s):
                        told_s = min(told_s, options.max_duration_s)
                        limit_s = max(limit_s, limit.seconds(told_s, size_bytes))
                if isinstance(part, Progress):
                    continue
                yield part
                if isinstance(part, Summary | Refusal):
                    return

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._process
        # It ended, or says what nobody asked for.
        if process is not None and (
            process.poll() is not None or select.select([process.stdout], [], [], 0)[0]
        ):
            self._drop()
        if self._process is None:
            self._process = limits.start_limited(COMMAND, PIPE_BYTES)
        return self._process

    def _crash(self, process: subprocess.Popen[bytes], limit_told: str) -> MediaError:
        code = process.wait()
        if code == -signal.SIGXCPU:
            return MediaError("timed_out", f"Decoding took more CPU than {limit_told}")
        if code == -signal.SIGKILL:
            return DecoderKilledError(
                "out_of_memory", "The system killed its decoder, most likely for memory."
            )
        if code < 0:
            name = signal.Signals(-code).name
            return MediaError("unreadable", f"The decoder crashed on it ({name}).")
        os.set_blocking(process.stderr.fileno(), False)
        lines = (process.stderr.raw.read(PIPE_BYTES) or b"").splitlines() or [b"nothing"]
        said = lines[-1][:SAID_BYTES].decode(errors="replace")
        return MediaError("internal", f"The decoder ended with {code}. It said last: {said}")


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # its decoder tells why it cannot be read


def decode(path: Path, options: ExtractOptions) -> Iterator[Part]:
    """Decodes one video; see `Decoder.decode`.

    Close what it returns where you may leave it early: `with contextlib.closing(decode(…)) as p`.
    """
    with Decoder() as decoder:
        yield from decoder.decode(path, options)


def probe(path: Path) -> VideoInfo:
    """Tells what a video is.

    Raises:
        MediaError: It is none, or none that can be decoded.
    """
    with Decoder() as decoder:
        return next(decoder.decode(path, ExtractOptions()))
