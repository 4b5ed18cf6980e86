"""Some frames of each shot; the shots are found by PySceneDetect among all frames.

A shot's end is not known while it lasts. So of its frames some are held, evenly spaced: each time
there are too many, every second one is let go. At the end those are kept that lie nearest to the
middles of its equal parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import (
    AdaptiveDetector,
    ContentDetector,
    HashDetector,
    HistogramDetector,
    ThresholdDetector,
)

from vidpipe.media.sampling import All, Decoded

_DETECTORS = {
    "content": ContentDetector,
    "adaptive": AdaptiveDetector,
    "histogram": HistogramDetector,
    "hash": HashDetector,
    "threshold": ThresholdDetector,
}
# The width at which PySceneDetect itself looks at frames.
LOOK_WIDTH = 256
USUAL_RATE = 25.0
HELD_A_FRAME = 4


class Scenes(All):
    """Keeps some frames of each shot.

    Args:
        rate: Frames a second, on average; None where that is not known.
        detector: A word of `vidpipe.media.options.DETECTORS`.
        frames_per_shot: How many.
        hold: Turns a decoded frame into its picture, which takes less memory.
    """

    def __init__(
        self,
        rate: float | None,
        detector: str,
        frames_per_shot: int,
        hold: Callable[[Decoded], Any],
    ):
        super().__init__(rate)
        self._detector = _DETECTORS[detector]()
        self._of_shot = frames_per_shot
        self._hold = hold
        self._fps = rate or USUAL_RATE
        self._number = 0  # of the frame at hand, among all
        self._start = 0  # of the shot at hand
        self._step = 1
        self._held: list[tuple[int, Decoded]] = []

    def moments_between(self, start_s: float, end_s: float) -> Iterator[float]:
        """None: what a shot is without its frames nobody can tell."""
        yield from ()

    def choose(self, decoded: Decoded) -> Iterator[Decoded]:
        cuts = self._detector.process_frame(
            FrameTimecode(self._number, self._fps), _look(decoded.frame)
        )
        if not self._held or (self._number - self._start) % self._step == 0:
            self._hold(decoded)
            self._held.append((self._number, decoded))
            if len(self._held) > HELD_A_FRAME * self._of_shot:
                del self._held[1::2]
                self._step *= 2
        self._number += 1
        for cut in cuts:
            yield from self._close(cut.frame_num)

    def end(self) -> Iterator[Decoded]:
        for cut in self._detector.post_process(FrameTimecode(self._number, self._fps)):
            yield from self._close(cut.frame_num)
        yield from self._close(self._number)

    def _close(self, end: int) -> Iterator[Decoded]:
        """Ends the shot at hand before the frame with this number."""
        shot = [held for held in self._held if held[0] < end]
        self._held = self._held[len(shot) :]
        part = (end - self._start) / self._of_shot
        chosen: dict[int, Decoded] = {}
        for n in range(self._of_shot if shot else 0):
            middle = self._start + (n + 0.5) * part
            number, decoded = min(shot, key=lambda held: abs(held[0] - middle))
            chosen[number] = decoded
        self._start, self._step = end, 1
        yield from chosen.values()


def _look(frame: Any) -> np.ndarray:
    width = min(LOOK_WIDTH, frame.width)
    height = max(1, round(frame.height * width / frame.width))
    return frame.reformat(width, height, "bgr24", interpolation="AREA", threads=1).to_ndarray()
