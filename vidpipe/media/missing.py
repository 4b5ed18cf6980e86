"""Frames that should have been kept and did not decode: which, and what stands for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from vidpipe.errors import MediaError
from vidpipe.media.pictures import Picture, blend
from vidpipe.media.sampling import ROUNDING_S, Decoded

# Packets are missing somewhere around the one that tells of it, for they are not in the order in
# which they are shown.
NEAR_S = 0.5
# In a row. More are no gap, but a damaged time, and would take all memory.
MOST_MISSING = 100_000


class Expected:
    """Compares the frames that packets promise with those that come.

    A packet without a frame is not missing by itself: some only hold what others refer to. It is,
    where the decoder failed since the last kept frame.
    """

    def __init__(self, moments_between: Callable[[float, float], Iterator[float]]):
        self._moments_between = moments_between
        self._promised: dict[Hashable, float] = {}
        self._spoilt_s: list[float] = []
        self._lost_s: list[float] = []
        self._last_s: float | None = None

    def promise(self, moment: Hashable, time_s: float) -> None:
        """Tells of a packet whose frame would be kept."""
        self._promised[moment] = min(time_s, self._promised.get(moment, time_s))

    def spoil(self, time_s: float, *, lost: bool = False) -> None:
        """Tells that something did not decode, or (`lost`) that packets themselves are missing."""
        (self._lost_s if lost else self._spoilt_s).append(time_s)

    @property
    def spoilt(self) -> bool:
        """Whether something failed since the last kept frame."""
        return bool(self._spoilt_s or self._lost_s)

    def missing_before(self, time_s: float, moment: Hashable | None = None) -> list[float]:
        """Times of the frames that are missing before a kept one, or before the end.

        Raises:
            MediaError: They are too many.
        """
        self._promised.pop(moment, None)
        passed = {m: t for m, t in self._promised.items() if t < time_s}
        for m in passed:
            del self._promised[m]
        missing: set[float] = set()
        if self.spoilt and any(t <= time_s for t in (*self._spoilt_s, *self._lost_s)):
            missing |= {t for t in passed.values() if self._last_s is None or t > self._last_s}
        if self._last_s is not None and any(t <= time_s for t in self._lost_s):
            known = {round(t / ROUNDING_S) + d for t in missing for d in (-1, 0, 1)}
            moments = itertools.islice(self._moments_between(self._last_s, time_s), MOST_MISSING)
            missing |= {t for t in moments if round(t / ROUNDING_S) not in known}
        if len(missing) >= MOST_MISSING:
            raise MediaError("damaged", f"It lacks {MOST_MISSING} frames in a row, or more.")
        self._spoilt_s = [t for t in self._spoilt_s if t > time_s]
        self._lost_s = [t for t in self._lost_s if t + NEAR_S > time_s]
        self._last_s = time_s
        return sorted(missing)


@dataclass(frozen=True)
class Kept:
    """A frame to be kept.

    Attributes:
        decoded: The frame, or the good one that it is made of.
        picture: As JPEG holds it.
        time_s: When it is shown.
        imputed_by: What made it; None: it was decoded.
    """

    decoded: Decoded
    picture: Picture
    time_s: float
    imputed_by: str | None = None


class Imputer:
    """Puts something in the place of what is missing.

    Args:
        policy: A word of `vidpipe.media.options.MISSING_FRAMES`.
    """

    def __init__(self, policy: str):
        self._policy = policy
        self._last: Kept | None = None
        self.counts = {"dropped": 0, "repeated": 0, "interpolated": 0}

    def add(self, missing: list[float], kept: Kept | None) -> Iterator[Kept]:
        """Yields what stands for the frames missing before a kept one, and that one.

        Args:
            missing: Their times.
            kept: None at the end.
        """
        last = self._last
        for time_s in missing:
            if self._policy == "drop" or last is None:
                self.counts["dropped"] += 1
            elif self._policy == "repeat" or kept is None:
                self.counts["repeated"] += 1
                yield Kept(last.decoded, last.picture, time_s, "repeat")
            else:
                self.counts["interpolated"] += 1
                weight = (time_s - last.time_s) / (kept.time_s - last.time_s)
                mixed = blend(last.picture, kept.picture, weight)
                yield Kept(last.decoded, mixed, time_s, "interpolate")
        if kept is not None:
            self._last = kept
            yield kept
