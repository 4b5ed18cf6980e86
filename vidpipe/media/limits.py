"""Runs a program that reads untrusted media, within limits.

Started as a script of its own in front of the program, which it then becomes: what it sets holds
for that program alone, and no code runs between fork and exec of a process that has threads.
"""

from __future__ import annotations

import ctypes
import functools
import io
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence

MEMORY_BYTES = 2 << 30
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def start_limited(command: Sequence[str], pipe_bytes: int = -1) -> subprocess.Popen[bytes]:
    """Starts a program in a process group of its own, its input and output as pipes (of a size).

    What it complains of is a pipe, too, which never makes it wait: what does not fit in is lost.
    It gets `MEMORY_BYTES` of address space, writes no file, sees no variable of the environment
    that could hold a secret, and on Linux is killed when the calling thread ends, however it ends.
    There it cannot gain privileges either, and has a network of its own where that is allowed.
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


def forbid_new_privileges() -> None:
    """On Linux, keeps the calling process and its children from gaining any by what they run."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def limit_cpu(cpu_s: float, most_s: float) -> None:
    """Has the calling process ended by SIGXCPU after so many seconds of CPU.

    Args:
        cpu_s: From its start.
        most_s: It can raise the limit to so many, and no more.
    """
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = math.ceil(most_s) + 1  # there, SIGKILL ends one that did not heed SIGXCPU
    most = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(resource.RLIMIT_CPU, (min(math.ceil(cpu_s), most), most))


def memory_left_bytes() -> float:
    """How much more the calling process could have taken when it had most.

    One that gives up opening files asks once before.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if sys.platform != "linux" or limit == resource.RLIM_INFINITY:
        return math.inf
    status = _open_status(os.getpid())
    status.seek(0)
    peak = next(line for line in status if line.startswith("VmPeak:"))
    return limit - int(peak.split()[1]) * 1024


@functools.cache
def _open_status(pid: int) -> io.TextIOWrapper:
    return open(f"/proc/{pid}/status")


def _leave_network() -> None:
    """Gives the calling process an empty network of its own, where that is allowed."""
    if sys.platform == "linux":
        unshare = ctypes.CDLL(None, use_errno=True).unshare
        # Who has no privilege needs users of his own for it.
        if unshare(_CLONE_NEWNET) != 0:
            unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _become(parent: int, memory_bytes: int, command: list[str]) -> None:
    _leave_network()  # which forgets that it dies with its parent
    die_with_parent(parent)
    forbid_new_privileges()
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.set_blocking(sys.stderr.fileno(), False)
    os.execv(command[0], command)


if __name__ == "__main__":
    _become(*map(int, sys.argv[1:3]), sys.argv[3:])
