"""Fields of the form of `ingest`: what is kept of a video, and what is tried again."""

from __future__ import annotations

from airflow.sdk import Param

from vidpipe.config import ExtractSettings
from vidpipe.media import options
from vidpipe.reasons import RETRY_REASONS


def extraction_params(defaults: ExtractSettings) -> dict[str, Param]:
    """What is kept of a video; what the form does not ask for is as configured."""

    def number(name: str, title: str, description: str, low: float, high: float):
        default = getattr(defaults, name)
        kind = "integer" if isinstance(default, int) else "number"
        return name, Param(
            default,
            type=kind,
            minimum=low,
            maximum=high,
            title=title,
            description=description,
            section="Extraction",
        )

    def choice(name: str, title: str, words: dict[str, str], description: str):
        return name, Param(
            getattr(defaults, name),
            type="string",
            enum=list(words),
            values_display={word: f"{word}: {told}" for word, told in words.items()},
            title=title,
            description=description,
            section="Extraction",
        )

    fields = [
        choice(
            "sampling",
            "Sampling",
            options.SAMPLINGS,
            "Which frames are kept. Each keeps its own time, whatever is chosen.",
        ),
        number(
            "fps",
            "Frames a second",
            "How many are kept of each second of video, for the samplings fps and reference. What"
            " is known keeps those it has, but for videos that are tried again.",
            0.001,
            120,
        ),
        choice("detector", "Shots are found by", options.DETECTORS, "For the sampling scenes."),
        number("frames_per_shot", "Frames a shot", "For the sampling scenes.", 1, 100),
        number(
            "short_side",
            "Shorter side in pixels",
            "Kept frames are made this small, never larger; 0 keeps their size.",
            0,
            4320,
        ),
        number(
            "width",
            "Exact width in pixels",
            "With a height: all frames get this very size, whatever the shorter side; 0: no.",
            0,
            16384,
        ),
        number("height", "Exact height in pixels", "With a width; 0: no.", 0, 16384),
        choice("fit", "To get an exact size", options.FITS, "Nothing is ever stretched."),
        number(
            "jpeg_quality",
            "JPEG quality",
            "1 is worst and smallest, 100 is best; 90 shows no loss.",
            1,
            100,
        ),
        choice(
            "missing_frames",
            "Frames that do not decode",
            options.MISSING_FRAMES,
            "What stands for them; rows that are made up say so (imputed_by).",
        ),
        choice(
            "missing_audio",
            "Sound that is not there",
            options.MISSING_AUDIO,
            "What stands for it; rows that are made up say so (imputed_by).",
        ),
        number(
            "max_missing_share",
            "Share of frames that may be missing",
            "A video that lacks more of its frames is quarantined.",
            0,
            1,
        ),
        number(
            "video_track",
            "Video track",
            "Number of the video track, from 1. Videos without such a track are quarantined. The"
            " default, 0, takes the track that FFmpeg would take.",
            0,
            1000,
        ),
        number("audio_track", "Audio track", "The same for audio.", 0, 1000),
        (
            "audio_language",
            Param(
                defaults.audio_language,
                type="string",
                pattern="^([a-z]{3})?$",
                title="Audio language",
                description=(
                    "Takes the audio track of this language where there is one: an ISO 639-2 code"
                    " such as eng or deu. Empty, the default, takes any language."
                ),
                section="Extraction",
            ),
        ),
    ]
    return dict(fields)


def retry_params() -> dict[str, Param]:
    """What is to be tried again though nothing changed."""
    return {
        "retry_reasons": Param(
            None,
            type=["null", "array"],
            items={"type": "string", "enum": list(RETRY_REASONS)},
            examples=list(RETRY_REASONS),
            title="Try again for these reasons",
            description=(
                "Videos that were quarantined or failed for one of them, such as truncated, are "
                "tried once more, before the new ones. None chosen: none are."
            ),
            section="Try again",
        ),
        "retry_videos": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            title="Try these videos again",
            description=(
                "A video_id or a URI (s3://bucket/key) a line. What is done is not done twice, "
                "unless frames a second, size or quality are other than they were."
            ),
            section="Try again",
        ),
    }
