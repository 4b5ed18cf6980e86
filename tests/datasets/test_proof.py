"""A proof holds for the split that it was made for, and for no other."""

from __future__ import annotations

import dataclasses
import json

import pytest

from vidpipe.datasets.near_duplicates import find_near_pairs
from vidpipe.datasets.proof import Proof, prove, verify
from vidpipe.errors import BadInputError

SPLITS = {"a": "train", "b": "train", "c": "test", "d": "test", "e": "validation", "f": "train"}
GROUPS = {"c": "camera 1", "d": "camera 1", "e": "camera 2", "elsewhere": "camera 2"}
# a and b are near, e is blank, "elsewhere" looks like all of them and has no split.
LOOKS = {
    "a": "000000000000000f8080",
    "b": "00000000000000ff8080 -",
    "c": "0f0f0f0f0f0f0f0f8080",
    "d": "ffff0000ffff00008080",
    "e": "- -",
    "f": "00000000ffffffff8080",
    "elsewhere": "0f0f0f0f0f0f0f0f8080 000000000000000f8080 ffff0000ffff00008080",
}


def proof_of(splits=SPLITS, groups=GROUPS, looks=LOOKS, bits=8) -> Proof:
    return prove(splits, groups, looks, bits, find_near_pairs(looks if bits else {}, bits))


def test_it_tells_what_was_counted():
    proof = proof_of()
    assert json.loads(proof.summary) == {
        "method": "dct-64 and colour of 8 frames, 1",
        "near_duplicate_bits": 8,
        "videos": 6,
        "units": 4,
        "groups": 2,
        "near_pairs": 1,
        "without_hash": 1,
        "assignment": proof.assignment,
        "fingerprints_hash": proof.fingerprints_hash,
    }
    assert not any(video_id in proof.owner_groups for video_id in ("a", "elsewhere"))


@pytest.mark.parametrize("bits", [8, 0])
def test_it_travels_as_json_and_holds(bits):
    document = json.loads(json.dumps(dataclasses.asdict(proof_of(bits=bits))))
    proof = Proof.from_json(document)
    assert proof == proof_of(bits=bits)
    verify(proof, SPLITS)
    verify(proof, dict(reversed(SPLITS.items())))


@pytest.mark.parametrize(
    "splits, why",
    [
        ({**SPLITS, "b": "test"}, "leaks: a in train and b in test are near duplicates"),
        ({**SPLITS, "d": "train"}, "leaks: c in test and d in train are of group 'camera 1'"),
        ({**SPLITS, "f": "test"}, "does not hold for its videos: assignment"),
        ({v: s for v, s in SPLITS.items() if v != "f"}, "does not hold.*videos, units"),
        ({**SPLITS, "g": "train"}, "1 videos have no fingerprint, such as g"),
    ],
)
def test_it_holds_for_no_other_split(splits, why):
    with pytest.raises(BadInputError, match=why) as caught:
        verify(proof_of(), splits)
    assert "\n" not in str(caught.value) and "Run train again" in str(caught.value)


@pytest.mark.parametrize(
    "change, why",
    [
        ({"units": 5}, "units would be another"),
        ({"near_pairs": 0}, "near_pairs would be another"),
        ({"groups": 1}, "groups would be another"),
        ({"near_duplicate_bits": 2}, "near_pairs"),
        ({"near_duplicate_bits": 0}, "fingerprints"),
        ({"owner_groups": {}}, "groups"),
        ({"fingerprints": {**LOOKS, "a": LOOKS["c"]}}, "leaks"),
        ({"fingerprints": {**LOOKS, "a": "-"}}, "near_pairs"),
        ({"fingerprints": {}}, "no fingerprint"),
        ({"fingerprints": {**LOOKS, "a": "nonsense"}}, "no fingerprint"),
        ({"method": "by eye"}, "by eye"),
    ],
)
def test_what_was_changed_in_it_is_found(change, why):
    with pytest.raises(BadInputError, match=why):
        verify(dataclasses.replace(proof_of(), **change), SPLITS)


def test_what_leaks_is_not_proved():
    with pytest.raises(BadInputError, match="leaks"):
        proof_of(splits={**SPLITS, "a": "validation"})
    # Without the search nobody knows.
    assert proof_of(splits={**SPLITS, "a": "validation"}, bits=0).near_pairs == 0


def test_what_is_no_proof_is_refused():
    assert Proof.from_json(None) is None
    with pytest.raises(BadInputError, match="is none"):
        Proof.from_json({"units": 3})
