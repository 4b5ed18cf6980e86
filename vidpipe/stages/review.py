"""review: picks videos that are worth a person's minute, and writes them for Label Studio and CVAT.

What was picked, what for, and what the champion says of it, are rows of `reviews`. The answers come
back by `annotate`; what they tell of the champion, `vidpipe/stages/answers.py` says.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa

from vidpipe import tracking
from vidpipe.console import echo
from vidpipe.datasets.formats.asking import Question, write_questions
from vidpipe.datasets.video_names import VideoFacts
from vidpipe.errors import DeniedError, NotFoundError, NothingToDoError, UsageError
from vidpipe.evaluation.reviews import (
    DISAGREEING,
    RANDOM,
    UNCERTAIN,
    best_labels,
    draw,
    least_sure,
    most_at_odds,
    only,
    without,
)
from vidpipe.lake import layout
from vidpipe.lake.store import MAX_LINK_HOURS
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.label_notes import explain_no_champion
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.reviewable import Candidate, Reviewable, read_reviewable
from vidpipe.stages.trying import try_model
from vidpipe.text import printable

READERS = 16
JUDGED_PER_PICK = 10  # videos that the challenger judges for each that is to be found
MAX_JUDGED = 2_000


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Picks, and writes the files and the rows of `reviews`.

    Config: task, max_videos, random_share, disagreeing_share (the rest is for those of which the
    champion is least sure), link_hours, seed (null: another for each run).

    Result: `files` (URI of their folder), `base` (snapshot ids read) and counts by what the videos
    were picked for. It holds no links: whoever has one sees the video.

    Raises:
        NothingToDoError: There is no champion, or it labelled nothing that people did not look at.
    """
    wanted = _Wanted.of(manifest)
    champion = tracking.champion(wanted.task)
    if champion is None:
        raise NothingToDoError(explain_no_champion(wanted.task))
    challenger = tracking.challenger(wanted.task)
    snapshots = lake.published()
    found = read_reviewable(
        lake, snapshots, wanted.task, champion.version, challenger and challenger.version
    )
    if not found.said.num_rows:
        raise NothingToDoError(
            f"There is no video that version {champion.version} of {champion.name} labelled, of"
            " which people say nothing, and which is in a bucket still. Run label_nightly or"
            " relabel first, unless people have looked at all there are."
        )
    review = _Review(attempt, lake, snapshots, wanted, champion, challenger, found)
    review.pick()
    review.leave_out_what_is_gone()
    for path, content in review.files().items():
        lake.store.put(f"{review.files_uri}{path}", content)
    attempt.write("reviews", review.rows())
    counts = collections.Counter(review.picked.values())
    no_challenger = "" if challenger else " (there is no challenger)"
    attempt.conclude(
        f"{wanted.task} by version {champion.version}: {counts[RANDOM]} random,"
        f" {counts[DISAGREEING]} disagreeing{no_challenger}, {counts[UNCERTAIN]} uncertain, in"
        f" {review.files_uri}, with links that hold {wanted.links_valid.total_seconds() / 3600:g}"
        f" hours; `vidpipe reviews {wanted.task} --save FOLDER` fetches them"
    )
    attempt.result |= {"files": review.files_uri, "base": snapshots, "counts": dict(counts)}


@dataclass(frozen=True)
class _Wanted:
    """What is asked for.

    Attributes:
        total: Videos in all.
        random: How many of them are drawn evenly.
        disagreeing: How many of them, at most, are those on which two models disagree.
        links_valid: How long links hold.
    """

    task: str
    total: int
    random: int
    disagreeing: int
    links_valid: timedelta
    seed: int

    @classmethod
    def of(cls, manifest: Manifest) -> _Wanted:
        """As the configuration says.

        Raises:
            UsageError: It asks for what cannot be.
        """
        config = manifest.config
        total, hours, seed = (config.get(n) for n in ("max_videos", "link_hours", "seed"))
        shares = [config.get(name) or 0.0 for name in ("random_share", "disagreeing_share")]
        if not total or total < 1 or min(shares) < 0 or sum(shares) > 1:
            raise UsageError(
                "A review needs max_videos, and shares from 0 to 1 that together are 1 at most."
                f" Received: {total!r}, {shares}"
            )
        if not hours or not 0 < hours <= MAX_LINK_HOURS:
            raise UsageError(
                f"Links hold {MAX_LINK_HOURS} hours at most, as S3 has it. Received: {hours!r}"
            )
        if seed is None:
            seed = int(hashlib.sha256(manifest.run_key.encode()).hexdigest()[:8], 16)
        random, disagreeing = (round(total * share) for share in shares)
        disagreeing = min(disagreeing, total - random)
        valid = timedelta(hours=hours)
        return cls(config.get("task") or "", total, random, disagreeing, valid, seed)


class _Review:
    """One review.

    Attributes:
        picked: What each video was picked for.
        candidates: All about these videos.
        files_uri: Where its files go.
    """

    def __init__(
        self,
        attempt: Attempt,
        lake: Lake,
        snapshots: dict[str, int],
        wanted: _Wanted,
        champion: tracking.Version,
        challenger: tracking.Version | None,
        found: Reviewable,
    ):
        self._attempt = attempt
        self._lake = lake
        self._snapshots = snapshots
        self._wanted = wanted
        self._champion = champion
        self._challenger = challenger
        self._found = found
        self._other = found.other
        self.picked: dict[str, str] = {}
        self.candidates: dict[str, Candidate] = {}
        run_key = attempt.manifest.run_key
        self.files_uri = layout.review_uri(lake.uri, run_key, attempt.name)

    def pick(self) -> None:
        """Picks; the even draw comes first, so that nothing is missing in what it is made of."""
        everyone, wanted = self._found.said["video_id"].unique(), self._wanted
        self.picked = dict.fromkeys(draw(everyone, wanted.random, wanted.seed), RANDOM)
        if self._challenger and wanted.disagreeing:
            left = self._left()["video_id"].unique()
            among = draw(left, JUDGED_PER_PICK * wanted.disagreeing, wanted.seed)
            asked = pa.table({"video_id": pa.array([*among, *self.picked], pa.string())})
            unknown = without(asked, self._other["video_id"])["video_id"]
            self._judge(unknown[:MAX_JUDGED].to_pylist())
            at_odds = most_at_odds(self._left(), self._other, wanted.disagreeing)
            self.picked |= dict.fromkeys(at_odds, DISAGREEING)
        rest = least_sure(self._left(), wanted.total - len(self.picked))
        self.picked |= dict.fromkeys(rest, UNCERTAIN)
        self.candidates = self._found.look_up(self.picked)

    def leave_out_what_is_gone(self) -> None:
        """Nobody is asked about what they cannot see, or about bytes that are others by now."""
        with ThreadPoolExecutor(READERS) as pool:
            there = dict(zip(self.picked, pool.map(self._is_there, self.picked), strict=True))
        gone = [video for video, is_there in there.items() if not is_there]
        for video in gone:
            del self.picked[video]
        if gone:
            why = "their object is gone, replaced, archived or denied"
            echo(f"left out, as {why}: {len(gone)} videos")
        if not self.picked:
            raise NothingToDoError(
                "None of the videos that were picked is where it was: run ingest first."
            )

    def _is_there(self, video: str) -> bool:
        row = self.candidates[video].row
        try:
            found = self._lake.store.head(row["source_uri"])
            return found.version == row["source_version"] and not found.archived
        except (NotFoundError, DeniedError):
            return False

    def _left(self) -> pa.Table:
        """What the champion says of those that may still be picked; nobody is asked for the same
        twice at a time."""
        left = without(self._found.said, pa.array(list(self.picked), pa.string()))
        return without(left, self._found.waiting)

    def _judge(self, videos: Sequence[str]) -> None:
        """Notes what the challenger says of videos."""
        if not videos:
            return
        rows = {video: of.row for video, of in self._found.look_up(videos).items()}
        judged = [
            {"video_id": video, "label": segment.label, "score": segment.score}
            for video, said, _ in try_model(
                self._challenger, self._lake, self._snapshots, rows, self._attempt
            )
            for segment in said
        ]
        told = pa.Table.from_pylist(judged, self._other.schema)
        self._other = pa.concat_tables([self._other, best_labels(told)])

    def files(self) -> dict[str, bytes]:
        """The files for other tools, by path."""
        found, store = self._found, self._lake.store
        questions = []
        # In an order that does not tell what for: people may stop half way.
        for video_id in draw(self.picked, len(self.picked), self._wanted.seed):
            candidate = self.candidates[video_id]
            row = candidate.row
            questions.append(
                Question(
                    video_id,
                    printable(row["source_uri"].rpartition("/")[2]),
                    store.link(row["source_uri"], self._wanted.links_valid),
                    VideoFacts(row["duration_s"], row["fps"] or None, row["width"], row["height"]),
                    candidate.segments,
                    measures=self.picked[video_id] == RANDOM,
                )
            )
        labels = (said["label"].unique().to_pylist() for said in (found.said, self._other))
        model = f"{self._champion.name} version {self._champion.version}"
        return write_questions(
            questions, found.answers.union(*labels), model, several=found.several
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of `reviews`; a video is an item of its own."""
        manifest, task = self._attempt.manifest, self._wanted.task
        others: dict[str, set[str]] = collections.defaultdict(set)
        picked = pa.array(list(self.picked), pa.string())
        for said in only(self._other, picked).to_pylist():
            others[said["video_id"]].add(said["label"])
        for video_id, picked_for in self.picked.items():
            work_key = layout.make_work_key(manifest.run_key, "review", task, video_id)
            self._attempt.outcome(f"{task}/{video_id}", work_key, video_id=video_id)
            candidate, other = self.candidates[video_id], others[video_id]
            for label, score in candidate.labels.items():
                yield {
                    "task": task,
                    "video_id": video_id,
                    "picked_for": picked_for,
                    "label": label,
                    "score": score,
                    "accepted": label in candidate.accepted,
                    "model": self._champion.name,
                    "model_version": self._champion.version,
                    "challenger_version": self._challenger.version if other else None,
                    "challenger_label": ", ".join(sorted(other)) if other else None,
                    "picked_at": manifest.planned_time,
                    "links_until": manifest.planned_time + self._wanted.links_valid,
                    "files_uri": self.files_uri,
                    "work_key": work_key,
                    "run_key": manifest.run_key,
                }
