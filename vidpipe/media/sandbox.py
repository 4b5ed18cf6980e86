"""Walls around a process that reads untrusted files, raised before it opens the first.

`limits.start_limited` starts such a process without new privileges, in a network of its own where
that is allowed. When its libraries are loaded, it calls `confine`. `check_sandbox` has a process of
this kind try the walls from within, for kernels and containers differ.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from vidpipe.media.landlock import landlock_version, restrict_files
from vidpipe.media.limits import forbid_new_privileges, start_limited
from vidpipe.media.seccomp import restrict_calls

CHECKED_WITHIN_S = 60.0
_NO_NEW_PRIVILEGES = "NoNewPrivs:\t1\n"


def confine(*readable: str) -> None:
    """Takes from the calling process, which has one thread, all that reading a file does not need.

    It keeps what it has open. It cannot make a process, a thread or a socket, run a program, write
    a file, map code, or reach another process, and can open no file but those named and modules of
    Python. Nothing takes this back. What the kernel lacks is left out; `check_sandbox` tells it.

    Args:
        readable: The files that it may open, to read.
    """
    forbid_new_privileges()
    restrict_files([*readable, *_code_folders()])
    restrict_calls()


def _code_folders() -> list[str]:
    """Where modules lie that libraries import late; not the folder of a checkout, with its data."""
    libraries = (p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages"))
    package = os.path.dirname(os.path.dirname(__file__))
    return [os.path.dirname(os.__file__), *libraries, package]


@dataclass(frozen=True)
class Walls:
    """What a confined process was kept from when it tried.

    Attributes:
        no_privileges: To gain privileges by running a program.
        no_socket: To make a socket.
        own_network: To see the network of this machine.
        no_program: To run a program.
        no_file: To open a file that it was not given.
        landlock: Version of the kernel's Landlock; 0: it has none, or does not let us use it.
    """

    no_privileges: bool = False
    no_socket: bool = False
    own_network: bool = False
    no_program: bool = False
    no_file: bool = False
    landlock: int = 0

    @property
    def no_network(self) -> bool:
        """Whether it reached no network."""
        return self.no_socket or self.own_network

    def __str__(self) -> str:
        by = ", ".join(["seccomp"] * self.no_socket + ["own namespace"] * self.own_network)
        walls = {
            "no new privileges": self.no_privileges,
            f"no network ({by})": self.no_network,
            "no programs": self.no_program,
            f"reads only its video and Python's code (Landlock {self.landlock})": self.no_file,
        }
        lacking = {
            "the network is open": not self.no_network,
            "all files of its user can be read, for there is no Landlock": not self.no_file,
        }
        standing, missing = (
            ", ".join(words for words, holds in facts.items() if holds)
            for facts in (walls, lacking)
        )
        return "; ".join(filter(None, (standing, missing)))


def check_sandbox() -> Walls:
    """Has a confined process try to get out; returns what kept it in."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("given", "other"):
            with open(os.path.join(folder, name), "w"):
                pass
        command = [sys.executable, "-B", "-m", "vidpipe.media.sandbox", folder, _network()]
        with start_limited(command) as process:
            try:
                answer, _ = process.communicate(timeout=CHECKED_WITHIN_S)
                return Walls(**json.loads(answer))
            except (subprocess.TimeoutExpired, ValueError):
                process.kill()
                return Walls()


def _network() -> str:
    """The network that the calling process sees."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/net")
    return "unknown"


def _try_walls(folder: str, network: str) -> Walls:
    given, other = (os.path.join(folder, name) for name in ("given", "other"))
    landlock, own_network = landlock_version(), _network() not in (network, "unknown")
    with contextlib.ExitStack() as stack:
        status = None
        if os.path.exists("/proc/self/status"):
            status = stack.enter_context(open("/proc/self/status"))
        confine(given)
        return Walls(
            no_privileges=status is not None and _NO_NEW_PRIVILEGES in status.read(),
            no_socket=_is_denied(lambda: socket.socket().close()),
            own_network=own_network,
            # One that is not there: a process that may run it is told so.
            no_program=_is_denied(lambda: os.execv(f"{given}/none", [given])),
            no_file=not _is_denied(lambda: open(given).close())
            and _is_denied(lambda: open(other).close()),
            landlock=landlock,
        )


def _is_denied(action: Callable[[], object]) -> bool:
    try:
        action()
    except PermissionError:
        return True
    except OSError:
        return False
    return False


if __name__ == "__main__":
    json.dump(vars(_try_walls(*sys.argv[1:])), sys.stdout)
