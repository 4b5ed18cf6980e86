"""What a step of a training is made of: the optimizer, its learning rate, and what clips count."""

from __future__ import annotations

import keras
import numpy as np

from vidpipe.training.settings import FitSettings


def make_optimizer(settings: FitSettings, steps: int) -> keras.Optimizer:
    """AdamW with its learning rate by step.

    Args:
        settings: How to train.
        steps: Of the whole training.
    """
    optimizer = keras.optimizers.AdamW(
        _learning_rate(settings, steps),
        weight_decay=settings.weight_decay,
        use_ema=settings.ema > 0,
        ema_momentum=settings.ema or 0.99,
    )
    # What scales and shifts features is no complexity that a decay would have to hold down.
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "embedding", "sharpness"]
    )
    if settings.precision == "float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _learning_rate(
    settings: FitSettings, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if settings.schedule == "constant":
        return settings.learning_rate
    warmup = round(settings.warmup_share * steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else settings.learning_rate,
        max(1, steps - warmup),
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def make_loss(settings: FitSettings, several: bool) -> keras.Loss:
    """Cross-entropy; of each class by itself where a clip may have several."""
    kind = keras.losses.BinaryCrossentropy if several else keras.losses.CategoricalCrossentropy
    return kind(label_smoothing=settings.label_smoothing)


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """What each clip counts so that each class counts the same; one on average.

    Args:
        labels: `(clips, classes)`, 1 where a clip is of a class. One of several classes counts as
            their mean, one of none as one.
    """
    rarity = len(labels) / np.maximum(labels.sum(axis=0), 1)
    of_clip = labels.sum(axis=1)
    weights = np.where(of_clip > 0, labels @ rarity / np.maximum(of_clip, 1), rarity.mean())
    return (weights / weights.mean()).astype(np.float32)


def repeats(labels: np.ndarray, most: int) -> np.ndarray:
    """How often an epoch holds each clip, so that rare classes come about as often as frequent.

    Args:
        labels: `(clips, classes)`, 1 where a clip is of a class. One of several classes comes as
            often as the rarest of them, one of none once.
        most: No clip more often than this.

    Returns:
        Whole numbers of at least one, `(clips,)`.
    """
    counts = np.maximum(labels.sum(axis=0), 1)
    times = np.clip(np.rint(counts.max() / counts), 1, most)
    return np.maximum(1, (labels * times).max(axis=1)).astype(int)
