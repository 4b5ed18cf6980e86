"""The process that reads untrusted media: takes a job a line, writes what comes of it.

A job is JSON: `path` and `options`. Each is done by a child of its own, forked from here where the
libraries are loaded already, so that no video meets what another left behind. A child that ends
otherwise than well takes this process with it, in the same way: so whoever started it is told.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import BinaryIO, NoReturn

import av

from vidpipe.errors import MediaError
from vidpipe.media import limits
from vidpipe.media.options import ExtractOptions
from vidpipe.media.parts import PIPE_BYTES, Progress, Refusal, VideoInfo, write_part
from vidpipe.media.reading import read


def main() -> None:
    """Works until there are no more jobs."""
    for line in iter(sys.stdin.buffer.readline, b""):
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _work(parent, json.loads(line))
        exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if exit_code < 0:
            with contextlib.suppress(OSError):  # there are signals that nobody can handle
                signal.signal(-exit_code, signal.SIG_DFL)
            os.kill(parent, -exit_code)
        if exit_code:
            sys.exit(exit_code)


def _work(parent: int, job: dict) -> NoReturn:
    limits.die_with_parent(parent)
    limits.limit_cpu(limits.decoding_limit_s(0.0))
    try:
        with open(sys.stdout.fileno(), "wb", buffering=PIPE_BYTES, closefd=False) as pipe:
            if refusal := _write_parts(pipe, job["path"], ExtractOptions(**job["options"])):
                write_part(pipe, refusal)
    except BrokenPipeError:
        os._exit(1)  # nobody asks for it any longer
    os._exit(0)


def _write_parts(pipe: BinaryIO, path: str, options: ExtractOptions) -> Refusal | None:
    """Writes what comes of a video; returns why it cannot be used, if so."""
    limit_s = 0.0
    try:
        for part in read(path, options):
            write_part(pipe, part)
            match part:
                case VideoInfo(duration_s=read_s) | Progress(read_s=read_s):
                    pipe.flush()  # it tells how long the rest may take
                    read_s = min(read_s, options.max_duration_s)
                    limit_s = max(limit_s, limits.decoding_limit_s(read_s))
                    limits.limit_cpu(limit_s)
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
