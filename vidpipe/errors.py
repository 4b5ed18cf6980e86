"""The errors of vidpipe and the exit codes they end a command with.

    VidpipeError
    ├── UsageError           2   the command, its parameters or the configuration are wrong
    │   ├── DeniedError      2   the object store refuses an object; others may be read
    │   └── CeilingError     2   so much was spent that no further pod is started
    ├── BadInputError       65   the input is wrong: a retry gives the same
    │   ├── NotFoundError   65   there is no such object
    │   ├── ArchivedError   65   the object must be restored before it can be read
    │   ├── DivergedError   65   the loss of a training is no number any more
    │   ├── OutOfMemoryError 65  it takes more memory than there is
    │   └── MediaError      65   one video cannot be used; carries the reason of its outcome
    ├── NothingToDoError    99   there is no work here, and that is fine (Airflow: skipped)
    └── TemporaryError      75   a service is away: the same command may work later

    StoppedError            75   a stop signal arrived

A message says what was wrong, what was received, and what to do, in one line.
"""

from __future__ import annotations

EXIT_USAGE = 2
EXIT_BAD_INPUT = 65
EXIT_TEMPORARY = 75
EXIT_NOTHING_TO_DO = 99


class VidpipeError(Exception):
    """Base of all errors that vidpipe raises on purpose."""

    exit_code = 1


class UsageError(VidpipeError):
    """The command, its parameters or the configuration are wrong."""

    exit_code = EXIT_USAGE


class DeniedError(UsageError):
    """The object store refuses an object to these credentials; others may be read."""


class CeilingError(UsageError):
    """As many pod or GPU hours as are allowed were spent: no further pod is started."""


class BadInputError(VidpipeError):
    """The input is wrong; a retry would end the same."""

    exit_code = EXIT_BAD_INPUT


class NotFoundError(BadInputError):
    """There is no such object."""


class ArchivedError(BadInputError):
    """The object is in an archive of the object store and must be restored first."""


class DivergedError(BadInputError):
    """The loss of a training is no number any more."""


class OutOfMemoryError(BadInputError):
    """It takes more memory than there is, or than it may."""


class MediaError(BadInputError):
    """One video cannot be used.

    Args:
        reason: A word of the fixed vocabulary of outcomes, such as `no_video`.
        message: What was found, for people; ffmpeg's own words, capped.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class NothingToDoError(VidpipeError):
    """There is no work, and that is not a failure."""

    exit_code = EXIT_NOTHING_TO_DO


class TemporaryError(VidpipeError):
    """A service is away or refuses for now; the same command may work later."""

    exit_code = EXIT_TEMPORARY


class StoppedError(BaseException):
    """A stop signal arrived; the work at hand was dropped or saved.

    Like KeyboardInterrupt no `Exception`: it comes at any moment, also inside a library that turns
    every exception into one of its own.
    """

    exit_code = EXIT_TEMPORARY
