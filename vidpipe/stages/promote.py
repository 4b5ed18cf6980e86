"""promote: a model that is better than the champion becomes the champion, else the challenger.

Of several architectures the best on the validation videos stands for all; the others stay as they
are.
"""

from __future__ import annotations

from typing import Any

from vidpipe import tracking
from vidpipe.errors import BadInputError, NotFoundError
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.deciding import decide
from vidpipe.stages.manifest import Manifest, now


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
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
    if promoted and manifest.config.get("approval"):
        approval = _approval(lake, manifest.config["approval"])
        promoted, why = approval["approved"], f"{why} {_told(approval)}"
    alias = tracking.CHAMPION if promoted else tracking.CHALLENGER
    tracking.set_alias(version, alias)
    hears = ", which hears," * bool(evaluated.get("sound"))
    attempt.conclude(
        f"{version.name} version {version.version}{hears} is the {alias}. {why}{decision.told()}"
    )
    if promoted:
        attempt.write(
            "promotions",
            [
                {
                    "task": task,
                    "model": version.name,
                    "model_version": version.version,
                    "promoted_at": now(),
                    "promoted_by": manifest.run_key,
                    "replaced_version": evaluated["champion_version"],
                    "why": why,
                    "work_key": item["work_key"],
                    "run_key": manifest.run_key,
                }
            ],
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
