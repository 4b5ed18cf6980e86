"""What people say of videos: rows of the table `annotations`, and which of them hold.

What an annotator says of a range of a video is a set: several boxes in one frame, several labels at
once, or that there is nothing. An import replaces the set as a whole, or withdraws it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

BOX_DECIMALS = 6  # a millionth of the picture: formats differ in the decimals they write
RANGE_TOLERANCE_S = 0.1  # people and players round


class Key(NamedTuple):
    """Of what something is said, and by whom. A newer import of a key replaces all that was said.

    Attributes:
        start_s: None: the whole video. Equal to `end_s`: one frame.
        annotator: "" where nobody is named.
    """

    video_id: str
    start_s: float | None
    end_s: float | None
    annotator: str

    @property
    def is_instant(self) -> bool:
        """Whether it is one frame."""
        return self.start_s is not None and self.start_s == self.end_s


class Box(NamedTuple):
    """A box in the picture as shown: top left corner and size, in shares of the picture (0..1)."""

    x: float
    y: float
    width: float
    height: float


class Statement(NamedTuple):
    """One thing that is said.

    Attributes:
        label: None: somebody looked, and there is nothing of this task.
        track: Which thing it is, within the video and annotator.
        group: What the video belongs to, such as a scene, a camera or a flight.
        split: `train`, `validation` or `test`, as an official list has it.
    """

    label: str | None
    box: Box | None = None
    track: str | None = None
    occluded: bool | None = None
    group: str | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """A statement with its place in a file.

    Attributes:
        where: Such as `line 3` or `annotations[17]`.
        video: As the file calls it.
        said: None withdraws the key.
    """

    where: str
    video: str
    key: Key
    said: Statement | None


def tells_of_video(key: Key, said: Statement) -> bool:
    """Whether it tells of the video itself; the view `current_reviews` asks the same.

    A box tells of a thing in a picture, and nothing in one frame tells of that frame alone.
    """
    return said.box is None and not (said.label is None and key.is_instant)


def to_row(annotation: Annotation) -> dict:
    """The columns of `annotations` that say what an annotation says."""
    key, said = annotation.key, annotation.said or Statement("")
    x, y, width, height = said.box or (None, None, None, None)
    return {
        **key._asdict(),
        "label": said.label,
        "box_x": x,
        "box_y": y,
        "box_width": width,
        "box_height": height,
        "track": said.track,
        "occluded": said.occluded,
        "group": said.group,
        "split": said.split,
        "withdrawn": annotation.said is None,
    }


def current_labels(annotations: pa.Table) -> dict[Key, frozenset[Statement]]:
    """The annotations of a task that hold: those of the newest import of each key.

    Args:
        annotations: Rows of the table `annotations`, all of one task.

    Returns:
        What is said of each key; a key that was withdrawn is not among them. The view
        `current_annotations` gives the same.
    """
    newest: dict[Key, tuple] = {}
    said: dict[Key, set[Statement]] = {}
    columns = [annotations[name].to_pylist() for name in (*Key._fields, "annotated_at", "run_key")]
    statements = _statements(annotations)
    for *of, annotated_at, run_key, statement in zip(*columns, statements, strict=True):
        key, imported = Key(*of), (annotated_at, run_key)
        if key not in newest or imported > newest[key]:
            newest[key], said[key] = imported, set()
        if imported == newest[key] and statement is not None:
            said[key].add(statement)
    return {key: frozenset(statements) for key, statements in said.items() if statements}


def _statements(annotations: pa.Table):
    boxes = zip(
        *(annotations[f"box_{name}"].to_pylist() for name in Box._fields),
        strict=True,
    )
    others = zip(
        *(annotations[name].to_pylist() for name in Statement._fields if name != "box"),
        strict=True,
    )
    withdrawn = annotations["withdrawn"].to_pylist()
    for box, (label, *more), gone in zip(boxes, others, withdrawn, strict=True):
        yield None if gone else Statement(label, None if box[0] is None else Box(*box), *more)
