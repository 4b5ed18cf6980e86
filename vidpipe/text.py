"""Text from strangers, for people."""

from __future__ import annotations

import difflib
import heapq
import itertools
from collections.abc import Iterable

# To compare two texts takes up to the cube of their length.
_MAX_TEXTS = 10_000
_MAX_LENGTH = 100
_MAX_COMPARED = 200


def printable(text: str) -> str:
    """Escapes control and direction characters, and line breaks."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_json(document: str) -> str:
    """Escapes them in JSON, which stays the same to whoever parses it."""
    if document.isprintable():
        return document
    return "".join(c if c.isprintable() else _json_escape(c) for c in document)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))


def lines_of(message: str) -> list[str]:
    """The lines of a message; those after the first are indented, so that none can be forged."""
    first, *more = message.split("\n")
    return [first, *(line if line.startswith("  ") else f"  {line}" for line in more)]


def near_texts(sought: str, texts: Iterable[str], count: int, cutoff: float = 0.6) -> list[str]:
    """Returns texts that are much like another one, best first.

    As difflib's `get_close_matches`, and bounded: only the first 10,000 texts and the first 100
    characters of each count, and of those that may be near the 200 that are most likely so.

    Args:
        sought: The text.
        texts: Those among which to look.
        count: Return at most so many.
        cutoff: How alike they must be, 0 to 1.
    """
    known = {text[:_MAX_LENGTH]: text for text in itertools.islice(texts, _MAX_TEXTS)}
    matcher = difflib.SequenceMatcher()
    matcher.set_seq2(sought[:_MAX_LENGTH])
    likely = []
    for text in known:
        matcher.set_seq1(text)
        if matcher.real_quick_ratio() >= cutoff and (bound := matcher.quick_ratio()) >= cutoff:
            likely.append((bound, text))
    near: list[tuple[float, str]] = []
    for bound, text in heapq.nlargest(_MAX_COMPARED, likely):
        if len(near) == count and bound < near[-1][0]:
            break  # none that follows can be nearer
        matcher.set_seq1(text)
        if (ratio := matcher.ratio()) >= cutoff:
            near = heapq.nlargest(count, [*near, (ratio, text)])
    return [known[text] for _, text in near]
