"""Processes that outlive the command that started them.

Each carries the folder of its stack and the name of its part in its environment, and so do all its
children, whatever session or parent they end up with. That mark, and no pid file, tells what is
ours: a pid may belong to somebody else by now.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

STACK_VARIABLE = "VIDPIPE_STACK"
PART_VARIABLE = "VIDPIPE_STACK_PART"


def start(
    root: Path, part: str, command: Iterable[str], env: Mapping[str, str], log: Path
) -> psutil.Process:
    """Starts a part in a session of its own, its output appended to `log`."""
    marked = {
        **env,
        STACK_VARIABLE: str(root),
        PART_VARIABLE: part,
        "SPT_NOENV": "1",  # else setproctitle writes over the environment that others read
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            cwd=root,
            env=marked,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return psutil.Process(process.pid)


def find(root: Path) -> dict[str, list[psutil.Process]]:
    """All live processes of the stack in `root`, by part."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.uids().real != os.getuid():
                continue
            env = process.environ()
            if env.get(STACK_VARIABLE) == str(root):
                found.setdefault(env.get(PART_VARIABLE, ""), []).append(process)
    return found


def is_alive(pid: int, started_at: float) -> bool:
    """Whether the process with this pid is still the one that started then."""
    try:
        process = psutil.Process(pid)
        same = process.create_time() == started_at
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def memory_bytes(processes: Iterable[psutil.Process]) -> int:
    """Resident memory, pages that several share counted for each."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def stop(processes: list[psutil.Process], grace_s: float) -> list[psutil.Process]:
    """Asks processes to end, and ends those that still run after `grace_s`.

    Returns:
        Those that had to be ended.
    """
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)
    return alive
