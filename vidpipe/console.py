"""The one way to the screen, and to logs, in which nothing of strangers is obeyed.

Names, labels and messages come from object stores, label files, MLflow and Airflow. A terminal
obeys control characters, and so do viewers of logs. Commands print by `echo`, `Console` or
`vidpipe.lake.results`, never by `print` or rich's own console, which ruff refuses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment

from vidpipe.text import printable


def echo(*lines: str, err: bool = False) -> None:
    """Prints lines, or an empty one; whatever is in them, they stay as many lines."""
    file = sys.stderr if err else sys.stdout
    file.write("".join(f"{printable(line)}\n" for line in lines or ("",)))
    file.flush()


class Console(rich.console.Console):
    """Prints what it is given as it is: no markup, no names of emoji, no control characters.

    A string is one line. Styles come from rich's own objects, such as `Text`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints objects, as rich does; `sep="\\n"` for several lines."""
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:
        """Turns an object into segments; escapes all text that rich did not put there."""
        for segment in super().render(*arguments, **options):
            # Rich's own, such as one that moves the cursor, are marked as control.
            yield segment if segment.control else segment._replace(text=_printable(segment.text))


def _printable(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
