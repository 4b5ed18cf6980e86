"""Networks that tell which of several classes a video shows.

Input shape: `(batch, frames, height, width, 3)`, 0 to 255.
Output shape: `(batch, classes)`, scores that add up to one.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers, ops

from vidpipe.models.architectures import Sampling

FRAME_FEATURES = 64


def build_model(architecture: str, sampling: Sampling, classes: int) -> keras.Model:
    """Builds an untrained network.

    Args:
        architecture: A key of `vidpipe.models.architectures.CLASSIFICATION`.
        sampling: What it sees of a video.
        classes: Number of classes, at least two.

    Example:
        >>> model = build_model("attention", Sampling(frames=12, height=64, width=64), classes=4)
        >>> model(numpy.zeros((1, 12, 64, 64, 3), "uint8")).shape
        TensorShape([1, 4])
    """
    inputs = keras.Input((sampling.frames, sampling.height, sampling.width, 3), name="clips")
    # Frames become a longer batch: each passes the same layers.
    images = ops.reshape(inputs, (-1, sampling.height, sampling.width, 3))
    images = layers.Rescaling(1 / 255)(images)
    outputs = BUILDERS[architecture](images, sampling.frames, classes)
    return keras.Model(inputs, outputs, name=architecture)


def _cnn(images, frames: int, classes: int):
    """Three convolutions and two dense layers, on single frames; their scores are averaged."""
    x = images
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for units in (128, 64):
        x = layers.Dense(units, activation="relu")(x)
        x = layers.Dropout(0.5)(x)
    scores = layers.Dense(classes, activation="softmax")(x)
    return ops.mean(ops.reshape(scores, (-1, frames, classes)), axis=1)


def _frame_features(images, frames: int):
    """What each frame shows, where, and how that changed: `(batch, frames, FRAME_FEATURES)`.

    Motion is a change of place, so each frame's features stand beside their difference from those
    of the frame before.
    """
    x = images
    for filters in (16, 32, 64):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        # Small data sets have few steps: the running mean and variance must follow quickly.
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation("relu")(x)
    x = WhatAndWhere()(x)
    x = ops.reshape(x, (-1, frames, x.shape[-1]))
    before = ops.concatenate([x[:, :1], x[:, :-1]], axis=1)
    x = ops.concatenate([x, x - before], axis=-1)
    return layers.Dense(FRAME_FEATURES, activation="relu")(x)


def _cnn_rnn(images, frames: int, classes: int):
    x = _frame_features(images, frames)
    x = layers.GRU(FRAME_FEATURES)(x)
    return layers.Dense(classes, activation="softmax")(x)


def _attention(images, frames: int, classes: int):
    """One block of a transformer encoder, normalised first; Vaswani et al. 2017, Xiong et al. 2020.

    What it says of each moment is laid side by side, not averaged: the order is the message.
    """
    x = PositionEmbedding()(_frame_features(images, frames))
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(num_heads=4, key_dim=FRAME_FEATURES // 4)(y, y)
    y = layers.LayerNormalization()(x)
    y = layers.Dense(2 * FRAME_FEATURES, activation="gelu")(y)
    x = x + layers.Dense(FRAME_FEATURES)(y)
    x = layers.Flatten()(layers.LayerNormalization()(x))
    return layers.Dense(classes, activation="softmax")(x)


@keras.saving.register_keras_serializable(package="vidpipe")
class WhatAndWhere(layers.Layer):
    """Sums up feature maps as how strong each feature is and where it is.

    Where is the spatial soft-argmax of Finn et al. 2016 (Deep Spatial Autoencoders): the mean
    place, weighted by a softmax over the map with a learned sharpness.

    Input shape: `(batch, height, width, features)`.
    Output shape: `(batch, 3 * features)`: strengths, then x and y in -1 to 1.
    """

    def build(self, input_shape):
        self.sharpness = self.add_weight(shape=input_shape[-1:], initializer="ones")

    def call(self, inputs):
        height, width, features = inputs.shape[1:]
        y, x = ops.meshgrid(ops.linspace(-1, 1, height), ops.linspace(-1, 1, width), indexing="ij")
        places = ops.cast(ops.stack([x, y], axis=-1), inputs.dtype)
        places = ops.reshape(places, (height * width, 2))
        maps = ops.reshape(inputs, (-1, height * width, features))
        weights = ops.softmax(maps * self.sharpness, axis=1)
        where = ops.einsum("bpf,pc->bfc", weights, places)
        where = ops.reshape(where, (-1, 2 * features))
        return ops.concatenate([ops.mean(maps, axis=1), where], axis=1)


@keras.saving.register_keras_serializable(package="vidpipe")
class PositionEmbedding(layers.Layer):
    """Adds a learned vector to each moment, so that attention knows their order.

    Input shape: `(batch, frames, features)`.
    Output shape: the same.
    """

    def build(self, input_shape):
        self.embedding = self.add_weight(
            shape=input_shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02)
        )

    def call(self, inputs):
        return inputs + self.embedding


BUILDERS: dict[str, Callable] = {"cnn": _cnn, "cnn_rnn": _cnn_rnn, "attention": _attention}
