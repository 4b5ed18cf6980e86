"""Writing annotations as any format has them, with a sidecar of what it cannot hold."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vidpipe.datasets.annotations import Annotation, Key, Statement
from vidpipe.datasets.formats.shape import Format
from vidpipe.datasets.formats.sidecar import write_sidecar
from vidpipe.datasets.video_names import VideoNames

SEVERAL = "that a video may have several labels at once (--several, when it is imported)"


@dataclass(frozen=True)
class Exported:
    """What is to be written.

    Attributes:
        content: A file, or the files of a folder.
        sidecar: What they do not tell; None where they tell all.
        lost: What is lost without the sidecar, in words.
        kept: How many annotations are told in full.
    """

    content: bytes | Mapping[str, bytes]
    sidecar: bytes | None
    lost: list[str]
    kept: int


def export_annotations(
    current: Mapping[Key, Iterable[Statement]], format: Format, videos: VideoNames
) -> Exported:
    """Writes annotations.

    Args:
        current: What is said of each key.
        format: How.
        videos: Their videos.
    """
    annotations = in_order(current)
    several = any(sum(said.box is None for said in current[key]) > 1 for key in current)
    held = format.hold(annotations, videos)
    written = {(h.key, h.said): h for h in held if isinstance(h, Annotation)}
    return Exported(
        format.write(list(written.values()), videos),
        write_sidecar(format.name, annotations, held, videos, several=several),
        [*_losses(annotations, held), *[SEVERAL] * several],
        sum(h == a for h, a in zip(held, annotations, strict=True)),
    )


def in_order(current: Mapping[Key, Iterable[Statement]]) -> list[Annotation]:
    """What is said, always in the same order."""
    return [
        Annotation("", "", key, said)
        for key in sorted(current, key=_order)
        for said in sorted(current[key], key=repr)
    ]


def _order(key: Key) -> tuple:
    return tuple((value is not None, value) for value in key)


def _losses(annotations: Sequence[Annotation], held: Sequence[Annotation | str]) -> list[str]:
    counts: collections.Counter[str] = collections.Counter()
    for annotation, of in zip(annotations, held, strict=True):
        if isinstance(of, str):
            counts[of] += 1
            continue
        before = annotation.key._asdict() | annotation.said._asdict()
        after = of.key._asdict() | of.said._asdict()
        counts.update(name for name in before if before[name] != after[name])
    return [f"{what} ({count} of {len(annotations)})" for what, count in counts.items()]
