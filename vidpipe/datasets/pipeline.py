"""The input of training: batches of clips, shuffled and augmented, the same for the same seed."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

# It never mirrors: left and right may be classes.
ROTATION_DEG = 20
SHIFT = 0.1
SHEAR = 0.1
ZOOM = 0.1


def training_batches(
    array: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    *,
    batch_size: int,
    augment: bool,
    seed: int,
) -> tf.data.Dataset:
    """Batches in another order each epoch, and turned, shifted, sheared and zoomed a little.

    Args:
        array: uint8 `(videos, frames, height, width, 3)`; may be memory-mapped.
        rows: The rows of `array` to train on.
        labels: For each of `rows` its class in one-hot form, `(len(rows), classes)`.
        batch_size: Videos a batch.
        augment: Whether to augment; all frames of a clip get the same transform.
        seed: The same seed gives the same batches.

    Returns:
        Batches of clips and labels.
    """
    order = tf.data.Dataset.range(len(rows)).shuffle(len(rows), seed=seed)
    batches = _gather(order.batch(batch_size), array, rows, labels)
    if augment:
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
        batches = tf.data.Dataset.zip(batches, seeds).map(
            lambda batch, seed: (augment_clips(batch[0], seed), batch[1])
        )
    return batches.prefetch(2)


def plain_batches(
    array: np.ndarray, rows: np.ndarray, labels: np.ndarray, *, batch_size: int
) -> tf.data.Dataset:
    """Batches in order, as they are; arguments as of `training_batches`."""
    order = tf.data.Dataset.range(len(rows)).batch(batch_size)
    return _gather(order, array, rows, labels).prefetch(2)


def _gather(
    order: tf.data.Dataset, array: np.ndarray, rows: np.ndarray, labels: np.ndarray
) -> tf.data.Dataset:
    def take(chosen):
        # Only these rows of a memory-mapped array are read.
        return array[rows[chosen]], labels[chosen]

    def batch(chosen):
        clips, truth = tf.numpy_function(take, [chosen], (array.dtype, labels.dtype))
        clips.set_shape((None, *array.shape[1:]))
        truth.set_shape((None, labels.shape[1]))
        return clips, truth

    return order.map(batch)


def augment_clips(clips: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Turns, shears, zooms and shifts each clip at random; what comes in at the edges is repeated.

    Args:
        clips: `(batch, frames, height, width, 3)`.
        seed: Two integers; the same give the same transforms.

    Returns:
        Clips of the same shape and type.
    """
    batch = tf.shape(clips)[0]
    frames, height, width = clips.shape[1:4]
    amount = tf.random.stateless_uniform((6, batch), seed, -1.0, 1.0)
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
