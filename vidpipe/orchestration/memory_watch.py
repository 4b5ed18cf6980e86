"""Ends a stage that takes more memory than it may, before the machine suffers.

Asked of the kernel several times a second: how much the process takes with its children, and how
much the machine has left. Neither needs a right that an ordinary user has not, as control groups
do; a limit of address space would not do, of which TensorFlow reserves far more than it uses.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading

from vidpipe import memory

LOOK_EVERY_S = 0.25
# Of the machine: with less than the larger of these left, the largest of its stages ends.
RESERVE_SHARE, RESERVE_BYTES = 0.03, 300e6


class MemoryWatch:
    """Watches a stage in a thread of its own until it ends.

    Args:
        process: The stage, in a process group of its own.
        limit_bytes: What it may take, together with its children.

    Attributes:
        limit_bytes: The same.
        over_limit: Whether it was ended because it took more.
        why: Why it was ended, in words; empty: it was not.
    """

    def __init__(self, process: subprocess.Popen, limit_bytes: float):
        self._process = process
        self._kills_before = memory.kernel_kills()
        self.limit_bytes = limit_bytes
        self.over_limit = False
        self.why = ""
        memory.mark_stage(process.pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops watching, once the process has ended."""
        self._ended.set()
        self._thread.join()
        killed = self._process.returncode == -signal.SIGKILL
        if killed and not self.why and memory.kernel_kills() > self._kills_before:
            self.why = "The kernel ended it, as the memory of the machine had run out."

    def _watch(self) -> None:
        reserve_bytes = max(RESERVE_SHARE * memory.total_bytes(), RESERVE_BYTES)
        while not self._ended.wait(LOOK_EVERY_S):
            used_bytes = memory.used_by_tree(self._process.pid)
            if used_bytes > self.limit_bytes:
                self.over_limit = True
                self._end(
                    f"It took {used_bytes / 1e9:.1f} GB of memory, more than the"
                    f" {self.limit_bytes / 1e9:.1f} GB that it may ([memory] stage_share or"
                    " stage_gb)."
                )
            elif memory.free_bytes() < reserve_bytes and self._is_largest():
                self._end(
                    f"The machine had less than {reserve_bytes / 1e9:.1f} GB of memory left, and of"
                    f" its stages this one took most: {used_bytes / 1e9:.1f} GB."
                )

    def _is_largest(self) -> bool:
        used = memory.used_by_stages()
        return used.get(self._process.pid, 0) >= max(used.values(), default=0)

    def _end(self, why: str) -> None:
        self.why = why
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._ended.set()
