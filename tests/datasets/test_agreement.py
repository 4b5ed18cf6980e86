"""How far annotators agree: alpha as published, classes, confusions, boxes, ranges."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpipe.datasets.agreement import NOTHING, Matches, krippendorff_alpha, measure_agreement
from vidpipe.datasets.annotations import Box, Key, Statement


def by_unit(*observers: str) -> list[list[str]]:
    """The values of each unit, of a line for each observer; a dot is none."""
    units = zip(*(observer.split() for observer in observers), strict=True)
    return [[value for value in unit if value != "."] for unit in units]


# Krippendorff, K. (2011): Computing Krippendorff's Alpha-Reliability, examples A to C.
BINARY = by_unit("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0")
NOMINAL = by_unit("a a b b d c c c e d d a", "b a b b b c c c e d d d")
WITH_GAPS = by_unit(
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
)


@pytest.mark.parametrize(
    ("units", "alpha"),
    [(BINARY, 0.095), (NOMINAL, 0.692), (WITH_GAPS, 0.743)],
)
def test_alpha_is_as_published(units, alpha):
    assert krippendorff_alpha(units) == pytest.approx(alpha, abs=0.0005)


@pytest.mark.parametrize("units", [[], ["a"], ["aa", "aa"], ["a", "b"]])
def test_alpha_tells_nothing_of_one_value(units):
    assert krippendorff_alpha(units) is None


def test_alpha_of_whoever_agrees_is_one_and_of_opposites_negative():
    assert krippendorff_alpha(["aa", "bbb"]) == 1.0
    assert krippendorff_alpha(["ab", "ba"]) < 0


@given(st.lists(st.text("abc", min_size=2, max_size=4), min_size=1, max_size=8), st.randoms())
@settings(deadline=None)
def test_alpha_does_not_ask_who_said_it_or_what_values_are_called(units, random):
    shuffled = ["".join(random.sample(unit, len(unit))) for unit in units]
    random.shuffle(shuffled)
    renamed = [unit.translate(str.maketrans("abc", "xyz")) for unit in shuffled]
    alpha = krippendorff_alpha(units)
    assert krippendorff_alpha(renamed) == (alpha if alpha is None else pytest.approx(alpha))
    assert alpha is None or alpha <= 1.0


def labels(**by_annotator: str) -> dict:
    """Labels of whole videos: of each annotator a word for each video; `+` joins several."""
    said = {}
    for annotator, words in by_annotator.items():
        for number, word in enumerate(words.split()):
            if word != ".":
                of = [None] if word == "-" else word.split("+")
                key = Key(f"v{number}", None, None, annotator)
                said[key] = frozenset(map(Statement, of))
    return said


def test_one_label_of_each_video():
    found = measure_agreement(labels(ann="a a b b - c", bob="a b b b - .", cid=". b . . a ."))
    assert found.annotators == ["ann", "bob", "cid"]
    assert (found.units, found.several) == (5, False)
    units = [["a", "a"], ["a", "b", "b"], ["b", "b"], ["b", "b"], [NOTHING, NOTHING, "a"]]
    assert found.alpha == pytest.approx(krippendorff_alpha(units))
    assert set(found.classes) == {"a", "b", NOTHING}
    alpha_of_b, seen = found.classes["b"]
    assert seen == 3
    assert alpha_of_b == pytest.approx(
        krippendorff_alpha([[v == "b" for v in unit] for unit in units])
    )
    assert found.confusions == [("a", "b", 2), (NOTHING, "a", 2)]
    assert found.disputed == [("v1", 2, 3), ("v4", 2, 3)]
    assert "agreement of 3 annotators: alpha 0.50 over 5" in found.summary


def test_several_labels_are_there_or_not_each():
    found = measure_agreement(labels(ann="a+b a b+c c", bob="a+b a+b b c"))
    assert found.several
    present = {
        "a": [[1, 1], [1, 1], [0, 0], [0, 0]],
        "b": [[1, 1], [0, 1], [1, 1], [0, 0]],
        "c": [[0, 0], [0, 0], [1, 0], [1, 1]],
    }
    alphas = {name: krippendorff_alpha(units) for name, units in present.items()}
    assert {name: alpha for name, (alpha, _) in found.classes.items()} == alphas
    assert found.alpha == pytest.approx(sum(alphas.values()) / 3)
    assert found.confusions == []


def test_of_one_annotator_nothing_is_told():
    assert measure_agreement(labels(ann="a b", bob=". .")).summary == ""
    assert measure_agreement({}).summary == ""


def test_boxes_match_by_their_overlap():
    def frame(annotator: str, *boxes: tuple) -> dict:
        said = frozenset(Statement(label, Box(*box)) for label, *box in boxes) or {Statement(None)}
        return {Key("v", 1.0, 1.0, annotator): frozenset(said)}

    ann = frame("ann", ("car", 0, 0, 0.5, 0.5), ("bus", 0.5, 0.5, 0.2, 0.2))
    bob = frame("bob", ("bus", 0, 0, 0.5, 0.4), ("bus", 0.9, 0.9, 0.1, 0.1))
    found = measure_agreement(ann | bob)
    assert found.units == 0 and found.alpha is None
    assert found.boxes == Matches(1, 1, pytest.approx(0.8), pytest.approx(0.5))
    assert found.confusions == [("bus", "car", 1)]
    assert found.disputed == [("v", 1, 1)]
    nothing = measure_agreement(ann | frame("bob")).boxes
    assert nothing == Matches(1, 0, None, 1.0)
    assert "boxes: mean IoU 0.80, 50% unmatched" in found.summary


def test_ranges_match_by_their_overlap():
    said = {
        Key("v", 0.0, 4.0, "ann"): frozenset({Statement("run")}),
        Key("v", 6.0, 8.0, "ann"): frozenset({Statement("run")}),
        Key("v", 1.0, 4.0, "bob"): frozenset({Statement("run")}),
        Key("w", 1.0, 4.0, "bob"): frozenset({Statement("run")}),
        Key("w", None, None, "ann"): frozenset({Statement(None)}),
        Key("x", 1.0, 4.0, "bob"): frozenset({Statement("run")}),
        Key("x", None, None, "ann"): frozenset({Statement("run")}),  # it tells of no ranges
    }
    found = measure_agreement(said)
    assert found.ranges == Matches(2, 1, 0.75, 0.5)
    assert found.disputed == [("v", 1, 1), ("w", 1, 1)]
