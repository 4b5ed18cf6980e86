"""Which architectures there are, what they look at, and how they are trained if nothing is said.

Light on purpose: forms and plans read it without Keras.
"""

from __future__ import annotations

from dataclasses import dataclass

from vidpipe.errors import UsageError


@dataclass(frozen=True)
class Sampling:
    """What a model sees of a video.

    Attributes:
        frames: Frames, spread evenly over the video.
        height: Pixels to which each frame is resized, whatever its shape was.
        width: As height.
    """

    frames: int
    height: int
    width: int


@dataclass(frozen=True)
class Architecture:
    """An architecture and its defaults.

    Attributes:
        description: For people who have to choose.
        sampling: What it sees of a video.
        epochs: Passes over the training videos, at most.
        batch_size: Videos a step.
        learning_rate: Adam's.
    """

    description: str
    sampling: Sampling
    epochs: int
    batch_size: int
    learning_rate: float


CLASSIFICATION: dict[str, Architecture] = {
    "cnn": Architecture(
        "single frames: for what one picture shows; blind to motion",
        Sampling(frames=4, height=128, width=128),
        epochs=10,
        batch_size=8,
        learning_rate=1e-3,
    ),
    "cnn_rnn": Architecture(
        "frames in order through a recurrent layer: for motion",
        Sampling(frames=12, height=64, width=64),
        epochs=20,
        batch_size=16,
        learning_rate=3e-3,
    ),
    "attention": Architecture(
        "all frames beside each other through self-attention: for motion, also across long gaps",
        Sampling(frames=12, height=64, width=64),
        epochs=20,
        batch_size=16,
        learning_rate=1e-3,
    ),
}


def find_architecture(name: str) -> Architecture:
    """Returns the architecture called `name`.

    Raises:
        UsageError: There is none.
    """
    try:
        return CLASSIFICATION[name]
    except KeyError:
        names = ", ".join(CLASSIFICATION)
        raise UsageError(f"An architecture is one of {names}. Received: {name!r}") from None
