"""Stratification: units get seats so that each class is in each seat by its share.

Iterative stratification (K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the Stratification of
Multi-Label Data", 2011) with units in place of examples: the class with the fewest videos left
first, of its units the largest, each to the seat that lacks most of the class. Units alike in
classes and size are interchangeable; which of them goes where, their lots say.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from vidpipe.datasets.units import Unit, lot

Seat = TypeVar("Seat", bound=Hashable)


@dataclass(frozen=True, order=True)
class _Profile:
    """What units that are interchangeable have in common.

    Attributes:
        videos: How many are in it.
        counts: How many of them each class has.
    """

    videos: int
    counts: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, unit: Unit, labels: Mapping[str, Collection[str]]) -> _Profile:
        """The profile of a unit."""
        counts = collections.Counter(label for v in unit.videos for label in set(labels[v]))
        return cls(len(unit.videos), tuple(sorted(counts.items())))

    @property
    def weights(self) -> list[tuple[str | None, int]]:
        """The classes by which it is seated; without any by all its videos (None)."""
        return list(self.counts) or [(None, self.videos)]


class _Seating(Generic[Seat]):
    """What each seat has and lacks, while units are seated.

    Args:
        targets: How many videos of each class, and of all (None), are to be in each seat; the seats
            in the order in which a class needs them.
    """

    def __init__(self, targets: Mapping[str | None, Mapping[Seat, float]]):
        self._lacking = {label: dict(of_class) for label, of_class in targets.items()}
        self._needing = {
            label: [seat for seat, videos in of_class.items() if videos > 0]
            for label, of_class in targets.items()
        }

    def seat(self, profile: _Profile, seat: Seat) -> None:
        """Notes that a unit takes a seat."""
        for label, videos in ((None, profile.videos), *profile.counts):
            self._lacking[label][seat] -= videos
            if seat in self._needing[label]:
                self._needing[label].remove(seat)

    def choose(self, profile: _Profile, label: str | None, units_left: int) -> Seat:
        """The seat for a unit of a class, of which so many units are left, this one included.

        It is the one that lacks most of the class, of equals most of the unit's other classes; but
        no seat that needs the class goes without while there are units for it.
        """
        needing, lacking, of_all = self._needing[label], self._lacking[label], self._lacking[None]
        options = needing[:units_left] if len(needing) >= units_left else lacking

        def wish(seat: Seat) -> tuple[float, float, float]:
            others = sum(self._lacking[other][seat] for other, _ in profile.counts)
            return lacking[seat], others, of_all[seat]

        return max(options, key=wish)


class _Waiting:
    """Units that have no seat yet, by their profiles."""

    def __init__(self, profiles: Iterable[_Profile]):
        self._left = collections.Counter(profiles)
        self._videos: collections.Counter[str | None] = collections.Counter()
        self._units: collections.Counter[str | None] = collections.Counter()
        # Of each class the profiles that have it, those with most of its videos last.
        self._having: dict[str | None, list[_Profile]] = {}
        for profile in sorted(self._left):
            for label, videos in profile.weights:
                self._videos[label] += videos * self._left[profile]
                self._units[label] += self._left[profile]
                self._having.setdefault(label, []).append(profile)
        for label, profiles in self._having.items():
            profiles.sort(key=lambda profile: dict(profile.weights)[label])  # noqa: B023

    def take(self) -> Iterator[tuple[_Profile, str | None, int]]:
        """Yields units: of the class with the fewest videos left the largest.

        With the class, and how many units of it are left, this one included.
        """
        while self._units:
            label = min(self._units, key=lambda label: (label is None, self._videos[label], label))
            having = self._having[label]
            while not self._left[having[-1]]:
                having.pop()
            profile = having[-1]
            yield profile, label, self._units[label]
            self._left[profile] -= 1
            for label, videos in profile.weights:
                self._videos[label] -= videos
                self._units[label] -= 1
                if not self._units[label]:
                    del self._units[label]


def stratify(
    free: Iterable[Unit],
    seated: Mapping[Unit, Seat],
    labels: Mapping[str, Collection[str]],
    targets: Mapping[str | None, Mapping[Seat, float]],
    drawn: Iterable[Seat],
    seed: int,
) -> dict[Unit, Seat]:
    """Gives each free unit a seat, beside those that have one.

    Args:
        free: The units without a seat.
        seated: The seats of the others.
        labels: The classes of each video.
        targets: See `_Seating`.
        drawn: The seats in the order in which they are drawn for units that are alike.
        seed: Of the draw.

    Returns:
        The seat of each free unit.
    """
    seating = _Seating(targets)
    for unit, seat in seated.items():
        seating.seat(_Profile.of(unit, labels), seat)
    alike: dict[_Profile, list[Unit]] = collections.defaultdict(list)
    for unit in free:
        alike[_Profile.of(unit, labels)].append(unit)
    chosen: dict[_Profile, collections.Counter[Seat]] = collections.defaultdict(collections.Counter)
    waiting = _Waiting(profile for profile, units in alike.items() for _ in units)
    for profile, label, units_left in waiting.take():
        seat = seating.choose(profile, label, units_left)
        seating.seat(profile, seat)
        chosen[profile][seat] += 1
    seats = {}
    for profile, units in alike.items():
        places = [seat for seat in drawn for _ in range(chosen[profile][seat])]
        units.sort(key=lambda unit: lot(seed, unit.videos))
        seats |= dict(zip(units, places, strict=True))
    return seats
