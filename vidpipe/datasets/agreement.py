"""How far annotators agree: Krippendorff's alpha, and how well boxes and ranges match.

Alpha is that for nominal values (Krippendorff 2004, "Content Analysis"; Hayes and Krippendorff
2007, "Answering the call for a standard reliability measure for coding data"): 1 is agreement, 0 is
what chance gives. A unit is a video, a range or a frame of which two annotators or more say
something; that there is nothing is a value as any other.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.dataset as ds
from pyiceberg.expressions import EqualTo

from vidpipe.config import Settings
from vidpipe.console import echo
from vidpipe.datasets.annotations import Box, Key, Statement, current_labels
from vidpipe.datasets.video_names import read_video_names
from vidpipe.lake.results import show_rows
from vidpipe.lake.tables import Lake

NOTHING = "(nothing)"
MATCH_IOU = 0.5  # what overlaps less is another thing
ROWS_SHOWN = 10
# Every box of a frame is compared with every one of each other annotator: files may hold more of
# them than can ever be compared.
MAX_COMPARISONS = 5_000_000
Unit = dict[str, Any]  # what is judged, by annotator


@dataclass(frozen=True)
class Matches:
    """How well boxes, or ranges, of two annotators each match.

    Attributes:
        units: Frames, or videos, that two or more judged.
        matched: Pairs that overlap by half or more of their union.
        mean_iou: Of those; None where there are none.
        unmatched: Share of those that have no match, of all.
    """

    units: int
    matched: int
    mean_iou: float | None
    unmatched: float


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree.

    Attributes:
        annotators: Names of those who judged what others judged, too.
        units: What two or more judged.
        alpha: Over all classes; where a unit may have several labels, the mean of the classes'.
            None where there is but one value: nothing can be told then.
        several: Whether units have several labels.
        classes: Of each class alpha of whether it is there, and in how many units somebody saw it.
        confusions: Two classes that were given for the same, and how often, most often first.
        disputed: Videos by how many pairs of judgements differ; and how many pairs there are.
        boxes: How boxes match; None where there are none.
        ranges: How ranges match; None where there are none.
        left_out: Videos, ranges and frames that were judged too often to compare all pairs.
    """

    annotators: list[str]
    units: int
    alpha: float | None
    several: bool
    classes: dict[str, tuple[float | None, int]]
    confusions: list[tuple[str, str, int]]
    disputed: list[tuple[str, int, int]]
    boxes: Matches | None
    ranges: Matches | None
    left_out: int = 0

    @property
    def summary(self) -> str:
        """In one line; "" where nothing was judged by two."""
        told = []
        if self.units:
            told.append(f"alpha {_shown(self.alpha)} over {self.units} judged by several")
        for what, matches in (("boxes", self.boxes), ("ranges", self.ranges)):
            if matches:
                told.append(
                    f"{what}: mean IoU {_shown(matches.mean_iou)},"
                    f" {matches.unmatched:.0%} unmatched"
                )
        if self.left_out:
            told.append(f"{self.left_out} left out, which have too many pairs to compare")
        return f"agreement of {len(self.annotators)} annotators: {'; '.join(told)}" if told else ""


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Krippendorff's alpha for nominal values.

    Args:
        units: The values that each unit was given; those with fewer than two count for nothing.

    Returns:
        Alpha; None where all values are the same.
    """
    return _alpha(map(collections.Counter, units))


def _alpha(
    units: Iterable[Mapping[Hashable, int]], alike: tuple[Hashable, int] = (None, 0)
) -> float | None:
    """Krippendorff's alpha.

    Args:
        units: How often each unit was given each value.
        alike: A value that further units were given by all, and how often in all of them together.
    """
    value, agreeing = alike
    totals: collections.Counter[Hashable] = collections.Counter({value: agreeing})
    for counts in units:
        size = sum(counts.values())
        if size < 2:
            continue
        totals.update(counts)
        agreeing += sum(n * (n - 1) for n in counts.values()) / (size - 1)
    count = totals.total()
    by_chance = sum(n * (n - 1) for n in totals.values())
    if count == 0 or by_chance == count * (count - 1):
        return None
    observed = 1 - agreeing / count
    expected = 1 - by_chance / (count * (count - 1))
    return 1 - observed / expected


def measure_agreement(current: Mapping[Key, Iterable[Statement]]) -> Agreement:
    """Measures how far annotators agree.

    Args:
        current: What is said of each key, all of one task.
    """
    labels, boxes, ranges = _judgements(current)
    several = any(len(of) > 1 for unit in labels.values() for of in unit.values())
    pairs = _Pairs()
    for (video_id, *_), unit in pairs.affordable(labels):
        for one, other in itertools.combinations(unit.values(), 2):
            pairs.add(video_id, one != other, itertools.product(one - other, other - one))
    matches_of_boxes = _match(boxes, _box_iou, pairs)
    matches_of_ranges = _match(ranges, _range_iou, pairs)
    classes = _classes(labels.values())
    if several:
        known = [alpha for alpha, _ in classes.values() if alpha is not None]
        alpha = sum(known) / len(known) if known else None
    else:
        alpha = krippendorff_alpha([list(unit.values()) for unit in labels.values()])
    judged = itertools.chain(labels.values(), boxes.values(), ranges.values())
    return Agreement(
        sorted(set().union(*judged)),
        len(labels),
        alpha,
        several,
        classes,
        [(*pair, count) for pair, count in pairs.confused.most_common()],
        [(video, n, pairs.all[video]) for video, n in pairs.differing.most_common()],
        matches_of_boxes,
        matches_of_ranges,
        pairs.left_out,
    )


def _classes(units: Collection[Unit]) -> dict[str, tuple[float | None, int]]:
    """Of each class alpha of whether it is there, and in how many units somebody saw it.

    Only units in which somebody saw it are looked at: in all others everybody agrees.
    """
    seen: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
    for unit in units:
        for name, count in collections.Counter(itertools.chain(*unit.values())).items():
            seen[name].append((count, len(unit)))
    judgements = sum(map(len, units))
    classes = {}
    for name, of_units in sorted(seen.items()):
        with_it = [{True: count, False: size - count} for count, size in of_units]
        others = judgements - sum(size for _, size in of_units)
        classes[name] = _alpha(with_it, (False, others)), len(of_units)
    return classes


def _judgements(
    current: Mapping[Key, Iterable[Statement]],
) -> tuple[dict[tuple, Unit], dict[tuple, Unit], dict[tuple, Unit]]:
    """What two or more judged: labels of units, boxes of frames, ranges of videos."""
    said: dict[tuple, dict[str, list[Statement]]] = collections.defaultdict(dict)
    ranges: dict[tuple, dict[str, list]] = collections.defaultdict(dict)
    for key, statements in current.items():
        said[key[:3]][key.annotator] = list(statements)
        of_range = [(s.label, (key.start_s, key.end_s)) for s in statements if s.box is None]
        if key.start_s is None and of_range[:1] == [(None, (None, None))]:
            ranges[(key.video_id,)].setdefault(key.annotator, [])
        elif key.start_s is not None and not key.is_instant:
            found = [(label, span) for label, span in of_range if label is not None]
            ranges[(key.video_id,)].setdefault(key.annotator, []).extend(found)
    labels: dict[tuple, Unit] = {}
    boxes: dict[tuple, Unit] = {}
    for unit, by_annotator in said.items():
        if len(by_annotator) < 2:
            continue
        if any(s.box for statements in by_annotator.values() for s in statements):
            boxes[unit] = {
                annotator: [(s.label, s.box) for s in statements if s.box]
                for annotator, statements in by_annotator.items()
            }
        else:
            labels[unit] = {
                annotator: frozenset(NOTHING if s.label is None else s.label for s in statements)
                for annotator, statements in by_annotator.items()
            }
    ranges = {video: of for video, of in ranges.items() if len(of) > 1 and any(of.values())}
    return labels, boxes, ranges


class _Pairs:
    """Counts pairs of judgements of the same.

    Attributes:
        left_out: Units that have too many to count.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._comparisons_left = MAX_COMPARISONS
        self.all: collections.Counter[str] = collections.Counter()
        self.differing: collections.Counter[str] = collections.Counter()
        self.confused: collections.Counter[tuple[str, str]] = collections.Counter()

    def affordable(self, units: Mapping[tuple, Unit]) -> Iterator[tuple[tuple, Unit]]:
        """Yields the units whose pairs of judgements can still be compared, thing by thing."""
        for key, unit in units.items():
            sizes = [max(len(names), 1) for names in unit.values()]
            comparisons = (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2
            if comparisons > self._comparisons_left:
                self.left_out += 1
            else:
                self._comparisons_left -= comparisons
                yield key, unit

    def add(self, video_id: str, differ: bool, confused: Iterable[tuple[str, str]]) -> None:
        """Adds a pair of a video, and the classes that were given for each other."""
        self.all[video_id] += 1
        if differ:
            self.differing[video_id] += 1
        self.confused.update(tuple(sorted(pair)) for pair in confused)


def _match(
    units: Mapping[tuple, Unit], iou: Callable[[Any, Any], float], pairs: _Pairs
) -> Matches | None:
    matched, total, things, count = 0, 0.0, 0, 0
    for (video_id, *_), unit in pairs.affordable(units):
        count += 1
        for one, other in itertools.combinations(unit.values(), 2):
            found = list(_matching(one, other, iou))
            matched += len(found)
            total += sum(overlap for _, _, overlap in found)
            things += len(one) + len(other)
            confused = [(one[i][0], other[j][0]) for i, j, _ in found if one[i][0] != other[j][0]]
            whole = len(found) == len(one) == len(other)
            pairs.add(video_id, not whole or bool(confused), confused)
    if not count:
        return None
    return Matches(
        count,
        matched,
        total / matched if matched else None,
        1 - 2 * matched / things if things else 0.0,
    )


def _matching(
    one: list[tuple[str, Any]], other: list[tuple[str, Any]], iou: Callable[[Any, Any], float]
) -> Iterator[tuple[int, int, float]]:
    """Yields what is the same thing, best overlap first, each once."""
    overlaps = ((iou(a[1], b[1]), i, j) for i, a in enumerate(one) for j, b in enumerate(other))
    free_one, free_other = set(range(len(one))), set(range(len(other)))
    for overlap, i, j in sorted((o for o in overlaps if o[0] >= MATCH_IOU), reverse=True):
        if i in free_one and j in free_other:
            free_one.remove(i)
            free_other.remove(j)
            yield i, j, overlap


def _range_iou(one: tuple[float, float], other: tuple[float, float]) -> float:
    common = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return common / (one[1] - one[0] + other[1] - other[0] - common)


def _box_iou(one: Box, other: Box) -> float:
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(0.0, width) * max(0.0, height)
    return common / (one.width * one.height + other.width * other.height - common)


# === For people ===


def print_agreement(task: str, settings: Settings | None = None) -> None:
    """Prints how far the annotators of a task agree, or that no two of them judged the same."""
    lake = Lake(settings)
    snapshots = lake.published()
    rows = lake.dataset("annotations", where=EqualTo("task", task), snapshots=snapshots)
    current = current_labels(rows.to_table(filter=ds.field("task") == task))
    agreement = measure_agreement(current)
    if not agreement.summary:
        echo(
            f"Nothing of task {task!r} was judged by two annotators:"
            f" {len({key.annotator for key in current})} of them say something of"
            f" {len({key[:3] for key in current})} videos, ranges and frames. The column annotator"
            " tells who says what."
        )
        return
    echo(f"{task}: {agreement.summary}")
    echo(f"annotators: {', '.join(a or '(not named)' for a in agreement.annotators)}")
    if agreement.several:
        echo("Videos have several labels: alpha is the mean of the classes', each there or not.")
    _show(
        "Classes",
        ["class", "alpha", "seen in"],
        [(name, _shown(alpha), seen) for name, (alpha, seen) in agreement.classes.items()],
    )
    _show("Most often confused", ["one says", "another says", "times"], agreement.confusions)
    names = read_video_names(lake, snapshots)
    _show(
        "Most disagreement",
        ["video", "pairs that differ", "of"],
        [(names.uri_of(video), *counts) for video, *counts in agreement.disputed],
    )


def _show(title: str, columns: list[str], rows: Sequence[Sequence[Any]]) -> None:
    if not rows:
        return
    echo("", title)
    show_rows(columns, rows[:ROWS_SHOWN])
    if len(rows) > ROWS_SHOWN:
        echo(f"… and {len(rows) - ROWS_SHOWN} more")


def _shown(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"
