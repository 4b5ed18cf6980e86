"""How a network is trained. Light on purpose: forms and plans read it without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidpipe.datasets.presets import Augmentation
from vidpipe.errors import UsageError
from vidpipe.models.architectures import Network, Sampling, chosen, find_defaults

SCHEDULES = {
    "cosine": "up for a while, then down to nothing along half a cosine",
    "constant": "the same from the first step to the last",
}
PRECISIONS = {
    "float32": "as processors compute",
    "bfloat16": "twice as fast on newer GPUs; weights stay in float32",
    "float16": "for GPUs that know no bfloat16",
}


WINDOW_S = 2.0  # of labels with times


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        epochs: Passes over the training clips, at most.
        batch_size: Clips a step, of all devices together.
        learning_rate: The largest size of AdamW's steps (Loshchilov & Hutter 2019).
        augmentation: A key of `vidpipe.datasets.presets.PRESETS`.
        seed: Of the order, the augmentation and dropout.
        schedule: A key of `SCHEDULES` (cosine: Loshchilov & Hutter 2017).
        warmup_share: Share of the steps in which the learning rate grows from zero, where it is not
            constant.
        weight_decay: AdamW's; of kernels only.
        label_smoothing: Share of the truth that is spread over all classes (Szegedy et al. 2016).
        balanced: Whether all classes count the same, however many clips they have.
        ema: Momentum of the average of the weights over the steps, which is what is kept of the
            training (Polyak & Juditsky 1992); 0: the weights themselves are.
        patience: Epochs without a better validation loss after which the training ends; 0: it never
            does.
        accumulation: Pieces in which a batch is learnt from, one after the other, so that less of
            it is in memory at a time; their gradients are added up.
        precision: A key of `PRECISIONS` (float16: Micikevicius et al. 2018).
        mirrored: Whether augmentation mirrors half of the clips: left and right mean the same.
        mix: How each clip is mixed with another, a key of `vidpipe.datasets.presets.MIXES`.
        oversampling: Clips of rare classes come so many times an epoch at most, until these are as
            frequent as others.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    augmentation: str
    seed: int
    schedule: str = "cosine"
    warmup_share: float = 0.05
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    balanced: bool = False
    ema: float = 0.0
    patience: int = 0
    accumulation: int = 1
    precision: str = "float32"
    mirrored: bool = False
    mix: str = "none"
    oversampling: int = 1

    def __post_init__(self):
        _ = self.of_clips  # there may be nothing of such a name

    @property
    def of_clips(self) -> Augmentation:
        """What is done to clips."""
        return Augmentation(self.augmentation, self.mirrored, self.mix)


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a training is, in full: what is not chosen is as its architecture has it.

    Args:
        config: Chosen fields of `Network`, `Sampling` and `FitSettings`, and `weights` (URI of a
            weights file for the backbone); null or left out: not chosen.

    Returns:
        All of these fields.

    Raises:
        UsageError: They contradict each other.
    """
    given = {name: value for name, value in config.items() if value is not None}
    backbone, weights = given.get("backbone"), given.get("weights")
    # Weights from elsewhere are good as they are, chance ones are not.
    fine_tune = given.get("fine_tune", backbone is not None and not weights)
    if weights and not backbone:
        raise UsageError(f"Weights are for a backbone: choose one. Received: {weights!r}")
    if backbone and not weights and not fine_tune:
        raise UsageError(
            f"The backbone {backbone} has random weights, which must learn. Fetch pretrained ones"
            " (`vidpipe fetch-weights` lists them), name a file in weights, or choose fine_tune."
        )
    spec = find_defaults(given.get("architecture", ""), backbone, fine_tune)
    defaults = {
        **{f.name: f.default for kind in (Network, FitSettings) for f in dataclasses.fields(kind)},
        **dataclasses.asdict(spec.sampling),
        **{
            name: getattr(spec, name)
            for name in ("epochs", "batch_size", "learning_rate", "dropout", "schedule")
        },
        "augmentation": "article",
        "seed": 0,
    }
    fields = {**defaults, **given, "fine_tune": fine_tune}
    if fields["sliding"]:
        # A label of a moment is shorter than most videos.
        fields["window_s"] = given.get("window_s", WINDOW_S)
        if fields["clips"] > 1:
            raise UsageError(
                "Of labels with times the windows follow each other: how many clips of a video"
                f" there are is not chosen. Received: {fields['clips']} clips."
            )
    parts = (chosen(kind, fields) for kind in (Network, Sampling, FitSettings))
    whole = {name: value for part in parts for name, value in dataclasses.asdict(part).items()}
    return {**whole, "weights": weights}
