"""What makes two extractions the same work: the bytes, the options, the decoder."""

from __future__ import annotations

import dataclasses
from typing import Any

from vidpipe.config import ExtractSettings
from vidpipe.lake import layout
from vidpipe.media import ExtractOptions, decoder_version


def extract_config(params: dict[str, Any], defaults: ExtractSettings) -> dict[str, Any]:
    """How a run with these parameters extracts; what they leave out is as configured."""
    options = {}
    for field in dataclasses.fields(ExtractOptions):
        default = getattr(defaults, field.name)
        value = params.get(field.name)
        # A form sends 2.0 as 2, which is to be the same work; and 0 is a choice.
        options[field.name] = default if value is None else type(default)(value)
    return {"options": dataclasses.asdict(ExtractOptions(**options)), "decoder": decoder_version()}


def extract_work_key(video_id: str, config: dict[str, Any]) -> str:
    """The work of extracting a video as `extract_config` says."""
    options = sorted(config["options"].items())
    return layout.make_work_key(video_id, "extract", f"{config['decoder']} {options}")
