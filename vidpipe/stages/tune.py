"""tune: pins what a tuning learns from, and plans its trials and what comes after them."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

from vidpipe import tracking
from vidpipe.datasets.splits import VALIDATION
from vidpipe.errors import BadInputError, UsageError
from vidpipe.evaluation.gates import Gate
from vidpipe.evaluation.judging import headline, is_measurable
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import Network, Sampling
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.snapshot import Plan, complete_all, pin_dataset, require_all_weights
from vidpipe.training.settings import FitSettings
from vidpipe.training.space import first_trials, make_space
from vidpipe.training.study import Study, Tuning

MAX_TRIALS = 500  # Airflow maps a task over 1,024 at most
_OWN = {"search", "trials", "max_hours", "min_epochs", "reduction", "architectures"}
_TRAINING = {
    "weights",
    *(f.name for kind in (Network, Sampling, FitSettings) for f in dataclasses.fields(kind)),
}


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Writes the rows of `splits`, what is to be searched, and the manifests of the trials.

    Config: as of `vidpipe.stages.snapshot`, without the gate; search (keys of
    `vidpipe.training.space.SEARCHED`), trials (at most), max_hours (after which none is begun;
    null: no limit), min_epochs and reduction (see `vidpipe.training.study.Tuning`).

    Result: `shards` (URIs of all manifests), `mapped` (those of the trials), `last` (that of
    `best`), mlflow_url, and what `pin_dataset` tells.

    Raises:
        BadInputError: There are too few annotations, they cannot be split, or none validates, or
            nothing is true of those that do.
    """
    config = manifest.config
    trainings = complete_all(config, lake)
    require_all_weights(trainings, lake)
    space = make_space(trainings, config.get("search") or [])
    trials, min_epochs, reduction = (
        _whole_number(config, *bounds)
        for bounds in (("trials", 1, MAX_TRIALS), ("min_epochs", 1, 1000), ("reduction", 2, 10))
    )
    hours = config.get("max_hours")
    dataset, dataset_uri = pin_dataset(manifest, attempt, lake)
    validation = dataset.of(VALIDATION)
    if not validation:
        raise BadInputError(
            f"Trials are compared on validation videos, and task {dataset.task!r} has none: label"
            " more videos."
        )
    if not is_measurable(dataset, validation):
        raise BadInputError(
            f"Trials are compared on validation videos, and of the {len(validation)} of task"
            f" {dataset.task!r} nothing is true: label more videos that show something."
        )
    folder_uri = layout.trials_uri(lake.uri, manifest.run_key, attempt.name)
    tags = {
        "vidpipe.run_key": manifest.run_key,
        "vidpipe.code_version": manifest.code_version,
    }
    name = f"tune {manifest.planned_time:%F %T}"
    mlflow_run = tracking.begin_run(dataset.task, name, folder_uri, tags)
    chosen = {n: value for n, value in config.items() if value is not None and n not in _OWN}
    tuning = Tuning(
        space,
        first_trials(trainings, space),
        trials,
        config.get("seed") or 0,
        min_epochs,
        reduction,
        manifest.planned_time + timedelta(hours=hours) if hours else None,
        about={
            "dataset": dataset_uri,
            "dataset_version": dataset.version,
            "architectures": list(trainings),
            "accept_precision": Gate.accept_precision,
            "headline": headline(dataset),
            "epochs": max(training["epochs"] for training in trainings.values()),
            "sliding": next(iter(trainings.values()))["sliding"],
            "given": {n: value for n, value in chosen.items() if n in _TRAINING},
            "of_dataset": {n: value for n, value in chosen.items() if n not in _TRAINING},
            "mlflow_run_id": mlflow_run.id,
        },
    )
    searched = ", ".join(space)
    mlflow_run.describe(
        "Tuning",
        f"Up to {trials} trainings of the task {dataset.task} ({', '.join(trainings)}) search the"
        f" best {searched}. The trials are listed below this run.",
    )
    mlflow_run.describe(
        "Data",
        f"Dataset {dataset.version}: {len(dataset.videos)} videos, {len(dataset.labels)} classes,"
        f" from the lake {lake.uri}. Trials are compared on {len(validation)} validation videos.",
    )
    mlflow_run.log_params(
        {
            "architectures": ", ".join(trainings),
            "dataset_version": dataset.version,
            "searched": searched,
            **{n: getattr(tuning, n) for n in ("trials", "seed", "min_epochs", "reduction")},
        }
    )
    Study(lake.store, folder_uri, tuning).write()
    plan = Plan(manifest, attempt, lake)
    of_trials = [
        plan.add("trial", f"trial {number}", {"study": folder_uri, "number": number})
        for number in range(trials)
    ]
    best_uri = plan.add("best", "best", {"study": folder_uri})
    attempt.announce("trial", trials * tuning.about["epochs"], unit="epochs")
    attempt.conclude(f"{attempt.result['summary']}; searched are {searched}, {mlflow_run.url}")
    attempt.result |= {
        "shards": plan.uris,
        "mapped": of_trials,
        "last": best_uri,
        "mlflow_url": mlflow_run.url,
    }


def _whole_number(config: dict[str, Any], name: str, low: int, high: int) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"{name} is a whole number from {low} to {high}. Received: {value!r}")
    return value
