"""Which of several evaluated models meets the champion, and whether it is to be promoted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vidpipe import tracking
from vidpipe.errors import BadInputError
from vidpipe.evaluation.figures import draw_ranking
from vidpipe.evaluation.gates import HEADLINES, SLICE_VIDEOS
from vidpipe.evaluation.ranking import Ranked, rank, show_ranking
from vidpipe.evaluation.slices import ALL
from vidpipe.lake.tables import Lake
from vidpipe.stages.manifest import Manifest, find_given_up, find_report


@dataclass(frozen=True)
class Decision:
    """What becomes of the models of a training.

    Attributes:
        architecture: The architecture of the best.
        version: It.
        evaluated: The result of its evaluation.
        promoted: Whether it becomes the champion where nobody is asked.
        approvable: Whether people who are asked may make it the champion.
        why: In words.
        ranking: All that were evaluated, the best first; empty where there is but one.
        failed: By architecture, why those that were not failed.
    """

    architecture: str
    version: tracking.Version
    evaluated: dict[str, Any]
    promoted: bool
    approvable: bool
    why: str
    ranking: list[Ranked]
    failed: dict[str, str]

    def told(self) -> str:
        """The ranking and what failed, in text, each line after a break; empty of but one."""
        table = f"\n{show_ranking(self.ranking)}" if self.ranking else ""
        return table + "".join(f"\n{name} failed: {why}" for name, why in self.failed.items())


def decide(manifest: Manifest, lake: Lake) -> Decision:
    """Decides on evaluated models.

    Args:
        manifest: Of one item, `TASK/…`. Config: evaluated (URIs of the manifests of the
            evaluations, one for each architecture), margin, confidence, slice_limit.
        lake: Where their reports are.

    Raises:
        BadInputError: Not one of the evaluations ended.
    """
    (item,) = manifest.items
    task = item["item"].partition("/")[0]
    evaluations, lost = _evaluations(lake, manifest.config["evaluated"])
    architecture, ranking, chosen = next(iter(evaluations)), [], ""
    if len(evaluations) + len(lost) > 1:
        ranking, chosen = _rank(task, evaluations, lost)
        architecture = ranking[0].architecture
    evaluated = evaluations[architecture]
    version = tracking.Version(
        evaluated["model"], evaluated["model_version"], evaluated["mlflow_run_id"]
    )
    champion = tracking.champion(task)
    # An earlier attempt may have moved the alias and then been cut off.
    if champion == version:
        promoted, why = True, "It was made the champion by an earlier attempt of this run."
    elif champion is None:
        promoted, why = _judge_first(evaluated)
    else:
        promoted, why = _compare(evaluated, champion, manifest.config)
    # What is not surely better than guessing may be good enough for people who know the task.
    approvable = promoted or champion is None
    return Decision(
        architecture, version, evaluated, promoted, approvable, f"{chosen}{why}", ranking, lost
    )


def _evaluations(lake: Lake, uris: list[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """By architecture, what was measured; and of those that did not get so far why not."""
    evaluations, lost = {}, {}
    for uri in uris:
        manifest = Manifest.read(lake.store, uri)
        architecture = manifest.items[0]["item"].partition("/")[2]
        report = find_report(lake.store, lake.uri, manifest)
        if report is not None:
            evaluations[architecture] = report.result
            continue
        train = Manifest.read(lake.store, manifest.config["train"])
        given_up = (find_given_up(lake.store, lake.uri, of) for of in (train, manifest))
        told = next(filter(None, given_up), None)
        lost[architecture] = told["message"] if told else "its task left no word"
    if not evaluations:
        why = "; ".join(f"{architecture}: {told}" for architecture, told in lost.items())
        raise BadInputError(f"Not one model was evaluated: {why}")
    return evaluations, lost


def _rank(
    task: str, evaluations: dict[str, dict[str, Any]], lost: dict[str, str]
) -> tuple[list[Ranked], str]:
    """The best first, and why it is the best; ranking and picture are kept in its run."""
    runs = {
        architecture: tracking.open_run(of["mlflow_run_id"])
        for architecture, of in evaluations.items()
    }
    ranking = rank(
        [
            Ranked.of(architecture, of, runs[architecture].metrics())
            for architecture, of in evaluations.items()
        ]
    )
    first = ranking[0]
    best = runs[first.architecture]
    document = {"ranking": [dataclasses.asdict(of) for of in ranking], "failed": lost}
    best.log_json(document, "ranking.json")
    best.log_figure(draw_ranking(ranking, f"{task} by {len(ranking)} architectures"), "ranking.png")
    if first.is_validated:
        why = f"{first.architecture} is the best of {len(ranking)} on the validation videos. "
    else:
        why = (
            f"There are no validation videos to choose by: of {len(ranking)} evaluated models the"
            f" first listed, {first.architecture}, stands. "
        )
    return ranking, why


def _judge_first(evaluated: dict[str, Any]) -> tuple[bool, str]:
    """Whether the first model of a task is promoted, and why, in words."""
    headline = evaluated["headline"]
    reached, (low, high) = evaluated["metrics"][headline], evaluated["intervals"][headline]
    guessing = evaluated["by_chance"]
    why = (
        f"There was no champion to beat. Its {HEADLINES[headline]} is {reached:.3f} ({low:.3f} to"
        f" {high:.3f}) on {evaluated['test_videos']} test videos."
    )
    if not _may_guess(evaluated["intervals"][headline], guessing):
        return True, why
    return False, (
        f"{why} It may be guessing, which reaches {guessing:.3f}: it becomes the champion only if"
        " people approve. Label more videos, or train for longer."
    )


def _compare(
    evaluated: dict[str, Any], champion: tracking.Version, config: dict[str, Any]
) -> tuple[bool, str]:
    """Whether it is promoted in place of the champion, and why, in words."""
    headline = evaluated["headline"]
    reached, name = evaluated["metrics"][headline], HEADLINES[headline]
    if champion.version != evaluated["champion_version"]:
        return False, (
            f"Version {champion.version} became the champion after this one was evaluated against"
            f" version {evaluated['champion_version'] or 'none'}."
        )
    comparison, margin = evaluated["comparison"], config["margin"]
    low, high = comparison["interval"]
    is_better = comparison["difference"] > margin
    why = (
        f"Its {name} is {reached:.3f}, that of version {champion.version} is"
        f" {evaluated['champion_metrics'][headline]:.3f}, on the same {evaluated['test_videos']}"
        f" test videos: {comparison['difference']:+.3f} ({low:.3f} to {high:.3f})."
    )
    of_champion = evaluated["champion_intervals"][headline]
    if is_better and _may_guess(of_champion, evaluated["by_chance"]):
        return True, (
            f"{why} Version {champion.version} may be guessing, which reaches"
            f" {evaluated['by_chance']:.3f} ({of_champion[0]:.3f} to {of_champion[1]:.3f}): any"
            " better model replaces it."
        )
    sure, worse = comparison["sureness"], _worse(comparison["slices"], config["slice_limit"])
    is_better &= sure >= config["confidence"]
    why += (
        f" It has to be better by more than {margin:g} with a certainty of at least"
        f" {config['confidence']:.0%}, and {'is' if is_better else 'is not'}: the certainty is"
        f" {sure:.0%}."
    )
    if worse:
        why += f" It is worse by more than {config['slice_limit']:g} on {'; '.join(worse)}."
    if learnt := evaluated["champion_learnt"]:
        why += f" The champion had learnt from {learnt} of them, which is no fair comparison."
    return is_better and not worse, why


def _may_guess(interval: Sequence[float], guessing: float) -> bool:
    """Whether a metric is no more than guessing may reach."""
    return interval[0] <= guessing


def _worse(slices: list[dict[str, Any]], limit: float) -> list[str]:
    """Slices that are large enough to tell, and on which it is worse than may be."""
    return [
        ("all videos" if of["name"] == ALL else f"{of['name']} {of['value']}")
        + f" ({of['challenger']:.3f}, was {of['champion']:.3f}, {of['videos']} videos)"
        for of in slices
        if of["videos"] >= SLICE_VIDEOS and of["champion"] - of["challenger"] > limit
    ]
