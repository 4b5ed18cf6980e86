"""Fitting a network: watched by epoch, the same for the same seed, stoppable between steps.

The loop is our own because that of Keras knows no place within an epoch: it could go on only from
where an epoch ended.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from vidpipe.datasets.pipeline import (
    Inputs,
    Order,
    Part,
    Pictures,
    failures_of,
    plain_batches,
    row_weight,
    training_batches,
)
from vidpipe.datasets.presets import Augmentation
from vidpipe.errors import DivergedError, OutOfMemoryError, StoppedError, TemporaryError
from vidpipe.models.complexity import kept_bytes
from vidpipe.models.prediction import most_bytes
from vidpipe.training.checkpoints import Checkpoint, Checkpoints
from vidpipe.training.distribution import Replicas, copy_variables
from vidpipe.training.optimizing import balanced_weights, make_loss, make_optimizer, repeats
from vidpipe.training.settings import FitSettings

CLIPS_NAMED = 8  # in a message
LEAST_KEPT = 1 / 3  # of what is computed of a batch: so much is in memory in any case
_POLICIES = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch.

    Attributes:
        number: From one.
        metrics: `train_loss`, `train_accuracy`, and the same for `validation`.
        left_s: Seconds that the other epochs will take.
        trained_s: Seconds of training so far, those of earlier attempts included.
    """

    number: int
    metrics: dict[str, float]
    left_s: float
    trained_s: float


def kept_epoch(history: Sequence[dict[str, float]], settings: FitSettings) -> int:
    """Returns which epoch's weights are kept of a training, from zero.

    At the end of a cosine the weights have come to rest: the last is kept. The lowest validation
    loss before is mostly luck, and grows with the scores while accuracy still gets better (Soudry
    et al. 2018). Of a training without such an end it is the epoch that had the lowest.

    Args:
        history: The metrics of all of its epochs.
        settings: How it was trained.
    """
    last = len(history) - 1
    at_rest = settings.schedule == "cosine" and len(history) == settings.epochs
    losses = [epoch.get("validation_loss", math.nan) for epoch in history]
    # Without validation nothing is ever better, nor worse.
    if at_rest or not np.isfinite(losses).any():
        return last
    return int(np.nanargmin(losses))


def prepare(settings: FitSettings) -> None:
    """Seeds everything and sets the precision, before a network is built.

    On one machine the same seed gives the same.
    """
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()
    keras.config.set_dtype_policy(_POLICIES.get(settings.precision, settings.precision))


def fit(
    model: keras.Model,
    clips: Pictures,
    labels: np.ndarray,
    *,
    train: np.ndarray,
    validation: np.ndarray,
    settings: FitSettings,
    on_epoch: Callable[[Epoch], bool | None],
    sound: np.ndarray | None = None,
    several: bool = False,
    names: Sequence[str] | None = None,
    checkpoints: Checkpoints | None = None,
    stopping: Callable[[], bool] = lambda: False,
    replicas: Replicas | None = None,
) -> list[dict[str, float]]:
    """Trains with AdamW on cross-entropy; keeps the weights of the epoch that `kept_epoch` names.

    With checkpoints it goes on where an earlier attempt at the same training was ended. What comes
    of it is the same as without an end: on a CPU, after `prepare`, to the last bit.

    Args:
        model: An untrained network, on one device.
        clips: What it is given: uint8 `(videos, frames, height, width, 3)`, of which an
            augmentation that chooses moments wants more frames than a clip has, or features of
            clips, which are not augmented; may be memory-mapped, or streamed.
        labels: 1 where a video is of a class, `(videos, classes)`.
        train: Rows to learn from.
        validation: Rows to choose the best epoch by, where one is chosen; may be none.
        settings: How.
        on_epoch: Called after each epoch; the training ends with one of which it says True. One
            that an earlier attempt told of may be told again, with the same metrics.
        sound: What is heard in each clip, where the network hears.
        several: Whether a video may have several labels at once.
        names: Of the videos, for messages.
        checkpoints: Where to go on from and what to keep; None: it begins anew, and keeps nothing.
        stopping: Asked between steps; once it is true, a checkpoint is kept and the training ends.
            With several workers it ends in all of them once it is true in one.
        replicas: The devices that train together; None: one. The first worker keeps checkpoints.

    Returns:
        The metrics of each epoch.

    Raises:
        BadInputError: A streamed frame is no JPEG.
        DivergedError: The loss is NaN or infinite: says since which step. The last checkpoint that
            was kept is from before it.
        OutOfMemoryError: A batch does not fit in the memory: says how to make it smaller.
        StoppedError: `stopping` said so.
        TemporaryError: Workers cannot go on from the same checkpoint.
    """
    replicas = replicas or Replicas()
    _require_memory(model, settings, replicas)
    learner = replicas.replicate(model)
    # Features were made of pictures as they are.
    augmentation = settings.of_clips if clips.dtype == np.uint8 else Augmentation()
    size, frames = settings.batch_size, model.inputs[0].shape[1]
    train = np.repeat(train, repeats(labels[train], settings.oversampling))
    order = Order(clips, train, batch_size=size, seed=settings.seed)
    with replicas.scope():
        learner.compile(
            make_optimizer(settings, settings.epochs * order.steps),
            loss=make_loss(settings, several),
        )
        learner.optimizer.build(learner.trainable_variables)
    weights = np.ones(len(labels), np.float32)
    if settings.balanced:
        weights[train] = balanced_weights(labels[train])

    def clips_of(step: int) -> list[str]:
        return [names[row] if names else str(row) for row in train[order.batch(step - 1)]]

    loop = _Loop(learner, settings, order.steps, several, clips_of, checkpoints, stopping, replicas)
    loop.resume()
    parts = replicas.parts if replicas.count > 1 else [None]
    batches = [
        training_batches(
            clips,
            train,
            labels[train],
            weights[train],
            order=order,
            frames=frames,
            augmentation=augmentation,
            seed=settings.seed,
            epochs=settings.epochs,
            sound=sound,
            first_step=loop.state.step,
            part=part,
        )
        for part in parts
    ]
    validation_batches = [
        plain_batches(
            clips,
            validation,
            labels[validation],
            weights[validation],
            # As many as are learnt from at a time.
            batch_size=math.ceil(size / settings.accumulation),
            frames=frames,
            sound=sound,
            part=part,
        )
        for part in parts
        if len(validation)
    ]
    with failures_of(clips), _memory_for(settings):
        for epoch in loop.run(batches, validation_batches):
            loop.ended = bool(on_epoch(epoch))
    if learner is not model:
        copy_variables(learner, model)
    return loop.state.history


def _require_memory(model: keras.Model, settings: FitSettings, replicas: Replicas) -> None:
    """Refuses a batch that cannot fit, before the machine suffers from it."""
    if tf.config.list_physical_devices("GPU"):
        return  # a GPU says so itself, and nothing else suffers
    rows = math.ceil(settings.batch_size / settings.accumulation / replicas.count)
    if LEAST_KEPT * rows * kept_bytes(model) > most_bytes():
        raise OutOfMemoryError(_too_large_a_batch(settings))


@contextlib.contextmanager
def _memory_for(settings: FitSettings) -> Iterator[None]:
    """Within it batches are learnt from: says what to do where one does not fit in the memory."""
    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise OutOfMemoryError(_too_large_a_batch(settings)) from error


def _too_large_a_batch(settings: FitSettings) -> str:
    """What is wrong where a training takes too much memory, and what to do."""
    rows = math.ceil(settings.batch_size / settings.accumulation)
    told = f"A batch of {settings.batch_size} clip" + "s" * (settings.batch_size > 1)
    if settings.accumulation > 1:
        told += f", learnt from in {settings.accumulation} pieces,"
    advice = "Choose smaller or fewer frames."
    if rows == 1 < settings.batch_size:
        advice = "Set batch_size lower, or choose smaller or fewer frames."
    elif rows > 1:
        pieces = 2 * settings.accumulation
        advice = (
            f"Set accumulation to {pieces}, which learns from the same batch in pieces of"
            f" {math.ceil(settings.batch_size / pieces)}, or choose smaller or fewer frames."
        )
    return f"{told} does not fit in the memory of this training. {advice}"


class _State:
    """All that a training is between two steps.

    Attributes:
        sums: Of the epoch at hand: of the losses of its clips, of its hits, of its clips, of its
            steps whose loss is no number.
        step: Steps that were done; those of an epoch are done before it ends.
        history: The metrics of the epochs that ended.
        best_loss: The lowest validation loss so far.
        best: The weights that had it; none before.
        averages: Whether what is kept of the training are averages of the weights.
    """

    def __init__(self, model: keras.Model, averages: bool):
        self._model = model
        self.averages = averages
        self._replaced: dict[int, np.ndarray] = {}
        self.sums = _sums()
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.best_loss = math.inf
        self.best: list[np.ndarray] = []
        self._began_s = time.monotonic()
        self._earlier_s = 0.0

    @property
    def trained_s(self) -> float:
        """Seconds of training so far, those of earlier attempts included."""
        return self._earlier_s + time.monotonic() - self._began_s

    def checkpoint(self) -> Checkpoint:
        arrays = {
            kind: [self._replaced.get(id(v), v.value.numpy()) for v in variables]
            for kind, variables in self._variables().items()
        }
        facts = {
            "history": self.history,
            "best_loss": self.best_loss,
            "trained_s": self.trained_s,
        }
        return Checkpoint(self.step, {**arrays, "best": self.best}, facts)

    def restore(self, checkpoint: Checkpoint) -> bool:
        """Goes on from a checkpoint; False, and nothing is changed, where it does not fit."""
        variables = self._variables()
        arrays = {kind: checkpoint.arrays.get(kind, []) for kind in variables}
        if _forms(arrays) != _forms(variables) or not _has_facts(checkpoint):
            return False
        best = checkpoint.arrays.get("best", [])
        if best and _forms({"best": best}) != _forms({"best": self._model.weights}):
            return False
        for kind in variables:
            for variable, array in zip(variables[kind], arrays[kind], strict=True):
                variable.assign(array)
        self.step = checkpoint.step
        self.history = checkpoint.facts["history"]
        self.best_loss = checkpoint.facts["best_loss"]
        self._earlier_s = checkpoint.facts.get("trained_s", 0.0)
        self.best = best
        return True

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the network has the average of its weights, where one is taken.

        A checkpoint is the same within as without.
        """
        variables = self._model.trainable_variables
        if self.averages:
            self._replaced = {id(v): v.value.numpy() for v in variables}
            self._model.optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable in variables if self.averages else ():
                variable.assign(self._replaced[id(variable)])
            self._replaced = {}

    def _variables(self) -> dict[str, list[keras.Variable]]:
        return {
            # With the states of the random numbers of its layers, which its weights are without.
            "model": self._model.variables,
            "optimizer": self._model.optimizer.variables,
            "metrics": [self.sums],
        }


def _sums() -> keras.Variable:
    return keras.Variable(np.zeros(4, np.float32), trainable=False, name="sums")


def _means(sums: keras.Variable, of: str) -> dict[str, float]:
    loss, hits, clips, _ = sums.numpy()
    return {f"{of}_accuracy": float(hits / clips), f"{of}_loss": float(loss / clips)}


def _has_facts(checkpoint: Checkpoint) -> bool:
    """Whether what is no array is what a training wrote."""
    facts = checkpoint.facts
    if not isinstance(facts, dict) or not isinstance(facts.get("history"), list):
        return False
    numbers = [checkpoint.step, facts.get("best_loss"), facts.get("trained_s", 0.0)]
    for epoch in facts["history"]:
        if not isinstance(epoch, dict):
            return False
        numbers += epoch.values()
    return all(isinstance(number, int | float) for number in numbers)


def _forms(arrays: dict[str, list[Any]]) -> dict[str, list[tuple[tuple[int, ...], str]]]:
    return {
        kind: [(tuple(a.shape), keras.backend.standardize_dtype(a.dtype)) for a in of_kind]
        for kind, of_kind in arrays.items()
    }


class _Loop:
    def __init__(
        self,
        model: keras.Model,
        settings: FitSettings,
        steps: int,
        several: bool,
        clips_of: Callable[[int], list[str]],
        checkpoints: Checkpoints | None,
        stopping: Callable[[], bool],
        replicas: Replicas,
    ):
        self.state = _State(model, settings.ema > 0)
        self._model = model
        self._settings = settings
        self._epochs = settings.epochs
        self._patience = settings.patience
        self._pieces = [
            Part(number, settings.accumulation) for number in range(settings.accumulation)
        ]
        self._steps = steps
        self._several = several
        self._hits = _right_answers if several else keras.metrics.categorical_accuracy
        self._clips_of = clips_of
        self._checkpoints = checkpoints
        self._stopping = stopping
        self._replicas = replicas
        self.ended = False  # whether there is to be no other epoch
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
            if not _has_facts(checkpoint):
                continue
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
            if self.ended or self._waited_enough():
                break
            while state.step < number * self._steps:
                stopping = self._train_step(iterators)
                state.step += 1
                self._between_steps(stopping)
            self._check_loss()
            metrics = _means(state.sums, "train")
            if validation:
                with state.averaged():
                    metrics |= self._validated(validation)
                    if metrics["validation_loss"] < state.best_loss:
                        state.best_loss = metrics["validation_loss"]
                        state.best = self._model.get_weights()
            state.history.append(metrics)
            state.sums.assign(np.zeros(4))
            left = self._epochs * self._steps - state.step
            each_s = (time.monotonic() - started_s) / max(1, state.step - first_step)
            yield Epoch(number, metrics, each_s * left, state.trained_s)
        self._between_steps(self._stopping())
        last = len(state.history) - 1
        if state.best and kept_epoch(state.history, self._settings) != last:
            self._model.set_weights(state.best)
        elif state.averages:
            self._model.optimizer.finalize_variable_values(self._model.trainable_variables)

    def _waited_enough(self) -> bool:
        """Whether the validation loss was not better for so long that the training is over."""
        losses = [epoch.get("validation_loss", math.nan) for epoch in self.state.history]
        # Without validation nothing is ever better, nor worse.
        if not self._patience or not np.isfinite(losses).any():
            return False
        return bool(len(losses) - 1 - np.nanargmin(losses) >= self._patience)

    def _check_loss(self) -> None:
        """Makes sure that the losses of the epoch so far are numbers."""
        steps = math.ceil(self.state.sums.numpy()[3] / self._replicas.count)
        if not steps:
            return
        # What follows it is none either.
        step = self.state.step - steps + 1
        clips = self._clips_of(step)
        shown = ", ".join(clips[:CLIPS_NAMED]) + (", …" if len(clips) > CLIPS_NAMED else "")
        raise DivergedError(
            f"The loss is NaN or infinite since step {step}, step {(step - 1) % self._steps + 1} of"
            f" epoch {(step - 1) // self._steps + 1}: try a lower learning rate, or look at the"
            f" videos of that batch: {shown}"
        )

    def _between_steps(self, stopping: bool) -> None:
        """Here, and only here, the state is whole."""
        # Validation changes nothing that is kept, however long it takes.
        changed = self._kept != self._place()
        keeps = self._checkpoints is not None and self._replicas.workers.first
        if keeps and changed and (stopping or self._checkpoints.due()):
            self._check_loss()  # what is kept is good to go on from
            if self._checkpoints.save(self.state.checkpoint()):
                self._kept = self._place()
        if stopping:
            raise StoppedError(f"Stopped by a signal after training step {self.state.step}.")

    def _validated(self, batches: Sequence[tf.data.Dataset]) -> dict[str, float]:
        self._validation.assign(np.zeros(4))
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
        self, inputs: Inputs, labels: tf.Tensor, weights: tf.Tensor, rows: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Learns from a batch, or a part of one of so many rows; returns what sums grow by."""
        optimizer, variables = self._model.optimizer, self._model.trainable_variables
        gradients, growth = None, 0.0
        for piece in self._pieces:
            taken = tf.nest.map_structure(piece.take, (inputs, labels, weights))
            each = row_weight(tf.shape(labels)[0], piece.of) * self._row_weight(rows)
            of_batch = each * _count(taken[1]) / (_count(labels) if rows is None else rows)
            with tf.GradientTape() as tape:
                scores = self._model(taken[0], training=True)
                loss = self._loss(*taken[1:], scores)
                # The gradients of all pieces and parts are added up.
                share = optimizer.scale_loss(loss * of_batch)
            of_piece = tape.gradient(share, variables)
            gradients = (
                of_piece
                if gradients is None
                else [a + b for a, b in zip(gradients, of_piece, strict=True)]
            )
            growth += self._growth(loss, taken[1], scores) * each
        optimizer.apply(gradients, variables)
        bad = tf.cast(~tf.math.is_finite(growth[0]), tf.float32)
        return tf.concat([growth, [bad]], axis=0)

    def _validate(
        self, inputs: Inputs, labels: tf.Tensor, weights: tf.Tensor, rows: tf.Tensor | None = None
    ) -> tf.Tensor:
        scores = self._model(inputs, training=False)
        growth = self._growth(self._loss(labels, weights, scores), labels, scores)
        return tf.concat([growth * self._row_weight(rows), [0.0]], axis=0)

    def _loss(self, labels: tf.Tensor, weights: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        loss = self._model.compute_loss(y=labels, y_pred=scores, sample_weight=weights)
        # Keras divides it by the number of replicas, for parts that are equally large.
        return loss * self._replicas.count

    def _growth(self, loss: tf.Tensor, labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        count = _count(labels)
        # Of mixed clips that counts which is the larger part.
        truth = tf.round(labels) if self._several else labels
        return tf.stack([loss * count, tf.reduce_sum(self._hits(truth, scores)), count])

    def _row_weight(self, rows: tf.Tensor | None) -> tf.Tensor | float:
        return 1.0 if rows is None else row_weight(rows, self._replicas.count)


def _right_answers(truth: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Of each clip the share of the labels of which it is rightly said whether they hold."""
    # Keras tells it of each label.
    return tf.reduce_mean(keras.metrics.binary_accuracy(truth, scores), axis=-1)


def _count(labels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.shape(labels)[0], tf.float32)
