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
    """Escapes control and direction characters: names and labels come from strangers."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
