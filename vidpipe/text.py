"""Text from strangers, for people."""

from __future__ import annotations


def printable(text: str) -> str:
    """Escapes control and direction characters: names and labels come from strangers."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
