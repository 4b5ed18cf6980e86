"""A dataset has a version by content, travels as JSON, and knows what a window shows."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from vidpipe.datasets.consensus import Span
from vidpipe.datasets.labelled import Dataset, LabelledVideo
from vidpipe.datasets.near_duplicates import find_near_pairs
from vidpipe.datasets.proof import Proof, prove
from vidpipe.datasets.windows import Window
from vidpipe.errors import BadInputError

VIDEOS = [
    LabelledVideo(v, (label,), "train", f"w-{v}", "r") for v, label in (("a", "x"), ("b", "y"))
]


def prove_all(bits: int) -> Proof:
    """The proof of the splits of videos that look different."""
    looks = {video.video_id: f"{number * 65535:016x}8080" for number, video in enumerate(VIDEOS)}
    splits = {video.video_id: video.split for video in VIDEOS}
    return prove(splits, {}, looks, bits, find_near_pairs(looks, bits))


def test_the_version_is_that_of_the_content():
    dataset = Dataset("t", VIDEOS, {"frames": 1})
    assert Dataset("t", VIDEOS[::-1], {"frames": 2}).version == dataset.version
    for change in ({"labels": ("z",)}, {"split": "test"}, {"extraction": "other"}, {"group": "g"}):
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


def test_one_of_an_older_version_is_refused_and_one_without_proof_is_not_trusted():
    document = Dataset("t", VIDEOS, {"frames": 1}).to_json()
    dataset = Dataset.from_json(document)
    # As it was before there were several labels and proofs.
    assert dataset.version == "96baacacf1a548c9"
    with pytest.raises(BadInputError, match="has no proof of its splits.*Run train again"):
        dataset.verify_splits()
    del document["kind"]
    with pytest.raises(BadInputError, match="of an older version.*Run train again"):
        Dataset.from_json(document)


SPANS = (Span(0.0, 3.0, "long"), Span(5.0, 5.4, "short"), Span(7.0, 7.0, "frame"))
TIMED = LabelledVideo("v", ("frame", "long", "short"), "train", "w", "r", spans=SPANS)


@pytest.mark.parametrize(
    ("window", "shown"),
    [
        ((0.0, 2.0), {"long"}),
        ((2.0, 4.0), {"long"}),  # half of it
        ((2.1, 4.1), set()),
        ((4.0, 6.0), {"short"}),
        ((3.2, 5.2), {"short"}),  # half of what is told of
        ((3.1, 5.1), set()),
        ((6.0, 8.0), {"frame"}),
        ((8.0, 9.0), set()),
    ],
)
def test_a_window_shows_what_lasts_for_half_of_it(window, shown):
    dataset = Dataset("t", [TIMED], {}, kind="timed")
    assert dataset.truth(TIMED, Window(*window)) == shown
    assert dataset.labels == ["frame", "long", "short"]


def test_moments_show_what_is_told_of_them():
    shown = TIMED.labels_at(np.array([1.0, 3.5, 5.2, 7.0]))
    assert shown == [{"long"}, set(), {"short"}, {"frame"}]


def test_spans_travel_as_json():
    dataset = Dataset("t", [TIMED], {"frames": 1}, kind="timed")
    assert Dataset.from_json(json.loads(json.dumps(dataset.to_json()))) == dataset
    other = dataclasses.replace(TIMED, spans=SPANS[:2])
    assert Dataset("t", [other], {}, kind="timed").version != dataset.version
