"""Fitting a network: watched by epoch, the same for the same seed, stoppable between steps.

The loop is our own because that of Keras knows no place within an epoch: it could go on only from
where an epoch ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vidpipe.datasets.pipeline import plain_batches, steps_per_epoch, training_batches
from vidpipe.errors import BadInputError, StoppedError
from vidpipe.training.checkpoints import Checkpoint, Checkpoints


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
    checkpoints: Checkpoints | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> list[dict[str, float]]:
    """Trains with Adam on categorical cross-entropy; keeps the weights of the best validation loss.

    With checkpoints it goes on where an earlier attempt at the same training was ended. What comes
    of it is the same as without an end: on a CPU, after `make_repeatable`, to the last bit.

    Args:
        model: An untrained network.
        clips: uint8 `(videos, frames, height, width, 3)`; may be memory-mapped.
        labels: One-hot `(videos, classes)`.
        train: Rows to learn from.
        validation: Rows to choose the best epoch by; none: the last is kept.
        settings: How.
        on_epoch: Called after each epoch. One that an earlier attempt told of may be told again,
            with the same metrics.
        checkpoints: Where to go on from and what to keep; None: it begins anew, and keeps nothing.
        stopping: Asked between steps; once it is true, a checkpoint is kept and the training ends.

    Returns:
        The metrics of each epoch.

    Raises:
        BadInputError: The loss is NaN or infinite.
        StoppedError: `stopping` said so.
    """
    model.compile(
        keras.optimizers.Adam(settings.learning_rate),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    size = settings.batch_size
    loop = _Loop(model, settings.epochs, steps_per_epoch(len(train), size), checkpoints, stopping)
    loop.resume()
    batches = training_batches(
        clips,
        train,
        labels[train],
        batch_size=size,
        augment=settings.augmentation,
        seed=settings.seed,
        epochs=settings.epochs,
        first_step=loop.state.step,
    )
    validation_batches = None
    if len(validation):
        validation_batches = plain_batches(clips, validation, labels[validation], batch_size=size)
    for epoch in loop.run(batches, validation_batches):
        on_epoch(epoch)
    return loop.state.history


class _State:
    """All that a training is between two steps.

    Attributes:
        step: Steps that were done; those of an epoch are done before it ends.
        history: The metrics of the epochs that ended.
        best_loss: The lowest validation loss so far.
        best: The weights that had it; none before.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        model.optimizer.build(model.trainable_variables)
        self.loss = keras.metrics.Mean()
        self.accuracy = keras.metrics.CategoricalAccuracy()
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.best_loss = math.inf
        self.best: list[np.ndarray] = []

    def checkpoint(self) -> Checkpoint:
        arrays = {
            kind: [variable.value.numpy() for variable in variables]
            for kind, variables in self._variables().items()
        }
        facts = {"history": self.history, "best_loss": self.best_loss}
        return Checkpoint(self.step, {**arrays, "best": self.best}, facts)

    def restore(self, checkpoint: Checkpoint) -> bool:
        """Goes on from a checkpoint; False, and nothing is changed, where it does not fit."""
        variables = self._variables()
        arrays = {kind: checkpoint.arrays.get(kind, []) for kind in variables}
        if _forms(arrays) != _forms(variables):
            return False
        for kind in variables:
            for variable, array in zip(variables[kind], arrays[kind], strict=True):
                variable.assign(array)
        self.step = checkpoint.step
        self.history = checkpoint.facts["history"]
        self.best_loss = checkpoint.facts["best_loss"]
        self.best = checkpoint.arrays["best"]
        return True

    def _variables(self) -> dict[str, list[keras.Variable]]:
        return {
            # With the states of the random numbers of its layers, which its weights are without.
            "model": self._model.variables,
            "optimizer": self._model.optimizer.variables,
            # Those of training: the sums over the steps of an epoch that has not ended.
            "metrics": [*self.loss.variables, *self.accuracy.variables],
        }


def _forms(arrays: dict[str, list[Any]]) -> dict[str, list[tuple[tuple[int, ...], str]]]:
    return {
        kind: [(tuple(a.shape), keras.backend.standardize_dtype(a.dtype)) for a in of_kind]
        for kind, of_kind in arrays.items()
    }


class _Loop:
    def __init__(
        self,
        model: keras.Model,
        epochs: int,
        steps: int,
        checkpoints: Checkpoints | None,
        stopping: Callable[[], bool],
    ):
        self.state = _State(model)
        self._model = model
        self._epochs = epochs
        self._steps = steps
        self._checkpoints = checkpoints
        self._stopping = stopping
        self._kept = 0, 0  # steps and epochs of the newest checkpoint
        self._validation = keras.metrics.Mean(), keras.metrics.CategoricalAccuracy()
        self._train_step = self._compiled(self._train)
        self._validation_step = self._compiled(self._validate)

    def resume(self) -> None:
        """Goes on from the newest checkpoint that can be used."""
        if self._checkpoints is None:
            return
        for checkpoint in self._checkpoints.newest_first():
            if self.state.restore(checkpoint):
                of = self._epochs * self._steps
                self._kept = self.state.step, len(self.state.history)
                self._checkpoints.tell(f"goes on after step {self.state.step} of {of}")
                return

    def run(self, batches: tf.data.Dataset, validation: tf.data.Dataset | None) -> Iterator[Epoch]:
        """Does the steps that are left; yields what is known at the end of each epoch."""
        state, iterator = self.state, iter(batches)
        started_s, first_step = time.monotonic(), state.step
        for number in range(len(state.history) + 1, self._epochs + 1):
            while state.step < number * self._steps:
                self._train_step(iterator)
                state.step += 1
                self._between_steps()
            metrics = {
                "train_accuracy": float(state.accuracy.result()),
                "train_loss": float(state.loss.result()),
            }
            if not np.isfinite(metrics["train_loss"]):
                raise BadInputError(
                    f"The loss is NaN or infinite in epoch {number}: try a lower learning rate."
                )
            if validation is not None:
                metrics |= self._validated(validation)
                # For the best weights only: a network may stand still for long before it learns.
                if metrics["validation_loss"] < state.best_loss:
                    state.best_loss = metrics["validation_loss"]
                    state.best = self._model.get_weights()
            state.history.append(metrics)
            state.loss.reset_state()
            state.accuracy.reset_state()
            left = self._epochs * self._steps - state.step
            each_s = (time.monotonic() - started_s) / max(1, state.step - first_step)
            yield Epoch(number, metrics, each_s * left)
        self._between_steps()
        if state.best:
            self._model.set_weights(state.best)

    def _between_steps(self) -> None:
        """Here, and only here, the state is whole."""
        stopping = self._stopping()
        # Validation changes nothing that is kept, however long it takes.
        changed = self._kept != (self.state.step, len(self.state.history))
        if self._checkpoints is not None and changed and (stopping or self._checkpoints.due()):
            if self._checkpoints.save(self.state.checkpoint()):
                self._kept = self.state.step, len(self.state.history)
        if stopping:
            raise StoppedError(f"Stopped by a signal after training step {self.state.step}.")

    def _validated(self, batches: tf.data.Dataset) -> dict[str, float]:
        loss, accuracy = self._validation
        loss.reset_state()
        accuracy.reset_state()
        iterator = iter(batches)
        for _ in range(int(batches.cardinality())):
            self._validation_step(iterator)
            self._between_steps()  # the epoch has not ended: it is validated anew
        return {
            "validation_accuracy": float(accuracy.result()),
            "validation_loss": float(loss.result()),
        }

    def _compiled(self, step: Callable) -> Callable:
        """A step on the next batch, compiled as Keras does it."""
        if self._model.jit_compile:
            step = tf.function(step, jit_compile=True, reduce_retracing=True)
        return tf.function(lambda iterator: step(*next(iterator)), reduce_retracing=True)

    def _train(self, clips: tf.Tensor, labels: tf.Tensor) -> None:
        model = self._model
        with tf.GradientTape() as tape:
            scores = model(clips, training=True)
            loss = model.compute_loss(x=clips, y=labels, y_pred=scores, training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        self.state.loss.update_state(loss, sample_weight=tf.shape(labels)[0])
        self.state.accuracy.update_state(labels, scores)

    def _validate(self, clips: tf.Tensor, labels: tf.Tensor) -> None:
        scores = self._model(clips, training=False)
        value = self._model.compute_loss(x=clips, y=labels, y_pred=scores, training=False)
        loss, accuracy = self._validation
        loss.update_state(value, sample_weight=tf.shape(labels)[0])
        accuracy.update_state(labels, scores)
