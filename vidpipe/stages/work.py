"""What makes two extractions the same work: the bytes, the options, the decoder."""

from __future__ import annotations

import dataclasses
from typing import Any

from vidpipe.config import ExtractSettings
from vidpipe.lake import layout
from vidpipe.media import ExtractOptions, decoder_version


def extract_config(params: dict[str, Any], defaults: ExtractSettings) -> dict[str, Any]:
    """How a run with these parameters extracts; what they leave out is as configured."""
    short_side = params.get("short_side")  # 0 is a choice
    options = ExtractOptions(
        # A form sends 2.0 as 2, which is to be the same work.
        fps=float(params.get("fps") or defaults.fps),
        short_side=defaults.short_side if short_side is None else short_side,
        jpeg_quality=params.get("jpeg_quality") or defaults.jpeg_quality,
    )
    return {"options": dataclasses.asdict(options), "decoder": decoder_version()}


def extract_work_key(video_id: str, config: dict[str, Any]) -> str:
    """The work of extracting a video as `extract_config` says."""
    options = sorted(config["options"].items())
    return layout.make_work_key(video_id, "extract", f"{config['decoder']} {options}")
