"""Which architectures and backbones there are, what they look at, and how they are trained if
nothing is said.

Light on purpose: forms and plans read it without Keras.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from vidpipe.errors import UsageError

Chosen = TypeVar("Chosen")

SOUND_SHAPE = 128, 64  # of what is heard of a clip: steps, evenly over its window, and mel bands


@dataclass(frozen=True)
class Sampling:
    """What a model sees of a video.

    Attributes:
        frames: Frames of a clip, spread evenly over its window.
        height: Pixels to which each frame is resized, whatever its shape was.
        width: As height.
        window_s: Seconds that a clip spans (dense sampling); None: the whole video (uniform).
        clips: How many clips of a video there are, spread evenly; what is said of them is averaged.
        crops: 1: a clip has the whole of each frame, squeezed to this size. More: so many crops of
            each frame, evenly from left or top to right or bottom, which keep the shape of things,
            are a clip each.
        sliding: Whether the windows follow each other from the start to the end, however many that
            takes, for what is told of each moment.
        sound: Whether it also hears the window of each clip.
    """

    frames: int
    height: int
    width: int
    window_s: float | None = None
    clips: int = 1
    crops: int = 1
    sliding: bool = False
    sound: bool = False

    @property
    def seen(self) -> Sampling:
        """The same without what is heard."""
        return dataclasses.replace(self, sound=False)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of a clip: `(frames, height, width, channels)`."""
        return self.frames, self.height, self.width, 3


@dataclass(frozen=True)
class Architecture:
    """An architecture and its defaults.

    Attributes:
        description: For people who have to choose.
        sampling: What it sees of a video.
        epochs: Passes over the training videos, at most.
        batch_size: Videos a step.
        learning_rate: Adam's.
        dropout: Share of the features that are left out at random while it learns.
        schedule: How the learning rate goes. On a cosine the weights come to rest, so that what is
            learned depends little on the seed; `cnn`, of few epochs, needs it whole to the end.
    """

    description: str
    sampling: Sampling
    epochs: int
    batch_size: int
    learning_rate: float
    dropout: float
    schedule: str = "constant"


CLASSIFICATION: dict[str, Architecture] = {
    "cnn": Architecture(
        "single frames: for what one picture shows; blind to motion",
        Sampling(frames=4, height=128, width=128),
        epochs=10,
        batch_size=8,
        learning_rate=1e-3,
        dropout=0.5,
    ),
    "cnn3d": Architecture(
        "convolutions over space and time: for short motion, such as a gesture",
        Sampling(frames=12, height=64, width=64),
        epochs=20,
        batch_size=16,
        learning_rate=3e-3,
        dropout=0.2,
        schedule="cosine",
    ),
    "cnn_rnn": Architecture(
        "frames in order through a recurrent layer: for motion",
        Sampling(frames=12, height=64, width=64),
        epochs=30,
        batch_size=16,
        learning_rate=3e-3,
        dropout=0.0,
        schedule="cosine",
    ),
    "attention": Architecture(
        "all frames beside each other through self-attention: for motion, also across long gaps",
        Sampling(frames=12, height=64, width=64),
        epochs=30,
        batch_size=8,
        learning_rate=2e-3,
        dropout=0.0,
        schedule="cosine",
    ),
    "transformer": Architecture(
        "attention within each frame, then between frames: where there are many labels",
        Sampling(frames=12, height=64, width=64),
        epochs=30,
        batch_size=16,
        learning_rate=1e-3,
        dropout=0.0,
        schedule="cosine",
    ),
}


@dataclass(frozen=True)
class Backbone:
    """A network for pictures, which an architecture can see frames through.

    Attributes:
        description: For people who have to choose.
        application: Its name in `keras.applications`.
        side: Pixels of the pictures that it was made for.
        preprocessing: What its weights expect of pixels: `caffe`, `tf`, or `none` where the network
            does it itself; as in `keras.applications.imagenet_utils`.
    """

    description: str
    application: str
    side: int
    preprocessing: str


BACKBONES: dict[str, Backbone] = {
    "mobilenet_v2": Backbone("2.3 million weights, the quickest", "MobileNetV2", 224, "tf"),
    "efficientnet_v2_b0": Backbone("5.9 million, quick and good", "EfficientNetV2B0", 224, "none"),
    "densenet121": Backbone("7.0 million", "DenseNet121", 224, "torch"),
    "xception": Backbone("21 million", "Xception", 299, "tf"),
    "resnet50": Backbone("24 million, the best known", "ResNet50", 224, "caffe"),
    "convnext_tiny": Backbone("28 million, the best of these", "ConvNeXtTiny", 224, "none"),
}


@dataclass(frozen=True)
class Network:
    """What is trained: an architecture, and the choices that it leaves.

    Attributes:
        architecture: A key of `CLASSIFICATION`.
        backbone: A key of `BACKBONES`; None: small layers of its own.
        fine_tune: Whether the backbone learns as well; else it is frozen, and only what comes after
            it learns.
        dropout: Share of the features that are left out at random while it learns.
        recurrent: The recurrent layer of `cnn_rnn`: `gru` or `lstm`.
        bidirectional: Whether `cnn_rnn` reads the frames backwards, too.
    """

    architecture: str
    backbone: str | None = None
    fine_tune: bool = False
    dropout: float = 0.0
    recurrent: str = "gru"
    bidirectional: bool = False

    @property
    def frozen(self) -> bool:
        """Whether a part of it never learns."""
        return self.backbone is not None and not self.fine_tune


def chosen(kind: type[Chosen], config: Mapping[str, Any]) -> Chosen:
    """Returns a dataclass whose fields are the entries of these names of a configuration.

    One of before there was a choice has its default.

    Raises:
        KeyError: A field without a default is not among them.
    """
    return kind(
        **{
            field.name: config[field.name]
            for field in dataclasses.fields(kind)
            if field.name in config or field.default is dataclasses.MISSING
        }
    )


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


def find_defaults(architecture: str, backbone: str | None, fine_tune: bool) -> Architecture:
    """Returns an architecture with the defaults that it has behind a backbone.

    Raises:
        UsageError: There is none of one of the names.
    """
    spec = find_architecture(architecture)
    if backbone is None:
        return spec
    side = find_backbone(backbone).side
    return dataclasses.replace(
        spec,
        sampling=Sampling(frames=8, height=side, width=side),
        epochs=10 if fine_tune else 40,
        batch_size=8,
        learning_rate=1e-4 if fine_tune else 1e-3,
        dropout=0.5,
        schedule="cosine",
    )


def find_backbone(name: str) -> Backbone:
    """Returns the backbone called `name`.

    Raises:
        UsageError: There is none.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        raise UsageError(
            f"A backbone is one of {', '.join(BACKBONES)}. Received: {name!r}"
        ) from None
