"""relabel: what a new champion makes stale, what that costs, and in which order it is done."""

from __future__ import annotations

import secrets
from datetime import timedelta

import pytest

from tests.lake.rows import DAY, publish_rows
from tests.mlflow_server import register
from tests.runs import audit_and_publish, rows, stage
from vidpipe import tracking
from vidpipe.errors import NothingToDoError
from vidpipe.lake.tables import Lake
from vidpipe.stages.backlog import label_work_key
from vidpipe.stages.manifest import Manifest, Report

SCORES = {"a": 0.9, "b": 0.6, "c": 0.7, "d": 0.8}


@pytest.fixture
def task(mlflow) -> str:
    return f"t{secrets.token_hex(4)}"


def say(lake: Lake, task: str, version: tracking.Version, scores: dict[str, float], **values):
    """Publishes labels of a version."""
    model = {"task": task, "model": version.name, "model_version": version.version, **values}
    labels = [{**model, "video_id": v, "label": "up", "score": s} for v, s in scores.items()]
    publish_rows(lake, f"say-{secrets.token_hex(4)}", "label", {"labels": labels})


@pytest.fixture
def two(lake, task) -> tuple[tracking.Version, tracking.Version]:
    """Four videos of an hour, all labelled by the first version; the second is the champion."""
    old, new = register(task, "champion"), register(task, "challenger")
    videos = [
        {"video_id": v, "duration_s": 3600.0, "work_key": f"extracted-{v}"} for v in SCORES
    ] + [{"video_id": "never labelled", "duration_s": 3600.0}]
    publish_rows(lake, "videos", "extract", {"videos": videos})
    say(lake, task, old, SCORES)
    tracking.set_alias(new, "champion")
    return old, new


def relabel(lake: Lake, task: str, **config) -> Report:
    return stage(lake, f"relabel-{secrets.token_hex(4)}", "relabel", task=task, **config)


def planned(lake: Lake, plan: Report) -> list[str]:
    manifests = [Manifest.read(lake.store, uri) for uri in plan.result["shards"]]
    assert {manifest.stage for manifest in manifests} <= {"label"}
    return [item["video_id"] for manifest in manifests for item in manifest.items]


def test_dry_run_tells_what_is_stale_and_plans_nothing(lake, task, two, capsys):
    plan = relabel(lake, task, dry_run=True, max_videos=3)
    assert plan.result["shards"] == [] and plan.files == []
    counts = plan.result["counts"]
    assert (counts["stale"], counts["selected"], counts["left"]) == (4, 3, 1)
    assert counts["hours"] == 3.0 and counts["cpu_hours"] is None
    assert "would label 3 of them, 3.00 hours of video" in plan.result["summary"]
    command = f"vidpipe run relabel --param task={task} --param dry_run=false"
    assert plan.result["summary"].endswith(f"; to do it: {command}")
    assert "labelled by version 1 last, and not by 2: 4 videos" in capsys.readouterr().out
    audit_and_publish(lake, plan.run_key, plan)
    assert not [row for row in rows(lake, "promotions") if row["task"] == task]


def test_the_least_sure_come_first_and_a_later_run_goes_on(lake, task, two):
    old, new = two
    plan = relabel(lake, task, max_videos=2)
    assert planned(lake, plan) == ["b", "c"]
    assert "labels 2 of them" in plan.result["summary"] and "2 left" in plan.result["summary"]
    assert "to do it" not in plan.result["summary"]
    (shard, *_) = (Manifest.read(lake.store, uri) for uri in plan.result["shards"])
    assert (shard.config["model_version"], shard.config["model_uri"]) == (new.version, new.uri)
    say(lake, task, new, {"b": 0.9, "c": 0.9}, labelled_at=DAY + timedelta(hours=1))
    assert planned(lake, relabel(lake, task, max_videos=2)) == ["d", "a"]
    # The old champion again: what it said still holds.
    tracking.set_alias(old, "champion")
    assert planned(lake, relabel(lake, task)) == []


def test_of_several_labels_the_least_sure_counts(lake, task, two):
    old, _ = two
    both = {"labelled_at": DAY + timedelta(hours=1), "work_key": "d again"}
    model = {"task": task, "model": old.name, "model_version": old.version, "video_id": "d"}
    labels = [
        {**model, **both, "label": label, "score": score}
        for label, score in (("up", 0.95), ("left", 0.1))
    ]
    publish_rows(lake, "again", "annotate", {"labels": labels[:1]})
    publish_rows(lake, "and again", "annotate", {"labels": labels[1:]})
    assert planned(lake, relabel(lake, task)) == ["d", "b", "c", "a"]


def test_what_the_champion_cannot_label_is_left_alone(lake, task, two):
    _, new = two
    quarantined = label_work_key("b", task, new.version, "extracted-b")
    outcome = {"stage": "label", "item": f"{task}/b", "status": "quarantined"}
    publish_rows(lake, "bad", "annotate", {"outcomes": [{**outcome, "work_key": quarantined}]})
    assert planned(lake, relabel(lake, task)) == ["c", "d", "a"]


def test_what_failed_under_another_version_is_tried_by_the_champion(lake, task, two):
    old, new = two
    for version, video in ((old, "b"), (new, "c")):
        work_key = label_work_key(video, task, version.version, f"extracted-{video}")
        outcome = {"stage": "label", "item": f"{task}/{video}", "status": "failed"}
        for number in range(lake.settings.extract.max_tries):
            run = f"{video} dies {number}"
            publish_rows(lake, run, "annotate", {"outcomes": [{**outcome, "work_key": work_key}]})
    assert planned(lake, relabel(lake, task)) == ["b", "d", "a"]


def test_a_budget_of_hours_is_the_deadline_of_the_shards(lake, task, two):
    plan = relabel(lake, task, max_hours=2)
    (shard, *_) = (Manifest.read(lake.store, uri) for uri in plan.result["shards"])
    assert shard.config["deadline"] == (shard.planned_time + timedelta(hours=2)).isoformat()


@pytest.mark.parametrize(
    ("sampling", "clips"), [({}, 1), ({"clips": 3, "crops": 2}, 6), ({"sliding": True}, 3599)]
)
def test_what_it_costs_is_told_by_the_clips_of_a_video(lake, task, two, sampling, clips):
    _, new = two
    run = tracking.open_run(new.run_id)
    given = {"frames": 8, "height": 64, "width": 64, "window_s": 2.0, "clips": 1, "crops": 1}
    run.log_params({**given, "sliding": False, "architecture": "cnn", **sampling})
    run.log_metrics({"test_cpu_seconds_per_clip": 0.5})
    plan = relabel(lake, task, dry_run=True)
    assert plan.result["counts"]["cpu_hours"] == pytest.approx(4 * clips * 0.5 / 3600)
    assert "CPU hours" in plan.result["summary"]


def test_without_a_champion_there_is_nothing_to_do(lake, task):
    with pytest.raises(NothingToDoError, match="no champion"):
        relabel(lake, task)


def test_a_promotion_by_hand_is_written_down(lake, task, two):
    _, new = two
    plan = relabel(lake, task, max_videos=1)
    audit_and_publish(lake, plan.run_key, plan, max_failed_share=1.0)
    (promotion,) = (row for row in rows(lake, "promotions") if row["task"] == task)
    assert promotion["model_version"] == new.version
