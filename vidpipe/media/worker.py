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
from typing import NoReturn

from vidpipe.errors import MediaError
from vidpipe.media import limits
from vidpipe.media.options import ExtractOptions
from vidpipe.media.parts import Refusal, VideoInfo, write_part
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
        options = ExtractOptions(**job["options"])
        for part in read(job["path"], options):
            if isinstance(part, VideoInfo):
                told_s = min(part.duration_s, options.max_duration_s)
                limits.limit_cpu(limits.decoding_limit_s(told_s))
            write_part(sys.stdout.buffer, part)
    except MediaError as error:
        _refuse(error.reason, str(error))
    except MemoryError:
        _refuse(
            "out_of_memory",
            f"Decoding takes more than {limits.MEMORY_BYTES / 1e9:.1f} GB of memory.",
        )
    except BrokenPipeError:
        os._exit(1)  # nobody asks for it any longer
    except Exception as error:
        _refuse("internal", f"{type(error).__name__}: {error}")
    os._exit(0)


def _refuse(reason: str, message: str) -> None:
    write_part(sys.stdout.buffer, Refusal(reason, message))


if __name__ == "__main__":
    main()
