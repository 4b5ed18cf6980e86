"""Prediction in batches that fit in memory, whatever the network and the size of the frames.

How much a row of a batch takes is estimated from the network's graph, and checked by a first batch
of one row. A network with a backbone sees each frame by itself: it is given batches of frames, not
of clips, so that the memory does not grow with the frames of a clip either. What is predicted does
not depend on the size of the batches, but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from vidpipe.config import load_settings
from vidpipe.errors import OutOfMemoryError
from vidpipe.memory import PeakMeter, free_bytes, release_pages, used_bytes
from vidpipe.models.backbones import BACKBONE, per_frame
from vidpipe.models.complexity import activation_bytes

# What a row takes more than was estimated: copies, and what libraries keep for the next batch.
SLACK = 1.25
# What the first batch takes once: the graph, and kernels and weights as the processor wants them.
FIRST_BYTES = 300_000_000
# Of the memory that is free: others are at work, too.
SHARE_OF_FREE = 0.8


def most_bytes() -> float:
    """What this process may still take: of what is free, and of its own limit where it has one."""
    most = SHARE_OF_FREE * free_bytes()
    if limit_gb := load_settings().memory.stage_gb:
        most = min(most, limit_gb * 1e9 - used_bytes())
    return most


class Predictor:
    """Predicts by a network, in bounded memory.

    Args:
        network: A network as `vidpipe.models.classification.build_model` makes it, or its part
            `encoder` or `head`.

    Example:
        >>> Predictor(model).predict((clips,)).shape
        (100, 4)
    """

    def __init__(self, network: keras.Model):
        self._frames: _Batches | None = None
        self._rest: _Batches | None = None
        layers = {layer.name for layer in network.layers}
        if BACKBONE in layers:  # an encoder: clips to features
            self._frames = _Batches(per_frame(network))
        elif "encoder" in layers:
            self._frames = _Batches(per_frame(network.get_layer("encoder")))
            self._rest = _Batches(network.get_layer("head"))
        else:
            self._rest = _Batches(network)

    def predict(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """Predicts rows.

        Args:
            inputs: Arrays of as many rows, one for each input of the network; at least one row.
                May be memory-mapped.

        Returns:
            The output of the network, `(rows, …)`.

        Raises:
            OutOfMemoryError: Not even a batch of one row fits in the memory.
        """
        return np.concatenate(list(self.stream(inputs)))

    def stream(self, inputs: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Predicts rows; yields the output for some of them at a time, in order."""
        if self._frames is None:
            yield from self._rest.stream(inputs)
            return
        clips, *others = inputs
        at_once = max(1, self._frames.rows // clips.shape[1])
        for first in range(0, len(clips), at_once):
            outputs = self._encode(clips[first : first + at_once])
            if self._rest is not None:
                beside = (of[first : first + at_once] for of in others)
                outputs = np.concatenate(list(self._rest.stream((outputs, *beside))))
            yield outputs

    def _encode(self, clips: np.ndarray) -> np.ndarray:
        count, frames = clips.shape[:2]
        of_frames = clips.reshape(-1, *clips.shape[2:])
        features = np.concatenate(list(self._frames.stream((of_frames,))))
        return features.reshape(count, frames, *features.shape[1:])


class _Batches:
    """Feeds a network with as many rows at a time as fit.

    Attributes:
        rows: So many.
    """

    def __init__(self, network: keras.Model):
        self._network = network
        self._row_bytes = SLACK * activation_bytes(network)
        self._is_first = True
        self.rows = self._fitting()

    def stream(self, inputs: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        start = 0
        while start < len(inputs[0]):
            rows = 1 if self._is_first else self.rows
            batch = [of[start : start + rows] for of in inputs]
            try:
                predicted = self._checked(batch) if self._is_first else self._predict(batch)
            except Exception as error:
                if not _is_want_of_memory(error):
                    raise
                if len(batch[0]) == 1:
                    raise self._refusal() from error
                # Of the rows that were there, which may be fewer than would have been taken.
                self.rows = len(batch[0]) // 2
                continue
            for of in inputs:
                release_pages(of)
            start += len(batch[0])
            yield predicted

    def _checked(self, batch: list[np.ndarray]) -> np.ndarray:
        """Predicts the first row, and corrects by what that takes how many rows are to follow."""
        if self._row_bytes > most_bytes():
            raise self._refusal()
        with PeakMeter() as meter:
            predicted = self._predict(batch)
        self._row_bytes = max(self._row_bytes, meter.growth_bytes - FIRST_BYTES)
        self._is_first, self.rows = False, self._fitting()
        return predicted

    def _predict(self, batch: list[np.ndarray]) -> np.ndarray:
        return self._network.predict_on_batch(tuple(batch) if len(batch) > 1 else batch[0])

    def _fitting(self) -> int:
        limit_bytes = min(load_settings().memory.batch_gb * 1e9, most_bytes())
        return max(1, int(limit_bytes / max(1, self._row_bytes)))

    def _refusal(self) -> OutOfMemoryError:
        shape = " × ".join(map(str, self._network.inputs[0].shape[1:]))
        return OutOfMemoryError(
            f"The network {self._network.name} does not fit in the memory, even for one input of"
            f" {shape}: that takes about {self._row_bytes / 1e9:.1f} GB, and"
            f" {max(0.0, most_bytes()) / 1e9:.1f} GB can be had. Choose smaller frames (height,"
            " width), fewer frames, another architecture or a smaller backbone, or give it more"
            " memory."
        )


def _is_want_of_memory(error: Exception) -> bool:
    """Whether a backend of Keras, or NumPy, says by an error that memory ran out."""
    # TensorFlow's ResourceExhaustedError, JAX's XlaRuntimeError, PyTorch's OutOfMemoryError.
    message = f"{type(error).__name__} {error}"
    known = "ResourceExhausted", "RESOURCE_EXHAUSTED", "OutOfMemory", "std::bad_alloc"
    return isinstance(error, MemoryError) or any(word in message for word in known)
