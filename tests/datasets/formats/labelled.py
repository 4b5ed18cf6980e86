"""Videos of every kind of name, and whatever people may say of them."""

from __future__ import annotations

from hypothesis import strategies as st

from vidpipe.datasets.annotations import Box, Key, Statement
from vidpipe.datasets.video_names import VideoFacts, VideoNames


def _id(number: int) -> str:
    return f"{number:x}" * 64


SOURCES = {
    "s3://videos/a/one.mp4": _id(1),
    "s3://videos/copies/one.mp4": _id(1),
    "s3://videos/a/two.mp4": _id(2),
    "s3://videos/b/two.mp4": _id(3),
    "s3://videos/cafe\u0301 \u00fc, 'odd'\n.mp4": _id(4),
    "s3://videos/ucf/v_Archery_g01_c02.avi": _id(5),
    "s3://videos/kinetics/dQw4w9WgXcQ_000010_000020.mp4": _id(6),
    "s3://videos/kinetics/dQw4w9WgXcQ.mp4": _id(7),
    "s3://videos/clip_000123.mp4": _id(8),
    "s3://videos/clip.mp4": _id(9),
    "s3://videos/v_abcdefghijk.mkv": _id(10),
    "s3://videos/no-rate.webm": _id(11),
}
FACTS = {
    _id(1): VideoFacts(10.0, 25.0, 640, 360, 250),
    _id(2): VideoFacts(5.005, 30000 / 1001, 1920, 1080),
    _id(3): VideoFacts(0.04, 25.0, 2, 2),
    _id(4): VideoFacts(3.7, 59.94, 333, 777),
    _id(5): VideoFacts(7.0, 10.0, 320, 240),
    _id(6): VideoFacts(10.0, 24.0, 320, 240),
    _id(7): VideoFacts(60.0, 24.0, 320, 240),
    _id(8): VideoFacts(1.0, 0.5, 320, 240),
    _id(9): VideoFacts(900.0, 240.0, 3840, 2160),
    _id(10): VideoFacts(20.0, 30.0, 320, 240, 9000),  # a count that cannot be
    _id(11): VideoFacts(20.0, None, 320, 240),
    _id(12): VideoFacts(2.0, 12.5, 320, 240),  # of no source that is known any more
}
VIDEOS = VideoNames(SOURCES, FACTS)

_plain = st.sampled_from(["left", "Archery", "up", "a b", "true", "7"])
_any_text = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)
labels = (_plain | _any_text).filter(lambda label: label == label.strip() and label)
_names = st.sampled_from(["ann", "bob", "1", "car-7", "\u00e9"]) | _any_text.filter(
    lambda text: text == text.strip() and text
)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = (draw(st.integers(0, 999_999)) for _ in range(2))
    width, height = (draw(st.integers(1, 1_000_000 - at)) for at in (x, y))
    return Box(*(value / 1_000_000 for value in (x, y, width, height)))


@st.composite
def times(draw: st.DrawFn, facts: VideoFacts) -> float:
    if facts.fps and draw(st.booleans()):
        return facts.time_of(draw(st.integers(0, int(facts.duration_s * facts.fps))))
    return draw(st.floats(0, facts.duration_s))


@st.composite
def keys(draw: st.DrawFn) -> Key:
    video_id = draw(st.sampled_from(sorted(FACTS)))
    facts = FACTS[video_id]
    annotator = draw(st.just("") | _names)
    kind = draw(st.sampled_from(["whole", "range", "instant"]))
    if kind == "whole":
        return Key(video_id, None, None, annotator)
    first, second = sorted([draw(times(facts)), draw(times(facts))])
    return Key(video_id, first, first if kind == "instant" else second, annotator)


@st.composite
def statements(draw: st.DrawFn, *, with_box: bool) -> Statement:
    return Statement(
        draw(labels),
        draw(boxes()) if with_box else None,
        draw(st.none() | _names),
        draw(st.none() | st.booleans()),
        draw(st.none() | _names),
        draw(st.sampled_from([None, "train", "validation", "test"])),
    )


@st.composite
def current(draw: st.DrawFn) -> dict[Key, frozenset[Statement]]:
    """What holds of some videos, as the table may have it."""
    said = {}
    for key in draw(st.lists(keys(), max_size=8, unique=True)):
        kind = draw(st.sampled_from(["nothing", "one", "several", "boxes"]))
        if kind == "nothing":
            group, split = draw(st.none() | _names), draw(st.sampled_from([None, "test"]))
            said[key] = frozenset({Statement(None, group=group, split=split)})
            continue
        few = st.integers(1, 1 if kind == "one" else 3)
        said[key] = frozenset(draw(statements(with_box=kind == "boxes")) for _ in range(draw(few)))
    return said


# Each format can hold one of them: a box in a frame, a range, a whole video.
PLAIN = {
    Key(_id(1), FACTS[_id(1)].time_of(5), FACTS[_id(1)].time_of(5), ""): frozenset(
        {Statement("left", Box(0.25, 0.25, 0.5, 0.5))}
    ),
    Key(_id(6), 1.0, 3.0, ""): frozenset({Statement("up")}),
    Key(_id(5), None, None, ""): frozenset({Statement("Archery")}),
}
