"""Backbones: networks for pictures, from keras.applications, that see each frame of a clip."""

from __future__ import annotations

import keras
from keras import layers, ops

from vidpipe.models.architectures import Sampling, find_backbone
from vidpipe.models.layers import GridPooling

BACKBONE = "backbone"  # the name of that layer

# Means of ImageNet's pixels, as each family of weights wants them taken away.
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
_TORCH_MEAN, _TORCH_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build_encoder(backbone: str, sampling: Sampling, grid: int) -> keras.Model:
    """Builds what sees each frame, with random weights.

    Its layer `backbone` is the network for pictures, which `vidpipe.models.weights` fills.

    Args:
        backbone: A key of `vidpipe.models.architectures.BACKBONES`.
        sampling: What is seen of a video.
        grid: Rows and columns of the features, at most; each is the mean of its part of the frame.

    Returns:
        Clips `(batch, frames, height, width, 3)`, 0 to 255, to features
        `(batch, frames, rows, columns, features)`.
    """
    spec = find_backbone(backbone)
    network = getattr(keras.applications, spec.application)(
        weights=None, include_top=False, input_shape=(sampling.height, sampling.width, 3)
    )
    network.name = BACKBONE
    clips = keras.Input(sampling.shape, name="clips")
    x = ops.reshape(clips, (-1, *sampling.shape[1:]))
    x = network(_preprocess(x, spec.preprocessing))
    x = GridPooling(grid)(x)
    x = ops.reshape(x, (-1, sampling.frames, *x.shape[1:]))
    return keras.Model(clips, x, name="encoder")


def per_frame(encoder: keras.Model) -> keras.Model:
    """The same encoder with the same weights, for frames in place of clips.

    Frames `(batch, height, width, 3)` to features `(batch, rows, columns, features)`.
    """
    _, to_frames, *_, to_clips = encoder.operations
    return keras.Model(to_frames.output, to_clips.input, name="backbone_of_a_frame")


def keep_statistics(network: keras.Model) -> None:
    """Keeps the means and variances that a network came with, also while its weights learn.

    Those of batches of a few clips would be worse.
    """
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def _preprocess(pictures, kind: str):
    match kind:
        case "caffe":
            pictures = ops.flip(layers.Rescaling(1.0)(pictures), axis=-1)
            return layers.Rescaling(1.0, offset=[-mean for mean in _CAFFE_MEAN_BGR])(pictures)
        case "tf":
            return layers.Rescaling(1 / 127.5, offset=-1.0)(pictures)
        case "torch":
            scale = [1 / (255 * d) for d in _TORCH_DEVIATION]
            offset = [-m / d for m, d in zip(_TORCH_MEAN, _TORCH_DEVIATION, strict=True)]
            return layers.Rescaling(scale, offset=offset)(pictures)
        case _:
            return layers.Rescaling(1.0)(pictures)  # to numbers with a fraction
