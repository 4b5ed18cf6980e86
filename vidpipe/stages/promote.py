"""promote: a model that is better than the champion becomes the champion, else the challenger.

Of several architectures the best on the validation videos stands for all; the others stay as they
are. Without a shard it promotes the version that a person names.
"""

from __future__ import annotations

import math
from typing import Any

from vidpipe import tracking
from vidpipe.errors import BadInputError, NotFoundError, NothingToDoError, UsageError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.deciding import Decision, decide
from vidpipe.stages.manifest import PLAN, Manifest
from vidpipe.stages.promotions import write_promotion


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Decides on an evaluated model (a shard), or promotes a version that a person names."""
    if manifest.shard == PLAN:
        _promote_by_hand(manifest, attempt)
    else:
        _decide(manifest, attempt, lake)


def _promote_by_hand(manifest: Manifest, attempt: Attempt) -> None:
    """Makes a version the champion, whatever its evaluation says.

    Config: task, version, why.

    Result: model, model_version, replaced_version.

    Raises:
        UsageError: The task has no such version.
        BadInputError: Its files lie where neither MLflow nor the lake keeps any.
        NothingToDoError: It is the champion already.
    """
    task, number = manifest.config["task"], manifest.config["version"]
    version = tracking.find_version(task, number) if number.isdecimal() else None
    if version is None:
        known = ", ".join(model["version"] for model in tracking.list_models(task))
        raise UsageError(
            f"Task {task!r} has no such model version. Received: {number!r}."
            + (f" There are: {known}." if known else " None is registered: train one first.")
        )
    champion = tracking.champion(task)
    if champion == version:
        raise NothingToDoError(f"Version {number} is the champion of task {task!r} already.")
    tracking.find_files(version.uri)  # else it could not label
    why = manifest.config.get("why") or "Promoted by hand."
    tracking.set_alias(version, tracking.CHAMPION)
    tracking.describe_decision(version, "promoted by hand", manifest.config.get("why") or "")
    replaced = champion and champion.version
    work_key = layout.make_work_key(task, "promote", number, manifest.run_key)
    attempt.outcome(f"{task}/{number}", work_key)
    write_promotion(attempt, task, version, replaced=replaced, why=why, work_key=work_key)
    in_place = f", in place of version {replaced}" if replaced else ""
    attempt.conclude(
        f"{version.name} version {number} is the champion{in_place}. Videos that have a label keep"
        f" it until: vidpipe run relabel --param task={task} --param dry_run=false"
    )
    attempt.result |= {
        "model": version.name,
        "model_version": number,
        "replaced_version": replaced,
    }


def _decide(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Decides on an evaluated model.

    Config: as of `vidpipe.stages.deciding.decide`, and approval: URI of what people answered, if
    they are asked; null: they are not.

    Result: promoted, why (in words), model, model_version, mlflow_url, architecture, metrics,
    classes, test_videos.

    Raises:
        BadInputError: Not one of the evaluations ended, or people were to be asked and were not.
    """
    (item,) = manifest.items
    task = item["item"].partition("/")[0]
    decision = decide(manifest, lake)
    version, evaluated, promoted, why = (
        getattr(decision, name) for name in ("version", "evaluated", "promoted", "why")
    )
    if decision.approvable and manifest.config.get("approval"):
        approval = _approval(lake, manifest.config["approval"])
        promoted, why = approval["approved"], f"{why} {_told(approval)}"
    waiting = None if promoted else _better_challenger(task, evaluated, version)
    if waiting is None:
        tracking.set_alias(version, tracking.CHAMPION if promoted else tracking.CHALLENGER)
    tracking.describe_decision(version, "promoted" if promoted else "not promoted", why)
    _describe_others(task, decision)
    attempt.conclude(_summary(task, decision, promoted, waiting, why))
    if promoted:
        write_promotion(
            attempt,
            task,
            version,
            replaced=evaluated["champion_version"],
            why=why,
            work_key=item["work_key"],
        )
    attempt.outcome(item["item"], item["work_key"])
    attempt.result |= {
        "promoted": promoted,
        "why": why,
        "model": version.name,
        "model_version": version.version,
        "architecture": decision.architecture,
        **{name: evaluated[name] for name in ("mlflow_url", "metrics", "classes", "test_videos")},
    }


def _better_challenger(
    task: str, evaluated: dict[str, Any], version: tracking.Version
) -> tracking.Version | None:
    """The challenger that waits already, where it is better than this model.

    The lower ends of the intervals are compared: the two may have been measured on different
    numbers of test videos, and of few of them one is easily lucky.
    """
    waiting = tracking.challenger(task)
    if waiting is None or waiting == version:
        return None
    headline = evaluated["headline"]
    metrics = tracking.open_run(waiting.run_id).metrics()
    low = metrics.get(f"test_{headline}_low", -math.inf)
    return waiting if low > evaluated["intervals"][headline][0] else None


def _describe_others(task: str, decision: Decision) -> None:
    """Says of the models that were not chosen why none of them met the champion."""
    for other in decision.ranking[1:]:
        if version := tracking.version_of_run(task, other.mlflow_run_id):
            why = f"{decision.architecture}, of the same training, was better in validation."
            tracking.describe_decision(version, "not compared", why)


def _summary(
    task: str,
    decision: Decision,
    promoted: bool,
    waiting: tracking.Version | None,
    why: str,
) -> str:
    """What became of the model, why, and what a person may do about it."""
    version = decision.version
    name = f"{version.name} version {version.version}"
    name += ", which hears," * bool(decision.evaluated.get("sound"))
    if promoted:
        return f"{name} is the {tracking.CHAMPION}. {why}{decision.told()}"
    place = f"the {tracking.CHALLENGER}"
    if waiting:
        place = f"kept; version {waiting.version} is better and stays {place}"
    return (
        f"{name} is {place}. {why}{decision.told()}"
        f"\nTo promote it all the same: vidpipe promote {task} {version.version}"
    )


def _approval(lake: Lake, uri: str) -> dict[str, Any]:
    try:
        return lake.store.get_json(uri)
    except NotFoundError as error:
        raise BadInputError(
            "People are to approve, and nobody was asked: clear the task preview, with those after"
            " it."
        ) from error


def _told(approval: dict[str, Any]) -> str:
    if approval["by"] is None:
        return "Nobody approved in the time that there was."
    return f"{approval['by']} {'approved' if approval['approved'] else 'did not approve'}."
