"""Runs one stage: finds it by name, skips work that is reported already, obeys stop signals."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from vidpipe.console import echo
from vidpipe.errors import EXIT_TEMPORARY, StoppedError
from vidpipe.lake.store_errors import os_error
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, Report, find_report

STOP_WITHIN_S = 18


class _Stops:
    deferred = False
    asked = False


def run_stage(manifest: Manifest, lake: Lake) -> Report | None:
    """Runs a stage on a manifest, or returns the report of the attempt that did.

    Returns:
        The report; None where this process helped another, which writes it.

    Raises:
        VidpipeError: What went wrong, with the exit code it stands for.
    """
    report = find_report(lake.store, lake.uri, manifest)
    if report is not None:
        echo(f"{manifest.stage} {manifest.shard}: done already by {report.attempt}")
        return report
    stage = importlib.import_module(f"vidpipe.stages.{manifest.stage}")
    with Attempt(manifest, lake.store, lake.uri) as attempt:
        try:
            stage.run(manifest, attempt, lake)
            if attempt.helps:
                return None
            report = attempt.finish()
        except OSError as error:
            raise os_error(f"{manifest.stage}: {error}") from error
    counts = ", ".join(f"{n} {status}" for status, n in sorted(report.counts.items()))
    echo(f"{manifest.stage} {manifest.shard}: {counts or 'finished'} in {report.seconds:.1f} s")
    return report


def obey_stop_signals() -> None:
    """Turns SIGTERM and the death of the parent into `StoppedError` in the main thread.

    For a process that is one stage. What does not stop by itself is ended after 18 s.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Thread(target=_end_hard, daemon=True).start()
        _Stops.asked = True
        if not _Stops.deferred:
            raise _stopped()

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=_watch_parent, args=(os.getppid(),), daemon=True).start()


@contextlib.contextmanager
def stops_deferred() -> Iterator[Callable[[], bool]]:
    """While it lasts a stop signal interrupts nothing: the work asks for it where it can stop.

    For work in the main thread that must not be cut off half way. It is asked often: the process is
    ended 18 s after the signal, whatever it does.

    Yields:
        A function that tells whether a signal arrived.

    Raises:
        StoppedError: At the end, if a signal arrived and the work ended well all the same.
    """
    _Stops.deferred = True
    try:
        yield lambda: _Stops.asked
    finally:
        _Stops.deferred = False
    if _Stops.asked:
        raise _stopped()


def _stopped() -> StoppedError:
    return StoppedError("Stopped by a signal; the work at hand was dropped.")


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _end_hard() -> None:
    time.sleep(STOP_WITHIN_S)
    os._exit(EXIT_TEMPORARY)
