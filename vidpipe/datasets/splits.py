"""Splits: which videos a model learns from, which it is tuned on, which judge it.

What belongs together (`vidpipe/datasets/units.py`) goes to one split as a whole, each class to all
of them by its share (`vidpipe/datasets/stratification.py`). Nothing depends on the order of the
input, and little on the other videos.

Light on purpose: forms read the default from here.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vidpipe.datasets.stratification import stratify
from vidpipe.datasets.units import Tie, Unit, Units, by_class, lot, neighbours_of
from vidpipe.errors import BadInputError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
_NEEDED = (TRAIN, TEST, VALIDATION)  # by a class with too few units for all
# Which of equal units are drawn first: few change sides when some are added.
_DRAWN = (TEST, VALIDATION, TRAIN)
# Bits of 64 that may differ between frames that are alike; 0: near duplicates are not looked for.
NEAR_DUPLICATE_BITS = 8
VALIDATION_SHARE = 0.15


class InseparableError(BadInputError):
    """All videos of a class are near duplicates of each other, so that they cannot be split.

    Attributes:
        pairs: The near duplicates among the videos that belong together.
    """

    def __init__(self, message: str, pairs: list[tuple[str, str]]):
        super().__init__(message)
        self.pairs = pairs


@dataclass(frozen=True)
class Assignment:
    """Where each video goes.

    Attributes:
        splits: `train`, `validation` or `test` of each video that has a place.
        units: Of each of them the name of what it belongs to, which names no video.
        left_out: Videos without a place: each would tie two videos of different splits, or is one
            of the two itself.
        moved: Videos that had another place before, and which: their owner gave them a new one.
        untested: Classes of which nothing is in the test, as all their places are given or were
            there before, or their groups hold other classes, too.
    """

    splits: dict[str, str]
    units: dict[str, str]
    left_out: dict[str, tuple[Tie, Tie]]
    moved: dict[str, str]
    untested: list[str]


def split_videos(
    labels: Mapping[str, Collection[str]],
    *,
    seed: int,
    test_share: float = 0.2,
    validation_share: float = VALIDATION_SHARE,
    groups: Mapping[str, str] | None = None,
    near_pairs: Iterable[tuple[str, str]] = (),
    given: Mapping[str, str] | None = None,
    previous: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> Assignment:
    """Splits videos so that each class is in each split by its share, and no unit in two.

    What has a place keeps it: first the splits that the owner gives, then those of before, of which
    the test comes first. A video that would join units of different splits is left out, as it can
    be in neither without a leak. Nothing ever moves but by its owner's word.

    Args:
        labels: The classes of each video: one, several, or none.
        seed: Another seed gives another split.
        test_share: Share of each class for the test split.
        validation_share: Share of what is left of each class for validation.
        groups: The owner's group of each video that has one.
        near_pairs: Videos that are near duplicates; pairs with others than those of `labels` count
            for nothing.
        given: The split of each video for which the owner says so. Where these are train
            and test alone, as in the lists of UCF101, validation is drawn from train.
        previous: The split of each video that had one before.
        names: What people call videos, for messages.

    Returns:
        Where each video goes. A class with two units has no validation.

    Raises:
        InseparableError: All videos of a class are near duplicates of each other.
        BadInputError: There are fewer than two classes, or fewer than two units of one; a class
            would not be in train; given splits contradict each other.
    """
    given = {v: split for v, split in (given or {}).items() if v in labels}
    before = {v: split for v, split in (previous or {}).items() if v in labels}
    names = names or {}
    _check_input(labels, given, names)
    without_validation = set(given.values()) == {TRAIN, TEST}
    if without_validation:
        given |= {v: VALIDATION for v in given if (given[v], before.get(v)) == (TRAIN, VALIDATION)}
    places = {**before, **given}
    units = Units(groups or {}, neighbours_of(labels, near_pairs))
    left_out: dict[str, tuple[Tie, Tie]] = {}
    # Who comes first keeps its place; a leak into the test would do most harm.
    rank = {split: number for number, split in enumerate((TEST, VALIDATION, TRAIN, None))}
    for video_id in sorted(
        labels, key=lambda v: (v not in given, rank[places.get(v)], lot(seed, [v]))
    ):
        ties = units.add(video_id, places.get(video_id))
        if ties and video_id in given:
            told = " and ".join(
                f"{names.get(tie.video_id, tie.video_id)}, {tie.split}" for tie in ties
            )
            raise BadInputError(
                f"Two splits are given to what belongs together, by its groups or as near"
                f" duplicates: {told}. Give both the same split, or withdraw the label of one"
                " (column `delete`)."
            )
        if ties:
            left_out[video_id] = ties
    of_class = by_class(units.all(), labels)
    _check_units(labels, of_class, near_pairs)
    seats = {unit: unit.split for unit in units.all() if unit.split is not None}
    placed = [v for v in labels if v not in left_out]
    free = stratify(
        [unit for unit in units.all() if unit.split is None],
        seats,
        labels,
        _targets(placed, labels, test_share, validation_share),
        _DRAWN,
        seed,
    )
    _repair(free, seats, of_class, labels)
    seats |= free
    if without_validation:
        # A video that was left out because another is in train would have no reason otherwise.
        fixed = {tie.video_id for ties in left_out.values() for tie in ties if tie.split == TRAIN}
        seats |= _draw_validation(seats, before.keys() | fixed, labels, validation_share, seed)
    _check_train(of_class, seats, labels)
    splits = {v: split for unit, split in seats.items() for v in unit.videos}
    return Assignment(
        splits={v: splits[v] for v in sorted(splits)},
        units={v: name for unit in seats for name in [unit.name] for v in unit.videos},
        left_out=left_out,
        moved={v: before[v] for v in sorted(before) if splits.get(v, before[v]) != before[v]},
        untested=[
            label for label in sorted(of_class) if TEST not in map(seats.get, of_class[label])
        ],
    )


def check_classes(
    labels: Mapping[str, Collection[str]],
    *,
    groups: Mapping[str, str],
    given: Mapping[str, str],
    names: Mapping[str, str],
) -> None:
    """Refuses what cannot be split whatever is near to what: before it is looked for.

    Args:
        labels: As for `split_videos`, like the others.
    """
    _check_input(labels, {v: split for v, split in given.items() if v in labels}, names)
    units = Units(groups, {})
    for video_id in sorted(labels):
        units.add(video_id, None)
    _check_units(labels, by_class(units.all(), labels))


def cross_validation_folds(
    labels: Mapping[str, Collection[str]],
    *,
    folds: int,
    seed: int,
    groups: Mapping[str, str] | None = None,
    near_pairs: Iterable[tuple[str, str]] = (),
) -> dict[str, int]:
    """Cuts videos into folds, each of which is the test of a training on all the others.

    Args:
        labels: The classes of each video.
        folds: How many.
        seed: Another seed gives other folds.
        groups: As for `split_videos`.
        near_pairs: As for `split_videos`.

    Returns:
        The fold of each video, counted from 0. Every unit is in one, every class in each as far as
        units allow.

    Raises:
        BadInputError: There are fewer than two folds or classes, or fewer units of a class than
            folds.
    """
    if folds < 2:
        raise BadInputError(f"There must be two folds or more. Received: {folds}.")
    _check_input(labels, {}, {})
    units = Units(groups or {}, neighbours_of(labels, near_pairs))
    for video_id in sorted(labels):
        units.add(video_id, None)
    of_class = by_class(units.all(), labels)
    _check_units(labels, of_class)
    for label, having in of_class.items():
        if len(having) < folds:
            raise BadInputError(
                f"Class {label!r} has {_told(having, label, labels)}, fewer than the {folds} folds."
                f" Ask for at most {len(having)}, or annotate more videos of it."
            )
    counts = collections.Counter(label for of_video in labels.values() for label in set(of_video))
    targets: dict[str | None, dict[int, float]] = {
        label: dict.fromkeys(range(folds), count / folds)
        for label, count in [*counts.items(), (None, len(labels))]
    }
    seats = stratify(units.all(), {}, labels, targets, range(folds), seed)
    for label, having in of_class.items():
        if len({seats[unit] for unit in having}) < 2:
            raise BadInputError(
                f"Class {label!r} has {_told(having, label, labels)}, which all came into one fold,"
                " as their groups hold other classes, too. Take another seed, or fewer folds."
            )
    return {v: fold for unit, fold in seats.items() for v in sorted(unit.videos)}


def _count(videos: int, share: float) -> int:
    """How many of `videos` are taken: at least one, and at least one is left."""
    return min(max(1, math.floor(videos * share + 0.5)), videos - 1)


def _counts(
    videos: Iterable[str], labels: Mapping[str, Collection[str]]
) -> collections.Counter[str | None]:
    """How many videos each class has, and how many there are (None)."""
    counts: collections.Counter[str | None] = collections.Counter()
    for video_id in videos:
        counts.update([None, *set(labels[video_id])])
    return counts


def _targets(
    videos: Iterable[str],
    labels: Mapping[str, Collection[str]],
    test_share: float,
    validation_share: float,
) -> dict[str | None, dict[str, int]]:
    """How many videos of each class, and of all (None), are to be in each split."""
    targets = {}
    for label, count in _counts(videos, labels).items():
        test = _count(count, test_share)
        validation = _count(count - test, validation_share)
        shares = {TRAIN: count - test - validation, TEST: test, VALIDATION: validation}
        targets[label] = {split: shares[split] for split in _NEEDED}
    return targets


def _draw_validation(
    seats: Mapping[Unit, str],
    fixed: Collection[str],
    labels: Mapping[str, Collection[str]],
    validation_share: float,
    seed: int,
) -> dict[Unit, str]:
    """Seats of the units in train without a fixed video: some of them go to validation."""
    seated = {unit: split for unit, split in seats.items() if split != TEST}
    new = [
        unit
        for unit, split in seated.items()
        if split == TRAIN and not any(video_id in fixed for video_id in unit.videos)
    ]
    targets = {}
    for label, count in _counts((v for unit in seated for v in unit.videos), labels).items():
        validation = _count(count, validation_share)
        targets[label] = {TRAIN: count - validation, VALIDATION: validation}
    for unit in new:
        del seated[unit]
    return stratify(new, seated, labels, targets, (VALIDATION, TRAIN), seed)


def _repair(
    free: dict[Unit, str],
    seated: Mapping[Unit, str],
    of_class: Mapping[str, Sequence[Unit]],
    labels: Mapping[str, Collection[str]],
) -> None:
    """Moves free units to where a class has none, if that takes no class from where it is needed.

    Where units have several classes, the seats of one class are taken as another wants them.
    """
    for needed in (TRAIN, TEST):
        for having in of_class.values():
            seats = {**seated, **free}
            if needed in map(seats.get, having):
                continue
            for unit in sorted(having, key=lambda unit: (len(unit.videos), min(unit.videos))):
                split = seats[unit]
                classes = {label for v in unit.videos for label in labels[v]}
                spare = split == VALIDATION or all(
                    any(seats[other] == split for other in of_class[label] if other is not unit)
                    for label in classes
                )
                if unit in free and spare:
                    free[unit] = needed
                    break


# === What cannot be split ===


def _check_input(
    labels: Mapping[str, Collection[str]], given: Mapping[str, str], names: Mapping[str, str]
) -> None:
    for video_id in sorted(given):
        if given[video_id] not in SPLITS:
            raise BadInputError(
                f"A given split is train, validation or test. Received: {given[video_id]!r} for"
                f" {names.get(video_id, video_id)}."
            )
    classes = sorted({label for of_video in labels.values() for label in of_video})
    if any(not label.strip() for label in classes):
        empty = sum(any(not label.strip() for label in of_video) for of_video in labels.values())
        raise BadInputError(
            f"{_counted(empty, 'video')} with a label that has no name. Give it one, or withdraw it"
            " (column `delete`)."
        )
    # Of a single class one can tell which videos have it, if some have not.
    if len(classes) + (bool(classes) and not all(labels.values())) < 2:
        raise BadInputError(
            "Telling classes apart takes at least two. Received:"
            f" {classes[0] + ' only' if classes else 'no label at all'}. Annotate more videos with"
            " `vidpipe annotate FILE --task TASK`."
        )


def _check_units(
    labels: Mapping[str, Collection[str]],
    of_class: Mapping[str, Sequence[Unit]],
    near_pairs: Iterable[tuple[str, str]] = (),
) -> None:
    """Refuses classes of which nothing, or but one unit, has a place."""
    counts = collections.Counter(label for of_video in labels.values() for label in set(of_video))
    few = [label for label in sorted(counts) if len(of_class.get(label, ())) < 2]
    if not few:
        return
    label, *others = few
    having = of_class.get(label, ())
    advice = "Annotate another video of it"
    pairs = []
    if counts[label] == 1 and having:
        has = "one example"
    elif having:
        together = set(having[0].videos)
        pairs = [pair for pair in near_pairs if together.issuperset(pair)]
        has = f"{_told(having, label, labels)}, as they are " + (
            "near duplicates of each other" if pairs else "of one group"
        )
        advice = (
            "Annotate videos of it that show something else: another place, day or person"
            if pairs
            else "Annotate videos of it that are of another group"
        )
    else:
        has = (
            f"{_counted(counts[label], 'video')}, and all are left out, as each belongs together"
            " with videos of two splits"
        )
    message = (
        f"Class {label!r} has {has}, and one cannot be learned from and tested on both. {advice},"
        " or withdraw its label (column `delete`)."
        + (f" The same holds for: {', '.join(others)}." if others else "")
    )
    raise InseparableError(message, pairs) if pairs else BadInputError(message)


def _check_train(
    of_class: Mapping[str, Sequence[Unit]],
    seats: Mapping[Unit, str],
    labels: Mapping[str, Collection[str]],
) -> None:
    for label, having in sorted(of_class.items()):
        if TRAIN not in map(seats.get, having):
            counts = collections.Counter[str]()
            for unit in having:
                counts[seats[unit]] += sum(label in labels[v] for v in unit.videos)
            told = ", ".join(f"{counts[split]} in {split}" for split in SPLITS)
            raise BadInputError(
                f"Class {label!r} has nothing to learn from: {told}, and none of them can move, as"
                " their split is given, was theirs before, or their groups hold other classes, too."
                " Annotate other videos of it, withdraw its label (column `delete`), or split anew"
                " with another seed."
            )


def _told(units: Sequence[Unit], label: str, labels: Mapping[str, Collection[str]]) -> str:
    videos = sum(label in labels[v] for unit in units for v in unit.videos)
    return f"{_counted(videos, 'video')} in {_counted(len(units), 'unit')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
