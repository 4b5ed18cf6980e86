"""best: what a tuning found, in MLflow and as a configuration of `train`."""

from __future__ import annotations

import collections
import contextlib
import json
import shlex
from typing import Any

from vidpipe import tracking
from vidpipe.datasets.kinds import SINGLE
from vidpipe.datasets.missing_data import KEEP, PSEUDO_LABEL_SCORE
from vidpipe.datasets.splits import NEAR_DUPLICATE_BITS
from vidpipe.errors import BadInputError, UsageError
from vidpipe.evaluation.tuning_figures import draw_history, draw_importances
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.snapshot import complete_all
from vidpipe.training.space import ARCHITECTURE
from vidpipe.training.study import COMPLETE, DIVERGED, HALVED, Study, Trial

# What need not be said on a command line, of the dataset.
_DEFAULTS = {
    "kind": SINGLE,
    "seed": 0,
    "incomplete": KEEP,
    "pseudo_label_score": PSEUDO_LABEL_SCORE,
    "near_duplicate_bits": NEAR_DUPLICATE_BITS,
}


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Finds the best trial.

    Config: study (URI of the folder of trials).

    Result: train (the parameters of the DAG `train` that train with the best configuration),
    trial (its number), command (the same for a shell), body (what people are shown, Markdown),
    mlflow_url.

    Raises:
        BadInputError: Not one trial learnt to its end.
    """
    (item,) = manifest.items
    study = Study(lake.store, manifest.config["study"])
    tuning, trials = study.tuning, study.trials()
    headline = tuning.about["headline"]
    whole = [trial for trial in trials if trial.state == COMPLETE]
    if not whole:
        raise BadInputError("Not one trial learnt to its end: the logs of the trials tell why.")
    judged = [trial for trial in trials if trial.value is not None]
    best = max(whole, key=lambda trial: trial.score)
    conf = _conf(tuning.about, best)
    command = shlex.join(
        ["vidpipe", "run", "train", *(w for p in _shown(conf, lake) for w in ("--param", p))]
    )
    counts = collections.Counter(trial.state for trial in trials)
    task = tuning.about["of_dataset"]["task"]
    title = f"{task}: {len(trials)} trials"
    with tracking.training_run(task, title, study.folder_uri, {}) as mlflow_run:
        mlflow_run.log_params({f"best_{name}": value for name, value in best.params.items()})
        mlflow_run.set_tags({"vidpipe.best_trial": best.number})
        mlflow_run.log_metrics(
            {
                f"best_validation_{headline}": best.value,
                "best_validation_loss": best.loss,
                **{f"trials_{state}": counts[state] for state in (COMPLETE, HALVED, DIVERGED)},
            }
        )
        mlflow_run.log_json(_table(trials, headline), "trials.json")
        mlflow_run.log_json(conf, "best.json")
        mlflow_run.log_figure(
            draw_importances(study.importances(), len(judged), title), "importance.png"
        )
        mlflow_run.log_figure(
            draw_history(
                [trial.number for trial in judged],
                [trial.value for trial in judged],
                [trial.state == COMPLETE for trial in judged],
                headline,
                title,
            ),
            "history.png",
        )
    told = ", ".join(f"{name} {value}" for name, value in best.params.items())
    not_begun = tuning.trials - len(trials)
    found = (
        f"The best of {len(trials)} trials ({counts[COMPLETE]} learnt to the end,"
        f" {counts[HALVED]} were halved, {counts[DIVERGED]} diverged"
        + f", {not_begun} were not begun" * bool(not_begun)
        + f") is number {best.number}: validation {headline} {best.value:.3f}, {told}."
    )
    mlflow_run.describe("Result", f"{found} Train with it: `{command}`")
    attempt.conclude(f"{found} {mlflow_run.url}\nTrain with it: {command}")
    attempt.outcome(item["item"], item["work_key"])
    attempt.result |= {
        "train": conf,
        "trial": best.number,
        "command": command,
        "body": f"{found}\n\n[Its trials in MLflow]({mlflow_run.url})\n\nFrom a shell: `{command}`",
        "mlflow_url": mlflow_run.url,
    }


def _conf(about: dict[str, Any], best: Trial) -> dict[str, Any]:
    """Parameters of the DAG `train`."""
    params = dict(best.params)
    architecture = params.pop(ARCHITECTURE, about["architectures"][0])
    return {
        "task": about["of_dataset"]["task"],  # first, for people
        "architectures": [architecture],
        **about["of_dataset"],
        **about["given"],
        **params,
    }


def _shown(conf: dict[str, Any], lake: Lake) -> list[str]:
    """The same as `NAME=VALUE`, but for what is so anyway."""
    said = {
        name: value
        for name, value in conf.items()
        if name not in _DEFAULTS or value != _DEFAULTS[name]
    }
    trainings = complete_all(conf, lake)
    (training,) = trainings.values()
    for name in (name for name in conf if name in training):
        without = {of: value for of, value in said.items() if of != name}
        with contextlib.suppress(UsageError):  # what then would contradict each other
            if complete_all(without, lake) == trainings:
                said = without
    return [
        f"{name}={','.join(value) if isinstance(value, list) else _text(value)}"
        for name, value in said.items()
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _table(trials: list[Trial], headline: str) -> list[dict[str, Any]]:
    """The trials, the best first."""
    ranked = sorted(trials, key=lambda trial: trial.score, reverse=True)
    return [
        {
            "trial": trial.number,
            "state": trial.state,
            f"validation_{headline}": trial.value,
            "validation_loss": trial.loss if trial.epochs else None,
            "epochs": len(trial.epochs),
            "training_seconds": round(trial.seconds, 1),
            **trial.params,
        }
        for trial in ranked
    ]
