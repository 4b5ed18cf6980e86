"""Augmentation inside the input pipeline: all frames of a clip alike, and their boxes with them.

Nothing here has a state. What becomes of a clip follows from the seed, the number of its batch and
its place in that, so that a training can go on anywhere, and devices that share a batch see what
one would.

Light and colours are changed by Keras' preprocessing layers. What one has to know of them (3.15):

- Called, they draw from a generator with a state; given a seed, they take no tensor. `_Seeds` is a
  generator whose numbers follow from a tensor alone.
- `RandAugment` draws the same operations for a whole batch, from its own generator whatever seed it
  is given, turns by up to 180° at its default strength, and loses boxes where it moves pictures
  twice. `RandomShear` moves boxes wrongly unless pictures are square. So what is drawn, and all
  that moves, is done here: one affine transform a clip, sampled once, whose inverse moves boxes
  exactly.
- `RandomContrast(0.5)` only ever raises contrast: lower and upper bound are to be given.
  `RandomSharpness` changes nothing at 0.5, blurs below. `Solarization` inverts nearly everything.
- Extremes, histograms and means are taken by picture: frames are laid on top of each other as one
  tall picture, else each frame would be lit by itself, and flicker.
- They compute in the precision of the training unless told not to, which is coarser than a pixel.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import keras
import tensorflow as tf
from keras import layers

from vidpipe.datasets.presets import LIGHTS, MOVES, PRESETS, Augmentation, Preset

MIXUP_ALPHA = 0.2
CUTMIX_ALPHA = 1.0
_fold_in = tf.random.experimental.stateless_fold_in


class Drawn(NamedTuple):
    """What is to be done to some clips.

    Attributes:
        transforms: From places in the result to places in the clip, as
            `keras.ops.image.affine_transform` has them: `(clips, 8)`.
        operations: Which of the preset's operations, in order: `(clips, operations)`.
        seeds: Of each clip: `(clips, 2)`.
    """

    transforms: tf.Tensor
    operations: tf.Tensor
    seeds: tf.Tensor

    def of(self, places: tf.Tensor) -> Drawn:
        """What is to be done to the clips at these places."""
        return Drawn(*(tf.gather(values, places) for values in self))


class Augmenter:
    """Draws what becomes of clips, and does it.

    Args:
        augmentation: What may be done.
    """

    def __init__(self, augmentation: Augmentation):
        self._preset = PRESETS[augmentation.preset]
        self._mirrored = augmentation.mirrored
        # Built here, for they have variables, which a pipeline cannot make.
        self._lights = {
            name: layer for name, layer in _lights(self._preset).items() if name in self._names
        }

    @property
    def does_something(self) -> bool:
        """Whether clips are changed at all."""
        return bool(self._names)

    @property
    def _names(self) -> tuple[str, ...]:
        return self._preset.operations

    def draw(self, seed: tf.Tensor, clips: tf.Tensor, height: int, width: int) -> Drawn:
        """What is to be done to the clips of a whole batch.

        Args:
            seed: Two integers; the same give the same.
            clips: How many there are.
            height: Of their pictures.
            width: Likewise.
        """
        preset, seed = self._preset, tf.convert_to_tensor(seed)
        operations = tf.tile(tf.range(len(self._names))[None], (clips, 1))
        amount = tf.unstack(tf.random.stateless_uniform((6, clips), seed, -1.0, 1.0))
        if preset.chance:
            order = tf.random.stateless_uniform((clips, len(self._names)), _fold_in(seed, 1))
            operations = tf.argsort(order)[:, : preset.chance]
            for number, move in enumerate(("turn", "shear", "zoom", "zoom", "shift", "shift")):
                done = tf.reduce_any(operations == self._names.index(move), axis=1)
                amount[number] *= tf.cast(done, tf.float32)
        side = tf.ones(clips)
        if self._mirrored:
            toss = tf.random.stateless_uniform((clips,), _fold_in(seed, 2))
            side = tf.where(toss < 0.5, -1.0, 1.0)
        return Drawn(
            _transforms(preset, amount, side, height, width),
            operations,
            tf.random.experimental.stateless_split(_fold_in(seed, 3), clips),
        )

    def apply(self, clips: tf.Tensor, drawn: Drawn) -> tf.Tensor:
        """Does it.

        Args:
            clips: uint8 `(clips, frames, height, width, 3)`.
            drawn: What is to be done to each of them.

        Returns:
            Clips of the same shape and type; what comes in at the edges is repeated.
        """
        frames, height, width = clips.shape[1:4]
        # Frames become channels of one picture: one transform for all of a clip.
        pictures = tf.reshape(tf.transpose(clips, (0, 2, 3, 1, 4)), (-1, height, width, frames * 3))
        pictures = keras.ops.image.affine_transform(
            tf.cast(pictures, tf.float32), drawn.transforms, fill_mode="nearest"
        )
        pictures = tf.reshape(pictures, (-1, height, width, frames, 3))
        pictures = tf.transpose(pictures, (0, 3, 1, 2, 4))
        if self._lights:
            pictures = tf.map_fn(
                lambda of_clip: self._light(*of_clip),
                (pictures, drawn.operations, drawn.seeds),
                fn_output_signature=tf.TensorSpec(clips.shape[1:], tf.float32),
            )
        return tf.cast(tf.round(pictures), clips.dtype)

    def _light(self, clip: tf.Tensor, operations: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if not self._preset.chance:
            for number, name in enumerate(self._names):
                clip = self._relit(clip, name, _fold_in(seed, number))
            return clip

        def go_on(clip: tf.Tensor, operation: tf.Tensor) -> tf.Tensor:
            # No operation comes twice.
            seed_of = _fold_in(seed, operation)
            return tf.switch_case(
                operation,
                [functools.partial(self._relit, clip, name, seed_of) for name in self._names],
            )

        return tf.foldl(go_on, operations, initializer=clip)

    def _relit(self, clip: tf.Tensor, name: str, seed: tf.Tensor) -> tf.Tensor:
        if name in MOVES:
            return clip  # that is done
        layer = self._lights[name]
        frames, height, width = clip.shape[:3]
        # Sharpness looks at neighbours: those of another frame are none.
        shape = clip.shape if name == "sharpness" else (1, frames * height, width, 3)
        drawn = layer.get_random_transformation(clip[:1], seed=_Seeds(seed))
        return tf.reshape(layer.transform_images(tf.reshape(clip, shape), drawn), clip.shape)


def _lights(preset: Preset) -> dict[str, layers.Layer]:
    """The layer of each operation that changes light or colours."""
    whole = {"value_range": (0, 255), "dtype": "float32"}
    built = (
        layers.RandomBrightness(preset.brightness, **whole),
        layers.RandomContrast((preset.contrast, preset.contrast), **whole),
        layers.RandomColorDegeneration((0.0, 0.8), **whole),
        layers.RandomSharpness((0.1, 0.9), **whole),
        layers.RandomPosterization((4, 8), **whole),
        layers.AutoContrast(**whole),
        layers.Equalization(**whole),
    )
    return dict(zip(LIGHTS, built, strict=True))


def _transforms(
    preset: Preset, amount: list[tf.Tensor], side: tf.Tensor, height: int, width: int
) -> tf.Tensor:
    angle = amount[0] * math.radians(preset.rotation_deg)
    shear = amount[1] * preset.shear
    zoom_x, zoom_y = 1 + amount[2] * preset.zoom, 1 + amount[3] * preset.zoom
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Rotation · shear · zoom, from places in the result to places in the clip, about the centre.
    a0, a1 = cos * zoom_x * side, (cos * shear - sin) * zoom_y
    b0, b1 = sin * zoom_x * side, (sin * shear + cos) * zoom_y
    x, y = (width - 1) / 2, (height - 1) / 2
    a2 = x - a0 * x - a1 * y + amount[4] * preset.shift * width
    b2 = y - b0 * x - b1 * y + amount[5] * preset.shift * height
    nothing = tf.zeros_like(a0)
    return tf.stack([a0, a1, a2, b0, b1, b2, nothing, nothing], axis=1)


def move_boxes(boxes: tf.Tensor, transforms: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Boxes around what was in them, where a transform has put it.

    Args:
        boxes: Left, top, right and bottom, each in shares of the picture:
            `(clips, frames, boxes, 4)`.
        transforms: Of `Drawn`.
        height: Of the pictures.
        width: Likewise.

    Returns:
        Boxes of the same shape, with sides along those of the picture, and no further than that;
        without any area where nothing is left to be seen.
    """
    a0, a1, a2, b0, b1, b2 = (
        values[:, None, None, None] for values in tf.unstack(transforms[:, :6], axis=1)
    )
    left, top, right, bottom = tf.unstack(tf.cast(boxes, tf.float32), axis=-1)
    # The corners, in pixels, whose centres are whole numbers.
    x = tf.stack([left, right, left, right], axis=-1) * width - 0.5 - a2
    y = tf.stack([top, top, bottom, bottom], axis=-1) * height - 0.5 - b2
    area = a0 * b1 - a1 * b0
    moved_x = ((b1 * x - a1 * y) / area + 0.5) / width
    moved_y = ((a0 * y - b0 * x) / area + 0.5) / height
    ends = [
        tf.reduce_min(moved_x, axis=-1),
        tf.reduce_min(moved_y, axis=-1),
        tf.reduce_max(moved_x, axis=-1),
        tf.reduce_max(moved_y, axis=-1),
    ]
    return tf.clip_by_value(tf.stack(ends, axis=-1), 0.0, 1.0)


# === Two clips in one ===


class Mixing(NamedTuple):
    """How the clips of a whole batch are mixed.

    Attributes:
        partners: The place of the clip that each is mixed with: `(clips,)`.
        own: What each keeps of itself: `(clips, 1, 1, 1, 1)`, or by pixel
            `(clips, 1, height, width, 1)`, in all frames alike.
    """

    partners: tf.Tensor
    own: tf.Tensor


class Mixer:
    """Draws how clips are mixed, and mixes them.

    Args:
        mix: A key of `vidpipe.datasets.presets.MIXES` that is not `none`.
    """

    def __init__(self, mix: str):
        self._layer = {
            "mixup": lambda: layers.MixUp(MIXUP_ALPHA, dtype="float32"),
            "cutmix": lambda: layers.CutMix((CUTMIX_ALPHA, CUTMIX_ALPHA), dtype="float32"),
        }[mix]()
        self._by_pixel = mix == "cutmix"

    def draw(self, seed: tf.Tensor, clips: tf.Tensor, height: int, width: int) -> Mixing:
        """How the clips of a batch are mixed; arguments as of `Augmenter.draw`."""
        seeds = _Seeds(_fold_in(tf.convert_to_tensor(seed), 4))
        drawn = self._layer.get_random_transformation(
            tf.zeros((clips, height, width, 1)), seed=seeds
        )
        if self._by_pixel:
            own = 1 - tf.cast(drawn["batch_masks"], tf.float32)[:, None]
        else:
            own = drawn["mix_weight"][:, None, None, None, None]
        return Mixing(tf.cast(drawn["permutation_order"], tf.int32), own)

    @staticmethod
    def apply(
        own: tf.Tensor,
        batch: tuple[tf.Tensor, ...],
        partners: tuple[tf.Tensor, ...],
    ) -> tuple[tf.Tensor, ...]:
        """Mixes clips with others.

        The loss of a mixed clip is that of both, each with its own weight, in the proportion of
        what is seen of them; in that both are heard, too.

        Args:
            own: What each keeps of itself, of `Mixing`.
            batch: Clips, labels `(clips, classes)`, weights `(clips,)`, and perhaps sound
                `(clips, steps, bands)`.
            partners: The same of those that they are mixed with.
        """
        clips, labels, weights, *sound = batch
        other_clips, other_labels, other_weights, *other_sound = partners
        mixed = own * tf.cast(clips, tf.float32) + (1 - own) * tf.cast(other_clips, tf.float32)
        share = tf.reduce_mean(own, axis=(1, 2, 3, 4))
        counts, other_counts = share * weights, (1 - share) * other_weights
        both = counts + other_counts
        part = tf.math.divide_no_nan(counts, both)[:, None]
        return (
            tf.cast(tf.round(mixed), clips.dtype),
            part * labels + (1 - part) * other_labels,
            both,
            *(_mix_sound(share, *pair) for pair in zip(sound, other_sound, strict=True)),
        )


def _mix_sound(share: tf.Tensor, sound: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """Two sounds in one; where one of them is missing, the other alone."""
    share = tf.cast(share[:, None, None], sound.dtype)
    mixed = share * sound + (1 - share) * other
    mixed = tf.where(tf.math.is_nan(other), sound, mixed)
    return tf.where(tf.math.is_nan(sound), other, mixed)


class _Seeds(keras.random.SeedGenerator):
    """Seeds that follow from one alone: Keras' own generator goes on from where it was."""

    def __init__(self, seed: tf.Tensor):
        self._seed, self._drawn = seed, 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Another one."""
        self._drawn += 1
        return _fold_in(self._seed, self._drawn)
