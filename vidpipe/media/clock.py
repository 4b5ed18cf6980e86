"""Times as a player shows them: from the start of the container, going on where clocks jump."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

# libavformat's flags of bare streams, which tell no time, and of containers whose clock may begin
# anew midway, such as MPEG-TS.
_NO_TIMES = 0x0080
_MAY_JUMP = 0x0200
# ffmpeg's own thresholds: ahead (-dts_delta_threshold), and back.
AHEAD_S, BACK_S = 10.0, 0.1
FAR_S = 1  # after the frame before, as few are
# A stream that starts so long after or before another does not share its clock: one counts from
# 1970, or from when the machine was started.
OWN_CLOCK_S = 3600.0


def may_jump(container: Any) -> bool:
    """Whether the clock of a container may begin anew midway, so that it tells no length for sure.

    Args:
        container: As PyAV opens it.
    """
    return bool(container.format.flags & _MAY_JUMP)


def is_uncut(container: Any) -> bool:
    """Whether libavformat itself cuts what is there into packets: no container did before it.

    Args:
        container: As PyAV opens it.
    """
    return bool(container.format.flags & (_NO_TIMES | _MAY_JUMP))


class Clock:
    """Gives the packets of a container times that count from its start.

    Args:
        container: As PyAV opens it.
        video: The stream whose clock counts.
        audio: The other one that is read, or None.

    Attributes:
        audio_ahead_s: By how much the audio's own clock is ahead; 0 where it shares the video's.
    """

    def __init__(self, container: Any, video: Any, audio: Any):
        start = container.start_time
        self._start_s: float | None = None if start is None else start / 1_000_000
        # What is before the start of an edit list is not shown.
        self._edited = container.options.get("advanced_editlist") == "0"
        if self._edited:
            self._start_s = max(0.0, self._start_s or 0.0)
        video_s, audio_s = _start_s(video), _start_s(audio)
        if video_s is not None and abs(video_s - (self._start_s or 0.0)) > OWN_CLOCK_S:
            self._start_s = video_s
        self.audio_ahead_s = 0.0
        if audio_s is not None and self._start_s is not None:
            ahead_s = audio_s - self._start_s
            self.audio_ahead_s = ahead_s if abs(ahead_s) > OWN_CLOCK_S else 0.0
        self._audio = audio.index if audio else None
        self._no_times = bool(container.format.flags & _NO_TIMES)
        # It tells when to decode a frame, and libavformat guesses when to show it.
        self._no_pts = container.format.name == "avi"
        self._may_jump = may_jump(container)
        self._offset_s = 0.0
        self._next_s: dict[int, float] = {}
        # By stream: its time base, and how far its times are moved.
        self._bases: dict[int, Fraction] = {}
        self._moves: dict[int, int] = {}

    def start_by(self, time_s: float) -> None:
        """Has the clock start at the time of the first frame, where that is earlier."""
        if self._start_s is not None and not self._edited:
            self._start_s = min(self._start_s, time_s)

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
            offset_s = self._offset_s - self._start_s
            if stream == self._audio:
                offset_s -= self.audio_ahead_s
            moved = self._moves[stream] = round(offset_s / base)
        if moved:
            if packet.pts is not None:
                packet.pts += moved
            if packet.dts is not None:
                packet.dts += moved


def _start_s(stream: Any) -> float | None:
    """When a stream starts, on the clock of its container; None where nothing tells."""
    if stream is None or stream.start_time is None:
        return None
    return float(stream.start_time * stream.time_base)


class FrameTimes:
    """The times of decoded frames: those of their packets, unless these make no sense.

    The method is libavcodec's (`best_effort_timestamp`, which PyAV does not give): presentation
    times are trusted until they have gone backwards more often than decoding times have. But frames
    are shown in the order in which they come: one that is said to be far away waits for the next,
    which tells whether it alone is wrong, time passes without frames, or the clock began anew.

    Args:
        base: Seconds of a tick.
        rate: Frames a second, on average, where that is known.

    Attributes:
        disordered: Whether times were not in order.
    """

    def __init__(self, base: Fraction, rate: Fraction | None):
        self._last: dict[str, int] = {}
        self._faults = {"pts": 0, "dts": 0}
        self._shown: int | None = None  # the last one
        self._next = 0
        self._moved = 0  # since the clock began anew
        self._held: tuple[Any, int, Any] | None = None
        self._frame_ticks = max(1, round(1 / (rate * base))) if rate else 1
        self._step = 0  # between the last two whose times were told
        self._far_ticks = round(FAR_S / base)
        self._back_ticks = round(BACK_S / base)
        self.disordered = False

    def add(self, frame: Any, note: Any = None) -> Iterator[tuple[Any, int, Any]]:
        """Takes the next frame; yields those whose times are known now.

        Args:
            frame: As the decoder gave it.
            note: Anything, which is given back with it.

        Yields:
            A frame, its presentation time in ticks, and the note.
        """
        told = self._told(frame)
        if told is not None:
            time = told + self._moved
            if self._shown is not None and time > self._shown:
                self._step = min(time - self._shown, self._far_ticks)
        elif self._shown is not None and self._step:
            time = self._shown + self._step  # a decoder's last frames may come without
        else:
            time = self._next
        if self._held is not None:
            held, held_time, held_note = self._held
            self._held = None
            if self._is_back(held_time) and self._is_back(time):
                move = self._next - held_time
                self._moved += move
                held_time, time = held_time + move, time + move
                self.disordered = True
            elif self._is_back(held_time) or held_time > time:
                held_time = min(self._next, time)
                self.disordered = True
            yield held, self._show(held, held_time), held_note
        if self._is_back(time) or self._is_far(time):
            self._held = frame, time, note
        else:
            yield frame, self._show(frame, time), note

    def end(self) -> Iterator[tuple[Any, int, Any]]:
        """Yields the frame that waits, if one does."""
        if self._held is not None:
            frame, time, note = self._held
            yield frame, self._show(frame, time), note

    def _is_back(self, time: int) -> bool:
        return self._shown is not None and self._shown - time > self._back_ticks

    def _is_far(self, time: int) -> bool:
        return self._shown is not None and time - self._shown > self._far_ticks

    def _told(self, frame: Any) -> int | None:
        for name in ("pts", "dts"):
            value = getattr(frame, name)
            if value is not None:
                # What is far off is no wrong order: that is a packet or a clock.
                back = self._last.get(name, value - 1) - value
                self._faults[name] += 0 <= back <= self._far_ticks
                self._last[name] = value
        trusted = frame.dts is None or self._faults["pts"] <= self._faults["dts"]
        # A bare stream tells no time at all.
        return frame.pts if frame.pts is not None and trusted else frame.dts

    def _show(self, frame: Any, time: int) -> int:
        self._shown = time if self._shown is None else max(time, self._shown)
        self._next = self._shown + (frame.duration or self._frame_ticks)
        return self._shown
