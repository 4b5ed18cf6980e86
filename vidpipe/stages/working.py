"""What a stage is at work on, for whoever finds it dead; and what is not to be tried again.

A process or pod that is killed for want of memory leaves no word but this file, which the task
reads, or Kubernetes into the status of the pod: numbers of items as in the manifest, as JSON, of at
most 4 KiB. One that ends by itself leaves there why, as a JSON string: its log may be lost with its
node.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator

from vidpipe.errors import MediaError, UsageError
from vidpipe.stages.manifest import Manifest

FILE = "VIDPIPE_WORKING_FILE"
TOO_LARGE = "VIDPIPE_OUT_OF_MEMORY"
ALONE = "VIDPIPE_ONE_AT_A_TIME"
WORD_CHARS = 1000  # of up to four bytes each
MOST_HELD = 400  # numbers in the file: that there are several is enough


class WorkingFile:
    """Holds the numbers of the items at hand; several threads may work on one each.

    Args:
        manifest: The shard.

    Attributes:
        alone: Whether one item is to be worked on at a time: with several it was too much.
    """

    def __init__(self, manifest: Manifest):
        self._path = os.environ.get(FILE)
        self._numbers = {item["item"]: number for number, item in enumerate(manifest.items)}
        self._too_large = _too_large()
        self._held: list[int] = []
        self._lock = threading.Lock()
        self.alone = os.environ.get(ALONE) == "1"

    def require_fits(self, item: str) -> None:
        """Makes sure that an item was not found to be too large.

        Raises:
            MediaError: It is known to take more memory than there is.
        """
        if self._numbers[item] in self._too_large:
            raise MediaError(
                "out_of_memory", "By itself it takes more memory than its stage may have."
            )

    @contextlib.contextmanager
    def holding(self, *items: str) -> Iterator[None]:
        """Notes items while the context lasts."""
        if not self._path:
            yield
            return
        numbers = [self._numbers[item] for item in items]
        with self._lock:
            self._held += numbers
            self._write()
        try:
            yield
        finally:
            with self._lock:
                for number in numbers:
                    self._held.remove(number)
                self._write()

    def _write(self) -> None:
        # In place: where Kubernetes mounts the file, it cannot be replaced.
        with contextlib.suppress(OSError), open(self._path, "w") as file:
            json.dump(self._held[:MOST_HELD], file)


def read_working(path: str) -> list[int]:
    """The numbers of the items that a process which was killed was at work on."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        held = json.load(file)
        if isinstance(held, list):
            return held
    return []


def leave_word(why: str) -> None:
    """Leaves why this process ends, in place of what it was at work on."""
    if path := os.environ.get(FILE):
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as file:
            json.dump(why[:WORD_CHARS], file, ensure_ascii=False)


def _too_large() -> set[int]:
    told = os.environ.get(TOO_LARGE, "")
    try:
        return {int(number) for number in told.split(",") if number}
    except ValueError as error:
        raise UsageError(f"{TOO_LARGE} looks like 3,17. Received: {told!r}") from error
