"""What a model must show before it is trusted. Light on purpose: forms and plans read it."""

from __future__ import annotations

from dataclasses import dataclass

SLICE_VIDEOS = 30  # a slice of fewer says too little
PREVIEW_VIDEOS = 200  # that a model looks at for those who are to approve
# The metric by which models are compared: of one label a video, and of several.
HEADLINES = {"accuracy": "accuracy", "map": "mean average precision"}


@dataclass(frozen=True)
class Gate:
    """When a model becomes the champion, and when its labels are accepted.

    Attributes:
        margin: By more than this its headline metric must be above that of the champion.
        confidence: In which share of resamples of the test videos that must be so.
        slice_limit: By how much it may be worse on a slice of at least `SLICE_VIDEOS`.
        accept_precision: Share of the labels with a score of the threshold or more that are right.
    """

    margin: float = 0.0
    confidence: float = 0.9
    slice_limit: float = 0.1
    accept_precision: float = 0.9
