"""What reading an annotation file may take: seconds of a processor, and memory.

Files come from strangers. What makes a small file slow or large is bounded where it is read; the
budget ends whatever else there may be.
"""

from __future__ import annotations

import time

from vidpipe import memory
from vidpipe.config import AnnotateSettings
from vidpipe.errors import BadInputError

_CALLS_BETWEEN_LOOKS = 16
_LOOK_EVERY_S = 0.1  # to ask the kernel takes longer than to read an entry


class TooMuchError(BadInputError):
    """A file is well formed as far as it was read, and takes more than is allowed."""


class Budget:
    """Counts from when it is made. The thread that makes it also reads.

    Args:
        settings: The limits.
    """

    def __init__(self, settings: AnnotateSettings | None = None):
        self._settings = settings or AnnotateSettings()
        # Processor time of the thread: on a busy machine a file is not slower by that.
        self._until_s = time.thread_time() + self._settings.max_s
        self._most_bytes = memory.used_bytes() + self._settings.max_gb * 1e9
        self._calls = 0
        self._look_at_s = 0.0

    def check(self) -> None:
        """Is called at each entry of a file.

        Raises:
            TooMuchError: More was taken than is allowed.
        """
        self._calls += 1
        if self._calls % _CALLS_BETWEEN_LOOKS == 0 and time.monotonic() >= self._look_at_s:
            self._look_at_s = time.monotonic() + _LOOK_EVERY_S
            self._look()

    def _look(self) -> None:
        if time.thread_time() > self._until_s:
            raise TooMuchError(
                f"reading it takes more than {self._settings.max_s:g} s of processor time. Cut it"
                " by videos, or raise [annotate] max_s."
            )
        if memory.used_bytes() > self._most_bytes:
            raise TooMuchError(
                f"reading it takes more than {self._settings.max_gb:g} GB of memory. Cut it by"
                " videos, or raise [annotate] max_gb."
            )
