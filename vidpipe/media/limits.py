"""Runs a program that reads untrusted media, within limits.

Started as a script of its own in front of the program, which it then becomes: what it sets holds
for that program alone, and no code runs between fork and exec of a process that has threads.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence

MEMORY_BYTES = 2 << 30
# A decoder that is slower than this has lost its way, and one at the limit leaves the other videos
# of its task their time, whatever its container tells. Where that tells of less than there is, the
# limit grows with what was read.
BASE_S, S_PER_S, MOST_S = 60.0, 20.0, 4 * 3600.0
_PR_SET_PDEATHSIG = 1


def decoding_limit_s(duration_s: float) -> float:
    """How long decoding a video of this length may take, by the clock and in CPU."""
    return min(BASE_S + S_PER_S * duration_s, MOST_S)


def start_limited(command: Sequence[str], pipe_bytes: int = -1) -> subprocess.Popen[bytes]:
    """Starts a program in a process group of its own, its input and output as pipes (of a size).

    What it complains of is a pipe, too, which never makes it wait: what does not fit in is lost.
    It gets `MEMORY_BYTES` of address space, writes no file, sees no variable of the environment
    that could hold a secret, and on Linux is killed when the calling thread ends, however it ends.
    """
    limits = [str(os.getpid()), str(MEMORY_BYTES)]
    # Modules are found where this process finds them, and never in the working folder.
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path)),
        "PYTHONSAFEPATH": "1",
    }
    environment |= {n: os.environ[n] for n in ("PATH", "LD_LIBRARY_PATH") if n in os.environ}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.Popen(
        # -I -S: a bare interpreter starts in 10 ms.
        [sys.executable, "-I", "-S", __file__, *limits, *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pipesize=pipe_bytes,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kills a program that `start_limited` started, with all its children, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def die_with_parent(parent: int) -> None:
    """On Linux, has the calling process killed when its parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # it ended before it could be watched


def limit_cpu(cpu_s: float) -> None:
    """Has the calling process ended by SIGXCPU after so many seconds of CPU."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu_s), hard))


def memory_left_bytes() -> float:
    """How much more the calling process could have taken when it had most."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if sys.platform != "linux" or limit == resource.RLIM_INFINITY:
        return math.inf
    with open("/proc/self/status") as file:
        peak = next(line for line in file if line.startswith("VmPeak:"))
    return limit - int(peak.split()[1]) * 1024


def _become(parent: int, memory_bytes: int, command: list[str]) -> None:
    die_with_parent(parent)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.set_blocking(sys.stderr.fileno(), False)
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(*map(int, sys.argv[1:3]), sys.argv[3:])
