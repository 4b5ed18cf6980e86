"""What chance may make of the clips that are learnt from, by name.

Light on purpose: forms and plans read it without TensorFlow. What is done, `augmentation.py` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vidpipe.errors import BadInputError, UsageError

MOVES = ("turn", "shear", "zoom", "shift")
LIGHTS = (
    "brightness",
    "contrast",
    "fade",
    "sharpness",
    "posterize",
    "autocontrast",
    "equalize",
)
# Words of labels that a mirror would make another label of.
_SIDES = re.compile(r"(left|right)(ward|wards|hand|handed|er|most)?|(anti|counter)?clockwise")
_LETTERS = frozenset("lr")


@dataclass(frozen=True)
class Preset:
    """An augmentation that has a name.

    Attributes:
        description: For people who have to choose.
        operations: Of `MOVES` and `LIGHTS`: what is done to a clip, to all of its frames alike.
        chance: So many of them, drawn for each clip anew (RandAugment, Cubuk et al. 2019); 0: all.
        rotation_deg: A clip is turned by so much at most, either way.
        shear: By so much of the height at most.
        zoom: Larger or smaller by such a share at most.
        shift: By such a share of the picture at most, across and down.
        brightness: Such a share of the range of values is added or taken away at most.
        contrast: Raised or lowered by such a share at most.
        moments: So many times as many frames are read of a video as a clip has; each clip is a part
            of its video, drawn anew, at a speed that is drawn anew. Odd, so that the clip that is
            evaluated is among them.
    """

    description: str
    operations: tuple[str, ...] = ()
    chance: int = 0
    rotation_deg: float = 0.0
    shear: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    moments: int = 1


PRESETS: dict[str, Preset] = {
    "none": Preset("clips as they are"),
    "light": Preset(
        "turned and moved a very little, and a little brighter or darker",
        ("turn", "zoom", "shift", "brightness", "contrast"),
        rotation_deg=5,
        zoom=0.05,
        shift=0.05,
        brightness=0.1,
        contrast=0.1,
    ),
    "article": Preset(
        "turned, sheared, zoomed and shifted",
        MOVES,
        rotation_deg=20,
        shear=0.1,
        zoom=0.1,
        shift=0.1,
    ),
    "strong": Preset(
        "two chance operations of RandAugment, also on colours, and a chance part of each video at"
        " a chance speed: reads three times as many frames",
        MOVES + LIGHTS,
        chance=2,
        rotation_deg=30,
        shear=0.3,
        zoom=0.2,
        shift=0.2,
        brightness=0.3,
        contrast=0.5,
        moments=3,
    ),
}
MIXES = {
    "none": "each clip is one video",
    "mixup": "two clips shine through each other (Zhang et al. 2018)",
    "cutmix": "a part of the picture is that of another clip (Yun et al. 2019)",
}


@dataclass(frozen=True)
class Augmentation:
    """What is done to the clips of a training.

    Attributes:
        preset: A key of `PRESETS`.
        mirrored: Whether half of the clips are mirrored, left and right; not where nothing is done.
        mix: A key of `MIXES`: how each clip is mixed with another of its batch, labels in the same
            proportion.
    """

    preset: str = "none"
    mirrored: bool = False
    mix: str = "none"

    def __post_init__(self):
        for what, given, known in (
            ("An augmentation", self.preset, PRESETS),
            ("A mixing of clips", self.mix, MIXES),
        ):
            if given not in known:
                raise UsageError(f"{what} is one of {', '.join(known)}. Received: {given!r}")


def refuse_sides(labels: Iterable[str]) -> None:
    """Makes sure that mirrored clips can keep their labels, as far as words tell it.

    Raises:
        BadInputError: A label speaks of left or right, or of a sense of rotation.
    """
    labels = sorted(labels)
    # Also of turnLeft.
    words = {label: re.findall("[A-Z]*[a-z]*", label) for label in labels}
    words = {label: {word.lower() for word in found} for label, found in words.items()}
    sided = [label for label in labels if any(map(_SIDES.fullmatch, words[label]))]
    if not sided and set().union(*words.values()) >= _LETTERS:
        sided = [label for label in labels if words[label] & _LETTERS]
    if sided:
        raise BadInputError(
            f"The label {sided[0]!r} tells left from right, and clips that are mirrored would be"
            " learnt under the wrong one: do not say that left and right mean the same."
        )
