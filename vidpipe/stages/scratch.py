"""Temporary folders. Who is killed cannot remove his own: the next to come does it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "vidpipe-attempt-"


class ScratchFolder:
    """A temporary folder, locked as long as its process lives.

    Those beside it that were left are removed first.

    Args:
        parent: Where it is made; where the system has temporary files by default.

    Attributes:
        path: The folder.
    """

    def __init__(self, parent: Path | None = None):
        parent = parent or Path(tempfile.gettempdir())
        remove_left(parent)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            try:
                self._lock = _lock(self.path)
            except (BlockingIOError, FileNotFoundError):
                continue  # another that begins now took it for one that was left
            except OSError:
                self._lock = None  # a file system without locks: there nobody removes what is left
                return
            if self.path.exists():
                return
            os.close(self._lock)

    def remove(self) -> None:
        """Removes it with all that is in it."""
        _remove(self.path, self._lock)


def remove_left(parent: Path) -> None:
    """Removes the temporary folders in a folder that nobody holds any longer.

    One of a process that was killed for want of memory may be gigabytes.
    """
    for left in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # held, or somebody else's
            _remove(left, _lock(left))


def _lock(path: Path) -> int:
    """Locks a folder; returns what holds the lock until it is closed.

    Raises:
        OSError: Somebody holds it, or it may not be read.
    """
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _remove(path: Path, lock: int | None) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if lock is not None:
        os.close(lock)
