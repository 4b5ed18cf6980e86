"""Units: what belongs together and goes to one split as a whole.

Videos of one group of their owner's, near duplicates of each other, and what these are tied to in
turn.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(eq=False)
class Unit:
    """Videos that go to one split.

    Attributes:
        videos: What is in it.
        split: Where it has to go; None: anywhere.
        anchor: A video that has to go there, the first of them.
    """

    videos: list[str]
    split: str | None
    anchor: str

    @property
    def name(self) -> str:
        """A hash of what is in it: it names no video, so that one can be forgotten."""
        return hashlib.sha256("\n".join(sorted(self.videos)).encode()).hexdigest()[:16]


class Tie(NamedTuple):
    """A video that has to be in a split, and which."""

    video_id: str
    split: str


class Units:
    """Units that grow by one video at a time, and never join what is in different splits."""

    def __init__(self, groups: Mapping[str, str], neighbours: Mapping[str, Sequence[str]]):
        self._groups = groups
        self._neighbours = neighbours
        self._of_video: dict[str, Unit] = {}
        self._of_group: dict[str, Unit] = {}
        self._groups_of: dict[Unit, list[str]] = {}

    def add(self, video_id: str, split: str | None) -> tuple[Tie, Tie] | None:
        """Adds a video.

        Args:
            video_id: The video.
            split: Where it has to go; None: anywhere.

        Returns:
            None; or, where it cannot be added, what it is tied to in two splits.
        """
        unit = Unit([video_id], split, video_id)
        ties = {
            self._of_video[near]: None
            for near in self._neighbours.get(video_id, ())
            if near in self._of_video
        }
        group = self._groups.get(video_id)
        if group in self._of_group:
            ties[self._of_group[group]] = None
        anchors: dict[str, str] = {}
        for tied in (unit, *ties):
            if tied.split is not None:
                anchors[tied.split] = min(tied.anchor, anchors.get(tied.split, tied.anchor))
        if len(anchors) > 1:
            one, other, *_ = (Tie(anchors[split], split) for split in sorted(anchors))
            return one, other
        self._groups_of[unit] = []
        self._of_video[video_id] = unit
        for tied in ties:
            unit = self._join(unit, tied)
        if group is not None and group not in self._of_group:
            self._of_group[group] = unit
            self._groups_of[unit].append(group)
        return None

    def _join(self, one: Unit, other: Unit) -> Unit:
        """Makes two units one; the larger takes in the smaller."""
        if len(one.videos) < len(other.videos):
            one, other = other, one
        for video_id in other.videos:
            self._of_video[video_id] = one
        groups = self._groups_of.pop(other)
        self._of_group |= dict.fromkeys(groups, one)
        self._groups_of[one] += groups
        one.videos += other.videos
        anchors = [unit.anchor for unit in (one, other) if unit.split is not None]
        one.split = one.split or other.split
        one.anchor = min(anchors, default=one.anchor)
        return one

    def all(self) -> list[Unit]:
        """The units, in the order of their first videos."""
        return sorted(self._groups_of, key=lambda unit: min(unit.videos))


def count_units(
    video_ids: Iterable[str],
    groups: Mapping[str, str],
    near_pairs: Iterable[tuple[str, str]],
) -> int:
    """How many units videos are."""
    videos = set(video_ids)
    units = Units(groups, neighbours_of(videos, near_pairs))
    for video_id in sorted(videos):
        units.add(video_id, None)
    return len(units.all())


def neighbours_of(
    videos: Collection[str], near_pairs: Iterable[tuple[str, str]]
) -> dict[str, list[str]]:
    """The near duplicates of each video that has some, among the videos."""
    neighbours: dict[str, list[str]] = collections.defaultdict(list)
    for one, other in near_pairs:
        if one in videos and other in videos:
            neighbours[one].append(other)
            neighbours[other].append(one)
    return neighbours


def by_class(units: Iterable[Unit], labels: Mapping[str, Collection[str]]) -> dict[str, list[Unit]]:
    """The units that have videos of each class."""
    of_class: dict[str, list[Unit]] = {}
    for unit in units:
        for label in sorted({label for v in unit.videos for label in labels[v]}):
            of_class.setdefault(label, []).append(unit)
    return of_class


def lot(seed: int, videos: Iterable[str]) -> bytes:
    """The lot of a unit, which depends on seed and content alone."""
    return min(hashlib.sha256(f"{seed} {video_id}".encode()).digest() for video_id in videos)
