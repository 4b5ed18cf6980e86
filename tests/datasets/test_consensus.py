"""Where people contradict each other, what holds follows from what most, or half of them, say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.annotations import Box, Key, Statement
from vidpipe.datasets.consensus import Span, settle
from vidpipe.datasets.kinds import KINDS, SEVERAL, SINGLE, TIMED

LONG = {"a": 10.0, "b": 10.0, "c": 10.0}


def said(*rows: tuple) -> dict[Key, frozenset[Statement]]:
    """Rows of video, annotator, label, start and end; a label may be several, or None."""
    found: dict[Key, set[Statement]] = {}
    for video_id, annotator, labels, *times in rows:
        key = Key(video_id, *(times or (None, None)), annotator)
        for label in labels if isinstance(labels, tuple) else (labels,):
            found.setdefault(key, set()).add(Statement(label))
    return {key: frozenset(statements) for key, statements in found.items()}


def test_of_one_label_the_majority_counts_and_a_tie_is_told():
    current = said(
        *[("a", who, label) for who, label in zip("123", "xyy", strict=True)],
        ("b", "1", "x"),
        ("b", "2", "y"),
        ("c", "1", "z"),
    )
    found = settle(current, SINGLE, LONG)
    assert found.labels == {"a": ("y",), "c": ("z",)} and found.tied == ["b"]


def test_of_one_label_nothing_is_a_vote_as_any():
    votes = {"a": "xx0", "b": "x00", "c": "x0", "d": "0", "e": "xy00", "f": "xxyy0"}
    current = said(
        *(
            (video_id, str(who), None if label == "0" else label)
            for video_id, labels in votes.items()
            for who, label in enumerate(labels)
        ),
        # Who sees something in a part, and nothing in another, sees something.
        ("g", "1", "x", 0.0, 4.0),
        ("g", "1", None, 4.0, 10.0),
    )
    found = settle(current, SINGLE, LONG)
    assert found.labels == {"a": ("x",), "g": ("x",)} and found.tied == ["c", "f"]
    assert found.told == frozenset("abcdefg")


def test_of_several_labels_those_hold_that_half_of_the_people_give():
    current = said(
        ("a", "1", ("x", "y")),
        ("a", "2", ("x",)),
        ("a", "3", (None,)),
        ("b", "1", ("x", "y")),
        ("b", "2", "y"),
        ("c", "1", None),
    )
    assert settle(current, SEVERAL, LONG).labels == {"a": ("x",), "b": ("x", "y"), "c": ()}


def test_with_times_the_same_holds_of_each_moment():
    current = said(
        ("a", "1", "x", 1.0, 4.0),
        ("a", "1", "x", 3.0, 5.0),
        ("a", "2", "x", 4.0, 6.0),
        ("a", "3", "x", 4.5, 8.0),
        ("a", "3", "y", 0.0, 1.0),
        ("b", "1", "x"),
        ("c", "1", None),
    )
    found = settle(current, TIMED, LONG)
    assert found.spans == {
        "a": (Span(4.0, 6.0, "x"),),
        "b": (Span(0.0, 10.0, "x"),),
        "c": (),
    }
    assert found.labels == {"a": ("x",), "b": ("x",), "c": ()}


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_and_empty_pictures_tell_nothing_of_a_video(kind):
    box = {Key("a", 1.0, 1.0, "1"): frozenset([Statement("car", Box(0, 0, 1, 1))])}
    assert settle(box | said(("a", "1", None, 2.0, 2.0)), kind, LONG).labels == {}
    of_a_frame = said(("a", "1", "x", 3.0, 3.0), ("a", "2", None, 2.0, 2.0))
    assert settle(box | of_a_frame, kind, LONG).labels == {"a": ("x",)}


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from("123"),
            st.sampled_from("xyz"),
            st.integers(0, 8),
            st.integers(1, 4),
        ),
        min_size=1,
    )
)
def test_every_moment_has_what_half_of_the_people_say_of_it(rows):
    current = said(*((v, who, label, at, at + length) for v, who, label, at, length in rows))
    found = settle(current, TIMED, {})
    people = {v: {who for w, who, *_ in rows if w == v} for v, *_ in rows}
    for video_id in people:
        for at_s in (n + 0.5 for n in range(12)):
            expected = {
                label
                for label in "xyz"
                if 2
                * len(
                    {
                        who
                        for v, who, of, start, length in rows
                        if (v, of) == (video_id, label) and start <= at_s <= start + length
                    }
                )
                >= len(people[video_id])
            }
            spans = found.spans[video_id]
            assert {s.label for s in spans if s.start_s <= at_s <= s.end_s} == expected
