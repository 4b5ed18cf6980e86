"""Which evaluated model becomes the champion, and which the challenger: evaluations are made up."""

from __future__ import annotations

import re
import secrets
from typing import Any

import pytest

from tests.mlflow_server import register
from tests.runs import audit_and_publish, rows, stage
from vidpipe import tracking
from vidpipe.errors import NothingToDoError
from vidpipe.evaluation.metrics import NEVER
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.label_notes import THRESHOLDS, explain_thresholds
from vidpipe.stages.manifest import Manifest, Report, now
from vidpipe.stages.runner import run_stage

GUESSING = 0.5


@pytest.fixture
def task(mlflow) -> str:
    return f"t{secrets.token_hex(4)}"


def decide(
    lake: Lake,
    task: str,
    accuracy: float,
    interval: tuple[float, float],
    champion: tuple[float, tuple[float, float]] | None = None,
    *,
    sureness: float = 0.0,
    worse_on: float = 0.0,
    approved: bool | None = None,
    of: str = "promote",
    **gate: float,
) -> Report:
    """Registers a version whose evaluation is as told, and decides on it."""
    version = register(task, alias=None)
    tracking.open_run(version.run_id).log_metrics(
        {"test_accuracy": accuracy, "test_accuracy_low": interval[0]}
    )
    before = tracking.champion(task)
    slices = [{"name": "source", "value": "s", "videos": 40, "champion": worse_on, "challenger": 0}]
    evaluated: dict[str, Any] = {
        "model": version.name,
        "model_version": version.version,
        "mlflow_run_id": version.run_id,
        "mlflow_url": "http://mlflow",
        "metrics": {"accuracy": accuracy},
        "headline": "accuracy",
        "by_chance": GUESSING,
        "intervals": {"accuracy": interval},
        "classes": 2,
        "test_videos": 8,
        "champion_version": before and before.version,
        "champion_learnt": 0,
    }
    if champion:
        difference = accuracy - champion[0]
        evaluated |= {
            "champion_metrics": {"accuracy": champion[0]},
            "champion_intervals": {"accuracy": champion[1]},
            "comparison": {
                "difference": difference,
                "interval": (difference - 0.2, difference + 0.2),
                "sureness": sureness,
                "slices": slices,
            },
        }
    run_key = f"train-{secrets.token_hex(4)}"

    def shard(name: str, config: dict[str, Any]) -> tuple[Manifest, str]:
        item = {"item": f"{task}/cnn", "work_key": f"{name}-{run_key}"}
        manifest = Manifest(
            run_key, name, "00000", config=config, items=[item], planned_at=now().isoformat()
        )
        uri = layout.manifest_uri(lake.uri, run_key, name, "plan", "00000")
        manifest.write(lake.store, uri)
        return manifest, uri

    evaluation, uri = shard("evaluate", {"train": "s3://none"})
    with Attempt(evaluation, lake.store, lake.uri) as attempt:
        attempt.outcome(evaluation.items[0]["item"], evaluation.items[0]["work_key"])
        attempt.result = evaluated
        attempt.finish()
    gate = {"margin": 0.0, "confidence": 0.9, "slice_limit": 0.1, **gate}
    if approved is not None:
        gate["approval"] = f"{lake.uri}/{run_key}.json"
        answer = {"approved": approved, "by": "Ann", "at": now().isoformat()}
        lake.store.put_json(gate["approval"], answer)
    manifest, last = shard(of, {"evaluated": [uri], "preview_videos": 1, **gate})
    report = run_stage(manifest, lake)
    if of == "promote":
        with Attempt(Manifest(run_key, "snapshot"), lake.store, lake.uri) as attempt:
            attempt.result = {"shards": [uri, last], "base": lake.published()}
            plan = attempt.finish()
        audit_and_publish(lake, run_key, plan)
    return report


def test_a_first_model_that_may_guess_waits_for_people(lake, task):
    report = decide(lake, task, 0.75, (0.41, 0.93))
    assert not report.result["promoted"]
    assert "accuracy is 0.750 (0.410 to 0.930) on 8 test videos" in report.result["why"]
    assert "It may be guessing, which reaches 0.500" in report.result["why"]
    assert "only if people approve" in report.result["why"]
    assert report.result["summary"].endswith(f"vidpipe promote {task} 1")
    assert tracking.champion(task) is None and tracking.challenger(task).version == "1"
    assert rows(lake, "promotions") == []


@pytest.mark.parametrize("approved", [True, False])
def test_people_are_asked_of_a_first_model_that_may_guess(lake, task, approved):
    shown = decide(lake, task, 0.75, (0.41, 0.93), of="preview")
    assert shown.result["ask"] and "may be guessing" in shown.result["body"]
    report = decide(lake, task, 0.75, (0.41, 0.93), approved=approved)
    assert report.result["promoted"] == approved
    assert (tracking.champion(task) is not None) == approved
    assert "Ann approved." in report.result["why"] or not approved


def test_a_first_model_that_is_surely_better_than_guessing_is_promoted(lake, task):
    report = decide(lake, task, 0.9, (0.6, 0.98))
    assert report.result["promoted"] and tracking.champion(task).version == "1"
    (promotion,) = rows(lake, "promotions")
    assert promotion["why"] == report.result["why"]


def test_a_champion_that_may_guess_gives_way_to_any_better_model(lake, task):
    register(task, "champion")
    # As with 4 test videos: "certainty 50 %", and a slice of which guessing had more.
    of_champion = (0.5, (0.15, 0.85))
    report = decide(lake, task, 0.75, (0.3, 0.95), of_champion, sureness=0.5, worse_on=0.9)
    assert report.result["promoted"], report.result["why"]
    assert "Version 1 may be guessing, which reaches 0.500 (0.150 to 0.850)" in report.result["why"]
    assert tracking.champion(task).version == "2"


@pytest.mark.parametrize(
    ("accuracy", "of_champion", "gate"),
    [
        (0.5, (0.5, (0.15, 0.85)), {}),  # no better
        (0.75, (0.5, (0.15, 0.85)), {"margin": 0.3}),
        (0.9, (0.85, (0.7, 0.95)), {}),  # better, but the champion does not guess
    ],
)
def test_a_champion_stays_where_a_model_is_not_better_or_not_surely(
    lake, task, accuracy, of_champion, gate
):
    register(task, "champion")
    report = decide(lake, task, accuracy, (0.1, 0.95), of_champion, sureness=0.5, **gate)
    assert not report.result["promoted"]
    assert "and is not: the certainty is 50%" in report.result["why"]
    assert tracking.champion(task).version == "1"


def test_the_challenger_is_the_best_that_was_not_promoted(lake, task):
    register(task, "champion")
    of_champion = (0.85, (0.7, 0.95))
    for low, challenger in ((0.6, "2"), (0.7, "3"), (0.65, "3"), (0.7, "5")):
        report = decide(lake, task, low + 0.1, (low, 0.99), of_champion)
        assert tracking.challenger(task).version == challenger, "of equal ones the newest"
        stays = "is kept; version 3 is better and stays the challenger."
        assert (stays in report.result["summary"]) == (low == 0.65)
    assert {m["decision"] for m in tracking.list_models(task)} == {"", "not promoted"}


def test_where_nothing_was_promoted_the_night_names_the_remedy(lake, task):
    with pytest.raises(NothingToDoError, match="no champion .* annotate some videos, then run the"):
        stage(lake, "night", "label", task=task)
    register(task, "challenger")
    for name in ("label", "relabel", "review"):
        with pytest.raises(NothingToDoError, match=f"no champion .*: vidpipe promote {task} 1$"):
            stage(lake, f"night-{name}", name, task=task, max_videos=1, link_hours=1)
    register(f"{task}b", "champion")
    night = stage(lake, "night-of-all", "label").result["summary"]
    assert re.search(rf"\n.*{task}.*: no champion; .*vidpipe promote {task} 1", night)


@pytest.mark.parametrize(
    ("thresholds", "params", "told"),
    [
        (
            {"a": NEVER, "b": NEVER},
            {"validation_videos": 4, "accept_precision": 0.9},
            r"none of its labels is accepted, for on the validation videos .* in 90% of the cases",
        ),
        ({"a": NEVER, "b": NEVER}, {}, r"is accepted, for there were no validation videos"),
        (
            {"a": NEVER, "b": 0.5},
            {"validation_videos": 4, "accept_precision": 0.9},
            "version 1: its labels a are never accepted",
        ),
        ({"a": 0.5, "b": 1.0}, {"validation_videos": 4}, "^$"),
    ],
)
def test_why_labels_are_never_accepted_is_told(lake, task, thresholds, params, told):
    version = register(task, "champion")
    run = tracking.open_run(version.run_id)
    assert explain_thresholds(version, None) == "", "made elsewhere: nothing is known"
    run.log_json(thresholds, THRESHOLDS)
    run.log_params(params)
    assert re.search(told, explain_thresholds(version, None).strip())
    assert explain_thresholds(version, 0.5) == "", "a threshold of one's own holds"
