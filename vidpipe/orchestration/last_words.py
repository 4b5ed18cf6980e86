"""What a stage said last: its error, where it ended with one."""

from __future__ import annotations

SAID_CHARS = 500


class LastWords:
    """The last line, with the indented lines that belong to it, at most 500 characters."""

    def __init__(self) -> None:
        self._last = ""

    def add(self, line: str) -> None:
        """Takes the next line, which is not empty."""
        if line.startswith("  ") and self._last:
            self._last += (" " if self._last.endswith(":") else "; ") + line.strip()
        else:
            self._last = line
        self._last = self._last[:SAID_CHARS]

    def __str__(self) -> str:
        return self._last
