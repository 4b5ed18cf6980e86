"""What may be picked for review: what a model said of videos that people did not look at yet.

A model may have labelled millions: all of that stays in Arrow, and only of the few videos that are
picked Python objects are made.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyiceberg.expressions import EqualTo

from vidpipe.datasets.annotations import current_labels, tells_of_video
from vidpipe.datasets.splits import TEST
from vidpipe.datasets.windows import Segment
from vidpipe.evaluation.reviews import Labels, best_labels, best_scores, only, without
from vidpipe.lake.newest import newest
from vidpipe.lake.tables import Lake
from vidpipe.stages.manifest import now

_SAID = ["video_id", "start_s", "end_s", "label", "score", "accepted", "model_version"]
_VIDEO = ["video_id", "width", "height", "fps", "duration_s", "work_key", "run_key", "ingested_at"]


@dataclass(frozen=True)
class Candidate:
    """A video that may be picked.

    Attributes:
        row: That of `videos` of its newest extraction, with `source_uri` and `source_version`:
            where its bytes are now.
        segments: What the champion says of it, with the times.
        accepted: Which labels of that reached their threshold.
    """

    row: dict[str, Any]
    segments: list[Segment]
    accepted: set[str]

    @property
    def labels(self) -> Labels:
        """What the champion says of it, whenever it is."""
        return best_scores((segment.label, segment.score) for segment in self.segments)


@dataclass(frozen=True)
class Reviewable:
    """The state of the tables that a review begins with.

    Attributes:
        said: What the champion says of each video that may be picked, as of
            `vidpipe.evaluation.reviews.best_labels`.
        other: What the challenger says of them, where it labelled any.
        waiting: Videos that an earlier review asks for by links that still hold.
        answers: The labels that people give in this task.
        several: Whether some videos have several at once, as they or the champion say.
        rows: Those of `labels` behind what the champion says.
        videos: Of each video that may be picked the row of `videos` of its newest extraction, with
            `source_uri` and `source_version`.
    """

    said: pa.Table
    other: pa.Table
    waiting: pa.ChunkedArray
    answers: set[str]
    several: bool
    rows: pa.Table
    videos: pa.Table

    def look_up(self, video_ids: Iterable[str]) -> dict[str, Candidate]:
        """All about some of the videos, in the order given."""
        ids = pa.array(list(video_ids), pa.string())
        videos = {row["video_id"]: row for row in only(self.videos, ids).to_pylist()}
        said = collections.defaultdict(list)
        order = [("start_s", "ascending"), ("label", "ascending")]
        for row in only(self.rows, ids).sort_by(order).to_pylist():
            said[row["video_id"]].append(row)
        return {
            video_id: Candidate(
                videos[video_id],
                [Segment(*(row[name] for name in Segment._fields)) for row in said[video_id]],
                {row["label"] for row in said[video_id] if row["accepted"]},
            )
            for video_id in ids.to_pylist()
        }


def read_reviewable(
    lake: Lake, snapshots: dict[str, int], task: str, champion: str, challenger: str | None
) -> Reviewable:
    """Reads it.

    Left out are videos of which people say something of this task, those that a model learnt or was
    chosen by with what people had said, and those that are in no bucket any more. Where a label of
    a model stood for a missing one, nobody looked yet.

    Args:
        lake: The lake.
        snapshots: Snapshot ids of the tables.
        task: The task.
        champion: Version of the model whose labels are looked at.
        challenger: Version of the other model; None: there is none.
    """
    labels = _newest_labels(lake, snapshots, task, [champion, challenger or champion])
    of_people = _of_people(lake, snapshots, task)
    looked_at = pa.array([video_id for video_id, _ in of_people], pa.string())
    learnt = lake.dataset("splits", where=EqualTo("dataset", task), snapshots=snapshots).to_table(
        columns=["video_id"],
        filter=(ds.field("dataset") == task)
        & (ds.field("split") != TEST)
        & ds.field("pseudo_label_of").is_null(),
    )
    extracted = lake.dataset("videos", snapshots=snapshots).to_table(columns=_VIDEO)
    videos = newest(extracted, ["video_id"], "ingested_at").join(
        _sources(lake, snapshots), "video_id", join_type="inner"
    )
    rows = only(labels.filter(pc.equal(labels["model_version"], champion)), videos["video_id"])
    rows = without(without(rows, looked_at), learnt["video_id"])
    said = best_labels(rows)
    others = labels.filter(pc.not_equal(labels["model_version"], champion))
    of_video = said.group_by("video_id").aggregate([("label", "count")])
    several = any(len(of) > 1 for _, of in of_people)
    return Reviewable(
        said,
        best_labels(only(others, said["video_id"])),
        _waiting(lake, snapshots, task),
        {label for _, of in of_people for label in of},
        several or bool(pc.any(pc.greater(of_video["label_count"], 1)).as_py()),
        rows,
        only(videos, said["video_id"]),
    )


def _newest_labels(
    lake: Lake, snapshots: dict[str, int], task: str, versions: list[str]
) -> pa.Table:
    """What each version says of each video, by its newest work."""
    rows = lake.dataset("labels", where=EqualTo("task", task), snapshots=snapshots).to_table(
        columns=[*_SAID, "labelled_at", "work_key"],
        filter=(ds.field("task") == task) & ds.field("model_version").isin(versions),
    )
    works = rows.select(["model_version", "video_id", "labelled_at", "work_key"])
    last = newest(works, ["model_version", "video_id"], "labelled_at", "work_key")
    # A work is that of one version on one video.
    return rows.filter(pc.is_in(rows["work_key"], value_set=last["work_key"]))


def _of_people(lake: Lake, snapshots: dict[str, int], task: str) -> list[tuple[str, set[str]]]:
    """Video and labels of each range of which an annotator says what tells of the video."""
    rows = lake.dataset("annotations", where=EqualTo("task", task), snapshots=snapshots)
    current = current_labels(rows.to_table(filter=ds.field("task") == task))
    return [
        (key.video_id, labels - {None})
        for key, statements in current.items()
        if (labels := {s.label for s in statements if tells_of_video(key, s)})
    ]


def _sources(lake: Lake, snapshots: dict[str, int]) -> pa.Table:
    """Where the bytes of each video lie now: of copies the same one each time."""
    columns = ["source_uri", "source_version", "video_id", "deleted", "seen_at", "run_key"]
    rows = lake.dataset("sources", snapshots=snapshots).to_table(columns=columns)
    last = newest(rows, ["source_uri"], "seen_at", "run_key")
    there = last.filter(ds.field("video_id").is_valid() & ~ds.field("deleted"))
    first = there.group_by("video_id").aggregate([("source_uri", "min")])["source_uri_min"]
    one = there.filter(pc.is_in(there["source_uri"], value_set=first))
    return one.select(["video_id", "source_uri", "source_version"])


def _waiting(lake: Lake, snapshots: dict[str, int], task: str) -> pa.ChunkedArray:
    rows = lake.dataset("reviews", where=EqualTo("task", task), snapshots=snapshots).to_table(
        columns=["video_id"],
        filter=(ds.field("task") == task) & (ds.field("links_until") > now()),
    )
    return rows["video_id"]
