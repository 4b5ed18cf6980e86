"""What is kept of a video, as people choose it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vidpipe.errors import UsageError

SAMPLINGS = {
    "fps": "the first frame at or after each moment n / fps",
    "reference": "the same among reference frames, those that others need: cheaper",
    "keyframes": "frames coded without others: cheapest, at uneven times",
    "scenes": "some frames of each shot",
    "all": "every frame",
}
FITS = {
    "crop": "fill the size, cut off what is over",
    "pad": "show the whole picture, black beside it",
}
MISSING_FRAMES = {
    "drop": "leave them out",
    "repeat": "the last good frame again",
    "interpolate": "a blend of the good frames before and after",
}
MISSING_AUDIO = {"silence": "fill the gap with silence", "drop": "leave the gap"}
DETECTORS = {
    "content": "cuts, by change of colour and light",
    "adaptive": "cuts, by more change than around them: for fast motion",
    "histogram": "cuts, by the histogram of light",
    "hash": "cuts, by a perceptual hash",
    "threshold": "fades to black",
}
_LANGUAGE = re.compile("[a-z]{3}")


@dataclass(frozen=True)
class ExtractOptions:
    """What is kept of a video; part of what makes two extractions the same.

    Attributes:
        fps: Frames per second of video, at most; for the samplings `fps` and `reference`.
        short_side: Pixels of the shorter side; pictures that are smaller, or 0, keep their size.
        jpeg_quality: 1 (worst) to 100.
        sampling: Which frames; a word of `SAMPLINGS`.
        width: With `height`, the exact size in pixels, in place of `short_side`; 0: none.
        height: As width.
        fit: How a picture of another shape gets an exact size; a word of `FITS`.
        detector: What finds the shots of the sampling `scenes`; a word of `DETECTORS`.
        frames_per_shot: For the sampling `scenes`.
        missing_frames: What stands for frames that do not decode; a word of `MISSING_FRAMES`.
        missing_audio: What stands for sound that is not there; a word of `MISSING_AUDIO`.
        max_missing_share: A video that lacks a larger share of its frames is not extracted.
        video_track: Number of the video track, from 1; 0: the one that FFmpeg would take.
        audio_track: As video_track, of the audio.
        audio_language: The audio track of this language where there is one: an ISO 639-2 code of
            three letters, such as `deu`; empty: of any language.
        max_duration_s: Longer videos are not extracted.
        max_pixels: Larger pictures are not extracted.

    Raises:
        UsageError: A value is none of those that there are.
    """

    fps: float = 2.0
    short_side: int = 224
    jpeg_quality: int = 90
    sampling: str = "fps"
    width: int = 0
    height: int = 0
    fit: str = "crop"
    detector: str = "content"
    frames_per_shot: int = 1
    missing_frames: str = "drop"
    missing_audio: str = "silence"
    max_missing_share: float = 0.2
    video_track: int = 0
    audio_track: int = 0
    audio_language: str = ""
    max_duration_s: float = 6 * 3600.0
    max_pixels: int = 1 << 26

    def __post_init__(self) -> None:
        for name, words in (
            ("sampling", SAMPLINGS),
            ("fit", FITS),
            ("detector", DETECTORS),
            ("missing_frames", MISSING_FRAMES),
            ("missing_audio", MISSING_AUDIO),
        ):
            if getattr(self, name) not in words:
                raise UsageError(
                    f"{name} must be one of {', '.join(words)}. Received: {getattr(self, name)!r}"
                )
        if bool(self.width) != bool(self.height):
            raise UsageError(
                "An exact size needs both width and height."
                f" Received: width {self.width}, height {self.height}"
            )
        for name, low, high in (
            ("fps", 0.001, 1000),
            ("jpeg_quality", 1, 100),
            ("short_side", 0, 16384),
            ("width", 0, 16384),
            ("height", 0, 16384),
            ("frames_per_shot", 1, 100),
            ("max_missing_share", 0, 1),
            ("video_track", 0, 1000),
            ("audio_track", 0, 1000),
        ):
            if not low <= getattr(self, name) <= high:
                raise UsageError(
                    f"{name} must be from {low} to {high}. Received: {getattr(self, name)!r}"
                )

        if self.audio_language and not _LANGUAGE.fullmatch(self.audio_language):
            raise UsageError(
                "audio_language must be a code of three letters (ISO 639-2), such as eng, or be"
                f" empty. Received: {self.audio_language!r}"
            )

    @property
    def label(self) -> str:
        """The sampling in a few words, as each frame tells it, such as `fps=2`."""
        match self.sampling:
            case "fps":
                return f"fps={self.fps:g}"
            case "reference":
                return f"reference fps={self.fps:g}"
            case "scenes":
                return f"scenes by {self.detector}"
        return self.sampling
