"""Committing to an Iceberg table beside others: one of them gets through, the rest look anew."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
from sqlalchemy.exc import OperationalError

from vidpipe.errors import TemporaryError

_TRIES = 100


def commits(commit: Callable[[], object]) -> bool:
    """Whether a commit got through; one that lost against another is to be looked at anew."""
    try:
        commit()
    except (CommitFailedException, CommitStateUnknownException):
        return False
    except OperationalError as error:
        if "locked" not in str(error):
            raise TemporaryError(f"The table catalog does not answer: {error.orig}") from error
        return False
    return True


def tries(name: str) -> Iterator[int]:
    """Counts the attempts at committing to a table, with growing pauses between them.

    Raises:
        TemporaryError: Others were committing all the time.
    """
    for attempt in range(_TRIES):
        yield attempt
        time.sleep(random.uniform(0, min(0.05 * 2**attempt, 2.0)))
    raise TemporaryError(f"Table {name} could not be committed to: others commit all the time.")
