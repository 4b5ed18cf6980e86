"""Which packets are decoded, and which of the frames are kept.

Decoding is nearly the whole cost of an extraction, so what no kept frame needs is not decoded:
frames that nothing refers to, and what lies between the last kept frame before a restart of the
stream (an IDR picture) and that restart. What is kept is the same as if all had been decoded.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Any, Protocol

from vidpipe.media.bitstream import PacketKinds
from vidpipe.media.pictures import Picture

# Containers round times, most of them to the millisecond.
ROUNDING_S = 0.001
# Waiting packets that may turn out not to be needed; more are decoded, needed or not.
WAITING_BYTES = 32 << 20


class Decoded:
    """A frame that was decoded well, before it is known whether it is kept.

    Attributes:
        frame: As the decoder gave it; None once it was turned into a picture.
        picture: The same in the size of the kept ones, once somebody asked for it.
        pts: From the start of the container, in the time base of the stream.
        time_s: The same in seconds.
        key_frame: Whether it was coded without reference to others.
        damaged: Whether something since the last key frame did not decode.
    """

    def __init__(self, frame: Any, pts: int, time_s: float, damaged: bool):
        self.frame = frame
        self.picture: Picture | None = None
        self.pts = pts
        self.time_s = time_s
        self.key_frame: bool = bool(frame.key_frame)
        self.damaged = damaged


class Sampler(Protocol):
    """Chooses packets and frames."""

    def feed(self, packet: Any, time_s: float | None, spoilt: bool) -> Iterator[tuple[Any, str]]:
        """Takes the next packet; yields those to be decoded now, each with what to skip.

        Args:
            packet: In the order of decoding.
            time_s: When it is shown; None where the container does not tell.
            spoilt: Whether the decoder failed lately, so that substitutes are welcome.
        """

    def moment(self, packet: Any, time_s: float) -> Hashable | None:
        """What a frame of this packet would be kept for; None where it would not be kept."""

    def moment_of(self, decoded: Decoded) -> Hashable:
        """The same of a frame."""

    def moments_between(self, start_s: float, end_s: float) -> Iterator[float]:
        """Times of the frames that would have been kept where packets themselves are missing."""

    def choose(self, decoded: Decoded) -> Iterator[Decoded]:
        """Takes the next good frame, in the order of showing; yields those that are kept."""

    def end(self) -> Iterator[Decoded]:
        """Yields what is kept of the frames at the end."""


class Grid:
    """Keeps the first frame at or after each moment n / fps.

    Args:
        fps: Moments a second.
        kinds: Tells which packets others need.
        references_only: Only frames that others may need are kept, so that others never decode.
    """

    def __init__(self, fps: float, kinds: PacketKinds, *, references_only: bool):
        self._fps = fps
        self._kinds = kinds
        self._references_only = references_only
        self._waiting: list[tuple[Any, bool]] = []
        self._waiting_bytes = 0
        self._first_s: dict[int, float] = {}
        self._blind = False  # the container told no time once: nothing is left out from there on
        self._kept: int | None = None

    def cell(self, time_s: float) -> int:
        """Which moment a time belongs to."""
        return math.floor((time_s + ROUNDING_S) * self._fps)

    def feed(self, packet, time_s, spoilt):
        self._blind = self._blind or time_s is None
        kind = self._kinds.of(packet)
        if kind.restart and not self._blind:
            self._waiting.clear()
            self._waiting_bytes = 0
        wanted = self._blind or spoilt or self._wants(packet, time_s, kind.reference)
        if kind.reference is False and not wanted:
            return  # nothing needs it
        self._waiting.append((packet, wanted))
        self._waiting_bytes += packet.size
        if wanted or self._waiting_bytes > WAITING_BYTES:
            for waiting, is_wanted in self._waiting:
                # Without a time of its own a frame gets that of decoding: none may be left out.
                whole = self._blind or (is_wanted and not self._references_only)
                yield waiting, "DEFAULT" if whole else "NONREF"
            self._waiting.clear()
            self._waiting_bytes = 0

    def _wants(self, packet: Any, time_s: float, reference: bool | None) -> bool:
        # An edit list may cut off frames that others refer to.
        hidden = packet.is_discard or time_s < -ROUNDING_S
        if hidden or (self._references_only and reference is False):
            return False
        cell = self.cell(time_s)
        if time_s >= self._first_s.get(cell, math.inf):
            # Of which packet a frame will come is not known here.
            return self._references_only and reference is None
        self._first_s[cell] = time_s
        if len(self._first_s) > 1000:
            for old in sorted(self._first_s)[:500]:
                del self._first_s[old]
        return True

    def moment(self, packet, time_s):
        if self._references_only and not self._kinds.of(packet).reference:
            return None
        return self.cell(time_s)

    def moment_of(self, decoded):
        return self.cell(decoded.time_s)

    def moments_between(self, start_s, end_s):
        for cell in range(self.cell(start_s) + 1, self.cell(end_s)):
            yield cell / self._fps

    def choose(self, decoded):
        cell = self.cell(decoded.time_s)
        if self._kept is None or cell > self._kept:
            self._kept = cell
            yield decoded

    def end(self):
        yield from ()


class All:
    """Keeps every frame.

    Args:
        rate: Frames a second, on average; None where that is not known.
    """

    def __init__(self, rate: float | None):
        self._rate = rate

    def feed(self, packet, time_s, spoilt):
        yield packet, "DEFAULT"

    def moment(self, packet, time_s):
        return time_s

    def moment_of(self, decoded):
        return decoded.time_s

    def moments_between(self, start_s, end_s):
        if self._rate:
            for n in range(1, round((end_s - start_s) * self._rate)):
                yield start_s + n / self._rate

    def choose(self, decoded):
        yield decoded

    def end(self):
        yield from ()


class Keyframes(All):
    """Keeps the frames that are coded without reference to others."""

    def feed(self, packet, time_s, spoilt):
        # Without a time of its own a frame gets that of decoding: none may be left out.
        yield packet, "DEFAULT" if time_s is None else "NONKEY"

    def moment(self, packet, time_s):
        return time_s if packet.is_keyframe else None

    def moments_between(self, start_s, end_s):
        yield from ()

    def choose(self, decoded):
        if decoded.key_frame:
            yield decoded
