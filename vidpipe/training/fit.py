"""Fitting a network: watched by epoch, the same for the same seed, stoppable between steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from vidpipe.datasets.pipeline import plain_batches, training_batches
from vidpipe.errors import BadInputError


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        epochs: Passes over the training clips.
        batch_size: Clips a step.
        learning_rate: Adam's.
        augmentation: Whether clips are turned, shifted, sheared and zoomed.
        seed: Of the order, the augmentation and dropout.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    augmentation: bool
    seed: int


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch.

    Attributes:
        number: From one.
        metrics: `train_loss`, `train_accuracy`, and the same for `validation`.
        left_s: Seconds that the other epochs will take.
    """

    number: int
    metrics: dict[str, float]
    left_s: float


def make_repeatable(seed: int) -> None:
    """Seeds everything, before a network is built; on one machine the same seed gives the same."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def fit(
    model: keras.Model,
    clips: np.ndarray,
    labels: np.ndarray,
    *,
    train: np.ndarray,
    validation: np.ndarray,
    settings: FitSettings,
    on_epoch: Callable[[Epoch], None],
) -> None:
    """Trains with Adam on categorical cross-entropy; keeps the weights of the best validation loss.

    Args:
        model: An untrained network.
        clips: uint8 `(videos, frames, height, width, 3)`; may be memory-mapped.
        labels: One-hot `(videos, classes)`.
        train: Rows to learn from.
        validation: Rows to choose the best epoch by; none: the last is kept.
        settings: How.
        on_epoch: Called after each epoch.

    Raises:
        BadInputError: The loss is NaN or infinite.
    """
    model.compile(
        keras.optimizers.Adam(settings.learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    callbacks: list[keras.callbacks.Callback] = [_Watch(settings.epochs, on_epoch)]
    validation_data = None
    if len(validation):
        validation_data = plain_batches(
            clips, validation, labels[validation], batch_size=settings.batch_size
        )
        # For the best weights only: a network may stand still for long before it learns.
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_loss", patience=settings.epochs, restore_best_weights=True
            )
        )
    model.fit(
        training_batches(
            clips,
            train,
            labels[train],
            batch_size=settings.batch_size,
            augment=settings.augmentation,
            seed=settings.seed,
        ),
        validation_data=validation_data,
        epochs=settings.epochs,
        callbacks=callbacks,
        shuffle=False,  # the batches are
        verbose=0,
    )


class _Watch(keras.callbacks.Callback):
    def __init__(self, epochs: int, on_epoch: Callable[[Epoch], None]):
        super().__init__()
        self._epochs = epochs
        self._on_epoch = on_epoch

    def on_train_begin(self, logs=None):
        self._started_s = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        metrics = {
            f"validation_{name[4:]}" if name.startswith("val_") else f"train_{name}": float(value)
            for name, value in logs.items()
        }
        number = epoch + 1
        if not np.isfinite(metrics["train_loss"]):
            raise BadInputError(
                f"The loss is NaN or infinite in epoch {number}: try a lower learning rate."
            )
        each_s = (time.monotonic() - self._started_s) / number
        self._on_epoch(Epoch(number, metrics, each_s * (self._epochs - number)))
