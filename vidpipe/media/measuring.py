"""How long a video is, how many frames it has and at what rate: by its header, and as it was read.

A header is believed as long as nothing contradicts it. A recorder that was stopped, or that wrote
into a pipe, filled in none; one that was killed, too little; others count from the clock's zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vidpipe.media.parts import VideoInfo

# Less than this is rounding, or what codecs of audio add at the end.
DURATION_SLACK_S = 0.1
# Rates that differ less are the same: times are rounded, and rates vary.
RATE_SLACK, ROUNDING_S = 0.05, 0.002
# A stream without a container of packets may have those of the two fields of an interlaced frame.
FIELDS = 2


class Measured(NamedTuple):
    """What is taken to be true of a video."""

    duration_s: float
    fps: float | None
    frame_count: int | None


class Measurement:
    """Measures a video while it is read.

    Args:
        in_fields: Whether packets may hold fields: of bare streams, which no container cut.
    """

    def __init__(self, *, in_fields: bool):
        self._in_fields = in_fields
        self._packets = self._frames = 0
        self._first_s: float | None = None
        self._last_s = self._end_s = self._audio_end_s = 0.0

    def add_packet(self, time_s: float | None, duration_s: float) -> None:
        """Takes a packet with a frame that is to be shown; its time is None where nothing tells."""
        self._packets += 1
        if time_s is not None:
            self._add_time(time_s)
            self._end_s = max(self._end_s, time_s + duration_s)

    def add_frame(self, time_s: float) -> None:
        """Takes a frame that was decoded."""
        self._frames += 1
        self._add_time(time_s)

    def add_audio(self, end_s: float) -> None:
        """Takes audio that ends then."""
        self._audio_end_s = max(self._audio_end_s, end_s)

    def _add_time(self, time_s: float) -> None:
        self._first_s = time_s if self._first_s is None else min(self._first_s, time_s)
        self._last_s = max(self._last_s, time_s)

    def result(
        self, info: VideoInfo, header_durations_s: Iterable[float], *, whole: bool, cut: bool
    ) -> Measured:
        """What is true, for all that is known.

        Args:
            info: What the header tells.
            header_durations_s: What its duration may mean: counted from zero, or from the start.
            whole: Whether nothing is missing, so that what was read tells the rate.
            cut: Whether the file ends before its end, of which only the header tells then.
        """
        span_s = self._last_s - (self._first_s or 0.0)
        fps, count = info.fps, max(self._packets, self._frames)
        if self._in_fields and fps and round(count / (span_s * fps + 1)) == FIELDS:
            count //= FIELDS
        if whole and count > 1 and span_s > 0:
            measured = (count - 1) / span_s
            if fps is None or abs(measured / fps - 1) > max(RATE_SLACK, ROUNDING_S / span_s):
                fps = measured
        frame_s = 1 / fps if fps else 0.0
        end_s = max(self._end_s, self._last_s + frame_s)
        if self._audio_end_s - end_s > DURATION_SLACK_S:
            end_s = self._audio_end_s
        told_s = min(header_durations_s, key=lambda told: abs(told - end_s))
        agrees = told_s > 0 and abs(told_s - end_s) <= DURATION_SLACK_S + frame_s
        return Measured(
            duration_s=told_s if agrees or (cut and told_s > end_s) else end_s,
            fps=fps,
            frame_count=count if whole else max(count, info.frame_count or 0),
        )
