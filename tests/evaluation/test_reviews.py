"""Which videos are picked, and what answers tell."""

from __future__ import annotations

import collections

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.annotations import Box, Key, Statement
from vidpipe.evaluation.reviews import (
    Answer,
    answers_to,
    best_labels,
    draw,
    least_sure,
    measure,
    most_at_odds,
)

SCHEMA = pa.schema([("video_id", pa.string()), ("label", pa.string()), ("score", pa.float64())])
VIDEOS = st.sets(st.text("abcdef0123456789", min_size=1, max_size=3), max_size=30)
SCORES = st.floats(0, 1)
SAID = st.dictionaries(
    st.sampled_from("pqrstuvw"), st.dictionaries(st.sampled_from("abc"), SCORES, min_size=1)
)


def table(said: dict[str, dict[str, float]]) -> pa.Table:
    rows = [
        {"video_id": video, "label": label, "score": score}
        for video, of in said.items()
        for label, score in of.items()
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


@given(VIDEOS, st.integers(0, 40), st.integers(0, 2**32))
def test_a_draw_holds_no_video_twice_and_is_the_same_in_any_order(videos, count, seed):
    drawn = draw(videos, count, seed)
    assert len(drawn) == len(set(drawn)) == min(count, len(videos))
    assert set(drawn) <= videos
    assert drawn == draw(sorted(videos, reverse=True), count, seed)
    assert drawn == draw(pa.chunked_array([list(videos), []], pa.string()), count, seed)


def test_a_draw_is_even():
    counts = collections.Counter(v for seed in range(2000) for v in draw("abcdefghij", 3, seed))
    assert all(500 < counts[video] < 700 for video in "abcdefghij")


@given(SAID, st.integers(0, 10))
def test_the_least_sure_are_below_all_others(said, count):
    found = least_sure(table(said), count)
    assert len(found) == min(count, len(said))
    lowest = {video: min(of.values()) for video, of in said.items()}
    rest = [lowest[video] for video in said.keys() - set(found)]
    assert [lowest[v] for v in found] == sorted(lowest[v] for v in found)
    assert not rest or not found or lowest[found[-1]] <= min(rest)


@given(SAID, SAID, st.integers(0, 10))
def test_at_odds_are_only_those_of_which_both_say_something_else(said, other, count):
    found = most_at_odds(table(said), table(other), count)
    odds = {
        video: min(*said[video].values(), *other[video].values())
        for video in said.keys() & other.keys()
        if set(said[video]) != set(other[video])
    }
    assert found == sorted(odds, key=lambda video: (-odds[video], video))[:count]


@given(st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("ab"), SCORES)))
def test_of_all_that_is_said_of_a_label_the_best_counts(said):
    rows = [dict(zip(SCHEMA.names, row, strict=True)) for row in said]
    best: dict[tuple[str, str], float] = {}
    for *of, score in said:
        best[tuple(of)] = max(score, best.get(tuple(of), 0.0))
    found = best_labels(pa.Table.from_pylist(rows, SCHEMA)).to_pylist()
    assert {(row["video_id"], row["label"]): row["score"] for row in found} == best
    assert len(found) == len(best)


KEYS = st.tuples(
    st.sampled_from("uv"),
    st.sampled_from([(None, None), (0.0, 1.0), (1.0, 1.0)]),
    st.sampled_from(["", "ann", "bob"]),
).map(lambda of: Key(of[0], *of[1], of[2]))
STATEMENTS = st.tuples(
    st.sampled_from(["a", "b", None]), st.sampled_from([None, Box(0, 0, 1, 1)])
).map(lambda of: Statement(*of))


@given(st.dictionaries(KEYS, st.frozensets(STATEMENTS, min_size=1), max_size=6))
def test_each_person_counts_once_for_a_video_and_boxes_and_empty_pictures_do_not(current):
    answers = answers_to([("u", "a"), ("v", "a")], current)
    for video in "uv":
        plain = [
            (key.annotator, said.label)
            for key, of in current.items()
            for said in of
            if key.video_id == video and said.box is None
            if said.label is not None or key.start_s != 1.0
        ]
        answer = answers.get((video, "a"), Answer(0, 0))
        assert answer.people == len({annotator for annotator, _ in plain})
        assert answer.agreeing == len({by for by, label in plain if label == "a"})


@pytest.mark.parametrize(
    ("people", "agreeing", "is_right"),
    [(0, 0, None), (1, 1, True), (1, 0, False), (2, 1, None), (3, 2, True), (3, 1, False)],
)
def test_the_majority_decides(people, agreeing, is_right):
    assert Answer(people, agreeing).is_right is is_right


def row(video: str, label: str, picked_for: str = "random", accepted: bool = True) -> dict:
    return {"video_id": video, "label": label, "picked_for": picked_for, "accepted": accepted}


def test_precision_is_of_the_even_draw_alone():
    rows = [
        row("u", "a"),
        row("v", "a", accepted=False),
        row("w", "a"),
        row("x", "a", "uncertain"),
        row("y", "a", "disagreeing"),
    ]
    answers = {("u", "a"): Answer(1, 1), ("v", "a"): Answer(1, 0), ("w", "a"): Answer(2, 1)}
    answers |= {(video, "a"): Answer(1, 0) for video in "xy"}
    precision = measure(rows, answers)
    assert (precision.labels.asked, precision.labels.judged, precision.labels.right) == (3, 2, 1)
    assert (precision.accepted.asked, precision.accepted.judged) == (2, 1)
    assert str(precision) == (
        "precision 0.500 (0.095 to 0.905), 2 of 3 judged;"
        " of accepted ones 1.000 (0.207 to 1.000), 1 of 2 judged"
    )
    assert measure(rows[3:], answers) is None
    assert "none of 3 judged" in str(measure(rows, {}))
