"""What the DAGs that label and ingest have not come to yet."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from vidpipe.errors import NothingToDoError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.lake.times import parse_iso_time
from vidpipe.stages.listing import list_sources


def ingest_backlog(lake: Lake) -> int:
    """Objects in the watched buckets that are to be extracted."""
    return list_sources(lake, lake.published(), {}).chosen.num_rows


def require_retries(reasons: list[str], videos: list[str], lake: Lake | None = None) -> None:
    """Makes sure that a run that is asked to try something again has something to try.

    Args:
        reasons: Those of `vidpipe.reasons.RETRY_REASONS` that are asked for.
        videos: Ids and URIs.
        lake: Where; as configured by default.

    Raises:
        NothingToDoError: It has not.
        UsageError: There is no such video.
    """
    lake = lake or Lake()
    found = list_sources(lake, lake.published(), {"retry_reasons": reasons, "retry_videos": videos})
    if not found.asked:
        asked = ", ".join([*reasons, *videos])
        archived = found.counts["archived"]
        raise NothingToDoError(
            f"Nothing is to be tried again: no video in the watched buckets was quarantined or"
            f" failed that {asked} asks for. What is new, `vidpipe run ingest` takes."
            + f" Archived objects must be restored first: there are {archived}."
            * bool(archived)
        )


def label_backlog(lake: Lake) -> dict[str, int]:
    """Videos without a label, for each task that has a champion."""
    snapshots = lake.published()
    promotions = lake.dataset("promotions", snapshots=snapshots).to_table().sort_by("promoted_at")
    champions = {p["task"]: p["model_version"] for p in promotions.to_pylist()}
    return {
        task: len(videos_without_labels(lake, snapshots, task, version, {}))
        for task, version in sorted(champions.items())
    }


def videos_without_labels(
    lake: Lake, snapshots: dict[str, int], task: str, version: str, config: dict[str, Any]
) -> list[dict[str, Any]]:
    """The videos that `config` chooses (all: `{}`) and that `task` has no label of, newest first.

    Left out are those that the model version could not label, for good or for `max_tries` times.
    """
    labels = lake.dataset("labels", snapshots=snapshots).to_table(
        columns=["video_id"], filter=ds.field("task") == task
    )
    labelled = set(labels["video_id"].to_pylist())
    unlabelled = [
        video
        for video in _labellable(lake, snapshots, task, version, config)
        if video["video_id"] not in labelled
    ]
    return sorted(unlabelled, key=lambda v: (v["ingested_at"], v["video_id"]), reverse=True)


def stale_videos(
    lake: Lake, snapshots: dict[str, int], task: str, version: str
) -> list[dict[str, Any]]:
    """The videos with labels of a task, none of which is of the model version.

    Those first of which the models before were least sure, as these most likely change; each with
    `score`, the lowest of its newest labels, and `labelled_by`, the version that these are of.
    Left out are those that the model version could not label, as before.
    """
    labels = lake.dataset("labels", snapshots=snapshots).to_table(
        columns=["video_id", "score", "model_version", "labelled_at", "work_key"],
        filter=ds.field("task") == task,
    )
    done, newest = set(), {}
    for row in labels.sort_by(
        [("labelled_at", "ascending"), ("work_key", "ascending")]
    ).to_pylist():
        if row["model_version"] == version:
            done.add(row["video_id"])
        before = newest.get(row["video_id"])
        if before and before["work_key"] == row["work_key"]:
            row["score"] = min(row["score"], before["score"])
        newest[row["video_id"]] = row
    stale = [
        {
            **video,
            "score": newest[video["video_id"]]["score"],
            "labelled_by": newest[video["video_id"]]["model_version"],
        }
        for video in _labellable(lake, snapshots, task, version, {})
        if video["video_id"] in newest and video["video_id"] not in done
    ]
    return sorted(stale, key=lambda video: (video["score"], video["video_id"]))


def _labellable(
    lake: Lake, snapshots: dict[str, int], task: str, version: str, config: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The videos that `config` chooses, but for those that the model version could not label.

    Each with `failures`: how often it failed to.
    """
    outcomes = lake.dataset("outcomes", snapshots=snapshots).to_table(
        columns=["work_key", "status"],
        filter=(ds.field("stage") == "label")
        & ds.field("status").isin(["quarantined", "failed"])
        # No fault of the video, which waits until its champion can be used.
        & ~ds.field("reason").isin(["model_unusable"]),
    )
    quarantined, tries = set(), collections.Counter()
    for row in outcomes.to_pylist():
        if row["status"] == "quarantined":
            quarantined.add(row["work_key"])
        else:
            tries[row["work_key"]] += 1
    for video in _videos(lake, snapshots, config):
        work_key = label_work_key(video["video_id"], task, version, video["work_key"])
        if work_key not in quarantined and tries[work_key] < lake.settings.extract.max_tries:
            yield video | {"failures": tries[work_key]}


def label_work_key(video_id: str, task: str, version: str, extraction: str) -> str:
    """The work of labelling one extraction of a video by one model version."""
    return layout.make_work_key(video_id, "label", task, version, extraction)


def _videos(lake: Lake, snapshots: dict[str, int], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The newest extraction of each video that the parameters choose."""
    condition = pc.scalar(True)
    if video_id := config.get("video_id"):
        condition &= ds.field("video_id") == video_id
    if after := config.get("ingested_after"):
        condition &= ds.field("ingested_at") >= pa.scalar(parse_iso_time(after))
    if before := config.get("ingested_before"):
        condition &= ds.field("ingested_at") < pa.scalar(parse_iso_time(before))
    columns = ["video_id", "source_uri", "duration_s", "ingested_at", "work_key", "run_key"]
    rows = lake.dataset("videos", snapshots=snapshots).to_table(columns=columns, filter=condition)
    newest = {row["video_id"]: row for row in rows.sort_by("ingested_at").to_pylist()}
    if prefix := config.get("prefix"):
        sources = lake.dataset("sources", snapshots=snapshots).to_table(
            columns=["source_uri", "video_id"]
        )
        named = sources.filter(pc.starts_with(pc.field("source_uri"), prefix))
        wanted = set(named["video_id"].to_pylist())
        newest = {video_id: row for video_id, row in newest.items() if video_id in wanted}
    return list(newest.values())
