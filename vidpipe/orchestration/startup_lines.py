"""Lines that TensorFlow writes whenever it starts, and that say nothing about a task.

No environment variable silences all of them: what is logged before absl is initialized ignores
TF_CPP_MIN_LOG_LEVEL. Warnings and errors stay, but for two that are none: a processor's own kernel
takes the place of one of oneDNN, and a graph names an attribute that its own operation lacks.
"""

from __future__ import annotations

import re

_STARTUP_LINE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    r"|I\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\] .*"
    r"|\d{4}-\d\d-\d\d [\d:.]+: I \S+\.cc:\d+\] .*"
    r"|To enable the following instructions: .* rebuild TensorFlow .*"
    r"|E\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\] oneDNN supports DT_\w+ only on platforms with .*"
    r"|E\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\] NodeDef mentions attribute .*"
)


def is_startup_line(line: str) -> bool:
    """Whether a line of a stage's output is one of these."""
    return _STARTUP_LINE.fullmatch(line) is not None
