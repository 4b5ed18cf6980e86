"""What may be picked for review: what a model said of videos that people did not look at yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.dataset as ds
from pyiceberg.expressions import EqualTo

from vidpipe.datasets.annotations import current_labels
from vidpipe.datasets.splits import TEST
from vidpipe.datasets.windows import Segment
from vidpipe.evaluation.reviews import Labels, best_scores
from vidpipe.lake.tables import Lake
from vidpipe.stages.manifest import now

_SAID = ["video_id", "start_s", "end_s", "label", "score", "accepted", "model_version"]
_VIDEO = ["video_id", "width", "height", "fps", "duration_s", "work_key", "run_key", "ingested_at"]


@dataclass(frozen=True)
class Reviewable:
    """The state of the tables that a review begins with.

    Attributes:
        said: What the champion says of each video that may be picked.
        segments: The same, with the times.
        accepted: Which of that reached its threshold.
        other: What the challenger says of videos, where it labelled any.
        videos: The row of `videos` of the newest extraction of each that may be picked.
        sources: Where the bytes of each are now: URI and version of the object.
        waiting: Videos that an earlier review asks for by links that still hold.
        answers: The labels that people give in this task.
        several: Whether some videos have several at once, as they or the champion say.
    """

    said: dict[str, Labels]
    segments: dict[str, list[Segment]]
    accepted: dict[str, set[str]]
    other: dict[str, Labels]
    videos: dict[str, dict[str, Any]]
    sources: dict[str, tuple[str, str]]
    waiting: set[str]
    answers: set[str]
    several: bool


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
    rows = _newest_rows(lake, snapshots, task, {champion, challenger or champion})
    of_people = _of_people(lake, snapshots, task)
    looked_at = {video_id for video_id, _ in of_people}
    learnt = lake.dataset("splits", where=EqualTo("dataset", task), snapshots=snapshots).to_table(
        columns=["video_id"],
        filter=(ds.field("dataset") == task)
        & (ds.field("split") != TEST)
        & ds.field("pseudo_label_of").is_null(),
    )
    sources = _sources(lake, snapshots)
    extracted = lake.dataset("videos", snapshots=snapshots).to_table(columns=_VIDEO)
    videos = {row["video_id"]: row for row in extracted.sort_by("ingested_at").to_pylist()}
    may = rows[champion].keys() & sources.keys() & videos.keys()
    may -= looked_at | set(learnt["video_id"].to_pylist())
    labels = {video_id: _labels(rows[champion][video_id]) for video_id in may}
    several = any(len(of) > 1 for of in (*labels.values(), *(of for _, of in of_people)))
    return Reviewable(
        labels,
        {v: [Segment(*(r[n] for n in Segment._fields)) for r in rows[champion][v]] for v in may},
        {v: {r["label"] for r in rows[champion][v] if r["accepted"]} for v in may},
        {v: _labels(of) for v, of in rows.get(challenger, {}).items() if v in may},
        {video_id: videos[video_id] for video_id in may},
        {video_id: sources[video_id] for video_id in may},
        _waiting(lake, snapshots, task),
        {label for _, of in of_people for label in of},
        several,
    )


def _newest_rows(
    lake: Lake, snapshots: dict[str, int], task: str, versions: set[str]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """The rows of each version and video, those of its newest work."""
    rows = lake.dataset("labels", where=EqualTo("task", task), snapshots=snapshots).to_table(
        columns=[*_SAID, "labelled_at", "work_key"],
        filter=(ds.field("task") == task) & ds.field("model_version").isin(sorted(versions)),
    )
    newest: dict[str, dict[str, list[dict[str, Any]]]] = {version: {} for version in versions}
    for row in rows.sort_by([("labelled_at", "ascending"), ("work_key", "ascending")]).to_pylist():
        of_video = newest[row["model_version"]].setdefault(row["video_id"], [])
        if of_video and of_video[0]["work_key"] != row["work_key"]:
            of_video.clear()
        of_video.append(row)
    return newest


def _labels(rows: list[dict[str, Any]]) -> Labels:
    return best_scores((row["label"], row["score"]) for row in rows)


def _of_people(lake: Lake, snapshots: dict[str, int], task: str) -> list[tuple[str, set[str]]]:
    """Video and labels of each range of which an annotator says something; boxes tell of things."""
    rows = lake.dataset("annotations", where=EqualTo("task", task), snapshots=snapshots)
    current = current_labels(rows.to_table(filter=ds.field("task") == task))
    return [
        (key.video_id, {s.label for s in statements if s.label is not None and s.box is None})
        for key, statements in current.items()
        if any(s.box is None for s in statements)
    ]


def _sources(lake: Lake, snapshots: dict[str, int]) -> dict[str, tuple[str, str]]:
    """Where the bytes of each video lie now: of copies the same one each time."""
    columns = ["source_uri", "source_version", "video_id", "deleted", "seen_at", "run_key"]
    rows = lake.dataset("sources", snapshots=snapshots).to_table(columns=columns)
    by_uri = {
        row["source_uri"]: row
        for row in rows.sort_by([("seen_at", "ascending"), ("run_key", "ascending")]).to_pylist()
    }
    return {
        row["video_id"]: (uri, row["source_version"])
        for uri, row in sorted(by_uri.items(), reverse=True)
        if row["video_id"] and not row["deleted"]
    }


def _waiting(lake: Lake, snapshots: dict[str, int], task: str) -> set[str]:
    rows = lake.dataset("reviews", where=EqualTo("task", task), snapshots=snapshots).to_table(
        columns=["video_id"],
        filter=(ds.field("task") == task) & (ds.field("links_until") > now()),
    )
    return set(rows["video_id"].to_pylist())
