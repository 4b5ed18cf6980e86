"""Which videos are worth a person's minute, and what the answers tell of the labels.

Three parts: an even draw, on which precision is measured; videos of which two models say different
things (query by committee); and those of which the model is least sure (uncertainty sampling; both
in Settles 2009, "Active learning literature survey"). The even draw is made first, of all that may
be picked, so that it is not thinned out by the other two.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.datasets.annotations import Key, Statement, tells_of_video
from vidpipe.evaluation.intervals import Interval, wilson

RANDOM, DISAGREEING, UNCERTAIN = "random", "disagreeing", "uncertain"
Labels = Mapping[str, float]  # what a model says of a video: labels with their scores
Answers = Mapping[tuple[str, str], "Answer"]  # by video and label


def best_scores(found: Iterable[tuple[str, float]]) -> Labels:
    """What a model says of a video, by all that it says of it and of its parts."""
    labels: dict[str, float] = {}
    for label, score in found:
        labels[label] = max(score, labels.get(label, 0.0))
    return labels


def best_labels(rows: pa.Table) -> pa.Table:
    """The same of many videos.

    Args:
        rows: Columns video_id, label and score, of all that a model says of them.

    Returns:
        The same columns, with one row for each label of a video.
    """
    best = rows.group_by(["video_id", "label"]).aggregate([("score", "max")])
    return best.rename_columns(["video_id", "label", "score"])


def draw(videos: Iterable[str] | pa.ChunkedArray, count: int, seed: int) -> list[str]:
    """Draws so many videos evenly; the same seed draws the same of the same videos."""
    if not isinstance(videos, pa.ChunkedArray):
        videos = pa.array(list(videos), pa.string())
    drawn = np.random.default_rng(seed).permutation(len(videos))[:count]
    return videos.take(pc.sort_indices(videos).take(pa.array(drawn))).to_pylist()


def least_sure(said: pa.Table, count: int) -> list[str]:
    """The videos with the lowest score of what is said of them, lowest first.

    Args:
        said: As `best_labels` returns it.
        count: So many at most.
    """
    lowest = said.group_by("video_id").aggregate([("score", "min")])
    ordered = lowest.sort_by([("score_min", "ascending"), ("video_id", "ascending")])
    return ordered["video_id"][:count].to_pylist()


def most_at_odds(said: pa.Table, other: pa.Table, count: int) -> list[str]:
    """The videos of which two models say different things, and both are sure.

    Args:
        said: What one says, as `best_labels` returns it.
        other: What the other says; videos that it did not judge are not among them.
        count: So many of them at most, those first of which the less sure of the two is surest.
    """
    said, other = only(said, other["video_id"]), only(other, said["video_id"])
    labels = said.join(other, ["video_id", "label"], join_type="full outer", right_suffix="_other")
    scores = labels["score"], labels["score_other"]
    of_label = pa.table(
        {
            "video_id": labels["video_id"],
            "differs": pc.or_(*map(pc.is_null, scores)),
            "score": pc.min_element_wise(*scores),
        }
    )
    found = of_label.group_by("video_id").aggregate([("differs", "any"), ("score", "min")])
    odds = found.filter(found["differs_any"])
    ordered = odds.sort_by([("score_min", "descending"), ("video_id", "ascending")])
    return ordered["video_id"][:count].to_pylist()


def only(rows: pa.Table, videos: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows of some videos."""
    return rows.filter(pc.is_in(rows["video_id"], value_set=videos))


def without(rows: pa.Table, videos: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows of all other videos."""
    return rows.filter(pc.invert(pc.is_in(rows["video_id"], value_set=videos)))


@dataclass(frozen=True)
class Answer:
    """What people say of a label of a video.

    Attributes:
        people: How many say something of the video, or of a range of it.
        agreeing: How many of them say this label.
    """

    people: int
    agreeing: int

    @property
    def is_right(self) -> bool | None:
        """Whether most of them agree; None where nobody looked, or there is no majority."""
        if 2 * self.agreeing == self.people:
            return None
        return 2 * self.agreeing > self.people


def answers_to(
    picked: Iterable[tuple[str, str]], current: Mapping[Key, Iterable[Statement]]
) -> dict[tuple[str, str], Answer]:
    """What people say of labels, as the view `current_reviews` has it.

    Who says it of a range says it of the video: of labels with times it is asked whether the video
    shows them at all.

    Args:
        picked: Video and label.
        current: What people say of the task.
    """
    said: dict[str, dict[str, set[str | None]]] = collections.defaultdict(dict)
    for key, statements in current.items():
        if labels := {s.label for s in statements if tells_of_video(key, s)}:
            said[key.video_id].setdefault(key.annotator, set()).update(labels)
    return {
        (video_id, label): Answer(
            len(said[video_id]), sum(label in labels for labels in said[video_id].values())
        )
        for video_id, label in picked
        if video_id in said
    }


@dataclass(frozen=True)
class Share:
    """How many of some labels are right.

    Attributes:
        asked: Labels that people were asked about.
        judged: Those that they settled.
        right: Those of them that are right.
    """

    asked: int
    judged: int
    right: int

    @classmethod
    def of(cls, verdicts: Iterable[bool | None]) -> Share:
        """Of labels that are right, wrong, or not settled (None)."""
        counts = collections.Counter(verdicts)
        return cls(counts.total(), counts[True] + counts[False], counts[True])

    @property
    def value(self) -> float:
        """The share; there are judged ones."""
        return self.right / self.judged

    @property
    def interval(self) -> Interval:
        """Where it lies for all labels of which the draw was made; there are judged ones."""
        return wilson(self.right, self.judged)

    def __str__(self) -> str:
        if not self.judged:
            return f"none of {self.asked} judged"
        return f"{self.value:.3f} ({self.interval}), {self.judged} of {self.asked} judged"


@dataclass(frozen=True)
class Precision:
    """Which share of a model's labels is right, by the even draw of a review.

    Attributes:
        labels: Of all labels.
        accepted: Of those that reached their threshold.
    """

    labels: Share
    accepted: Share

    def __str__(self) -> str:
        return f"precision {self.labels}; of accepted ones {self.accepted}"


def measure(rows: Iterable[Mapping[str, Any]], answers: Answers) -> Precision | None:
    """Measures how precise a model is by one review.

    Args:
        rows: Rows of the table `reviews`, all of one review.
        answers: What people say of them.

    Returns:
        None where the review has no even draw.
    """
    nobody = Answer(0, 0)
    drawn = [
        (row["accepted"], answers.get((row["video_id"], row["label"]), nobody).is_right)
        for row in rows
        if row["picked_for"] == RANDOM
    ]
    if not drawn:
        return None
    return Precision(
        Share.of(is_right for _, is_right in drawn),
        Share.of(is_right for accepted, is_right in drawn if accepted),
    )
