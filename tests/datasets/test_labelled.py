"""A dataset has a version by content; several annotations of a video settle by majority."""

from __future__ import annotations

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.labelled import Dataset, LabelledVideo, agree

VIDEOS = [LabelledVideo(v, label, "train", f"w-{v}", "r") for v, label in (("a", "x"), ("b", "y"))]


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
    for change in ({"label": "z"}, {"split": "test"}, {"extraction": "other"}):
        other = [dataclasses.replace(VIDEOS[0], **change), VIDEOS[1]]
        assert Dataset("t", other, {"frames": 1}).version != dataset.version
    assert Dataset("u", VIDEOS, {"frames": 1}).version != dataset.version


def test_it_travels_as_json():
    dataset = Dataset("t", VIDEOS, {"frames": 1})
    assert Dataset.from_json(json.loads(json.dumps(dataset.to_json()))) == dataset
    assert dataset.labels == ["x", "y"]
