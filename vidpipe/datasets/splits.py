"""Splits: which videos a model learns from, which it is tuned on, which judge it."""

from __future__ import annotations

import collections
import hashlib
import math
from collections.abc import Mapping

from vidpipe.errors import BadInputError

TRAIN, VALIDATION, TEST = "train", "validation", "test"


def split_videos(
    labels: Mapping[str, str],
    *,
    seed: int,
    test_share: float = 0.2,
    validation_share: float = 0.15,
    groups: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Splits videos so that each class is in each split by its share, and no group in two.

    The order within a class is that of a hash of seed and group: it does not depend on the other
    videos, so that few change sides when some are added.

    Args:
        labels: The class of each video.
        seed: Another seed gives another split.
        test_share: Share of each class for the test split.
        validation_share: Share of what is left of each class for validation.
        groups: The group of each video, where videos belong together; each is its own otherwise. A
            group counts to the class most of its videos have.

    Returns:
        `train`, `validation` or `test` for each video. A class with two groups has no validation.

    Raises:
        BadInputError: There are fewer than two classes, or fewer than two groups of one.
    """
    members: dict[str, list[str]] = collections.defaultdict(list)
    for video_id in sorted(labels):
        members[groups[video_id] if groups else video_id].append(video_id)
    classes: dict[str, list[str]] = collections.defaultdict(list)
    for group, video_ids in members.items():
        counts = collections.Counter(labels[video_id] for video_id in video_ids)
        classes[min(counts, key=lambda label: (-counts[label], label))].append(group)
    _check(labels, classes)
    splits: dict[str, str] = {}
    for of_class in classes.values():
        of_class.sort(key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())
        test = _count(len(of_class), test_share)
        validation = _count(len(of_class) - test, validation_share)
        for number, group in enumerate(of_class):
            split = TEST if number < test else VALIDATION if number < test + validation else TRAIN
            splits |= dict.fromkeys(members[group], split)
    return splits


def _count(groups: int, share: float) -> int:
    """How many of `groups` are taken: at least one, and at least one is left."""
    return min(max(1, math.floor(groups * share + 0.5)), groups - 1)


def _check(labels: Mapping[str, str], classes: Mapping[str, list[str]]) -> None:
    names = sorted(set(labels.values()))
    if len(names) < 2:
        raise BadInputError(
            "Telling classes apart takes at least two. Received:"
            f" {names[0] + ' only' if names else 'no label at all'}. Annotate more videos with"
            " `vidpipe annotate FILE --task TASK`."
        )
    few = [name for name in names if len(classes.get(name, ())) < 2]
    if few:
        raise BadInputError(
            f"Class {few[0]!r} has one example, and one cannot be learned from and tested on both."
            " Annotate another video of it, or withdraw its label (column `delete`)."
            + (f" The same holds for: {', '.join(few[1:])}." if few[1:] else "")
        )
