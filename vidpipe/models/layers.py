"""Layers and blocks that the networks are made of."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

# Small data sets have few steps: the running mean and variance must follow quickly.
BATCH_MOMENTUM = 0.9
MOST_PARTS = 64  # rows or columns of a grid


@keras.saving.register_keras_serializable(package="vidpipe")
class WhatAndWhere(layers.Layer):
    """Sums up feature maps as how strong each feature is and where it is.

    Where is the spatial soft-argmax of Finn et al. 2016 (Deep Spatial Autoencoders): the mean
    place, weighted by a softmax over the map with a learned sharpness.

    Input shape: `(batch, height, width, features)`.
    Output shape: `(batch, 3 * features)`: strengths, then x and y in -1 to 1.
    """

    def build(self, input_shape):
        self.sharpness = self.add_weight(
            name="sharpness", shape=input_shape[-1:], initializer="ones"
        )

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
    """Adds a learned vector to each place of a sequence, so that attention knows their order.

    Input shape: `(batch, places, features)`.
    Output shape: the same.
    """

    def build(self, input_shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=input_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, inputs):
        return inputs + self.embedding


@keras.saving.register_keras_serializable(package="vidpipe")
class GridPooling(layers.Layer):
    """Means of the parts of feature maps that a grid cuts them into.

    A place that lies in two parts counts to each by its share, so that the mean of all parts is
    that of the map.

    Args:
        size: Rows and columns of the grid; as many as the map has, where it has fewer.

    Input shape: `(batch, height, width, features)`.
    Output shape: `(batch, rows, columns, features)`.
    """

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        if not 1 <= size <= MOST_PARTS:
            raise ValueError(f"size is not in 1 to {MOST_PARTS}. Received: {size}")
        self.size = size

    def call(self, inputs):
        rows, columns = (self._shares(length) for length in inputs.shape[1:3])
        rows, columns = ops.cast(rows, inputs.dtype), ops.cast(columns, inputs.dtype)
        return ops.einsum("nhwf,rh,cw->nrcf", inputs, rows, columns)

    def compute_output_shape(self, input_shape):
        batch, height, width, features = input_shape
        return batch, min(self.size, height), min(self.size, width), features

    def get_config(self):
        return {**super().get_config(), "size": self.size}

    def _shares(self, length: int) -> np.ndarray:
        parts = min(self.size, length)
        edges = np.linspace(0, length, parts + 1)
        places = np.arange(length)
        first = np.maximum(edges[:-1, None], places)
        last = np.minimum(edges[1:, None], places + 1)
        return np.maximum(last - first, 0) * parts / length


@keras.saving.register_keras_serializable(package="vidpipe")
class TokenForMissing(layers.Layer):
    """Puts a learned vector, the token, in the place of what is missing.

    While it learns, some of what is there is taken for missing, so that the token is learnt, and
    what else there is, also where nothing ever is (ModDrop, Neverova et al. 2016).

    Args:
        share: Of what is there, that is taken for missing.

    Input shape: vectors `(batch, features)`, and of each whether it is missing, `(batch,)`.
    Output shape: that of the vectors.
    """

    def __init__(self, share: float, **kwargs):
        super().__init__(**kwargs)
        self.share = share
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, vectors_shape, missing_shape):
        self.embedding = self.add_weight(
            shape=vectors_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="embedding",
        )

    def call(self, vectors, missing, training=False):
        if training:
            drawn = keras.random.uniform(
                ops.shape(missing), dtype="float32", seed=self.seed_generator
            )
            missing = ops.logical_or(missing, drawn < self.share)
        return ops.where(missing[:, None], ops.convert_to_tensor(self.embedding), vectors)

    def compute_output_shape(self, vectors_shape, missing_shape):
        return vectors_shape

    def get_config(self):
        return {**super().get_config(), "share": self.share}


def attend(x, heads: int, dropout: float = 0.0):
    """A block of a transformer encoder, normalised first; Vaswani et al. 2017, Xiong et al. 2020.

    Shape: `(batch, places, features)`, in and out.
    """
    features = x.shape[-1]
    y = layers.LayerNormalization()(x)
    y = layers.MultiHeadAttention(num_heads=heads, key_dim=features // heads, dropout=dropout)(y, y)
    x = x + y
    y = layers.LayerNormalization()(x)
    y = layers.Dense(2 * features, activation="gelu")(y)
    y = layers.Dropout(dropout)(layers.Dense(features)(y))
    return x + y


def convolve_2plus1d(x, filters: int, stride: int = 1):
    """A convolution over space, then one over time; Tran et al. 2018 (R(2+1)D).

    As many features lie between them as give a 3×3×3 convolution its number of weights. Written as
    two-dimensional ones, which processors and graphics cards are quicker at.

    Input shape: `(batch, frames, height, width, features)`.
    Output shape: `(batch, frames, height / stride, width / stride, filters)`.
    """
    frames, height, width, features = x.shape[1:]
    between = max(1, 27 * features * filters // (9 * features + 3 * filters))
    x = ops.reshape(x, (-1, height, width, features))
    x = layers.Conv2D(between, 3, strides=stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=BATCH_MOMENTUM)(x)
    x = layers.Activation("relu")(x)
    height, width = x.shape[1:3]
    x = ops.reshape(x, (-1, frames, height * width, between))
    x = layers.Conv2D(filters, (3, 1), padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=BATCH_MOMENTUM)(x)
    return ops.reshape(x, (-1, frames, height, width, filters))


def residual_2plus1d(x, filters: int, stride: int = 1):
    """Two (2+1)D convolutions beside a short cut; He et al. 2016, Tran et al. 2018."""
    y = layers.Activation("relu")(convolve_2plus1d(x, filters, stride))
    y = convolve_2plus1d(y, filters)
    if stride > 1 or x.shape[-1] != filters:
        x = layers.Conv3D(filters, 1, strides=(1, stride, stride), use_bias=False)(x)
        x = layers.BatchNormalization(momentum=BATCH_MOMENTUM)(x)
    return layers.Activation("relu")(x + y)
