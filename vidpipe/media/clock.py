"""Times as a player shows them: from the start of the container, going on where clocks jump."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

# libavformat's flag of containers whose clock may begin anew midway, such as MPEG-TS.
_MAY_JUMP = 0x0200
# ffmpeg's own threshold (-dts_delta_threshold).
JUMP_S = 10.0


class Clock:
    """Gives the packets of a container times that count from its start.

    Args:
        container: As PyAV opens it.
    """

    def __init__(self, container: Any):
        self._start_s = (container.start_time or 0) / 1_000_000
        self._may_jump = bool(container.format.flags & _MAY_JUMP)
        self._offset_s = 0.0
        self._next_s: dict[int, float] = {}

    def set(self, packet: Any) -> None:
        """Moves the times of a packet, in the order in which they are read."""
        base: Fraction = packet.time_base
        if self._may_jump and packet.dts is not None:
            told_s = float(packet.dts * base)
            expected_s = self._next_s.get(packet.stream_index)
            here_s = told_s + self._offset_s
            if expected_s is not None and abs(here_s - expected_s) > JUMP_S:
                self._offset_s += expected_s - here_s
                here_s = expected_s
            self._next_s[packet.stream_index] = here_s + float((packet.duration or 0) * base)
        moved = round((self._offset_s - self._start_s) / base)
        if moved:
            if packet.pts is not None:
                packet.pts += moved
            if packet.dts is not None:
                packet.dts += moved


class FrameTimes:
    """The times of decoded frames: those of their packets, unless these make no sense.

    The method is libavcodec's (`best_effort_timestamp`, which PyAV does not give): presentation
    times are trusted until they have gone backwards more often than decoding times have.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._faults = {"pts": 0, "dts": 0}
        self._next = 0

    def of(self, frame: Any) -> int:
        """The presentation time of a frame, in the time base of the stream."""
        for name in ("pts", "dts"):
            value = getattr(frame, name)
            if value is not None:
                self._faults[name] += name in self._last and value <= self._last[name]
                self._last[name] = value
        trusted = frame.dts is None or self._faults["pts"] <= self._faults["dts"]
        if frame.pts is not None and trusted:
            time = frame.pts
        elif frame.dts is not None:
            time = frame.dts
        else:  # a bare stream tells no time at all
            time = self._next
        self._next = time + (frame.duration or 1)
        return time
