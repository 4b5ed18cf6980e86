"""train: fits a network on a pinned dataset, watched in MLflow, and registers what came of it.

Several workers (see `vidpipe.training.distribution`) run the same command; the first alone writes.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vidpipe import tracking
from vidpipe.console import echo
from vidpipe.datasets.clips import Clips
from vidpipe.datasets.features import FeatureCache, read_features
from vidpipe.datasets.labelled import Dataset, LabelledVideo
from vidpipe.datasets.pipeline import plain_clips
from vidpipe.datasets.presets import PRESETS
from vidpipe.datasets.proof import Proof
from vidpipe.datasets.spectrogram import is_missing
from vidpipe.datasets.splits import TEST, TRAIN, VALIDATION
from vidpipe.errors import UsageError
from vidpipe.evaluation.judging import judge
from vidpipe.evaluation.metrics import NEVER
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.mlflow_pages import run_line
from vidpipe.models.architectures import Network, Sampling, chosen
from vidpipe.models.backbones import keep_statistics
from vidpipe.models.bundle import Bundle
from vidpipe.models.classification import build_model, standardise
from vidpipe.models.complexity import count_flops
from vidpipe.models.prediction import Predictor
from vidpipe.models.weights import fetch_weights, load_weights
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.label_notes import THRESHOLDS
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.runner import stops_deferred
from vidpipe.training.checkpoints import Checkpoints
from vidpipe.training.distribution import Replicas, Workers, open_replicas
from vidpipe.training.fit import Epoch, fit, kept_epoch, prepare
from vidpipe.training.settings import FitSettings


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Trains one model.

    Config: task, dataset (URI), dataset_version, accept_precision (see
    `vidpipe.evaluation.metrics.accepting_thresholds`), weights (URI of a weights file, or null),
    and the fields of `Network`, `Sampling` and `FitSettings`.

    Result: mlflow_run_id, mlflow_url, model, model_version, model_uri, sound (whether it hears).

    Raises:
        TemporaryError: MLflow is away, or another worker; the retry goes on in the same MLflow run.
        StoppedError: A stop signal arrived; the retry goes on after the last step that was done.
    """
    config, (item,) = manifest.config, manifest.items
    dataset = Dataset.from_json(lake.store.get_json(config["dataset"]))
    workers = Workers.from_environment()
    if not workers.first:
        attempt.helps = True
        if workers.meet():
            checkpoints = open_checkpoints(manifest, attempt, lake)
            learn(config, dataset, attempt, lake, open_replicas(workers), checkpoints)
        return
    tags = {
        "vidpipe.run_key": manifest.run_key,
        "vidpipe.work_key": item["work_key"],
        "vidpipe.code_version": manifest.code_version,
    }
    name = f"{config['architecture']} {manifest.planned_time:%F %T}"
    with tracking.training_run(dataset.task, name, manifest.hash, tags) as mlflow_run:
        echo(run_line("train", mlflow_run.url))
        describe_training(mlflow_run, config["architecture"], dataset, config["dataset"], lake)
        version = tracking.version_of_run(dataset.task, mlflow_run.id)
        # An earlier attempt may have ended between registering its model and its report.
        if workers.meet(version is None):
            replicas = open_replicas(workers)
            mlflow_run.log_params(told_params(config, dataset))
            # No parameters, which MLflow never changes: the next attempt may have others.
            mlflow_run.set_tags(
                {"vidpipe.workers": workers.count, "vidpipe.devices": replicas.devices}
            )
            checkpoints = open_checkpoints(manifest, attempt, lake)
            learnt = learn(config, dataset, attempt, lake, replicas, checkpoints, mlflow_run)
            mlflow_run.log_json(learnt.thresholds, THRESHOLDS)
            mlflow_run.log_metrics(
                {
                    **learnt.best,
                    "parameters": learnt.model.count_params(),
                    "flops_per_clip": count_flops(learnt.model),
                }
            )
            Bundle.pack(
                learnt.model,
                task=dataset.task,
                architecture=config["architecture"],
                labels=dataset.labels,
                sampling=chosen(Sampling, config),
                several=dataset.several,
                thresholds=learnt.thresholds,
            ).log(mlflow_run.id)
            version = tracking.version_of_run(dataset.task, mlflow_run.id)
            tracking.describe_model(dataset.task)
            tracking.describe_version(version, "Validation", told_best(learnt.best))
            checkpoints.clear()
    hears = ", which hears" * bool(config["sound"])
    attempt.conclude(f"{version.name} version {version.version}{hears}, {mlflow_run.url}")
    attempt.outcome(item["item"], item["work_key"])
    attempt.result |= {
        "mlflow_run_id": mlflow_run.id,
        "mlflow_url": mlflow_run.url,
        "model": version.name,
        "model_version": version.version,
        "model_uri": version.uri,
        "sound": bool(config["sound"]),
    }


def describe_training(
    mlflow_run: tracking.Run, architecture: str, dataset: Dataset, dataset_uri: str, lake: Lake
) -> None:
    """Says on the page of a run what is trained, and on which dataset."""
    splits = collections.Counter(video.split for video in dataset.videos)
    counts = {split: splits[split] for split in (TRAIN, VALIDATION, TEST) if splits[split]}
    shown = ", ".join(f"{count} {split}" for split, count in counts.items())
    mlflow_run.describe("Training", f"A model of the task {dataset.task}: {architecture}.")
    mlflow_run.describe(
        "Data",
        f"Dataset {dataset.version}: {len(dataset.videos)} videos ({shown}),"
        f" {len(dataset.labels)} classes, from the lake {lake.uri}.",
    )
    facts = {"videos": counts, "classes": len(dataset.labels), "snapshots": dataset.snapshots}
    mlflow_run.log_dataset(dataset.task, dataset.version, dataset_uri, lake.uri, facts)


def told_best(best: Mapping[str, float]) -> str:
    """Returns the validation metrics of the weights that are kept, in words."""
    if not best:
        return "There were no validation videos."
    shown = (f"{name.removeprefix('best_validation_')} {value:.3f}" for name, value in best.items())
    return f"The weights that are kept reach {', '.join(shown)}."


def told_params(config: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """What MLflow is told of a training: its configuration, and of what the dataset is."""
    splits = [video.split for video in dataset.videos]
    return {
        **{name: value for name, value in config.items() if name != "dataset"},
        **{f"snapshot_{table}": snapshot for table, snapshot in dataset.snapshots.items()},
        **{f"{split}_videos": splits.count(split) for split in sorted(set(splits))},
        **_facts(dataset.proof),
        "pseudo_labelled_videos": sum(bool(video.pseudo_label_of) for video in dataset.videos),
        "classes": len(dataset.labels),
    }


def _facts(proof: Proof | None) -> dict[str, Any]:
    """What tells one split from another."""
    names = "units", "near_pairs", "near_duplicate_bits"
    return {name: getattr(proof, name) for name in names} if proof else {}


def open_checkpoints(manifest: Manifest, attempt: Attempt, lake: Lake) -> Checkpoints:
    """Those of the training that a manifest asks for."""
    folder_uri = layout.checkpoints_uri(
        lake.uri, manifest.run_key, manifest.stage, manifest.shard, manifest.hash
    )
    return Checkpoints(
        lake.store,
        folder_uri,
        attempt.scratch,
        every_s=lake.settings.train.checkpoint_every_s,
        tell=lambda line: echo(f"{manifest.stage}: {line}"),
    )


@dataclass(frozen=True)
class Learnt:
    """What comes of a training.

    Attributes:
        model: With the weights of the epoch that is kept.
        thresholds: The score from which on each label is accepted.
        best: What they do on the validation videos, by the names that MLflow has; nothing where no
            video validates, and no headline metric where nothing is true of those that do.
    """

    model: keras.Model
    thresholds: dict[str, float]
    best: dict[str, float]


def learn(
    config: dict[str, Any],
    dataset: Dataset,
    attempt: Attempt,
    lake: Lake,
    replicas: Replicas,
    checkpoints: Checkpoints,
    mlflow_run: tracking.Run | None = None,
    watch: Callable[[Epoch], bool | None] = lambda epoch: None,
) -> Learnt:
    """Trains; the first worker, which has the MLflow run, tells how far it is.

    `watch` is called after each epoch, and ends the training by saying True.
    """
    network, sampling, settings = (
        chosen(kind, config) for kind in (Network, Sampling, FitSettings)
    )
    labels, videos = dataset.labels, dataset.of(TRAIN, VALIDATION)
    prepare(settings)
    model = build_model(network, sampling, len(labels), several=dataset.several)
    key = _load_weights(model, config, attempt, lake, mlflow_run)

    def tell(what: str) -> Callable[[int, int], None]:
        def progress(done: int, of: int) -> None:
            if mlflow_run:
                attempt.progress(0, settings.epochs, f"{what}, {done} of {of}")

        return progress

    if network.frozen:
        learner = model.get_layer("head")
        clips = read_features(
            FeatureCache(lake, key),
            dataset,
            lake,
            videos,
            model.get_layer("encoder"),
            sampling.seen,
            attempt.scratch,
            progress=tell("features of videos"),
            worker=replicas.workers.index,
            workers=replicas.workers.count,
        )
    else:
        learner = model
        # Labels that have times would not be those of a part of their window.
        finer = 1 if dataset.timed else PRESETS[settings.augmentation].moments
        told = tell("reading frames")
        clips = _read_clips(dataset, lake, videos, sampling.seen, finer, attempt.scratch, told)
    if sampling.sound:
        clips = dataset.hear(lake, videos, clips, attempt.scratch)
        silent = int(is_missing(clips.sound).sum())
        echo(f"train: of {len(clips.sound)} clips {silent} have no sound")
    video_of = {video.video_id: video for video in videos}
    of_clip = [video_of[video_id] for video_id in clips.video_ids]
    truth = [dataset.truth(*pair) for pair in zip(of_clip, clips.windows, strict=True)]
    train, validation = (
        np.flatnonzero([video.split == split for video in of_clip]) for split in (TRAIN, VALIDATION)
    )
    if network.frozen:
        standardise(learner, clips.array, train)

    def on_epoch(epoch: Epoch) -> bool | None:
        if mlflow_run:
            told = {**epoch.metrics, "training_seconds": epoch.trained_s}
            mlflow_run.log_metrics(told, epoch.number, once=True)
            shown = ", ".join(f"{name} {value:.3f}" for name, value in epoch.metrics.items())
            attempt.progress(epoch.number, settings.epochs, f"{shown}, {epoch.left_s:.0f} s left")
        return watch(epoch)

    with stops_deferred() as stopping, replicas.watching():
        history = fit(
            learner,
            clips.array,
            np.array([[label in of for label in labels] for of in truth], np.float32),
            train=train,
            validation=validation,
            settings=settings,
            on_epoch=on_epoch,
            sound=clips.sound,
            several=dataset.several,
            names=clips.video_ids,
            checkpoints=checkpoints,
            stopping=stopping,
            replicas=replicas,
        )
    # What no validation video speaks of, none is accepted of.
    predictor = Predictor(learner) if len(validation) else None
    scores = []
    for row in validation:
        seen = plain_clips(clips.array, np.array([row]), sampling.frames, clips.sound)
        scores.append(predictor.predict(seen if clips.sound is not None else (seen,)))
    thresholds, best = dict.fromkeys(labels, NEVER), {}
    if scores:
        result = judge(
            dataset,
            [of_clip[row] for row in validation],
            [clips.windows[row] for row in validation],
            np.concatenate(scores),
            labels,
        )
        thresholds = result.evaluation.accepting_thresholds(config["accept_precision"])
        kept = history[kept_epoch(history, settings)]
        best = {"best_validation_loss": kept["validation_loss"]}
        if not math.isnan(value := result.evaluation.value):
            best[f"best_validation_{result.evaluation.headline}"] = value
    whole = _in_full_precision(model, network, sampling, len(labels), several=dataset.several)
    return Learnt(whole, thresholds, best)


def _read_clips(
    dataset: Dataset,
    lake: Lake,
    videos: list[LabelledVideo],
    sampling: Sampling,
    finer: int,
    folder: Path,
    progress: Callable[[int, int], None],
) -> Clips:
    """Decoded onto the local disk, or, where they take too much of it, whenever they are needed.

    All workers and all attempts must come to the same: what comes first follows from it.
    """
    streamed = dataset.stream_clips(lake, videos, sampling, finer)
    limit_gb = lake.settings.train.cache_gb
    if streamed.nbytes > limit_gb * 1e9:
        echo(
            f"train: decoded, the clips take {streamed.nbytes / 1e9:.1f} GB, more than [train]"
            f" cache_gb = {limit_gb:g}: they are decoded anew in each epoch"
        )
        return Clips(streamed, streamed.video_ids, streamed.windows)
    if streamed.nbytes > (free := shutil.disk_usage(folder).free):
        raise UsageError(
            f"Decoded, the clips take {streamed.nbytes / 1e9:.1f} GB, of which {folder} has"
            f" {free / 1e9:.1f}: make room, or set [train] cache_gb lower."
        )
    return dataset.read_clips(lake, videos, sampling, folder / "clips.npy", progress, finer)


def _load_weights(
    model: keras.Model,
    config: dict[str, Any],
    attempt: Attempt,
    lake: Lake,
    mlflow_run: tracking.Run | None,
) -> str:
    """Gives the backbone its weights; returns what tells its features from those of others."""
    if not config["weights"]:
        return ""
    folder = attempt.scratch / "weights"
    folder.mkdir()
    file = fetch_weights(config["weights"], lambda: lake.store, folder)
    if mlflow_run:
        mlflow_run.set_tags({"vidpipe.weights_digest": file.digest})
    encoder = model.get_layer("encoder")
    backbone = encoder.get_layer("backbone")
    load_weights(backbone, file)
    keep_statistics(backbone)
    # What is heard is none of its business: the key is that of before anything was.
    seen = tuple(
        value
        for name, value in dataclasses.asdict(chosen(Sampling, config)).items()
        if name != "sound"
    )
    shape = encoder.output_shape[1:]
    return layout.make_work_key(config["backbone"], file.digest, seen, shape, config["precision"])


def _in_full_precision(
    model: keras.Model, network: Network, sampling: Sampling, classes: int, *, several: bool
) -> keras.Model:
    """The same network computing in float32, as it is evaluated and labels, on any machine."""
    keras.config.set_dtype_policy("float32")
    if model.dtype_policy.compute_dtype == "float32":
        return model
    whole = build_model(network, sampling, classes, several=several)
    whole.set_weights(model.get_weights())
    return whole
