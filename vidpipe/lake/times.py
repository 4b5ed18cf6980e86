"""Times as people type them, and as parameters of runs give them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from vidpipe.errors import UsageError

_AGO = re.compile(r"(\d{1,6}) (hour|day|week)s? ago")


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """Understands `today`, `yesterday`, `3 days ago` (hours, weeks), and ISO dates and times.

    Days begin at midnight where the command runs, and so do times without a zone.

    Raises:
        UsageError: It is none of these.
    """
    now = now or datetime.now().astimezone()
    words = " ".join(text.lower().split())
    midnight = datetime(now.year, now.month, now.day, tzinfo=now.tzinfo)
    if words in ("today", "yesterday"):
        return midnight - timedelta(days=words == "yesterday")
    try:
        if match := _AGO.fullmatch(words):
            return now - timedelta(**{f"{match[2]}s": int(match[1])})
        time = datetime.fromisoformat(text.strip())
        return time if time.tzinfo else time.astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            "A time looks like yesterday, today, 3 days ago, 12 hours ago, 2026-01-31 or"
            f" 2026-01-31T18:00. Received: {text!r}"
        ) from error


def parse_iso_time(text: str) -> datetime:
    """Reads a parameter of a run: an ISO time, which means the same anywhere and whenever it is
    read again. Without a zone it is UTC.

    Raises:
        UsageError: It is none.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"A time looks like 2026-01-31T00:00:00Z. Received: {text!r}") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
