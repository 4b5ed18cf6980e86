"""A dataset has a version by content; several annotations of a video settle by majority."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.labelled import Dataset, LabelledVideo, agree
from vidpipe.datasets.near_duplicates import find_near_pairs
from vidpipe.datasets.proof import Proof, prove
from vidpipe.errors import BadInputError

VIDEOS = [LabelledVideo(v, label, "train", f"w-{v}", "r") for v, label in (("a", "x"), ("b", "y"))]


def prove_all(bits: int) -> Proof:
    """The proof of the splits of videos that look different."""
    looks = {video.video_id: f"{number * 65535:016x}8080" for number, video in enumerate(VIDEOS)}
    splits = {video.video_id: video.split for video in VIDEOS}
    return prove(splits, {}, looks, bits, find_near_pairs(looks, bits))


def test_the_majority_counts_and_a_tie_is_told():
    votes = [("a", "x"), ("a", "y"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "z")]
    assert agree(votes) == ({"a": "y", "c": "z"}, ["b"])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))))
def test_every_video_is_either_agreed_on_or_tied(votes):
    agreed, tied = agree(votes)
    assert sorted([*agreed, *tied]) == sorted({video_id for video_id, _ in votes})


def test_the_version_is_that_of_the_content():
    dataset = Dataset("t", VIDEOS, {"frames": 1})
    assert Dataset("t", VIDEOS[::-1], {"frames": 2}).version == dataset.version
    for change in ({"label": "z"}, {"split": "test"}, {"extraction": "other"}, {"group": "g"}):
        other = [dataclasses.replace(VIDEOS[0], **change), VIDEOS[1]]
        assert Dataset("t", other, {"frames": 1}).version != dataset.version
    assert Dataset("u", VIDEOS, {"frames": 1}).version != dataset.version
    proved = [dataclasses.replace(dataset, proof=prove_all(bits)) for bits in (0, 8)]
    assert len({dataset.version, *(d.version for d in proved)}) == 3


def test_it_travels_as_json():
    for proof in (None, prove_all(8)):
        dataset = Dataset("t", VIDEOS, {"frames": 1}, proof)
        assert Dataset.from_json(json.loads(json.dumps(dataset.to_json()))) == dataset
        assert dataset.labels == ["x", "y"]


def test_its_splits_are_verified():
    dataset = Dataset("t", VIDEOS, {"frames": 1}, prove_all(8))
    dataset.verify_splits()
    moved = [VIDEOS[0], dataclasses.replace(VIDEOS[1], split="test")]
    with pytest.raises(BadInputError, match="does not hold"):
        dataclasses.replace(dataset, videos=moved).verify_splits()


def test_one_of_an_older_version_is_as_it_was_and_has_no_proof():
    document = Dataset("t", VIDEOS, {"frames": 1}).to_json()
    del document["proof"]
    dataset = Dataset.from_json(document)
    assert dataset.version == "96baacacf1a548c9"
    with pytest.raises(BadInputError, match="has no proof of its splits.*Run train again"):
        dataset.verify_splits()
