"""How long decoding a video may take, by the clock and in CPU.

A container can claim any length, so the length alone bounds nothing: the bytes do, too. Frames of a
4K screen recording in which nothing moves, the most work for their bytes that was seen, take up to
66 µs of CPU a byte (AV1, and 60 µs VP9; at 1080p 15 µs; of usual videos below 1 µs).
"""

from __future__ import annotations

from dataclasses import dataclass

BASE_S, S_PER_S, S_PER_BYTE = 60.0, 20.0, 500e-6
DEFAULT_MAX_S = 7200.0


@dataclass(frozen=True)
class DecodeLimit:
    """The most that decoding a video may take.

    Attributes:
        max_s: Seconds, whatever the length of the video and of its file.
        setting: Where `max_s` is set, for messages.
    """

    max_s: float = DEFAULT_MAX_S
    setting: str = "[extract] max_decode_s"

    def seconds(self, duration_s: float, size_bytes: int) -> float:
        """The limit of a video, as long as nothing is known of it but this.

        Args:
            duration_s: What its container claims, or what was read where that is more.
            size_bytes: Of its file.
        """
        return min(BASE_S + S_PER_S * duration_s, BASE_S + S_PER_BYTE * size_bytes, self.max_s)

    def describe(self, limit_s: float, size_bytes: int) -> str:
        """Tells where a limit comes from, and what to do about it."""
        if limit_s >= self.max_s:
            return (
                f"{limit_s:.0f} s, the limit of {self.setting}. Raise it, and run:"
                " vidpipe retry --reason timed_out"
            )
        if limit_s >= BASE_S + S_PER_BYTE * size_bytes:
            return (
                f"{limit_s:.0f} s, the limit of a file of {size_bytes / 1e6:.2f} MB, whatever"
                " length its container claims."
            )
        return f"{limit_s:.0f} s, the limit of a video of its length."
