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

from vidpipe.datasets.annotations import Key, Statement
from vidpipe.evaluation.intervals import Interval, wilson

RANDOM, DISAGREEING, UNCERTAIN = "random", "disagreeing", "uncertain"
Labels = Mapping[str, float]  # what a model says of a video: labels with their scores
Answers = Mapping[tuple[str, str], "Answer"]  # by video and label


def draw(videos: Iterable[str], count: int, seed: int) -> list[str]:
    """Draws so many videos evenly; the same seed draws the same of the same videos."""
    among = sorted(videos)
    drawn = np.random.default_rng(seed).permutation(len(among))[:count]
    return [among[number] for number in drawn]


def least_sure(said: Mapping[str, Labels], count: int) -> list[str]:
    """The videos with the lowest score of what is said of them, lowest first."""
    return sorted(said, key=lambda video: (min(said[video].values()), video))[:count]


def most_at_odds(said: Mapping[str, Labels], other: Mapping[str, Labels], count: int) -> list[str]:
    """The videos of which two models say different things, and both are sure.

    Args:
        said: What one says.
        other: What the other says; videos that it did not judge are not among them.
        count: So many of them at most, those first of which the less sure of the two is surest.
    """
    odds = {
        video: min(*said[video].values(), *other[video].values())
        for video in said.keys() & other.keys()
        if said[video].keys() != other[video].keys()
    }
    return sorted(odds, key=lambda video: (-odds[video], video))[:count]


@dataclass(frozen=True)
class Answer:
    """What people say of a label of a video.

    Attributes:
        people: How many say something of the whole video.
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

    Args:
        picked: Video and label.
        current: What people say of the task.
    """
    said: dict[str, dict[str, set[str | None]]] = collections.defaultdict(dict)
    for key, statements in current.items():
        labels = {s.label for s in statements if s.box is None}
        if key.start_s is None and labels:
            said[key.video_id][key.annotator] = labels
    return {
        (video_id, label): Answer(
            len(said[video_id]), sum(label in labels for labels in said[video_id].values())
        )
        for video_id, label in picked
        if video_id in said
    }


@dataclass(frozen=True)
class Precision:
    """Which share of a model's labels is right, by the even draw of a review.

    Attributes:
        model: The model.
        model_version: Its version.
        asked: Labels that people were asked about.
        judged: Those that they settled.
        right: Those of them that are right.
    """

    model: str
    model_version: str
    asked: int
    judged: int
    right: int

    @property
    def share(self) -> float:
        """The precision; there are judged ones."""
        return self.right / self.judged

    @property
    def interval(self) -> Interval:
        """Where that of all labels lies of which the draw was made; there are judged ones."""
        return wilson(self.right, self.judged)

    def __str__(self) -> str:
        told = f"{self.judged} of {self.asked} random labels are judged"
        if not self.judged:
            return told
        return f"precision {self.share:.3f} ({self.interval}), {told}"


def measure(rows: Iterable[Mapping[str, Any]], answers: Answers) -> Precision | None:
    """Measures the precision of a model by one review.

    Args:
        rows: Rows of the table `reviews`, all of one review.
        answers: What people say of them.

    Returns:
        None where the review has no even draw.
    """
    drawn = [row for row in rows if row["picked_for"] == RANDOM]
    if not drawn:
        return None
    found = (answers.get((row["video_id"], row["label"])) for row in drawn)
    verdicts = [answer.is_right for answer in found if answer is not None]
    judged = [is_right for is_right in verdicts if is_right is not None]
    first = drawn[0]
    return Precision(first["model"], first["model_version"], len(drawn), len(judged), sum(judged))
