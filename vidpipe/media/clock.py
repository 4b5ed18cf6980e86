"""Times as a player shows them: from the start of the container, going on where clocks jump."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

# libavformat's flags of bare streams, which tell no time, and of containers whose clock may begin
# anew midway, such as MPEG-TS.
_NO_TIMES = 0x0080
_MAY_JUMP = 0x0200
# ffmpeg's own thresholds: ahead (-dts_delta_threshold), and back.
AHEAD_S, BACK_S = 10.0, 0.1


def may_jump(container: Any) -> bool:
    """Whether the clock of a container may begin anew midway, so that it tells no length for sure.

    Args:
        container: As PyAV opens it.
    """
    return bool(container.format.flags & _MAY_JUMP)


class Clock:
    """Gives the packets of a container times that count from its start.

    Args:
        container: As PyAV opens it.
    """

    def __init__(self, container: Any):
        start = container.start_time
        self._start_s: float | None = None if start is None else start / 1_000_000
        self._no_times = bool(container.format.flags & _NO_TIMES)
        # It tells when to decode a frame, and libavformat guesses when to show it.
        self._no_pts = container.format.name == "avi"
        self._may_jump = may_jump(container)
        self._offset_s = 0.0
        self._next_s: dict[int, float] = {}
        # By stream: its time base, and how far its times are moved.
        self._bases: dict[int, Fraction] = {}
        self._moves: dict[int, int] = {}

    def set(self, packet: Any) -> None:
        """Moves the times of a packet, in the order in which they are read."""
        stream = packet.stream_index
        base = self._bases.get(stream)
        if base is None:
            base = self._bases[stream] = packet.time_base
        if self._no_times:  # libavformat made them up
            packet.pts = packet.dts = None
        elif self._no_pts:
            context = packet.stream.codec_context
            packet.pts = None if getattr(context, "has_b_frames", False) else packet.dts
        if self._start_s is None:
            self._start_s = float((packet.dts or packet.pts or 0) * base)
        if self._may_jump and packet.dts is not None:
            told_s = float(packet.dts * base)
            expected_s = self._next_s.get(stream)
            here_s = told_s + self._offset_s
            if expected_s is not None and not -BACK_S <= here_s - expected_s <= AHEAD_S:
                self._offset_s += expected_s - here_s
                self._moves.clear()
                here_s = expected_s
            self._next_s[stream] = here_s + float((packet.duration or 0) * base)
        moved = self._moves.get(stream)
        if moved is None:
            moved = self._moves[stream] = round((self._offset_s - self._start_s) / base)
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
        self._shown: int | None = None  # the last one

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
        # Frames are shown in the order in which they come, whatever a damaged time tells.
        if self._shown is not None:
            time = max(time, self._shown)
        self._shown = time
        self._next = time + (frame.duration or 1)
        return time
