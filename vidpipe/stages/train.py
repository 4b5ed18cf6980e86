"""train: fits a network on a pinned dataset, watched in MLflow, and registers what came of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from vidpipe import tracking
from vidpipe.datasets.labelled import Dataset
from vidpipe.datasets.splits import TRAIN, VALIDATION
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import find_architecture
from vidpipe.models.bundle import Bundle
from vidpipe.models.classification import build_model
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.runner import stops_deferred
from vidpipe.training.checkpoints import Checkpoints
from vidpipe.training.fit import Epoch, FitSettings, fit, make_repeatable


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Trains one model.

    Config: task, architecture, dataset (URI), dataset_version, seed, augmentation, epochs,
    batch_size, learning_rate.

    Result: mlflow_run_id, mlflow_url, model, model_version, model_uri.

    Raises:
        TemporaryError: MLflow is away; the retry goes on in the same MLflow run.
        StoppedError: A stop signal arrived; the retry goes on after the last step that was done.
    """
    config, (item,) = manifest.config, manifest.items
    dataset = Dataset.from_json(lake.store.get_json(config["dataset"]))
    tags = {"vidpipe.run_key": manifest.run_key, "vidpipe.code_version": manifest.code_version}
    name = f"{config['architecture']} {manifest.planned_time:%F %T}"
    with tracking.training_run(dataset.task, name, item["work_key"], tags) as mlflow_run:
        print(f"train: MLflow run {mlflow_run.url}", flush=True)
        version = tracking.version_of_run(dataset.task, mlflow_run.id)
        # An earlier attempt may have ended between registering its model and its report.
        if version is None:
            mlflow_run.log_params(_params(manifest, dataset))
            checkpoints = _checkpoints(manifest, attempt, lake)
            _train(config, dataset, mlflow_run, attempt, lake, checkpoints).log(mlflow_run.id)
            version = tracking.version_of_run(dataset.task, mlflow_run.id)
            checkpoints.clear()
    attempt.conclude(f"{version.name} version {version.version}, {mlflow_run.url}")
    attempt.outcome(item["item"], item["work_key"])
    attempt.result |= {
        "mlflow_run_id": mlflow_run.id,
        "mlflow_url": mlflow_run.url,
        "model": version.name,
        "model_version": version.version,
        "model_uri": version.uri,
    }


def _params(manifest: Manifest, dataset: Dataset) -> dict[str, Any]:
    config = manifest.config
    sampling = dataclasses.asdict(find_architecture(config["architecture"]).sampling)
    splits = [video.split for video in dataset.videos]
    return {
        **{name: value for name, value in config.items() if name != "dataset"},
        **sampling,
        **{f"snapshot_{table}": snapshot for table, snapshot in dataset.snapshots.items()},
        **{f"{split}_videos": splits.count(split) for split in sorted(set(splits))},
        "classes": len(dataset.labels),
        "code_version": manifest.code_version,
    }


def _checkpoints(manifest: Manifest, attempt: Attempt, lake: Lake) -> Checkpoints:
    folder_uri = layout.checkpoints_uri(
        lake.uri, manifest.run_key, manifest.stage, manifest.shard, manifest.hash
    )
    return Checkpoints(
        lake.store,
        folder_uri,
        attempt.scratch,
        every_s=lake.settings.train.checkpoint_every_s,
        tell=lambda line: print(f"train: {line}", flush=True),
    )


def _train(
    config: dict[str, Any],
    dataset: Dataset,
    mlflow_run: tracking.Run,
    attempt: Attempt,
    lake: Lake,
    checkpoints: Checkpoints,
) -> Bundle:
    sampling = find_architecture(config["architecture"]).sampling
    videos, clips = dataset.read_clips(
        lake,
        (TRAIN, VALIDATION),
        sampling,
        attempt.scratch / "clips.npy",
        lambda done, of: attempt.progress(0, config["epochs"], f"reading frames, {done} of {of}"),
    )
    labels = dataset.labels
    truth = np.eye(len(labels), dtype=np.float32)[[labels.index(v.label) for v in videos]]
    train, validation = (
        np.flatnonzero([video.split == split for video in videos]) for split in (TRAIN, VALIDATION)
    )

    def on_epoch(epoch: Epoch) -> None:
        mlflow_run.log_metrics(epoch.metrics, epoch.number, once=True)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in epoch.metrics.items())
        attempt.progress(epoch.number, config["epochs"], f"{shown}, {epoch.left_s:.0f} s left")

    settings = FitSettings(**{f.name: config[f.name] for f in dataclasses.fields(FitSettings)})
    make_repeatable(settings.seed)
    model = build_model(config["architecture"], sampling, len(labels))
    with stops_deferred() as stopping:
        fit(
            model,
            clips,
            truth,
            train=train,
            validation=validation,
            settings=settings,
            on_epoch=on_epoch,
            checkpoints=checkpoints,
            stopping=stopping,
        )
    return Bundle.pack(
        model,
        task=dataset.task,
        architecture=config["architecture"],
        labels=labels,
        sampling=sampling,
    )
