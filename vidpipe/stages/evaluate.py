"""evaluate: measures a new model on the test split, and the champion on the same videos."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.dataset as ds

from vidpipe import tracking
from vidpipe.console import echo
from vidpipe.datasets.clips import Clips
from vidpipe.datasets.labelled import Dataset, LabelledVideo
from vidpipe.datasets.spectrogram import is_missing
from vidpipe.datasets.splits import TEST
from vidpipe.evaluation.comparison import compare
from vidpipe.evaluation.figures import (
    draw_comparison,
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
from vidpipe.evaluation.judging import Item, Judgement, judge
from vidpipe.evaluation.metrics import Evaluation
from vidpipe.evaluation.slices import MISSING, SOUND, THERE, describe, is_imputed, slice_up
from vidpipe.lake.tables import Lake
from vidpipe.mlflow_pages import run_line
from vidpipe.models.bundle import Bundle
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, read_result


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Evaluates the model of a training.

    Config: dataset (URI), train (URI of the training's manifest), margin (by which it has to be
    better than the champion).

    Result: what the training's report holds, metrics, headline (the name of the one that counts),
    by_chance (what that is without having learnt anything), intervals, seconds_per_clip (of CPU),
    classes, test_videos; and, null while there is no champion: champion_version, champion_metrics,
    champion_intervals, comparison (see `vidpipe.evaluation.comparison`) and champion_learnt: how
    many of the test videos the champion learnt from, which another seed or share of the split
    brings about.

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
    echo(run_line("evaluate", mlflow_run.url))
    test = _TestSplit.of(dataset, lake)
    measured = _measure(trained["model_uri"], dataset, test, attempt, lake)
    result = measured.judgement.evaluation
    _log(mlflow_run, test, measured, f"{dataset.task} by {measured.bundle.architecture}")
    attempt.result |= {
        **trained,
        "metrics": measured.metrics,
        "headline": result.headline,
        "by_chance": result.by_chance,
        "intervals": measured.intervals,
        "seconds_per_clip": measured.seconds_per_clip,
        "classes": len(dataset.labels),
        "test_videos": len(test.videos),
        "champion_version": None,
        "champion_metrics": None,
        "champion_intervals": None,
        "champion_learnt": 0,
        "comparison": None,
    }
    summary = f"{_shown(measured)} on {len(test.videos)} test videos"
    if champion:
        of_champion = _measure(champion.uri, dataset, test, attempt, lake)
        margin = manifest.config.get("margin") or 0.0
        comparison = compare(
            result,
            of_champion.judgement.evaluation,
            measured.described,
            measured.videos,
            measured.groups,
            margin=margin,
        )
        mlflow_run.log_metrics(
            {
                **{f"champion_{name}": value for name, value in of_champion.metrics.items()},
                "difference": comparison.difference,
                "sureness": comparison.sureness,
            }
        )
        title = f"{dataset.task}: version {trained['model_version']} and {champion.version}"
        mlflow_run.log_figure(draw_comparison(comparison, result.headline, title), "champion.png")
        attempt.result |= {
            "champion_version": champion.version,
            "champion_metrics": of_champion.metrics,
            "champion_intervals": of_champion.intervals,
            "champion_learnt": _learnt_by(champion, dataset, lake),
            "comparison": dataclasses.asdict(comparison),
        }
        summary += f"; the champion, version {champion.version}: {_shown(of_champion)}"
    version = tracking.Version(trained["model"], trained["model_version"], trained["mlflow_run_id"])
    low, high = measured.intervals[result.headline]
    tracking.describe_version(
        version,
        "Result",
        f"{summary}. The interval of the {result.headline} is {low:.3f} to {high:.3f}; guessing"
        f" reaches {result.by_chance:.3f}.",
    )
    attempt.conclude(summary)
    attempt.outcome(item["item"], item["work_key"])


@dataclass(frozen=True)
class _TestSplit:
    """The videos that judge.

    Attributes:
        videos: They.
        names: The file name of each, by video_id.
        described: The slices that each is in, by video_id.
    """

    videos: list[LabelledVideo]
    names: dict[str, str]
    described: dict[str, dict[str, str]]

    @classmethod
    def of(cls, dataset: Dataset, lake: Lake) -> _TestSplit:
        """That of a dataset."""
        videos = dataset.of(TEST)
        found = lake.dataset("videos", snapshots=dataset.snapshots).to_table(
            filter=ds.field("video_id").isin([video.video_id for video in videos])
        )
        row_of = {row["video_id"]: row for row in found.sort_by("ingested_at").to_pylist()}
        return cls(
            videos,
            {v: row["source_uri"].rpartition("/")[2] for v, row in row_of.items()},
            {v: describe(row) for v, row in row_of.items()},
        )


@dataclass(frozen=True)
class _Measured:
    """What a model does on the test split.

    Attributes:
        bundle: The model.
        clips: What it saw.
        judgement: Its scores beside the truth.
        metrics: How good they are.
        videos: The video_id of each item that is judged.
        groups: What each belongs together with.
        described: The slices that each is in.
        intervals: Low and high end of some of its metrics, by name.
        seconds_per_clip: CPU time.
    """

    bundle: Bundle
    clips: np.ndarray
    judgement: Judgement
    metrics: dict[str, float]
    videos: list[str]
    groups: list[str]
    described: list[dict[str, str]]
    intervals: dict[str, Interval]
    seconds_per_clip: float


def _measure(
    model_uri: str, dataset: Dataset, test: _TestSplit, attempt: Attempt, lake: Lake
) -> _Measured:
    bundle = Bundle.load(model_uri)
    bundle.check_canary()
    clips = dataset.read_clips(
        lake,
        test.videos,
        bundle.sampling,
        attempt.scratch / f"{model_uri.replace('/', '-')}.npy",
        lambda done, of: attempt.progress(0, 1, f"reading frames, {done} of {of}"),
    )
    started_s = time.process_time()
    scores = bundle.predict(clips.inputs())
    seconds_per_clip = (time.process_time() - started_s) / len(clips.array)
    video_of = {video.video_id: video for video in test.videos}
    of_clips = [video_of[video_id] for video_id in clips.video_ids]
    judgement = judge(dataset, of_clips, clips.windows, scores, bundle.labels, bundle.thresholds)
    result, videos = judgement.evaluation, [item.video for item in judgement.items]
    groups = [video.group or video.video_id for video in videos]
    intervals = {
        result.headline: bootstrap(lambda rows: result.take(rows).value, groups),
        "macro_f1": bootstrap(lambda rows: result.take(rows).macro_f1, groups),
    }
    return _Measured(
        bundle,
        clips.array,
        judgement,
        judgement.metrics(),
        [video.video_id for video in videos],
        groups,
        _describe(test, clips, judgement.items),
        intervals,
        seconds_per_clip,
    )


def _describe(test: _TestSplit, clips: Clips, items: Sequence[Item]) -> list[dict[str, str]]:
    """The slices that each item is in; of a model that hears also by whether it could."""
    described = [test.described[item.video.video_id] for item in items]
    if clips.sound is None:
        return described
    missing = is_missing(clips.sound)
    videos = {clips.video_ids[clip] for clip in np.flatnonzero(missing)}
    lacks = (
        item.video.video_id in videos if item.at_s is None else missing[item.clip] for item in items
    )
    return [
        {**of, SOUND: MISSING if lacking else THERE}
        for of, lacking in zip(described, lacks, strict=True)
    ]


def _log(mlflow_run: tracking.Run, test: _TestSplit, measured: _Measured, title: str) -> None:
    """Keeps metrics, tables and pictures."""
    result, items = measured.judgement.evaluation, measured.judgement.items
    title += f", {result.headline} {result.value:.3f}"
    slices = slice_up(result, measured.described, measured.videos, measured.groups)
    ends = {
        f"test_{name}_{end}": value
        for name, interval in measured.intervals.items()
        for end, value in interval._asdict().items()
    }
    complete = np.flatnonzero([not is_imputed(of) for of in measured.described])
    without = result.take(complete).metrics() if 0 < len(complete) < len(items) else {}
    mlflow_run.log_metrics(
        {
            **{f"test_{name}": value for name, value in measured.metrics.items()},
            **{
                f"test_{name}_without_imputed": value
                for name, value in without.items()
                if not math.isnan(value)  # nothing may be true of those
            },
            **ends,
            "test_cpu_seconds_per_clip": measured.seconds_per_clip,
        }
    )
    mlflow_run.log_json(result.per_class(), "per_class.json")
    mlflow_run.log_json([dataclasses.asdict(of) for of in slices], "slices.json")
    if isinstance(result, Evaluation):
        mlflow_run.log_figure(draw_confusion(result, title), "confusion.png")
    mlflow_run.log_figure(draw_reliability(result, title), "reliability.png")
    mlflow_run.log_figure(draw_precision_recall(result, title), "precision_recall.png")
    mlflow_run.log_figure(draw_slices(slices, result.headline, title), "slices.png")
    clips = [measured.clips[item.clip] for item in items]
    names = [_named(item, test.names) for item in items]
    shown = {items[n].video.video_id for n in (*find_mistakes(result), *find_suspects(result))}
    mlflow_run.log_pictures(
        {
            tracking.MISCLASSIFIED: draw_mistakes(result, clips, names, title),
            tracking.SUSPECTED: draw_suspects(result, clips, names, title),
        },
        sorted(shown),
    )


def _named(item: Item, names: Mapping[str, str]) -> str:
    name = names[item.video.video_id]
    return name if item.at_s is None else f"{item.at_s:.1f} s {name}"


def _learnt_by(champion: tracking.Version, dataset: Dataset, lake: Lake) -> int:
    """How many of the test videos a champion was trained on."""
    version = tracking.open_run(champion.run_id).params().get("dataset_version")
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


def _shown(measured: _Measured) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in measured.metrics.items())
