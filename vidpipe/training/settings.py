"""How a network is trained. Light on purpose: forms and plans read it without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

SCHEDULES = {
    "cosine": "up for a while, then down to nothing along half a cosine",
    "constant": "up for a while, then the same",
}
PRECISIONS = {
    "float32": "as processors compute",
    "bfloat16": "twice as fast on newer GPUs; weights stay in float32",
    "float16": "for GPUs that know no bfloat16",
}


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        epochs: Passes over the training clips, at most.
        batch_size: Clips a step, of all devices together.
        learning_rate: The largest size of AdamW's steps (Loshchilov & Hutter 2019).
        augmentation: Whether clips are turned, shifted, sheared and zoomed.
        seed: Of the order, the augmentation and dropout.
        schedule: A key of `SCHEDULES` (cosine: Loshchilov & Hutter 2017).
        warmup_share: Share of the steps in which the learning rate grows from zero.
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
    """

    epochs: int
    batch_size: int
    learning_rate: float
    augmentation: bool
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
