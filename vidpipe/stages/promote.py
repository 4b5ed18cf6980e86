"""promote: a model that is better than the champion becomes the champion, else the challenger."""

from __future__ import annotations

from typing import Any

from vidpipe import tracking
from vidpipe.evaluation.gates import HEADLINES, SLICE_VIDEOS
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, now, read_result


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Decides on an evaluated model.

    Config: evaluate (URI of the evaluation's manifest), margin, confidence, slice_limit.

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
        promoted, why = _decide(evaluated, champion, manifest.config)
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


def _decide(
    evaluated: dict[str, Any], champion: tracking.Version | None, config: dict[str, Any]
) -> tuple[bool, str]:
    """Whether it is promoted, and why, in words."""
    headline = evaluated["headline"]
    reached, name = evaluated["metrics"][headline], HEADLINES[headline]
    videos = evaluated["test_videos"]
    if champion is None:
        return True, (
            f"There was no champion to beat. Its {name} is {reached:.3f} on {videos} test videos."
        )
    if champion.version != evaluated["champion_version"]:
        return False, (
            f"Version {champion.version} became the champion after this one was evaluated against"
            f" version {evaluated['champion_version'] or 'none'}."
        )
    comparison, margin = evaluated["comparison"], config["margin"]
    low, high = comparison["interval"]
    sure, worse = comparison["sureness"], _worse(comparison["slices"], config["slice_limit"])
    better = comparison["difference"] > margin and sure >= config["confidence"]
    why = (
        f"Its {name} is {reached:.3f}, that of version {champion.version} is"
        f" {evaluated['champion_metrics'][headline]:.3f}, on the same {videos} test videos:"
        f" {comparison['difference']:+.3f} ({low:.3f} to {high:.3f}),"
        f" {'' if better else 'not '}better by more than {margin:g} (sure to {sure:.0%},"
        f" {config['confidence']:.0%} are asked for)."
    )
    if worse:
        why += f" It is worse by more than {config['slice_limit']:g} on {'; '.join(worse)}."
    if learnt := evaluated["champion_learnt"]:
        why += f" The champion had learnt from {learnt} of them, which is no fair comparison."
    return better and not worse, why


def _worse(slices: list[dict[str, Any]], limit: float) -> list[str]:
    """Slices that are large enough to tell, and on which it is worse than may be."""
    return [
        f"{of['name']} {of['value']} ({of['challenger']:.3f}, was {of['champion']:.3f},"
        f" {of['videos']} videos)"
        for of in slices
        if of["videos"] >= SLICE_VIDEOS and of["champion"] - of["challenger"] > limit
    ]
