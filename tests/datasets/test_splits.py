"""Splits are by class, by content, repeatable, and change little when videos are added."""

from __future__ import annotations

import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.splits import split_videos
from vidpipe.errors import BadInputError

CLASSES = st.dictionaries(st.sampled_from("abcdef"), st.integers(2, 40), min_size=2)


def videos_of(sizes: dict[str, int]) -> dict[str, str]:
    return {f"{label}{n}": label for label, size in sizes.items() for n in range(size)}


@given(CLASSES, st.integers(0, 2**31 - 1), st.floats(0.05, 0.5))
def test_each_class_is_in_each_split_by_its_share(sizes, seed, share):
    labels = videos_of(sizes)
    splits = split_videos(labels, seed=seed, test_share=share)
    assert splits.keys() == labels.keys()
    for label, size in sizes.items():
        counts = collections.Counter(splits[v] for v in labels if labels[v] == label)
        assert abs(counts["test"] - size * share) <= 1
        assert counts["test"] >= 1 and counts["train"] >= 1
        assert counts["validation"] >= 1 or size - counts["test"] == 1


@given(CLASSES, st.integers(0, 100), st.randoms())
def test_the_order_of_the_videos_says_nothing(sizes, seed, random):
    labels = videos_of(sizes)
    shuffled = list(labels.items())
    random.shuffle(shuffled)
    assert split_videos(dict(shuffled), seed=seed) == split_videos(labels, seed=seed)


def test_another_seed_splits_otherwise():
    labels = videos_of({"a": 30, "b": 30})
    assert split_videos(labels, seed=0) != split_videos(labels, seed=1)


@given(st.integers(0, 100))
def test_few_videos_change_sides_when_one_is_added(seed):
    labels = videos_of({"a": 40, "b": 40})
    before = split_videos(labels, seed=seed)
    after = split_videos({**labels, "new": "a"}, seed=seed)
    assert sum(before[v] != after[v] for v in before) <= 2
    assert all(before[v] == after[v] for v in before if labels[v] == "b")


@given(st.lists(st.integers(0, 12), min_size=20, max_size=60), st.integers(0, 100))
def test_no_group_is_in_two_splits(numbers, seed):
    labels = {f"v{n}": "ab"[number % 2] for n, number in enumerate(numbers)}
    groups = {f"v{n}": str(number) for n, number in enumerate(numbers)}
    try:
        splits = split_videos(labels, seed=seed, groups=groups)
    except BadInputError:
        assert min(len({n for n in numbers if n % 2 == odd}) for odd in (0, 1)) < 2
        return
    of_group = collections.defaultdict(set)
    for video_id, split in splits.items():
        of_group[groups[video_id]].add(split)
    assert all(len(found) == 1 for found in of_group.values())


def test_a_class_with_one_example_is_named():
    with pytest.raises(BadInputError, match="'rare' has one example.*withdraw"):
        split_videos({**videos_of({"a": 5, "b": 5}), "x": "rare"}, seed=0)


@pytest.mark.parametrize("labels, received", [({}, "no label"), ({"v": "a", "w": "a"}, "a only")])
def test_fewer_than_two_classes_are_refused(labels, received):
    with pytest.raises(BadInputError, match=f"at least two.*{received}"):
        split_videos(labels, seed=0)
