"""trial: one training of a tuning, which ends early where others do better.

Killed, it goes on with the parameters that it had, after the last step that it kept.
"""

from __future__ import annotations

from typing import Any

from vidpipe import tracking
from vidpipe.console import echo
from vidpipe.datasets.labelled import Dataset
from vidpipe.errors import DivergedError
from vidpipe.lake.tables import Lake
from vidpipe.mlflow_pages import run_line
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, now
from vidpipe.stages.train import describe_training, learn, open_checkpoints, told_params
from vidpipe.training.distribution import Workers, open_replicas
from vidpipe.training.fit import Epoch
from vidpipe.training.settings import complete
from vidpipe.training.space import ARCHITECTURE
from vidpipe.training.study import COMPLETE, DIVERGED, HALVED, RUNNING, Study, Trial


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Trains as the tuning chooses, and registers nothing.

    Config: study (URI of the folder of trials), number (of this one).

    Result: name (for people) and mlflow_url; only a name where the time of the tuning was over
    before it began.
    """
    config, (item,) = manifest.config, manifest.items
    study, number = Study(lake.store, config["study"]), config["number"]
    until = study.tuning.until
    if until and now() > until and study.find(number) is None:
        why = f"The tuning was to begin no trial after {until:%F %T} UTC."
        with attempt.item(item) as rows:
            rows.identify(item["work_key"])
            rows.skip("out_of_budget", why)
        attempt.conclude(f"trial {number} is not begun. {why}")
        attempt.result["name"] = f"{number}: not begun, the time was over"
        return
    trial = study.begin(number)
    about = study.tuning.about
    training = {
        "dataset_version": about["dataset_version"],
        "accept_precision": about["accept_precision"],
        **complete(
            {
                ARCHITECTURE: about["architectures"][0],
                "sliding": about["sliding"],
                **about["given"],
                **trial.params,
            }
        ),
    }
    dataset = Dataset.from_json(lake.store.get_json(about["dataset"]))
    chosen = ", ".join(f"{name} {value}" for name, value in trial.params.items())
    echo(f"trial {number}: {chosen}")
    tags = {
        tracking.PARENT: about["mlflow_run_id"],
        "vidpipe.run_key": manifest.run_key,
        "vidpipe.work_key": item["work_key"],
        "vidpipe.code_version": manifest.code_version,
    }
    name = f"trial {number}: {training[ARCHITECTURE]}"
    with tracking.training_run(dataset.task, name, manifest.hash, tags) as mlflow_run:
        echo(run_line("trial", mlflow_run.url))
        describe_training(mlflow_run, training[ARCHITECTURE], dataset, about["dataset"], lake)
        # An earlier attempt may have ended between its end and its report.
        if trial.value is None and trial.state != DIVERGED:
            _learn(manifest, attempt, lake, study, trial, training, dataset, mlflow_run)
        mlflow_run.set_tags({"vidpipe.trial": trial.state})
        if trial.value is not None:
            best = {about["headline"]: trial.value, "loss": trial.loss}
            mlflow_run.log_metrics({f"best_validation_{n}": v for n, v in best.items()})
    shown = f"{number}: {training[ARCHITECTURE]}"
    if trial.value is not None:
        shown += f", validation {about['headline']} {trial.value:.3f}"
    if trial.state != COMPLETE:
        shown += f", {trial.state} after {len(trial.epochs)} epochs"
    mlflow_run.describe("Result", f"Trial {shown}.")
    attempt.progress(about["epochs"], about["epochs"], shown)
    attempt.conclude(f"{shown}, {mlflow_run.url}")
    attempt.outcome(item["item"], item["work_key"])
    attempt.result |= {"name": shown, "mlflow_url": mlflow_run.url}


def _learn(
    manifest: Manifest,
    attempt: Attempt,
    lake: Lake,
    study: Study,
    trial: Trial,
    training: dict[str, Any],
    dataset: Dataset,
    mlflow_run: tracking.Run,
) -> None:
    """Trains until the end, or until it is not worth it any more; says which in the trial."""

    def watch(epoch: Epoch) -> bool:
        if trial.state == HALVED:  # by an attempt that was killed before it knew how good it is
            return epoch.number >= len(trial.epochs)
        trial.seconds = epoch.trained_s
        study.tell(
            trial,
            epoch.number,
            *(epoch.metrics[f"validation_{name}"] for name in ("accuracy", "loss")),
            last=epoch.number == training["epochs"],
        )
        if trial.state == DIVERGED:
            raise DivergedError(f"The validation loss of epoch {epoch.number} is NaN or infinite.")
        return trial.state != RUNNING

    mlflow_run.log_params(told_params(training, dataset))
    checkpoints = open_checkpoints(manifest, attempt, lake)
    replicas = open_replicas(Workers.from_environment())
    try:
        learnt = learn(training, dataset, attempt, lake, replicas, checkpoints, mlflow_run, watch)
        trial.value = learnt.best[f"best_validation_{study.tuning.about['headline']}"]
        trial.kept_loss = learnt.best["best_validation_loss"]
        if trial.state == RUNNING:
            trial.state = COMPLETE
    except DivergedError as error:
        echo(f"trial {trial.number}: {error}")
        trial.state = DIVERGED
    study.keep(trial)
    checkpoints.clear()
