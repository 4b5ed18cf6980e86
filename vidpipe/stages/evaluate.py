"""evaluate: measures a new model on the test split, and the champion on the same videos."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.dataset as ds

from vidpipe import tracking
from vidpipe.datasets.labelled import Dataset, LabelledVideo
from vidpipe.datasets.splits import TEST
from vidpipe.evaluation.figures import (
    draw_confusion,
    draw_mistakes,
    draw_precision_recall,
    draw_reliability,
    draw_slices,
    draw_suspects,
    find_mistakes,
    find_suspects,
)
from vidpipe.evaluation.intervals import Interval, bootstrap
from vidpipe.evaluation.metrics import Evaluation, evaluate
from vidpipe.evaluation.slices import describe, slice_up
from vidpipe.lake.tables import Lake
from vidpipe.models.bundle import Bundle
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, read_result


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Evaluates the model of a training.

    Config: dataset (URI), train (URI of the training's manifest).

    Result: what the training's report holds, metrics, classes, test_videos, champion_version,
    champion_metrics (null while there is no champion) and champion_learnt: how many of the test
    videos the champion learnt from, which another seed or share of the split brings about.

    Raises:
        BadInputError: The training did not end; the dataset has no proof that holds of its splits.
    """
    (item,) = manifest.items
    dataset = Dataset.from_json(lake.store.get_json(manifest.config["dataset"]))
    dataset.verify_splits()
    trained = read_result(lake.store, lake.uri, manifest.config["train"])
    champion = tracking.champion(dataset.task)
    if champion and champion.version == trained["model_version"]:
        champion = None  # an earlier attempt of this run went as far as to promote it
    mlflow_run = tracking.open_run(trained["mlflow_run_id"])
    measured = _evaluate(trained["model_uri"], dataset, attempt, lake, mlflow_run)
    result = measured.evaluation
    attempt.result |= {
        **trained,
        "metrics": result.metrics(),
        "intervals": measured.intervals,
        "seconds_per_clip": measured.seconds_per_clip,
        "classes": len(dataset.labels),
        "test_videos": len(result.truth),
        "champion_version": None,
        "champion_metrics": None,
        "champion_learnt": 0,
    }
    summary = f"{_shown(result)} on {len(result.truth)} test videos"
    if champion:
        of_champion = _evaluate(champion.uri, dataset, attempt, lake, None).evaluation
        mlflow_run.log_metrics(
            {f"champion_{name}": value for name, value in of_champion.metrics().items()}
        )
        attempt.result |= {
            "champion_version": champion.version,
            "champion_metrics": of_champion.metrics(),
            "champion_learnt": _learnt_by(champion, dataset, lake),
        }
        summary += f"; the champion, version {champion.version}: {_shown(of_champion)}"
    attempt.conclude(summary)
    attempt.outcome(item["item"], item["work_key"])


@dataclass(frozen=True)
class _Measured:
    """What a model does on the test split.

    Attributes:
        evaluation: Its scores beside the truth.
        intervals: Low and high end of some of its metrics, by name.
        seconds_per_clip: CPU time.
    """

    evaluation: Evaluation
    intervals: dict[str, Interval]
    seconds_per_clip: float


def _evaluate(
    model_uri: str,
    dataset: Dataset,
    attempt: Attempt,
    lake: Lake,
    mlflow_run: tracking.Run | None,
) -> _Measured:
    """Measures a model; with a run, metrics and pictures go there."""
    bundle = Bundle.load(model_uri)
    bundle.check_canary()
    path = attempt.scratch / "clips.npy"
    path.unlink(missing_ok=True)
    videos = dataset.of(TEST)
    clips = dataset.read_clips(
        lake,
        videos,
        bundle.sampling,
        path,
        lambda done, of: attempt.progress(0, 1, f"reading frames, {done} of {of}"),
    )
    started_s = time.process_time()
    scores = bundle.predict(clips)
    seconds_per_clip = (time.process_time() - started_s) / len(clips)
    result = evaluate(scores, bundle.labels, [video.label for video in videos])
    groups = [video.group or video.video_id for video in videos]
    intervals = {
        name: bootstrap(lambda rows, name=name: getattr(result.take(rows), name), groups)
        for name in ("accuracy", "macro_f1")
    }
    if mlflow_run:
        title = f"{dataset.task} by {bundle.architecture}, accuracy {result.accuracy:.3f}"
        _log(mlflow_run, lake, dataset, videos, clips, result, groups, title)
        mlflow_run.log_metrics(
            {
                **{f"test_{name}": value for name, value in result.metrics().items()},
                **{
                    f"test_{name}_{end}": value
                    for name, interval in intervals.items()
                    for end, value in interval._asdict().items()
                },
                "test_cpu_seconds_per_clip": seconds_per_clip,
            }
        )
    return _Measured(result, intervals, seconds_per_clip)


def _log(
    mlflow_run: tracking.Run,
    lake: Lake,
    dataset: Dataset,
    videos: list[LabelledVideo],
    clips: np.ndarray,
    result: Evaluation,
    groups: list[str],
    title: str,
) -> None:
    """Keeps what is more than a number: tables and pictures."""
    rows = _rows(lake, dataset, [video.video_id for video in videos])
    names = [row["source_uri"].rpartition("/")[2] for row in rows]
    slices = slice_up(result, [describe(row) for row in rows], groups)
    mlflow_run.log_json(result.per_class(), "per_class.json")
    mlflow_run.log_json([dataclasses.asdict(of) for of in slices], "slices.json")
    mlflow_run.log_figure(draw_confusion(result, title), "confusion.png")
    mlflow_run.log_figure(draw_reliability(result, title), "reliability.png")
    mlflow_run.log_figure(draw_precision_recall(result, title), "precision_recall.png")
    mlflow_run.log_figure(draw_slices(slices, title), "slices.png")
    shown = {videos[n].video_id for n in (*find_mistakes(result), *find_suspects(result))}
    mlflow_run.log_pictures(
        {
            tracking.MISCLASSIFIED: draw_mistakes(result, clips, names, title),
            tracking.SUSPECTED: draw_suspects(result, clips, names, title),
        },
        sorted(shown),
    )


def _rows(lake: Lake, dataset: Dataset, video_ids: list[str]) -> list[dict[str, Any]]:
    """The rows of the table `videos` of these videos."""
    found = lake.dataset("videos", snapshots=dataset.snapshots).to_table(
        filter=ds.field("video_id").isin(video_ids)
    )
    row_of = {row["video_id"]: row for row in found.sort_by("ingested_at").to_pylist()}
    return [row_of[video_id] for video_id in video_ids]


def _learnt_by(champion: tracking.Version, dataset: Dataset, lake: Lake) -> int:
    """How many of the test videos a champion was trained on."""
    version = tracking.open_run(champion.run_id).param("dataset_version")
    if version is None:
        return 0  # made elsewhere
    learnt = lake.dataset("splits").to_table(
        columns=["video_id"],
        filter=(ds.field("dataset") == dataset.task)
        & (ds.field("version") == version)
        & (ds.field("split") != TEST),
    )
    test = {video.video_id for video in dataset.videos if video.split == TEST}
    return len(test & set(learnt["video_id"].to_pylist()))


def _shown(result: Evaluation) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in result.metrics().items())
