"""What holds of videos of which several people told, or one person several things.

Boxes, and that there is nothing in a frame, tell of a picture and not of the video: they do not
count here.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from vidpipe.datasets.annotations import Key, Statement, tells_of_video
from vidpipe.datasets.kinds import SEVERAL, SINGLE


class Span(NamedTuple):
    """A stretch of a video that shows something, as people say."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Consensus:
    """What holds.

    Attributes:
        labels: Of each video its labels, sorted; of the kind `single` without the videos that show
            nothing, or are tied.
        told: Videos of which somebody told, also that there is nothing.
        spans: Of each video when it shows what; only of the kind `timed`.
        tied: Videos of which neither one label nor nothing has the most votes; only of the kind
            `single`.
    """

    labels: dict[str, tuple[str, ...]]
    told: frozenset[str]
    spans: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    tied: list[str] = field(default_factory=list)


def settle(
    current: Mapping[Key, frozenset[Statement]], kind: str, durations_s: Mapping[str, float]
) -> Consensus:
    """Settles what annotations say of each video.

    Args:
        current: What is said, as `vidpipe.datasets.annotations.current_labels` gives it.
        kind: A key of `vidpipe.datasets.kinds.KINDS`. `single`: the label with the most votes;
            that there is nothing is a vote, too. `several`: the labels that at least half of those
            give who told of the video. `timed`: the same of each moment.
        durations_s: The length of each video that has one.
    """
    told: dict[str, dict[str, list[Span]]] = collections.defaultdict(dict)
    for key, statements in current.items():
        labels = {said.label for said in statements if tells_of_video(key, said)}
        if not labels:
            continue
        spans = told[key.video_id].setdefault(key.annotator, [])
        start_s = 0.0 if key.start_s is None else key.start_s
        end_s = durations_s.get(key.video_id, start_s) if key.end_s is None else key.end_s
        spans += [Span(start_s, end_s, label) for label in labels if label is not None]
    if kind == SINGLE:
        return _by_majority(told)
    if kind == SEVERAL:
        labels = {video_id: _by_half(by.values()) for video_id, by in told.items()}
        return Consensus(labels, frozenset(told))
    spans = {video_id: tuple(_by_half_in_time(by.values())) for video_id, by in told.items()}
    labels = {v: tuple(sorted({span.label for span in of})) for v, of in spans.items()}
    return Consensus(labels, frozenset(told), spans)


def _by_majority(told: Mapping[str, Mapping[str, list[Span]]]) -> Consensus:
    labels, tied = {}, []
    for video_id, by in told.items():
        votes = [[span.label for span in spans] or [None] for spans in by.values()]
        counts = collections.Counter(itertools.chain(*votes))
        (label, most), *others = counts.most_common(2)
        if others and others[0][1] == most:
            tied.append(video_id)
        elif label is not None:
            labels[video_id] = (label,)
    return Consensus(labels, frozenset(told), tied=tied)


def _by_half(told: Iterable[list[Span]]) -> tuple[str, ...]:
    """Labels that at least half of the annotators give."""
    sets = [{span.label for span in spans} for spans in told]
    counts = collections.Counter(label for of in sets for label in of)
    return tuple(sorted(label for label, count in counts.items() if 2 * count >= len(sets)))


def _by_half_in_time(told: Iterable[list[Span]]) -> Iterable[Span]:
    """Stretches in which at least half of the annotators see a label, in order."""
    of_annotator = [_joined(spans) for spans in told]
    starts: dict[str, collections.Counter[float]] = collections.defaultdict(collections.Counter)
    ends: dict[str, collections.Counter[float]] = collections.defaultdict(collections.Counter)
    for spans in of_annotator:
        for span in spans:
            starts[span.label][span.start_s] += 1
            ends[span.label][span.end_s] += 1
    found = []
    for label in starts:
        seen, since_s = 0, None
        for at_s in sorted({*starts[label], *ends[label]}):
            seen += starts[label][at_s]
            if since_s is None and 2 * seen >= len(of_annotator):
                since_s = at_s
            seen -= ends[label][at_s]
            if since_s is not None and 2 * seen < len(of_annotator):
                found.append(Span(since_s, at_s, label))
                since_s = None
    return sorted(found)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """What one annotator says, without overlaps of the same label."""
    joined: dict[str, list[Span]] = collections.defaultdict(list)
    for span in sorted(spans):
        of_label = joined[span.label]
        if of_label and span.start_s <= of_label[-1].end_s:
            of_label[-1] = of_label[-1]._replace(end_s=max(of_label[-1].end_s, span.end_s))
        else:
            of_label.append(span)
    return [span for of_label in joined.values() for span in of_label]
