"""The proof of a split: that nothing which belongs together is in two splits.

It holds what is needed to see that for oneself: the groups that the owner gave, and the
fingerprints by which near duplicates were looked for. To verify it is to find the near duplicates
again, and to count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vidpipe.datasets.near_duplicates import METHOD, NearPairs, find_near_pairs, is_blank
from vidpipe.datasets.units import count_units
from vidpipe.errors import BadInputError

_AGAIN = "Run train again from its task snapshot, which splits and proves anew."


@dataclass(frozen=True)
class Proof:
    """What a split was proved by.

    Attributes:
        method: How near duplicates were looked for.
        near_duplicate_bits: How many bits of 64 could differ; 0: they were not looked for.
        videos: How many have a split.
        units: How many units they are.
        groups: How many groups of their owner's are among them.
        near_pairs: How many pairs are near duplicates.
        without_hash: Videos that show next to nothing, and were compared with none.
        assignment: SHA-256 of which video is in which split.
        fingerprints_hash: SHA-256 of the fingerprints.
        owner_groups: The group of each video that has one.
        fingerprints: The fingerprint of each video; empty where they were not looked for.
    """

    method: str
    near_duplicate_bits: int
    videos: int
    units: int
    groups: int
    near_pairs: int
    without_hash: int
    assignment: str
    fingerprints_hash: str
    owner_groups: dict[str, str]
    fingerprints: dict[str, str]

    @property
    def summary(self) -> str:
        """All but what names videos, as JSON: what the table `splits` holds of it."""
        told = asdict(self)
        del told["owner_groups"], told["fingerprints"]
        return json.dumps(told, sort_keys=True)

    @classmethod
    def from_json(cls, document: Any) -> Proof | None:
        """What was written of a proof; None where there is none.

        Raises:
            BadInputError: It is no proof.
        """
        if document is None:
            return None
        try:
            return cls(**document)
        except TypeError as error:
            raise BadInputError(f"The proof of the dataset is none: {error}. {_AGAIN}") from error


def prove(
    splits: Mapping[str, str],
    owner_groups: Mapping[str, str],
    fingerprints: Mapping[str, str],
    near_duplicate_bits: int,
    near_pairs: NearPairs,
) -> Proof:
    """Proves a split.

    Args:
        splits: The split of each video.
        owner_groups: The group of each video that has one.
        fingerprints: The fingerprint of each video; of others, too.
        near_duplicate_bits: How many bits could differ; 0: near duplicates were not looked for.
        near_pairs: The near duplicates by that; those with videos of no split do not count.

    Raises:
        BadInputError: It does not hold: two that belong together are in different splits, or a
            video has no fingerprint.
    """
    groups = {v: owner_groups[v] for v in sorted(splits) if v in owner_groups}
    among = near_pairs.among(splits)
    seen: dict[str, str] = {}
    for video_id, group in groups.items():
        _require_together(splits, seen.setdefault(group, video_id), video_id, f"of group {group!r}")
    for one, other in among:
        _require_together(splits, one, other, "near duplicates")
    known = {}
    if near_duplicate_bits:
        if missing := sorted(splits.keys() - fingerprints.keys()):
            raise BadInputError(
                f"{len(missing)} videos have no fingerprint, such as {missing[0]}. {_AGAIN}"
            )
        known = {v: fingerprints[v] for v in sorted(splits)}
    return Proof(
        method=METHOD,
        near_duplicate_bits=near_duplicate_bits,
        videos=len(splits),
        units=count_units(splits, groups, among),
        groups=len(seen),
        near_pairs=len(among),
        without_hash=sum(map(is_blank, known.values())),
        assignment=_hash(splits),
        fingerprints_hash=_hash(known),
        owner_groups=groups,
        fingerprints=known,
    )


def verify(proof: Proof, splits: Mapping[str, str]) -> None:
    """Proves a split once more, by the groups and fingerprints of its proof.

    Args:
        proof: What was proved.
        splits: The split of each video.

    Raises:
        BadInputError: It does not hold for these splits, or is not what comes of it.
    """
    if proof.method != METHOD:
        raise BadInputError(
            f"The split was proved by {proof.method!r}, which this version cannot repeat (it has"
            f" {METHOD!r}). {_AGAIN}"
        )
    bits = proof.near_duplicate_bits
    near_pairs = find_near_pairs(proof.fingerprints if bits else {}, bits)
    again = prove(splits, proof.owner_groups, proof.fingerprints, bits, near_pairs)
    told, found = asdict(proof), asdict(again)
    if differing := [name for name in told if told[name] != found[name]]:
        raise BadInputError(
            f"The proof of the split does not hold for its videos: {', '.join(differing)} would be"
            f" another. {_AGAIN}"
        )


def _require_together(splits: Mapping[str, str], one: str, other: str, tie: str) -> None:
    if splits[one] != splits[other]:
        raise BadInputError(
            f"The split leaks: {one} in {splits[one]} and {other} in {splits[other]} are {tie}."
            f" {_AGAIN}"
        )


def _hash(values: Mapping[str, str]) -> str:
    lines = "".join(f"{key} {values[key]}\n" for key in sorted(values))
    return hashlib.sha256(lines.encode()).hexdigest()
