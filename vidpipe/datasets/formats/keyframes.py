"""Boxes that are given in some frames, and move evenly between them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple


class Keyframe(NamedTuple):
    """A box in a frame.

    Attributes:
        where: Its place in the file.
        x: Left side; this and what follows in any unit.
        seen: Whether it is in the picture in this frame.
        goes_on: Whether it is in the picture between this frame and the next that is given.
    """

    where: str
    frame: int
    x: float
    y: float
    width: float
    height: float
    seen: bool = True
    goes_on: bool = True
    occluded: bool | None = None


def in_frames(
    keyframes: Sequence[Keyframe],
    *,
    step: int = 1,
    until: int | None = None,
    without: Container[int] = (),
) -> Iterator[Keyframe]:
    """Yields the box of each frame in which it is seen.

    Args:
        keyframes: What is given, in any order.
        step: Of so many frames one was looked at.
        until: The frame to which a box that goes on after the last one stays where it is; None: it
            ends there.
        without: Frames in which nothing is seen, whatever is given before and after.

    Raises:
        ValueError: A frame is given twice.
    """
    given = sorted(keyframes, key=lambda k: k.frame)
    for before, after in zip(given, given[1:], strict=False):
        if before.frame == after.frame:
            raise ValueError(f"frame {after.frame} is given twice")
    for before, after in zip(given, [*given[1:], None], strict=True):
        if before.seen and before.frame not in without:
            yield before
        if not before.goes_on:
            continue
        if after is not None:
            between = range(before.frame + step, after.frame, step)
            yield from (_between(before, after, f) for f in between if f not in without)
        elif until is not None:
            rest = range(before.frame + step, until + 1, step)
            yield from (before._replace(frame=f) for f in rest if f not in without)


def _between(before: Keyframe, after: Keyframe, frame: int) -> Keyframe:
    share = (frame - before.frame) / (after.frame - before.frame)
    sides = (
        getattr(before, side) + share * (getattr(after, side) - getattr(before, side))
        for side in ("x", "y", "width", "height")
    )
    return Keyframe(before.where, frame, *sides, occluded=before.occluded)


def runs(frames: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """Yields each of some frames in order, and whether the one right after it is there, too."""
    ordered = sorted(frames)
    for frame, after in zip(ordered, [*ordered[1:], None], strict=True):
        yield frame, after == frame + 1
