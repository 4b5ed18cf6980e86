"""Runs a program that reads untrusted media, within limits.

Started as a script of its own in front of the program, which it then becomes: what it sets holds
for that program alone, and no code runs between fork and exec of a process that has threads.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence

MEMORY_BYTES = 2 << 30
_PR_SET_PDEATHSIG = 1


def start_limited(
    command: Sequence[str], *, cpu_s: int, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Starts a program in a process group of its own, its output and its errors as pipes.

    It gets `MEMORY_BYTES` of address space and `cpu_s` seconds of CPU, writes no file, sees no
    variable of the environment that could hold a secret, and on Linux is killed when the calling
    thread ends, however it ends.
    """
    limits = [str(os.getpid()), str(cpu_s), str(MEMORY_BYTES)]
    # Modules are found where this process finds them, and never in the working folder.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    environment |= {n: os.environ[n] for n in ("PATH", "LD_LIBRARY_PATH") if n in os.environ}
    return subprocess.Popen(
        # -I -S: a bare interpreter starts in 10 ms.
        [sys.executable, "-I", "-S", __file__, *limits, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=pass_fds,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kills a program that `start_limited` started, with all its children, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _become(parent: int, cpu_s: int, memory_bytes: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)  # it ended before it could be watched
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(*map(int, sys.argv[1:4]), sys.argv[4:])
