"""label: the champion of a task says what happens in each video that has no label of it yet.

As a stage of one task it plans (which videos, by which model), as a shard it labels.
"""

from __future__ import annotations

import collections
import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyiceberg.expressions import And, In

from vidpipe import tracking
from vidpipe.datasets.clips import read_clips
from vidpipe.errors import MediaError, NothingToDoError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.models.bundle import Bundle
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import PLAN, Manifest, now, parse_time
from vidpipe.stages.sharding import cut_shards

ITEM_S = 2.0  # what a video costs beside its length
SHARD_S = 1_200.0
BATCH_VIDEOS = 32


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Plans (without items) or labels the videos of a shard."""
    if manifest.shard == PLAN:
        _plan(manifest, attempt, lake)
    else:
        _label(manifest, attempt, lake)


def _plan(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Plans shards for every video with no label of the task yet, newest first.

    Config: task, video_id, prefix, ingested_after, ingested_before, threshold, max_videos,
    max_hours.

    Raises:
        NothingToDoError: The task has no champion yet.
    """
    config = manifest.config
    task = config["task"]
    champion = tracking.champion(task)
    if champion is None:
        raise NothingToDoError(
            f"Task {task!r} has no champion model yet: annotate some videos, then run the DAG train."
        )
    snapshots = lake.published()
    unlabelled = videos_without_labels(lake, snapshots, task, champion.version, config)
    selected = unlabelled[: config.get("max_videos") or len(unlabelled)]
    max_hours = config.get("max_hours")
    deadline = manifest.planned_time + timedelta(hours=max_hours) if max_hours else None
    stage_config = {
        "task": task,
        "model": champion.name,
        "model_version": champion.version,
        "model_uri": champion.uri,
        "threshold": config.get("threshold") or 0.0,
        "deadline": deadline.isoformat() if deadline else None,
        "frames_snapshot": snapshots.get("frames"),
    }
    items = [
        {
            "item": f"{task}/{video['video_id']}",
            "video_id": video["video_id"],
            "source_uri": video["source_uri"],
            "duration_s": video["duration_s"],
            "extraction": video["work_key"],
            "extraction_run": video["run_key"],
        }
        for video in selected
    ]
    uris = []
    shards = cut_shards(items, cost=lambda item: item["duration_s"] + ITEM_S, shard_cost=SHARD_S)
    for number, shard in enumerate(shards):
        name = f"{number:05d}"
        uri = layout.manifest_uri(lake.uri, manifest.run_key, "label", attempt.name, name)
        dataclasses.replace(manifest, shard=name, config=stage_config, items=shard).write(
            lake.store, uri
        )
        uris.append(uri)
    _record_promotion(attempt, lake, snapshots, task, champion)
    counts = {
        "selected": len(items),
        "backlog": len(unlabelled) - len(items),
    }
    print(
        f"label: {champion.name} version {champion.version}, "
        + ", ".join(f"{n} {name}" for name, n in counts.items()),
        flush=True,
    )
    attempt.announce("label", len(items))
    attempt.result |= {"shards": uris, "base": snapshots, "counts": counts}


def _videos(lake: Lake, snapshots: dict[str, int], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The newest extraction of each video that the parameters choose."""
    condition = pc.scalar(True)
    if video_id := config.get("video_id"):
        condition &= ds.field("video_id") == video_id
    if after := config.get("ingested_after"):
        condition &= ds.field("ingested_at") >= pa.scalar(parse_time(after))
    if before := config.get("ingested_before"):
        condition &= ds.field("ingested_at") < pa.scalar(parse_time(before))
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
    outcomes = lake.dataset("outcomes", snapshots=snapshots).to_table(
        columns=["work_key", "item", "status"],
        filter=(ds.field("stage") == "label") & ds.field("status").isin(["quarantined", "failed"]),
    )
    quarantined, tries = set(), collections.Counter()
    for row in outcomes.to_pylist():
        if row["status"] == "quarantined":
            quarantined.add(row["work_key"])
        else:
            tries[row["item"]] += 1
    unlabelled = [
        video
        for video in _videos(lake, snapshots, config)
        if video["video_id"] not in labelled
        and _work_key(video["video_id"], task, version, video["work_key"]) not in quarantined
        and tries[f"{task}/{video['video_id']}"] < lake.settings.extract.max_tries
    ]
    return sorted(unlabelled, key=lambda v: (v["ingested_at"], v["video_id"]), reverse=True)


def _work_key(video_id: str, task: str, version: str, extraction: str) -> str:
    return layout.make_work_key(video_id, "label", task, version, extraction)


def _record_promotion(
    attempt: Attempt, lake: Lake, snapshots: dict[str, int], task: str, champion: tracking.Version
) -> None:
    """Writes down a promotion that somebody made by moving the alias in MLflow."""
    rows = lake.dataset("promotions", snapshots=snapshots).to_table(filter=ds.field("task") == task)
    known = rows.sort_by("promoted_at").to_pylist()
    before = known[-1]["model_version"] if known else None
    if before == champion.version:
        return
    manifest = attempt.manifest
    work_key = layout.make_work_key(task, "promote", champion.version, manifest.run_key)
    attempt.outcome(f"{task}/{champion.version}", work_key)
    attempt.write(
        "promotions",
        [
            {
                "task": task,
                "model": champion.name,
                "model_version": champion.version,
                "promoted_at": manifest.planned_time,
                "promoted_by": "MLflow",
                "replaced_version": before,
                "why": "The alias champion was moved in MLflow.",
                "work_key": work_key,
                "run_key": manifest.run_key,
            }
        ],
    )


def _label(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Labels the videos of a shard.

    Config: task, model, model_version, model_uri, threshold, deadline, frames_snapshot.
    """
    config = manifest.config
    bundle = Bundle.load(config["model_uri"])
    bundle.check_canary()
    deadline = config["deadline"]
    total = len(manifest.items)
    for start in range(0, total, BATCH_VIDEOS):
        items = manifest.items[start : start + BATCH_VIDEOS]
        if deadline and now() > datetime.fromisoformat(deadline):
            for item in items:
                with attempt.item(item) as rows:
                    rows.skip("out_of_budget", f"The run was to begin nothing after {deadline}.")
            continue
        scores = _scores(lake, config, bundle, items)
        for item in items:
            with attempt.item(item) as rows:
                work_key = _work_key(
                    item["video_id"], config["task"], config["model_version"], item["extraction"]
                )
                rows.identify(work_key, item["video_id"])
                if item["video_id"] not in scores:
                    raise MediaError("no_frames", "The table frames has no row of this video.")
                best = int(scores[item["video_id"]].argmax())
                score = float(scores[item["video_id"]][best])
                rows.write(
                    "labels",
                    [
                        {
                            "task": config["task"],
                            "video_id": item["video_id"],
                            "start_s": 0.0,
                            "end_s": item["duration_s"],
                            "label": bundle.labels[best],
                            "score": score,
                            "accepted": score >= config["threshold"],
                            "model": config["model"],
                            "model_version": config["model_version"],
                            "labelled_at": manifest.planned_time,
                            "work_key": work_key,
                            "run_key": manifest.run_key,
                        }
                    ],
                )
                rows.done(work_key, video_id=item["video_id"])
        attempt.progress(min(start + BATCH_VIDEOS, total), total)


def _scores(
    lake: Lake, config: dict[str, Any], bundle: Bundle, items: list[dict[str, Any]]
) -> dict[str, Any]:
    """Scores of the classes for each video that has frames."""
    extractions = {item["extraction"] for item in items}
    frames = lake.dataset(
        "frames",
        # Files of other runs are not even opened: every file holds the rows of one run.
        where=And(
            In("run_key", {item["extraction_run"] for item in items}),
            In("video_id", {item["video_id"] for item in items}),
        ),
        snapshots={"frames": config["frames_snapshot"]},
    )
    raise NotImplementedError
