"""The input of training: batches of clips, shuffled and augmented, by seed and number alone."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

# It never mirrors: left and right may be classes.
ROTATION_DEG = 20
SHIFT = 0.1
SHEAR = 0.1
ZOOM = 0.1


@dataclass(frozen=True)
class Part:
    """The part of every batch that one of several replicas takes.

    Parts differ by a row at most. A batch of fewer rows than there are parts is taken whole by each
    of them: not every layer can do with no row at all.

    Attributes:
        index: Which one, from zero.
        of: How many there are.
    """

    index: int = 0
    of: int = 1

    def take(self, batch: tf.Tensor) -> tf.Tensor:
        """The rows of a whole batch that are in this part."""
        rows = tf.shape(batch)[0]
        first, end = (rows * number // self.of for number in (self.index, self.index + 1))
        fewer = rows < self.of
        return batch[tf.where(fewer, 0, first) : tf.where(fewer, rows, end)]


def row_weight(rows: tf.Tensor, parts: int) -> tf.Tensor:
    """What a row of a part of a batch counts: all parts together count as the batch does.

    Args:
        rows: Of the whole batch, a scalar.
        parts: How many there are.
    """
    return tf.where(rows < parts, 1 / parts, 1.0)


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Batches that hold every one of so many rows; the last may be smaller."""
    return math.ceil(rows / batch_size)


def training_batches(
    array: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    batch_size: int,
    augment: bool,
    seed: int,
    epochs: int,
    first_step: int = 0,
    part: Part | None = None,
) -> tf.data.Dataset:
    """The batches of a training, in another order each epoch; turned, shifted, sheared, zoomed.

    What a batch holds follows from the seed and its number alone, so that a training can go on
    anywhere: where it is in its data is a number.

    Args:
        array: uint8 `(videos, frames, height, width, 3)`, or features of clips; may be
            memory-mapped.
        rows: The rows of `array` to train on.
        labels: For each of `rows` its classes, `(len(rows), classes)`.
        weights: For each of `rows` how much it counts.
        batch_size: Videos a batch.
        augment: Whether to augment; all frames of a clip get the same transform.
        seed: The same seed gives the same batches.
        epochs: Each holds every row once, in `steps_per_epoch` batches.
        first_step: The number of the first batch, counted from the first of the first epoch.
        part: Only this part of each batch, its clips moved as in the whole.

    Returns:
        Batches of clips, labels and weights, from `first_step` to the end of the last epoch; where
        they are parts, how many rows the whole batch has comes fourth.
    """
    steps = steps_per_epoch(len(rows), batch_size)

    def choose(number: np.ndarray) -> np.ndarray:
        return batch_rows(len(rows), int(number), batch_size=batch_size, seed=seed)

    numbers = tf.data.Dataset.range(first_step, epochs * steps)
    chosen = numbers.map(lambda number: tf.numpy_function(choose, [number], tf.int64))
    batches = _gather(chosen, array, rows, labels, weights, part)
    if augment:
        batches = tf.data.Dataset.zip(batches, numbers).map(
            lambda batch, number: (
                (augment_clips(batch[0], (seed, number), part, *batch[3:]),) + batch[1:]
            )
        )
    return batches.prefetch(2)


def batch_rows(rows: int, number: int, *, batch_size: int, seed: int) -> np.ndarray:
    """Which of so many rows are in a batch of `training_batches`, by its number."""
    epoch, step = divmod(number, steps_per_epoch(rows, batch_size))
    return _order(rows, seed, epoch)[step * batch_size : (step + 1) * batch_size]


@functools.lru_cache(maxsize=4)
def _order(rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(rows)


def plain_batches(
    array: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    batch_size: int,
    part: Part | None = None,
) -> tf.data.Dataset:
    """Batches in order, as they are; arguments as of `training_batches`."""
    order = tf.data.Dataset.range(len(rows)).batch(batch_size)
    return _gather(order, array, rows, labels, weights, part).prefetch(2)


def _gather(
    order: tf.data.Dataset,
    array: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    part: Part | None,
) -> tf.data.Dataset:
    weights = weights.astype(np.float32)

    def take(chosen):
        # Only these rows of a memory-mapped array are read.
        return array[rows[chosen]], labels[chosen], weights[chosen]

    def batch(chosen):
        whole = ()
        if part is not None:
            whole = (tf.shape(chosen)[0],)
            chosen = part.take(chosen)
        clips, truth, counts = tf.numpy_function(
            take, [chosen], (array.dtype, labels.dtype, weights.dtype)
        )
        clips.set_shape((None, *array.shape[1:]))
        truth.set_shape((None, labels.shape[1]))
        counts.set_shape((None,))
        return clips, truth, counts, *whole

    return order.map(batch)


def augment_clips(
    clips: tf.Tensor,
    seed: tf.Tensor,
    part: Part | None = None,
    whole: tf.Tensor | None = None,
) -> tf.Tensor:
    """Turns, shears, zooms and shifts each clip at random; what comes in at the edges is repeated.

    Args:
        clips: `(batch, frames, height, width, 3)`.
        seed: Two integers; the same give the same transforms.
        part: Which part of a batch the clips are: their transforms are those of the whole.
        whole: Where they are a part, how many clips the whole batch has.

    Returns:
        Clips of the same shape and type.
    """
    frames, height, width = clips.shape[1:4]
    batch = tf.shape(clips)[0] if part is None else whole
    amount = tf.random.stateless_uniform((6, batch), seed, -1.0, 1.0)
    if part is not None:
        amount = tf.transpose(part.take(tf.transpose(amount)))
    angle = amount[0] * math.radians(ROTATION_DEG)
    shear = amount[1] * SHEAR
    zoom_x, zoom_y = 1 + amount[2] * ZOOM, 1 + amount[3] * ZOOM
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Rotation · shear · zoom, from places in the result to places in the clip, about the centre.
    a0, a1 = cos * zoom_x, (cos * shear - sin) * zoom_y
    b0, b1 = sin * zoom_x, (sin * shear + cos) * zoom_y
    x, y = (width - 1) / 2, (height - 1) / 2
    a2 = x - a0 * x - a1 * y + amount[4] * SHIFT * width
    b2 = y - b0 * x - b1 * y + amount[5] * SHIFT * height
    nothing = tf.zeros_like(a0)
    transform = tf.stack([a0, a1, a2, b0, b1, b2, nothing, nothing], axis=1)
    # Frames become channels of one picture: one transform for all of a clip.
    pictures = tf.reshape(tf.transpose(clips, (0, 2, 3, 1, 4)), (-1, height, width, frames * 3))
    pictures = keras.ops.image.affine_transform(
        tf.cast(pictures, tf.float32), transform, fill_mode="nearest"
    )
    pictures = tf.cast(tf.round(pictures), clips.dtype)
    pictures = tf.reshape(pictures, (-1, height, width, frames, 3))
    return tf.transpose(pictures, (0, 3, 1, 2, 4))
