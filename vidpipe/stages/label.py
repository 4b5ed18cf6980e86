"""label: the champion of a task says what happens in each video that has no label of it yet.

As a stage of one task it plans (which videos, by which model), as a shard it labels.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.dataset as ds
from pyiceberg.expressions import In

from vidpipe import tracking
from vidpipe.datasets.clips import READ_BYTES, cut_by_size, read_clips
from vidpipe.datasets.windows import Segment, Window
from vidpipe.errors import BadInputError, MediaError, NothingToDoError, OutOfMemoryError
from vidpipe.evaluation.several import decisions
from vidpipe.evaluation.timeline import find_segments, moments_of, score_moments
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt, ItemRows
from vidpipe.stages.backlog import label_work_key, videos_without_labels
from vidpipe.stages.label_notes import explain_no_champion, explain_thresholds, explain_waiting
from vidpipe.stages.manifest import PLAN, Manifest, now
from vidpipe.stages.promotions import write_promotion
from vidpipe.stages.sharding import MAX_SHARDS, cut_shards

if TYPE_CHECKING:
    from vidpipe.models.bundle import Bundle

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
    """Plans shards for every video with no label of a task yet, newest first.

    Config: task (null: all that have a champion), video_id, prefix, ingested_after,
    ingested_before, threshold, max_videos, max_hours.

    A champion that is not to be loaded keeps no other from labelling.

    Raises:
        NothingToDoError: There is no champion yet.
        BadInputError: There is none that may be loaded.
    """
    config = manifest.config
    if task := config.get("task"):
        version = tracking.champion(task)
        champions = {task: version} if version else {}
    else:
        champions = tracking.champions()
    if not champions:
        raise NothingToDoError(explain_no_champion(task))
    champions, unusable = _usable(champions)
    snapshots = lake.published()
    uris: list[str] = []
    selected = backlog = 0
    by: list[str] = []
    notes: list[str] = []
    for task, champion in champions.items():
        videos = videos_without_labels(lake, snapshots, task, champion.version, config)
        room = (config.get("max_videos") or len(videos) + selected) - selected
        uris += plan_shards(attempt, lake, snapshots, task, champion, videos[:room], len(uris))
        record_promotion(attempt, lake, snapshots, task, champion)
        selected += len(videos[:room])
        backlog += len(videos[room:])
        by.append(f"{task} by version {champion.version}: {len(videos[:room])} videos")
        if videos:
            notes.append(explain_thresholds(champion, config.get("threshold")))
    if not config.get("task"):
        notes.append(explain_waiting({*champions, *unusable}))
    notes += [f"\n{task} is not labelled: {why}" for task, why in unusable.items()]
    attempt.announce("label", selected, unit="labels")
    counts = {"selected": selected, "backlog": backlog}
    attempt.conclude(f"{', '.join(by)}; {backlog} left to later runs{''.join(notes)}")
    attempt.result |= {"shards": uris, "base": snapshots, "counts": counts}


def _usable(
    champions: dict[str, tracking.Version],
) -> tuple[dict[str, tracking.Version], dict[str, str]]:
    """The champions that may be loaded, and of the others why not, each by its task.

    Raises:
        BadInputError: None may.
    """
    unusable: dict[str, str] = {}
    for task, version in champions.items():
        try:
            tracking.find_files(version.uri)
        except BadInputError as error:
            unusable[task] = str(error)
    if len(unusable) == len(champions):
        raise BadInputError("; ".join(unusable.values()))
    return {task: v for task, v in champions.items() if task not in unusable}, unusable


def plan_shards(
    attempt: Attempt,
    lake: Lake,
    snapshots: dict[str, int],
    task: str,
    champion: tracking.Version,
    videos: list[dict[str, Any]],
    first: int,
) -> list[str]:
    """Writes the manifests of one task's shards, numbered from `first`; returns their URIs."""
    manifest = attempt.manifest
    max_hours = manifest.config.get("max_hours")
    deadline = manifest.planned_time + timedelta(hours=max_hours) if max_hours else None
    config = {
        "task": task,
        "model": champion.name,
        "model_version": champion.version,
        "model_uri": champion.uri,
        "threshold": manifest.config.get("threshold"),
        "deadline": deadline.isoformat() if deadline else None,
        "frames_snapshot": snapshots.get("frames"),
        "audio_snapshot": snapshots.get("audio"),
    }
    items = [
        {
            "item": f"{task}/{video['video_id']}",
            "video_id": video["video_id"],
            "source_uri": video["source_uri"],
            "duration_s": video["duration_s"],
            "failures": video["failures"],
            "extraction": video["work_key"],
            "extraction_run": video["run_key"],
        }
        for video in videos
    ]
    uris = []
    shards = cut_shards(
        items,
        cost=lambda item: item["duration_s"] + ITEM_S,
        shard_cost=SHARD_S,
        max_shards=MAX_SHARDS - first,
    )
    for number, shard in enumerate(shards, first):
        name = f"{number:05d}"
        uri = layout.manifest_uri(lake.uri, manifest.run_key, "label", attempt.name, name)
        of_shard = {"stage": "label", "shard": name, "config": config, "items": shard}
        dataclasses.replace(manifest, **of_shard).write(lake.store, uri)
        uris.append(uri)
    return uris


def record_promotion(
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
    write_promotion(
        attempt,
        task,
        champion,
        replaced=before,
        why="The alias champion was moved in MLflow.",
        work_key=work_key,
        promoted_by="MLflow",
        promoted_at=manifest.planned_time,
    )


def _label(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Labels the videos of a shard.

    Config: task, model, model_version, model_uri, threshold (null: those of the model), deadline,
    frames_snapshot, audio_snapshot.
    """
    from vidpipe.models.bundle import Bundle  # TensorFlow: the plan needs none

    config = manifest.config
    try:
        bundle = Bundle.load(config["model_uri"])
        bundle.check_canary()
    except OutOfMemoryError:
        raise
    except BadInputError as error:
        # Videos of other tasks are published all the same.
        for item in manifest.items:
            with attempt.item(item) as rows:
                rows.identify(_work_key(config, item), item["video_id"])
                raise MediaError("model_unusable", str(error)) from error
        attempt.conclude(f"{config['task']} is not labelled: {error}")
        return
    item_of = {item["video_id"]: item for item in manifest.items}
    durations_s = {video_id: item["duration_s"] for video_id, item in item_of.items()}
    at_most_bytes = 0 if attempt.alone else READ_BYTES
    for video_ids in cut_by_size(durations_s, bundle.sampling, at_most_bytes):
        items = [item_of[video_id] for video_id in video_ids]
        with attempt.working(*items):
            _label_group(manifest, items, bundle, attempt, lake)


def _label_group(
    manifest: Manifest,
    items: list[dict[str, Any]],
    bundle: Bundle,
    attempt: Attempt,
    lake: Lake,
) -> None:
    """Labels videos whose clips are on local disk together."""
    config, path = manifest.config, attempt.scratch / "clips.npy"
    clips = read_clips(
        _rows(lake, "frames", config, items),
        {item["video_id"]: item["extraction"] for item in items if attempt.fits(item)},
        bundle.sampling,
        path,
        audio=_rows(lake, "audio", config, items) if bundle.sampling.sound else None,
    )
    rows_of: dict[str, list[int]] = {}
    for row, video_id in enumerate(clips.video_ids):
        rows_of.setdefault(video_id, []).append(row)
    deadline = config["deadline"]
    for start in range(0, len(items), BATCH_VIDEOS):
        batch = items[start : start + BATCH_VIDEOS]
        over = bool(deadline) and now() > datetime.fromisoformat(deadline)
        # The clips of videos that follow each other do so, too.
        found = [row for item in batch for row in rows_of.get(item["video_id"], [])]
        first, end = (found[0], found[-1] + 1) if found and not over else (0, 0)
        scores = bundle.predict(clips.inputs(slice(first, end)))
        for item in batch:
            with attempt.item(item) as rows:
                if over:
                    rows.skip("out_of_budget", f"The run was to begin nothing after {deadline}.")
                    continue
                clip_rows = rows_of.get(item["video_id"], [])
                windows = [clips.windows[row] for row in clip_rows]
                of_video = scores[[row - first for row in clip_rows]]
                _keep(manifest, item, bundle, windows, of_video, rows, attempt)
        attempt.progress(attempt.ended, len(manifest.items))
    path.unlink(missing_ok=True)


def _rows(
    lake: Lake, table: str, config: dict[str, Any], items: list[dict[str, Any]]
) -> ds.Dataset:
    """What the runs wrote that extracted the videos; files of other runs are not opened."""
    return lake.dataset(
        table,
        where=In("run_key", {item["extraction_run"] for item in items}),
        snapshots={table: config[f"{table}_snapshot"]},
    )


def _work_key(config: dict[str, Any], item: dict[str, Any]) -> str:
    return label_work_key(
        item["video_id"], config["task"], config["model_version"], item["extraction"]
    )


def _keep(
    manifest: Manifest,
    item: dict[str, Any],
    bundle: Bundle,
    windows: list[Window],
    scores: np.ndarray,
    rows: ItemRows,
    attempt: Attempt,
) -> None:
    config = manifest.config
    work_key = _work_key(config, item)
    rows.identify(work_key, item["video_id"])
    attempt.require_fits(item)
    if not windows:
        raise MediaError("no_frames", "The table frames has no row of this video.")
    facts = {
        "task": config["task"],
        "video_id": item["video_id"],
        "model": config["model"],
        "model_version": config["model_version"],
        "labelled_at": manifest.planned_time,
        "work_key": work_key,
        "run_key": manifest.run_key,
    }
    accepts_all_from = config["threshold"]
    for found in say(bundle, windows, scores, item["duration_s"]):
        threshold = accepts_all_from
        if threshold is None:
            threshold = bundle.thresholds.get(found.label, 0.0)
        rows.write("labels", [{**facts, **found._asdict(), "accepted": found.score >= threshold}])
    rows.done(work_key, video_id=item["video_id"])


def say(
    bundle: Bundle, windows: list[Window], scores: np.ndarray, duration_s: float
) -> list[Segment]:
    """What a model says of a video: its label; where there may be several, those that it sees, and
    else, lest nothing be known of the video, the one that it is least unsure of."""
    if bundle.sampling.sliding:
        of_parts = score_moments(moments_of(duration_s), windows, scores)
    else:
        of_parts = scores.mean(axis=0, keepdims=True)
    if bundle.several:
        enough = decisions(bundle.labels, bundle.thresholds)
        if found := find_segments(duration_s, of_parts, bundle.labels, enough):
            return found
    part, best = np.unravel_index(int(of_parts.argmax()), of_parts.shape)
    part_s, score = duration_s / len(of_parts), float(of_parts[part, best])
    return [Segment(part * part_s, (part + 1) * part_s, bundle.labels[best], score)]
