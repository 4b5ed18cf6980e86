"""The runtime `local`: a stage is a process of its own on the machine of the task."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from logging import Logger

from vidpipe.orchestration.last_words import LastWords
from vidpipe.orchestration.memory_watch import MemoryWatch
from vidpipe.orchestration.startup_lines import is_startup_line
from vidpipe.stages.working import FILE, read_working
from vidpipe.text import printable
from vidpipe.version import code_version

STOP_WITHIN_S = 20
LINE_CHARS = 8192


class LocalProcess:
    """Runs `vidpipe …` in a process group of its own, of which nothing survives.

    Args:
        limit_bytes: The memory that it may take, together with its children.

    Attributes:
        memory: What watches its memory, once it runs.
        working: The numbers of the items that it was at work on, where it was ended for its memory.
    """

    def __init__(self, limit_bytes: float = math.inf) -> None:
        self._limit_bytes = limit_bytes
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self.memory: MemoryWatch | None = None
        self.working: list[int] = []

    def run(
        self,
        arguments: Sequence[str],
        log: Logger,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> tuple[int, str]:
        """Runs a command to its end; its lines go to the log as they come, without those that
        TensorFlow writes when it starts.

        Args:
            arguments: What follows `vidpipe`.
            log: The log of the task.
            environment: What it is told beside the environment of this process.
            on_line: Is called with each line.

        Returns:
            Exit code (minus the signal where one ended it) and last line of output, with the
            indented lines that belong to it, at most 500 characters.
        """
        self._stopped = False
        with tempfile.NamedTemporaryFile(prefix="vidpipe-working-") as working:
            told = {
                "PYTHONUNBUFFERED": "1",
                "VIDPIPE_CODE_VERSION": code_version(),
                FILE: working.name,
                **(environment or {}),
            }
            if math.isfinite(self._limit_bytes):
                told["VIDPIPE_MEMORY_STAGE_GB"] = f"{self._limit_bytes / 1e9:.3f}"
            end = self._run(arguments, log, told, on_line)
            if self.out_of_memory:
                self.working = read_working(working.name)
            return end

    def _run(
        self,
        arguments: Sequence[str],
        log: Logger,
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> tuple[int, str]:
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "vidpipe", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self.memory = MemoryWatch(process, self._limit_bytes)
        # A child of the stage that outlived it would keep the pipe open, and this task waiting.
        threading.Thread(target=self._end_group_with_leader, daemon=True).start()
        last = LastWords()
        try:
            if self._stopped:  # while it started
                self.stop()
            while line := process.stdout.readline(LINE_CHARS):
                line = printable(line.rstrip())  # of libraries, too
                if line and not is_startup_line(line):
                    log.info("%s", line)
                    last.add(line)
                    on_line(line)
            return process.wait(), str(last)
        finally:
            self.stop()
            self.memory.close()
            process.stdout.close()

    @property
    def out_of_memory(self) -> str:
        """Why it was ended for its memory, in words; empty: it was not."""
        return self.memory.why if self.memory else ""

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran."""
        return self._process.pid

    def stop(self) -> None:
        """Asks the stage to end, and kills what is left of it after 20 s."""
        self._stopped = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WITHIN_S)
        self._signal(signal.SIGKILL)

    def _end_group_with_leader(self) -> None:
        self._process.wait()
        self._signal(signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signum)
