"""Fitting a network: watched by epoch, the same for the same seed, stoppable between steps.

The loop is our own because that of Keras knows no place within an epoch: it could go on only from
where an epoch ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vidpipe.datasets.pipeline import (
    plain_batches,
    row_weight,
    steps_per_epoch,
    training_batches,
)
from vidpipe.errors import BadInputError, StoppedError, TemporaryError
from vidpipe.training.checkpoints import Checkpoint, Checkpoints
from vidpipe.training.distribution import Replicas, copy_variables


@dataclass(frozen=True)
class FitSettings:
    """How to train.

    Attributes:
        epochs: Passes over the training clips.
        batch_size: Clips a step, of all devices together.
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
    replicas: Replicas | None = None,
) -> list[dict[str, float]]:
    """Trains with Adam on categorical cross-entropy; keeps the weights of the best validation loss.

    With checkpoints it goes on where an earlier attempt at the same training was ended. What comes
    of it is the same as without an end: on a CPU, after `make_repeatable`, to the last bit.

    Args:
        model: An untrained network, on one device.
        clips: uint8 `(videos, frames, height, width, 3)`; may be memory-mapped.
        labels: One-hot `(videos, classes)`.
        train: Rows to learn from.
        validation: Rows to choose the best epoch by; none: the last is kept.
        settings: How.
        on_epoch: Called after each epoch. One that an earlier attempt told of may be told again,
            with the same metrics.
        checkpoints: Where to go on from and what to keep; None: it begins anew, and keeps nothing.
        stopping: Asked between steps; once it is true, a checkpoint is kept and the training ends.
            With several workers it ends in all of them once it is true in one.
        replicas: The devices that train together; None: one. The first worker keeps checkpoints.

    Returns:
        The metrics of each epoch.

    Raises:
        BadInputError: The loss is NaN or infinite.
        StoppedError: `stopping` said so.
        TemporaryError: Workers cannot go on from the same checkpoint.
    """
    replicas = replicas or Replicas()
    learner = replicas.replicate(model)
    with replicas.scope():
        learner.compile(
            keras.optimizers.Adam(settings.learning_rate), loss="categorical_crossentropy"
        )
        learner.optimizer.build(learner.trainable_variables)
    size = settings.batch_size
    steps = steps_per_epoch(len(train), size)
    loop = _Loop(learner, settings.epochs, steps, checkpoints, stopping, replicas)
    loop.resume()
    parts = replicas.parts if replicas.count > 1 else [None]
    batches = [
        training_batches(
            clips,
            train,
            labels[train],
            batch_size=size,
            augment=settings.augmentation,
            seed=settings.seed,
            epochs=settings.epochs,
            first_step=loop.state.step,
            part=part,
        )
        for part in parts
    ]
    validation_batches = [
        plain_batches(clips, validation, labels[validation], batch_size=size, part=part)
        for part in parts
        if len(validation)
    ]
    for epoch in loop.run(batches, validation_batches):
        on_epoch(epoch)
    if learner is not model:
        copy_variables(learner, model)
    return loop.state.history


class _State:
    """All that a training is between two steps.

    Attributes:
        sums: Of the epoch at hand: of the losses of its clips, of its hits, of its clips.
        step: Steps that were done; those of an epoch are done before it ends.
        history: The metrics of the epochs that ended.
        best_loss: The lowest validation loss so far.
        best: The weights that had it; none before.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self.sums = _sums()
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
            "metrics": [self.sums],
        }


def _sums() -> keras.Variable:
    return keras.Variable(np.zeros(3, np.float32), trainable=False, name="sums")


def _means(sums: keras.Variable, of: str) -> dict[str, float]:
    loss, hits, clips = sums.numpy()
    return {f"{of}_accuracy": float(hits / clips), f"{of}_loss": float(loss / clips)}


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
        replicas: Replicas,
    ):
        self.state = _State(model)
        self._model = model
        self._epochs = epochs
        self._steps = steps
        self._checkpoints = checkpoints
        self._stopping = stopping
        self._replicas = replicas
        self._kept = 0, 0  # steps and epochs of the newest checkpoint
        self._validation = _sums()
        self._train_step = self._compiled(self._train, self.state.sums)
        self._validation_step = self._compiled(self._validate, self._validation)

    def resume(self) -> None:
        """Goes on from the newest checkpoint that can be used, all workers from the same."""
        if self._checkpoints is not None:
            first = self._replicas.workers.first
            # Another attempt, which is not quite dead, may be about to keep one more.
            chosen = None if first else self._replicas.of_first(*self._place())
            self._restore(self._checkpoints, chosen)
            if first:
                self._replicas.of_first(*self._place())
            elif self._place() != chosen:
                raise TemporaryError(
                    f"The checkpoint of step {chosen[0]}, from which the first worker goes on,"
                    " cannot be read by this one: all have to start anew."
                )
        if self._replicas.count > 1:
            self._replicas.draw_apart(self._model)

    def _restore(self, checkpoints: Checkpoints, chosen: tuple[int, ...] | None) -> None:
        if chosen == (0, 0):
            return
        for checkpoint in checkpoints.newest_first():
            place = checkpoint.step, len(checkpoint.facts["history"])
            if chosen in (None, place) and self.state.restore(checkpoint):
                self._kept = place
                checkpoints.tell(f"goes on after step {place[0]} of {self._epochs * self._steps}")
                return

    def _place(self) -> tuple[int, int]:
        return self.state.step, len(self.state.history)

    def run(
        self, batches: Sequence[tf.data.Dataset], validation: Sequence[tf.data.Dataset]
    ) -> Iterator[Epoch]:
        """Does the steps that are left; yields what is known at the end of each epoch.

        Args:
            batches: Of each device of this worker.
            validation: Likewise; may be none.
        """
        state, iterators = self.state, [iter(dataset) for dataset in batches]
        started_s, first_step = time.monotonic(), state.step
        for number in range(len(state.history) + 1, self._epochs + 1):
            while state.step < number * self._steps:
                stopping = self._train_step(iterators)
                state.step += 1
                self._between_steps(stopping)
            metrics = _means(state.sums, "train")
            if not np.isfinite(metrics["train_loss"]):
                raise BadInputError(
                    f"The loss is NaN or infinite in epoch {number}: try a lower learning rate."
                )
            if validation:
                metrics |= self._validated(validation)
                # For the best weights only: a network may stand still for long before it learns.
                if metrics["validation_loss"] < state.best_loss:
                    state.best_loss = metrics["validation_loss"]
                    state.best = self._model.get_weights()
            state.history.append(metrics)
            state.sums.assign(np.zeros(3))
            left = self._epochs * self._steps - state.step
            each_s = (time.monotonic() - started_s) / max(1, state.step - first_step)
            yield Epoch(number, metrics, each_s * left)
        self._between_steps(self._stopping())
        if state.best:
            self._model.set_weights(state.best)

    def _between_steps(self, stopping: bool) -> None:
        """Here, and only here, the state is whole."""
        # Validation changes nothing that is kept, however long it takes.
        changed = self._kept != self._place()
        keeps = self._checkpoints is not None and self._replicas.workers.first
        if keeps and changed and (stopping or self._checkpoints.due()):
            if self._checkpoints.save(self.state.checkpoint()):
                self._kept = self._place()
        if stopping:
            raise StoppedError(f"Stopped by a signal after training step {self.state.step}.")

    def _validated(self, batches: Sequence[tf.data.Dataset]) -> dict[str, float]:
        self._validation.assign(np.zeros(3))
        iterators = [iter(dataset) for dataset in batches]
        for _ in range(int(batches[0].cardinality())):
            stopping = self._validation_step(iterators)
            self._between_steps(stopping)  # the epoch has not ended: it is validated anew
        return _means(self._validation, "validation")

    def _compiled(
        self, step: Callable[..., tf.Tensor], sums: keras.Variable
    ) -> Callable[[Sequence[Iterator]], bool]:
        """A step on the next batch, which tells whether the training is to stop after it."""
        if self._replicas.count > 1:
            together = self._replicas.compiled(step, sums)
            return lambda iterators: together(iterators, self._stopping())

        def add(*batch: tf.Tensor) -> None:
            sums.assign_add(step(*batch))

        # As Keras compiles it.
        if self._model.jit_compile:
            add = tf.function(add, jit_compile=True, reduce_retracing=True)
        alone = tf.function(lambda iterator: add(*next(iterator)), reduce_retracing=True)

        def run(iterators: Sequence[Iterator]) -> bool:
            alone(*iterators)
            return self._stopping()

        return run

    def _train(
        self, clips: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Learns from a batch, or a part of one of so many rows; returns what sums grow by."""
        model, each = self._model, self._row_weight(rows)
        with tf.GradientTape() as tape:
            scores = model(clips, training=True)
            loss = self._loss(labels, scores)
            # The gradients of all parts are added up.
            share = loss if rows is None else loss * each * _count(labels) / rows
        gradients = tape.gradient(share, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return _growth(loss, labels, scores) * each

    def _validate(
        self, clips: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor | None = None
    ) -> tf.Tensor:
        scores = self._model(clips, training=False)
        growth = _growth(self._loss(labels, scores), labels, scores)
        return growth * self._row_weight(rows)

    def _loss(self, labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        # Keras divides it by the number of replicas, for parts that are equally large.
        return self._model.compute_loss(y=labels, y_pred=scores) * self._replicas.count

    def _row_weight(self, rows: tf.Tensor | None) -> tf.Tensor | float:
        return 1.0 if rows is None else row_weight(rows, self._replicas.count)


def _growth(loss: tf.Tensor, labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    hits = tf.reduce_sum(keras.metrics.categorical_accuracy(labels, scores))
    count = _count(labels)
    return tf.stack([loss * count, hits, count])


def _count(labels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.shape(labels)[0], tf.float32)
