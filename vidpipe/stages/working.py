"""What a stage is at work on, for whoever finds it dead; and what is not to be tried again.

A pod that is killed for want of memory leaves no word but this file, which Kubernetes reads into
the status of the pod: numbers of items as in the manifest, as JSON, of at most 4 KiB. One that
ends by itself leaves there why, as a JSON string: its log may be lost with its node.
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
WORD_CHARS = 1000  # of up to four bytes each


class WorkingFile:
    """Holds the numbers of the items at hand; several threads may work on one each.

    Args:
        manifest: The shard.
    """

    def __init__(self, manifest: Manifest):
        self._path = os.environ.get(FILE)
        self._numbers = {item["item"]: number for number, item in enumerate(manifest.items)}
        self._too_large = _too_large()
        self._held: list[int] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def holding(self, item: str) -> Iterator[None]:
        """Notes an item while the context lasts.

        Raises:
            MediaError: It is known to take more memory than there is.
        """
        number = self._numbers[item]
        if number in self._too_large:
            raise MediaError("out_of_memory", "By itself it takes more than its pod may have.")
        if not self._path:
            yield
            return
        with self._lock:
            self._held.append(number)
            self._write()
        try:
            yield
        finally:
            with self._lock:
                self._held.remove(number)
                self._write()

    def _write(self) -> None:
        # In place: where Kubernetes mounts the file, it cannot be replaced.
        with contextlib.suppress(OSError), open(self._path, "w") as file:
            json.dump(self._held, file)


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
