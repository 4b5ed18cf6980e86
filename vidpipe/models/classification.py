"""Networks that tell what a video shows.

Input shape: `(batch, frames, height, width, 3)`, 0 to 255; of a network that hears, beside it
`(batch, *SOUND_SHAPE)`, in bel, NaN where a clip has no sound.
Output shape: `(batch, classes)`, scores: of a single label they add up to one, of several each is
in 0 to 1.

A network is an architecture, either with small layers of its own, or with a backbone: a network for
pictures that sees each frame. Then it has two parts, models themselves: `encoder` (clips to
features, with all of the backbone) and `head` (features, and sound, to scores).
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from vidpipe.models.architectures import SOUND_SHAPE, Network, Sampling
from vidpipe.models.backbones import build_encoder
from vidpipe.models.layers import (
    BATCH_MOMENTUM,
    PositionEmbedding,
    TokenForMissing,
    WhatAndWhere,
    attend,
    residual_2plus1d,
)

FRAME_FEATURES = 64
HEAD_FEATURES = 128
SOUND_FEATURES = 64
SILENCED = 0.1  # share of the clips that it learns from without their sound
HEADS = 4
STANDARDISED = "standardised"
# How finely a head with a backbone sees where something is, in rows and columns.
GRIDS = {"cnn": 1, "cnn_rnn": 1, "attention": 1, "cnn3d": 7, "transformer": 7}


def build_model(
    network: Network, sampling: Sampling, classes: int, *, several: bool = False
) -> keras.Model:
    """Builds an untrained network.

    Args:
        network: What it is.
        sampling: What it sees of a video, and whether it hears.
        classes: Number of classes, at least two, or one where a video has several labels.
        several: Whether a video may have several labels at once.

    Example:
        >>> sampling = Sampling(frames=12, height=64, width=64)
        >>> model = build_model(Network("attention"), sampling, classes=4)
        >>> model(numpy.zeros((1, 12, 64, 64, 3), "uint8")).shape
        TensorShape([1, 4])
    """
    clips = keras.Input(sampling.shape, name="clips")
    sound = keras.Input(SOUND_SHAPE, name="sound") if sampling.sound else None
    if network.backbone is None:
        x = SMALL[network.architecture](layers.Rescaling(1 / 255)(clips), network)
        by_frame = network.architecture == "cnn"
        x = _with_sound(x, sound, network, sampling.frames if by_frame else 1)
        outputs = _scores(x, classes, several)
        if by_frame:
            outputs = ops.mean(ops.reshape(outputs, (-1, sampling.frames, classes)), axis=1)
    else:
        encoder = build_encoder(network.backbone, sampling, GRIDS[network.architecture])
        encoder.trainable = network.fine_tune
        features = keras.Input(encoder.output_shape[1:], name="features")
        x = _with_sound(HEADED[network.architecture](features, network), sound, network)
        # It begins undecided: of many features and few clips chance weights would stay.
        scores = _scores(x, classes, several, begins="zeros")
        head = keras.Model(_beside(features, sound), scores, name="head")
        outputs = head(_beside(encoder(clips), sound))
    return keras.Model(_beside(clips, sound), outputs, name=network.architecture)


def standardise(head: keras.Model, features: np.ndarray, rows: np.ndarray) -> None:
    """Tells a head once and for all the mean and variance of features that never change.

    By batches of a few clips it would know them less well.

    Args:
        head: Of a network with a frozen backbone.
        features: `(clips, frames, rows, columns, features)`; may be memory-mapped.
        rows: The clips that it learns from.
    """
    layer = head.get_layer(STANDARDISED)
    sums = np.zeros((2, features.shape[-1]))
    for row in rows:
        of_clip = features[row].reshape(-1, features.shape[-1]).astype(np.float64)
        sums += of_clip.mean(axis=0), np.square(of_clip).mean(axis=0)
    mean, mean_square = sums / len(rows)
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(np.maximum(mean_square - np.square(mean), 0))
    layer.trainable = False


def _beside(seen, sound):
    return seen if sound is None else [seen, sound]


def _scores(x, classes: int, several: bool, begins: str = "glorot_uniform"):
    return layers.Dense(
        classes,
        activation="sigmoid" if several else "softmax",
        kernel_initializer=begins,
        # In single precision, whatever the layers before compute in.
        dtype="float32",
        name="scores",
    )(x)


# === With small layers of their own: clips, 0 to 1, to what the last layer sees ===


def _small_cnn(clips, network: Network):
    """Three convolutions and two dense layers, on single frames, whose scores are averaged."""
    x = _frames(clips)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for units in (128, 64):
        x = layers.Dense(units, activation="relu")(x)
        x = layers.Dropout(network.dropout)(x)
    return x


def _small_cnn3d(clips, network: Network):
    """A small R(2+1)D: a stem, then residual blocks that halve the picture."""
    x = _stem(clips, 16)
    for filters in (16, 32, 64):
        x = residual_2plus1d(x, filters, stride=1 if filters == 16 else 2)
    return layers.Dropout(network.dropout)(layers.GlobalAveragePooling3D()(x))


def _small_cnn_rnn(clips, network: Network):
    return _recur(_frame_features(clips, network), network)


def _small_attention(clips, network: Network):
    return _attend_to_frames(_frame_features(clips, network), network)


def _small_transformer(clips, network: Network):
    """Tubelets (Arnab et al. 2021, ViViT), by a stem of convolutions (Xiao et al. 2021)."""
    x = residual_2plus1d(_stem(clips, 32), FRAME_FEATURES, stride=2)
    x = layers.AveragePooling3D((1, 2, 2))(x)
    return _attend_to_places(x, network)


def _stem(clips, filters: int):
    """Half the size: what small pieces of pictures show."""
    frames = clips.shape[1]
    x = layers.Conv2D(filters, 5, strides=2, padding="same", use_bias=False)(_frames(clips))
    x = layers.BatchNormalization(momentum=BATCH_MOMENTUM)(x)
    x = layers.Activation("relu")(x)
    return ops.reshape(x, (-1, frames, *x.shape[1:]))


def _frames(clips):
    """Frames become a longer batch: each passes the same layers."""
    return ops.reshape(clips, (-1, *clips.shape[2:]))


def _frame_features(clips, network: Network):
    """What each frame shows, where, and how that changed: `(batch, frames, FRAME_FEATURES)`.

    Motion is a change of place, so each frame's features stand beside their difference from those
    of the frame before.
    """
    x = _frames(clips)
    for filters in (16, 32, 64):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=BATCH_MOMENTUM)(x)
        x = layers.Activation("relu")(x)
    x = WhatAndWhere()(x)
    x = ops.reshape(x, (-1, clips.shape[1], x.shape[-1]))
    before = ops.concatenate([x[:, :1], x[:, :-1]], axis=1)
    x = ops.concatenate([x, x - before], axis=-1)
    x = layers.Dense(FRAME_FEATURES, activation="relu")(x)
    return layers.Dropout(network.dropout)(x)


SMALL: dict[str, Callable] = {
    "cnn": _small_cnn,
    "cnn3d": _small_cnn3d,
    "cnn_rnn": _small_cnn_rnn,
    "attention": _small_attention,
    "transformer": _small_transformer,
}


# === With a backbone: features `(batch, frames, rows, columns, features)` to the same ===


def _headed_cnn(features, network: Network):
    x = ops.mean(_standardised(features), axis=(1, 2, 3))
    return layers.Dropout(network.dropout)(x)


def _headed_cnn3d(features, network: Network):
    """Convolutions over time on top of a network for pictures; Xie et al. 2018 (top-heavy S3D)."""
    x = layers.Dense(HEAD_FEATURES, activation="relu")(_standardised(features))
    x = residual_2plus1d(x, HEAD_FEATURES)
    return layers.Dropout(network.dropout)(layers.GlobalAveragePooling3D()(x))


def _headed_cnn_rnn(features, network: Network):
    return _recur(_frame_vectors(features, network), network)


def _headed_attention(features, network: Network):
    return _attend_to_frames(_frame_vectors(features, network), network)


def _headed_transformer(features, network: Network):
    x = layers.Dense(HEAD_FEATURES)(_standardised(features))
    return _attend_to_places(x, network)


def _standardised(features):
    """Each feature with mean 0 and variance 1, whatever the backbone made of it."""
    return layers.BatchNormalization(
        center=False, scale=False, momentum=BATCH_MOMENTUM, name=STANDARDISED
    )(features)


def _frame_vectors(features, network: Network):
    x = ops.mean(_standardised(features), axis=(2, 3))
    x = layers.Dense(HEAD_FEATURES, activation="relu")(x)
    return layers.Dropout(network.dropout)(x)


HEADED: dict[str, Callable] = {
    "cnn": _headed_cnn,
    "cnn3d": _headed_cnn3d,
    "cnn_rnn": _headed_cnn_rnn,
    "attention": _headed_attention,
    "transformer": _headed_transformer,
}


# === What both have ===


def _recur(x, network: Network):
    """Frames `(batch, frames, features)` in their order; what is left at the end."""
    kind = {"gru": layers.GRU, "lstm": layers.LSTM}[network.recurrent]
    layer = kind(x.shape[-1])
    return (layers.Bidirectional(layer) if network.bidirectional else layer)(x)


def _attend_to_frames(x, network: Network):
    """Attention between frames, then the mean of what it makes of each.

    Where each frame stands, its position embedding tells. Weights of their own for each moment
    learn less from few clips (Beyer et al. 2022, Better plain ViT baselines, take the mean, too).
    """
    x = attend(PositionEmbedding()(x), HEADS, network.dropout)
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))


def _attend_to_places(x, network: Network):
    """Attention within each frame, then between frames; Arnab et al. 2021 (ViViT, model 2).

    Input shape: `(batch, frames, rows, columns, features)`.
    """
    frames, rows, columns, features = x.shape[1:]
    x = PositionEmbedding()(ops.reshape(x, (-1, rows * columns, features)))
    x = attend(x, HEADS, network.dropout)
    x = ops.reshape(ops.mean(x, axis=1), (-1, frames, features))
    return _attend_to_frames(x, network)


# === What is heard ===


def _with_sound(x, sound, network: Network, times: int = 1):
    """What the last layer sees, and beside it what is heard (late fusion).

    Args:
        x: `(batch * times, features)`.
        sound: None: it does not hear.
        network: What it is.
        times: So often it sees each clip.
    """
    if sound is None:
        return x
    heard = layers.RepeatVector(times)(_hear(sound, network))
    return ops.concatenate([x, ops.reshape(heard, (-1, SOUND_FEATURES))], axis=-1)


def _hear(sound, network: Network):
    """What a spectrogram tells: `(batch, SOUND_FEATURES)`; without sound, a token.

    All of its time is summed up by mean and largest value (Kong et al. 2020, PANNs), while which
    band is which stays told. Each place is normalised by itself: clips without sound do not count.
    """
    missing = ops.any(ops.isnan(sound), axis=(1, 2))
    # From 100 dB below the loudest to that: about -2.5 to 2.5.
    x = layers.Rescaling(0.5, offset=2.5)(ops.nan_to_num(sound))
    x = ops.expand_dims(x, axis=-1)
    for filters in (16, 32, 64):
        x = layers.Conv2D(filters, 3, strides=2, padding="same")(x)
        x = layers.Activation("relu")(layers.LayerNormalization()(x))
    x = layers.Flatten()(ops.mean(x, axis=1) + ops.max(x, axis=1))
    # Else it would drown, in the beginning, what is seen.
    x = layers.LayerNormalization()(x)
    x = layers.Dense(SOUND_FEATURES, activation="relu")(x)
    x = TokenForMissing(SILENCED)(x, missing)
    return layers.Dropout(network.dropout)(x)
