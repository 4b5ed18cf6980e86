"""Windows: the stretches of a video of which a model sees a clip each; and what it sees there."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vidpipe.models.architectures import Sampling

OVERLAP = 0.5  # of windows that follow each other: nothing falls between two


class Window(NamedTuple):
    """A stretch of a video, and where within it a clip is taken.

    Attributes:
        start_s: Since the start of the container.
        end_s: Likewise.
        shift: Where in each of the equal parts of the window its frame is: 0.5 is the middle.
        crop: Which of the crops of the frames, from left or top.
    """

    start_s: float
    end_s: float
    shift: float = 0.5
    crop: int = 0

    def moments(self, frames: int, finer: int = 1) -> np.ndarray:
        """The times of the frames of a clip, in seconds.

        Args:
            frames: Of the clip.
            finer: So many times as many, evenly around these: an odd number.
        """
        length_s = self.end_s - self.start_s
        moments = self.start_s + (np.arange(frames) + self.shift) / frames * length_s
        around = (np.arange(finer) - finer // 2) / (frames * finer) * length_s
        return (moments[:, None] + around).ravel()


class Segment(NamedTuple):
    """A stretch of a video in which something is seen.

    Attributes:
        start_s: Since the start of the video.
        end_s: Likewise.
        label: What is seen.
        score: The highest of its moments.
    """

    start_s: float
    end_s: float
    label: str
    score: float


def windows_of(sampling: Sampling, start_s: float, end_s: float) -> list[Window]:
    """The windows of a video.

    Args:
        sampling: What a model sees of it.
        start_s: When its first frame is shown.
        end_s: When its last is.

    Returns:
        `sampling.clips` windows for each crop, or, of sliding ones, as many as it takes.
    """
    length_s, window_s = end_s - start_s, sampling.window_s
    if window_s is None:
        shifts = [(number + 0.5) / sampling.clips for number in range(sampling.clips)]
        windows = [Window(start_s, end_s, shift) for shift in shifts]
    else:
        room_s = max(length_s - window_s, 0.0)
        count = sampling.clips
        if sampling.sliding:
            count = 1 + math.ceil(room_s / (window_s * (1 - OVERLAP)) - 1e-9)
        # The only one is in the middle; of several the first begins and the last ends the video.
        starts = np.linspace(0.0, room_s, count) if count > 1 or sampling.sliding else [room_s / 2]
        windows = [
            Window(start_s + float(start), start_s + min(float(start) + window_s, length_s))
            for start in starts
        ]
    return [window._replace(crop=crop) for window in windows for crop in range(sampling.crops)]
