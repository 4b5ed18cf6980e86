"""The input of training: batches of clips, shuffled and augmented, by seed and number alone."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from vidpipe.datasets.augmentation import Augmenter, Mixer, Mixing
from vidpipe.datasets.presets import Augmentation
from vidpipe.datasets.streaming import StreamedClips

# What has rows of clips.
Pictures = np.ndarray | StreamedClips
# What a network is given: clips, or clips and their sound.
Inputs = tf.Tensor | tuple[tf.Tensor, tf.Tensor]


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


class Order:
    """Which rows each batch of a training holds: a function of the seed and its number alone.

    Where clips are streamed, row groups are shuffled, and then the rows of as many of them as are
    in memory at a time.

    Args:
        clips: The clips.
        rows: Those to train on.
        batch_size: Rows a batch.
        seed: The same gives the same.

    Attributes:
        steps: Batches that hold every row once; the last may be smaller.
    """

    def __init__(self, clips: Pictures, rows: np.ndarray, *, batch_size: int, seed: int):
        self.steps = math.ceil(len(rows) / batch_size)
        self._rows, self._size, self._seed = len(rows), batch_size, seed
        self._groups = clips.groups[rows] if isinstance(clips, StreamedClips) else None
        self._at_once = clips.groups_at_once if isinstance(clips, StreamedClips) else 0
        self._of_epoch = functools.lru_cache(maxsize=2)(self._shuffle)

    def batch(self, number: int) -> np.ndarray:
        """The places, among the rows, of those in a batch, which is counted from the first."""
        epoch, step = divmod(number, self.steps)
        return self._of_epoch(epoch)[step * self._size : (step + 1) * self._size]

    def _shuffle(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng((self._seed, epoch))
        order = random.permutation(self._rows)
        if self._groups is None:
            return order
        groups, which = np.unique(self._groups, return_inverse=True)
        turns = random.permutation(len(groups)) // self._at_once
        return order[np.argsort(turns[which[order]], kind="stable")]


def plain_moments(read: int, frames: int) -> np.ndarray:
    """Which of the frames that were read of a video are the clip that is evaluated.

    Args:
        read: An odd multiple of `frames`, spread evenly over the video.
        frames: Of the clip.
    """
    step = read // frames
    return np.arange(frames) * step + step // 2


def chance_moments(random: np.random.Generator, clips: int, read: int, frames: int) -> np.ndarray:
    """Which of the frames that were read of a video are a clip that is learnt from.

    Each clip is a part of its video of at least half the length, anywhere in it, so that it is up
    to twice as slow; and each frame is anywhere in its own stretch of that.

    Args:
        random: The same state gives the same.
        clips: How many.
        read: Frames that were read of each video, spread evenly.
        frames: Of a clip.

    Returns:
        Rising indexes, `(clips, frames)`.
    """
    length = random.uniform(0.5, 1.0, (clips, 1))
    start = random.uniform(0.0, 1.0, (clips, 1)) * (1 - length)
    within = random.uniform(0.0, 1.0, (clips, frames))
    places = start + length * (np.arange(frames) + within) / frames
    return np.minimum((places * read).astype(int), read - 1)


def training_batches(
    clips: Pictures,
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    order: Order,
    frames: int,
    augmentation: Augmentation,
    seed: int,
    epochs: int,
    sound: np.ndarray | None = None,
    first_step: int = 0,
    part: Part | None = None,
) -> tf.data.Dataset:
    """The batches of a training, in another order each epoch, augmented otherwise each time.

    What a batch holds follows from the seed and its number alone, so that a training can go on
    anywhere: where it is in its data is a number.

    Args:
        clips: uint8 `(clips, frames read, height, width, 3)`, or features of clips; may be
            memory-mapped, or streamed.
        rows: The rows of `clips` to train on.
        labels: For each of `rows` its classes, `(len(rows), classes)`.
        weights: For each of `rows` how much it counts.
        order: Of `rows`, by batch.
        frames: Of a clip. Where more were read, an odd multiple, each time others of them are it.
        augmentation: What is done to clips; none may be done to features.
        seed: The same seed gives the same batches.
        epochs: Each holds every row once.
        sound: What is heard in each of the `clips`, as `vidpipe.datasets.spectrogram.read_sound`
            has it; only mixing changes it. None: nothing is.
        first_step: The number of the first batch, counted from the first of the first epoch.
        part: Only this part of each batch, its clips augmented as in the whole.

    Returns:
        Batches of clips, labels and weights, from `first_step` to the end of the last epoch; where
        they are parts, how many rows the whole batch has comes fourth. With sound, pairs of clips
        and sound are in place of clips.
    """

    def choose(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen = order.batch(int(number))
        if clips.shape[1] > frames:
            random = np.random.default_rng((seed, int(number), 1))
            return chosen, chance_moments(random, len(chosen), clips.shape[1], frames)
        plain = plain_moments(clips.shape[1], frames)
        return chosen, np.broadcast_to(plain, (len(chosen), frames))

    read = _reader(clips, rows, labels, weights, frames, sound)
    chance = _Chance(augmentation, seed, part, *clips.shape[2:4])

    def gather(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, ...]]:
        chosen, moments = tf.numpy_function(choose, [number], (tf.int64, tf.int64))
        whole = tf.shape(chosen)[0]
        places = chance.places(number, whole)
        return number, whole, read(tf.gather(chosen, places), tf.gather(moments, places))

    numbers = tf.data.Dataset.range(first_step, epochs * order.steps)
    # What reads is done one after the other, what only computes is not.
    batches = numbers.map(gather).map(chance.change, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.prefetch(2)


class _Chance:
    """What chance makes of a batch, or of a part of it, by the batch's number.

    Args:
        augmentation: What may be done.
        seed: The same gives the same.
        part: Which part, if any.
        height: Of the pictures.
        width: Likewise.
    """

    def __init__(
        self, augmentation: Augmentation, seed: int, part: Part | None, height: int, width: int
    ):
        self._augmenter = Augmenter(augmentation)
        self._mixer = Mixer(augmentation.mix) if augmentation.mix != "none" else None
        self._seed, self._part, self._size = seed, part, (height, width)

    def places(self, number: tf.Tensor, whole: tf.Tensor) -> tf.Tensor:
        """The places in a batch, of so many rows, of the clips that are needed."""
        own = self._own(whole)
        if self._mixer is None:
            return own
        # Those of other parts are read, and augmented, here as well.
        partners = tf.gather(self._mixing(number, whole).partners, own)
        return tf.unique(tf.concat([own, partners], axis=0))[0]

    def change(
        self, number: tf.Tensor, whole: tf.Tensor, found: tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, ...]:
        """Clips, labels, weights, and perhaps sound, of `places`, to those that are learnt from."""
        places = self.places(number, whole)
        if self._augmenter.does_something:
            drawn = self._augmenter.draw((self._seed, number), whole, *self._size)
            found = self._augmenter.apply(found[0], drawn.of(places)), *found[1:]
        if self._mixer is not None:
            own, mixing = self._own(whole), self._mixing(number, whole)
            partners = tf.gather(mixing.partners, own)
            mine, theirs = (
                tuple(tf.gather(values, _find(places, of)) for values in found)
                for of in (own, partners)
            )
            found = self._mixer.apply(tf.gather(mixing.own, own), mine, theirs)
        batch = _with_sound(found)
        return batch if self._part is None else (*batch, whole)

    def _own(self, whole: tf.Tensor) -> tf.Tensor:
        places = tf.range(whole)
        return places if self._part is None else self._part.take(places)

    def _mixing(self, number: tf.Tensor, whole: tf.Tensor) -> Mixing:
        return self._mixer.draw((self._seed, number), whole, *self._size)


def _find(values: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Where in values, each of which is there once, those that are wanted are."""
    return tf.argmax(tf.cast(values[None] == wanted[:, None], tf.int32), axis=1)


def plain_batches(
    clips: Pictures,
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    batch_size: int,
    frames: int,
    sound: np.ndarray | None = None,
    part: Part | None = None,
) -> tf.data.Dataset:
    """Batches in order, as they are; arguments as of `training_batches`."""
    read = _reader(clips, rows, labels, weights, frames, sound)
    moments = tf.constant(plain_moments(clips.shape[1], frames))

    def batch(chosen: tf.Tensor) -> tuple[tf.Tensor, ...]:
        whole = tf.shape(chosen)[0]
        own = chosen if part is None else part.take(chosen)
        found = _with_sound(read(own, tf.tile(moments[None], (tf.shape(own)[0], 1))))
        return found if part is None else (*found, whole)

    return tf.data.Dataset.range(len(rows)).batch(batch_size).map(batch).prefetch(2)


def plain_clips(
    clips: Pictures, rows: np.ndarray, frames: int, sound: np.ndarray | None = None
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """The clips of rows as they are evaluated; arguments as of `training_batches`."""
    found = _take(clips, rows, plain_moments(clips.shape[1], frames)[None])
    return found if sound is None else (found, sound[rows])


def _reader(
    clips: Pictures,
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    frames: int,
    sound: np.ndarray | None,
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]:
    """A step of a pipeline: numbers of rows and, for each, moments to clips, labels, weights, and
    sound where there is any."""
    weights = weights.astype(np.float32)
    heard = [] if sound is None else [sound]

    def take(chosen, moments):
        found = _take(clips, rows[chosen], moments), labels[chosen], weights[chosen]
        return *found, *(of[rows[chosen]] for of in heard)

    def read(chosen, moments):
        arrays = clips, labels, weights, *heard
        found = tf.numpy_function(take, [chosen, moments], [of.dtype for of in arrays])
        shapes = [(frames, *clips.shape[2:]), *(of.shape[1:] for of in arrays[1:])]
        for values, shape in zip(found, shapes, strict=True):
            values.set_shape((None, *shape))
        return tuple(found)

    return read


def _with_sound(found: tuple[tf.Tensor, ...]) -> tuple[Inputs, tf.Tensor, tf.Tensor]:
    """A batch, from clips, labels, weights, and perhaps sound."""
    clips, labels, weights, *sound = found
    return (clips, *sound) if sound else clips, labels, weights


def _take(clips: Pictures, rows: np.ndarray, moments: np.ndarray) -> np.ndarray:
    # Only these frames of a memory-mapped array are read.
    if moments.shape[1] == clips.shape[1]:
        return clips[rows]
    return clips[rows[:, None], moments]


@contextlib.contextmanager
def failures_of(clips: Pictures) -> Iterator[None]:
    """Within it batches are asked for: what a read fails by is raised as it was."""
    try:
        yield
    except tf.errors.OpError as error:
        if isinstance(clips, StreamedClips) and clips.failure:
            raise clips.failure from error
        raise
