"""The process that reads untrusted media: takes a job a line, writes what comes of it.

A job is JSON: `path`, `options`, `size_bytes` and `max_s`. Each is done by a child of its own,
forked from here where the libraries are loaded already, so that no video meets what another left
behind. Before it opens the video, the child gives up all else (`vidpipe.media.sandbox`). A child
that ends otherwise than well takes this process with it, in the same way: so whoever started it is
told.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import BinaryIO, NoReturn

import av
import av.subtitles.codeccontext  # noqa: F401  # PyAV loads these two when a file has subtitles
import av.subtitles.stream  # noqa: F401

from vidpipe.errors import MediaError
from vidpipe.media import limits, sandbox
from vidpipe.media.options import ExtractOptions
from vidpipe.media.parts import PIPE_BYTES, Progress, Refusal, VideoInfo, write_part
from vidpipe.media.reading import read
from vidpipe.media.time_limits import DecodeLimit


def main() -> None:
    """Works until there are no more jobs."""
    for line in iter(sys.stdin.buffer.readline, b""):
        job = json.loads(line)
        if job["options"]["sampling"] == "scenes":
            import vidpipe.media.scenes  # noqa: F401  # OpenCV, which takes long
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _work(parent, job)
        exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if exit_code < 0:
            with contextlib.suppress(OSError):  # there are signals that nobody can handle
                signal.signal(-exit_code, signal.SIG_DFL)
            os.kill(parent, -exit_code)
        if exit_code:
            sys.exit(exit_code)


def _work(parent: int, job: dict) -> NoReturn:
    limits.die_with_parent(parent)
    limit = _CpuLimit(job["size_bytes"], DecodeLimit(job["max_s"]))
    limits.memory_left_bytes()
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())  # in place of others' jobs
    sandbox.confine(job["path"])
    try:
        with open(sys.stdout.fileno(), "wb", buffering=PIPE_BYTES, closefd=False) as pipe:
            options = ExtractOptions(**job["options"])
            if refusal := _write_parts(pipe, job["path"], options, limit):
                write_part(pipe, refusal)
    except BrokenPipeError:
        os._exit(1)  # nobody asks for it any longer
    os._exit(0)


class _CpuLimit:
    """The limit of CPU of this process, which grows with what is known of its video."""

    def __init__(self, size_bytes: int, limit: DecodeLimit):
        self._size_bytes = size_bytes
        self._limit = limit
        self._set_s = 0.0
        self.extend(0.0)

    def extend(self, duration_s: float) -> None:
        """Notes how long the video is, as far as is known."""
        self._set_s = max(self._set_s, self._limit.seconds(duration_s, self._size_bytes))
        limits.limit_cpu(self._set_s, self._limit.max_s)


def _write_parts(
    pipe: BinaryIO, path: str, options: ExtractOptions, limit: _CpuLimit
) -> Refusal | None:
    """Writes what comes of a video; returns why it cannot be used, if so."""
    try:
        for part in read(path, options):
            write_part(pipe, part)
            match part:
                case VideoInfo(duration_s=read_s) | Progress(read_s=read_s):
                    pipe.flush()  # it tells how long the rest may take
                    limit.extend(min(read_s, options.max_duration_s))
    except MediaError as error:
        return Refusal(error.reason, str(error))
    except MemoryError:
        told = f"Decoding takes more than {limits.MEMORY_BYTES / 1e9:.1f} GB of memory."
        return Refusal("out_of_memory", told)
    except BrokenPipeError:
        raise
    except Exception as error:
        # The same bytes do it again, whatever the machine: but for files that it cannot read.
        machine = isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError)
        reason = "internal" if machine else "decoder_failed"
        return Refusal(reason, f"The decoder failed on it: {type(error).__name__}: {error}")
    return None


if __name__ == "__main__":
    main()
