"""promote: a model that is better than the champion becomes the champion, else the challenger."""

from __future__ import annotations

from vidpipe import tracking
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, now, read_result


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Decides on an evaluated model.

    Config: evaluate (URI of the evaluation's manifest), margin.

    Result: promoted, why (in words), model, model_version, mlflow_url.
    """
    (item,) = manifest.items
    task = item["item"].partition("/")[0]
    evaluated = read_result(lake.store, lake.uri, manifest.config["evaluate"])
    version = tracking.Version(
        evaluated["model"], evaluated["model_version"], evaluated["mlflow_run_id"]
    )
    champion = tracking.champion(task)
    # An earlier attempt may have moved the alias and then been cut off.
    if champion == version:
        promoted, why = True, "It was made the champion by an earlier attempt of this run."
    else:
        promoted, why = _decide(evaluated, champion, manifest.config["margin"])
    alias = tracking.CHAMPION if promoted else tracking.CHALLENGER
    tracking.set_alias(version, alias)
    attempt.conclude(f"{version.name} version {version.version} is the {alias}. {why}")
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
        "mlflow_url": evaluated["mlflow_url"],
    }


def _decide(evaluated: dict, champion: tracking.Version | None, margin: float) -> tuple[bool, str]:
    accuracy = evaluated["metrics"]["accuracy"]
    videos = evaluated["test_videos"]
    if champion is None:
        return True, (
            f"There was no champion to beat. Accuracy {accuracy:.3f} on {videos} test videos."
        )
    if champion.version != evaluated["champion_version"]:
        return False, (
            f"Version {champion.version} became the champion after this one was evaluated against"
            f" version {evaluated['champion_version'] or 'none'}."
        )
    before = evaluated["champion_metrics"]["accuracy"]
    better = accuracy - before > margin
    learnt = evaluated["champion_learnt"]
    why = (
        f"Its accuracy is {accuracy:.3f}, that of version {champion.version} is {before:.3f}, on"
        f" the same {videos} test videos: {'' if better else 'not '}better by more than {margin:g}."
    )
    if learnt:
        why += f" The champion had learnt from {learnt} of them, which is no fair comparison."
    return better, why
