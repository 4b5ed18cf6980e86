"""The DAG `train` without Airflow: snapshot, train, evaluate, promote, publish, on real servers."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict

from tests.lake.rows import publish_rows
from tests.mlflow_server import register
from tests.runs import audit_and_publish, ingest, rows, shards, stage
from tests.servers import new_lake
from tests.weights_files import tensors_of, write_tfjs
from vidpipe import tracking
from vidpipe.config import TrainSettings
from vidpipe.datasets.labelled import Dataset
from vidpipe.errors import EXIT_TEMPORARY, BadInputError, NothingToDoError, UsageError
from vidpipe.lake import layout
from vidpipe.lake.changes import changes_since
from vidpipe.lake.query import run_query
from vidpipe.lake.tables import Lake
from vidpipe.local.demo_data import DemoData
from vidpipe.models.bundle import Bundle
from vidpipe.stages.by_hand import upload_annotations
from vidpipe.stages.manifest import Manifest, give_up, now
from vidpipe.stages.runner import run_stage

NOW = "2026-01-31T06:00:00+00:00"
# Fewest seconds, not best results: what is learnt is looked at in the demo.
CONFIG = {"architectures": ["cnn_rnn"], "seed": 0, "test_share": 0.3, "epochs": 2, "batch_size": 4}

SMALL = {"frames": 4, "height": 32, "width": 32}
SMALLEST = {"architectures": ["cnn"], **SMALL}


@pytest.fixture(scope="module")
def videos(s3_server, tmp_path_factory, media: DemoData) -> tuple[Lake, dict[str, str]]:
    """A lake with the frames of some videos, and the id of each."""
    lake = new_lake(s3_server.settings, tmp_path_factory.mktemp("training"), "training")
    for path in media.videos:
        lake.store.upload(path, f"s3://videos/training/{path.name}")
    ingest(lake, "ingest", source="s3://videos", prefix="training/", fps=4.0, short_side=64)
    return lake, {Path(row["source_uri"]).name: row["video_id"] for row in rows(lake, "videos")}


@pytest.fixture
def task() -> str:
    """A task of each test's own: they share a lake."""
    return f"t{secrets.token_hex(4)}"


# All that chance does to clips.
RICH = {"augmentation": "strong", "mirrored": True, "mix": "cutmix", "oversampling": 2}


def annotate(lake: Lake, folder: Path, task: str, labels: list[tuple]) -> None:
    file = folder / f"{secrets.token_hex(4)}.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("video", "label", "annotator", "delete"), *labels])
    run_key = f"annotate-{secrets.token_hex(4)}"
    plan = stage(lake, run_key, "annotate", task=task, file=upload_annotations(lake, file))
    audit_and_publish(lake, run_key, plan)


def by_hand(lake: Lake, task: str, version: str, why: str = ""):
    """Promotes a version as `vidpipe promote` does."""
    run_key = f"promote-{secrets.token_hex(4)}"
    plan = stage(lake, run_key, "promote", task=task, version=version, why=why)
    audit_and_publish(lake, run_key, plan)
    return plan


def two_classes(videos: dict[str, str]) -> list[tuple]:
    return [(name, "ab"[n % 2], "", "") for n, name in enumerate(sorted(videos))]


def snapshot(lake: Lake, task: str, **config):
    return stage(
        lake, f"train-{secrets.token_hex(4)}", "snapshot", task=task, **{**CONFIG, **config}
    )


def test_a_training_is_pinned_run_measured_promoted_and_published(videos, task, mlflow, tmp_path):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    plan = snapshot(lake, task, **SMALLEST)
    train, evaluate, promote = shards(lake, plan)
    audit_and_publish(lake, plan.run_key, plan)

    splits = [row for row in rows(lake, "splits") if row["dataset"] == task]
    assert {row["video_id"] for row in splits} == set(named.values())
    assert {row["version"] for row in splits} == {plan.result["dataset"]}
    assert {row["split"] for row in splits} == {"train", "validation", "test"}

    run = MlflowClient(mlflow.uri).get_run(train.result["mlflow_run_id"])
    assert run.info.status == "FINISHED"
    models = MlflowClient(mlflow.uri).search_logged_models([run.info.experiment_id])
    assert [model.source_run_id for model in models] == [run.info.run_id]
    assert run.data.params["dataset_version"] == plan.result["dataset"]
    assert run.data.params["snapshot_frames"] == str(lake.published()["frames"])
    assert run.data.tags["vidpipe.code_version"] == "test"
    assert {"train_loss", "validation_accuracy", "test_accuracy", "test_macro_f1"} <= set(
        run.data.metrics
    )
    shown = run.data.tags[tracking.SHOWN].split()
    assert set(shown) <= {row["video_id"] for row in splits if row["split"] == "test"}
    files = MlflowClient(mlflow.uri).list_artifacts(train.result["mlflow_run_id"])
    assert {"confusion.png", "misclassified.png", "per_class.json"} <= {f.path for f in files}

    assert evaluate.result["classes"] == 2
    assert evaluate.result["test_videos"] == sum(row["split"] == "test" for row in splits)
    # The labels are of every other video, whatever it shows.
    assert not promote.result["promoted"] and "no champion" in promote.result["why"]
    assert "It may be guessing, which reaches 0." in promote.result["why"]
    assert promote.result["summary"].endswith(f"all the same: vidpipe promote {task} 1")
    assert tracking.champion(task) is None and tracking.challenger(task).version == "1"
    (waiting,) = tracking.list_models(task)
    assert waiting["decision"] == "not promoted" and waiting["why"] == promote.result["why"]

    by_hand(lake, task, "1", why="good enough to begin with")
    champion = tracking.champion(task)
    assert champion.version == promote.result["model_version"] == "1"
    assert tracking.challenger(task) is None
    (promotion,) = (row for row in rows(lake, "promotions") if row["task"] == task)
    assert promotion["model_version"] == "1" and promotion["replaced_version"] is None
    assert promotion["why"] == "good enough to begin with"
    evaluated_at = next(
        row["finished_at"]
        for row in rows(lake, "outcomes")
        if row["run_key"] == plan.run_key and row["stage"] == "evaluate"
    )
    assert promotion["promoted_at"] >= evaluated_at
    bundle = Bundle.load(champion.uri)
    bundle.check_canary()
    assert (bundle.labels, bundle.task) == (["a", "b"], task)
    assert bundle.thresholds.keys() == {"a", "b"}

    # The same dataset again: its rows are there already, and what is not better does not replace.
    again = snapshot(lake, task, **SMALLEST, margin=1.0)
    assert again.result["dataset"] == plan.result["dataset"]
    _, second, refused = shards(lake, again)
    audit_and_publish(lake, again.run_key, again)
    assert len([row for row in rows(lake, "splits") if row["dataset"] == task]) == len(splits)
    assert second.result["champion_version"] == "1"
    assert second.result["champion_metrics"] == evaluate.result["metrics"]
    assert second.result["champion_learnt"] == 0
    assert not refused.result["promoted"] and "and is not" in refused.result["why"]
    assert tracking.champion(task) == champion
    aliases = MlflowClient(mlflow.uri).get_registered_model(champion.name).aliases
    assert aliases == {"champion": "1", "challenger": "2"}
    assert len([row for row in rows(lake, "promotions") if row["task"] == task]) == 1

    # Another seed: the test may hold videos that the champion learnt from, and that is told.
    reshuffled = snapshot(lake, task, **SMALLEST, seed=1, margin=1.0)
    _, third, told = shards(lake, reshuffled)
    audit_and_publish(lake, reshuffled.run_key, reshuffled)
    assert reshuffled.result["dataset"] != plan.result["dataset"]
    learnt = {row["video_id"] for row in splits if row["split"] != "test"}
    tested = {
        row["video_id"]
        for row in rows(lake, "splits")
        if row["version"] == reshuffled.result["dataset"] and row["split"] == "test"
    }
    assert third.result["champion_learnt"] == len(learnt & tested) > 0
    assert f"learnt from {len(learnt & tested)} of them" in told.result["why"]

    # Somebody decides otherwise in MLflow: the night writes it down, once, and labels with it.
    MlflowClient(mlflow.uri).set_registered_model_alias(champion.name, "champion", "2")
    for run_key in (f"{task}-night-1", f"{task}-night-2"):
        plan = stage(lake, run_key, "label", task=task)
        shards(lake, plan)
        audit_and_publish(lake, run_key, plan)
    promotions = [row for row in rows(lake, "promotions") if row["task"] == task]
    promotions.sort(key=lambda row: row["promoted_at"])
    assert [(row["model_version"], row["replaced_version"]) for row in promotions] == [
        ("1", None),
        ("2", "1"),
    ]
    assert promotions[1]["promoted_by"] == "MLflow"
    labels = [row for row in rows(lake, "labels") if row["task"] == task]
    assert {row["model_version"] for row in labels} == {"2"}
    assert len(labels) == len(named)
    thresholds = Bundle.load(tracking.champion(task).uri).thresholds
    assert all(row["accepted"] == (row["score"] >= thresholds[row["label"]]) for row in labels)


def test_a_person_promotes_a_version_that_is_registered_and_not_the_champion(task, mlflow, lake):
    one, two = (register(task, alias) for alias in ("champion", "challenger"))
    for wrong in ("3", "x"):
        with pytest.raises(UsageError, match=f"no such model version. Received: '{wrong}'. There"):
            by_hand(lake, task, wrong)
    with pytest.raises(UsageError, match="None is registered: train one first"):
        by_hand(lake, "never_trained", "1")
    with pytest.raises(NothingToDoError, match="Version 1 is the champion"):
        by_hand(lake, task, one.version)
    assert rows(lake, "promotions") == []

    report = by_hand(lake, task, two.version)
    assert "version 2 is the champion, in place of version 1." in report.result["summary"]
    assert (tracking.champion(task), tracking.challenger(task)) == (two, None)
    (row,) = rows(lake, "promotions")
    assert (row["model_version"], row["replaced_version"]) == ("2", "1")
    assert row["why"] == "Promoted by hand."
    (newest, _) = tracking.list_models(task)
    assert (newest["decision"], newest["why"]) == ("promoted by hand", "")


@pytest.mark.long
def test_families_are_ranked_and_one_that_failed_takes_none_with_it(videos, task, mlflow, tmp_path):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    families = ["cnn", "cnn_rnn", "attention"]
    plan = snapshot(lake, task, architectures=families, **SMALL, epochs=1)
    lost, *others, promote = (Manifest.read(lake.store, uri) for uri in plan.result["shards"])
    assert lost.config["architecture"] == "cnn"
    assert {m.config["dataset"] for m in (lost, *others)} == {lost.config["dataset"]}
    give_up(lake.store, lake.uri, lost, "stage_failed", "train ended with 65: no luck")
    reports = [run_stage(manifest, lake) for manifest in others[1:]]
    shown = run_stage(dataclasses.replace(promote, stage="preview"), lake).result["body"]
    promoted = run_stage(promote, lake)
    audit_and_publish(lake, plan.run_key, plan, needed="promote")

    client = MlflowClient(mlflow.uri)
    version = tracking.challenger(task)
    assert version.version == promoted.result["model_version"]
    assert client.get_registered_model(version.name).aliases == {"challenger": version.version}
    assert len(client.search_model_versions(f"name = '{version.name}'")) == 2
    files = {file.path for file in client.list_artifacts(version.run_id)}
    assert {"ranking.json", "ranking.png"} <= files
    ranking = load_dict(f"runs:/{version.run_id}/ranking.json")
    first, second = ranking["ranking"]
    assert first["mlflow_run_id"] == version.run_id
    assert first["architecture"] == promoted.result["architecture"]
    assert {first["architecture"], second["architecture"]} == {"cnn_rnn", "attention"}
    assert first["validation"] >= second["validation"]
    evaluated = {r.result["mlflow_run_id"]: r.result for r in reports if "metrics" in r.result}
    for of in (first, second):
        logged = client.get_run(of["mlflow_run_id"]).data.metrics
        result = evaluated[of["mlflow_run_id"]]
        assert of["validation_loss"] == logged["validation_loss"]  # of its only epoch
        assert of["validation"] == logged["best_validation_accuracy"]
        assert of["test"] == result["metrics"]["accuracy"]
        assert of["test_interval"] == list(result["intervals"]["accuracy"])
        assert of["cpu_seconds_per_clip"] > 0 and of["training_seconds"] > 0
        assert of["parameters"] == logged["parameters"] > 0
    assert ranking["failed"] == {"cnn": "train ended with 65: no luck"}
    told = promoted.result["summary"].splitlines()
    assert told[0].endswith("is the challenger. " + promoted.result["why"])
    assert [line.split()[0] for line in told[2:4]] == [
        first["architecture"],
        second["architecture"],
    ]
    assert told[-2] == "cnn failed: train ended with 65: no luck"
    table, failed = shown.split("\n\n")[-2:]
    assert [[cell.strip() for cell in line.split("|")][1] for line in table.splitlines()[2:]] == [
        first["architecture"],
        second["architecture"],
    ]
    assert failed == "cnn failed: train ended with 65: no luck"

    outcomes = {
        (row["stage"], row["item"]): row["status"]
        for row in rows(lake, "outcomes")
        if row["run_key"] == plan.run_key
    }
    assert outcomes["train", f"{task}/cnn"] == "failed"
    assert outcomes["evaluate", f"{task}/attention"] == "done"
    assert outcomes["promote", f"{task}/cnn+cnn_rnn+attention"] == "done"
    assert f"{first['architecture']} is the best of 2" in promoted.result["why"]
    other, chosen = sorted(tracking.list_models(task), key=lambda m: m["decision"])
    assert chosen["decision"] == "not promoted" and chosen["version"] == version.version
    assert other["decision"] == "not compared"
    assert other["why"].startswith(f"{first['architecture']}, of the same training, was better")


@pytest.mark.long
def test_without_validation_videos_the_first_listed_stands_and_that_is_told(
    videos, task, mlflow, tmp_path
):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(dict(sorted(named.items())[:4])))
    plan = snapshot(lake, task, architectures=["cnn_rnn", "attention"], **SMALL, epochs=1)
    assert "validation" not in plan.result["counts"]
    promoted = shards(lake, plan)[-1]
    assert promoted.result["architecture"] == "cnn_rnn"
    assert promoted.result["why"].startswith(
        "There are no validation videos to choose by: of 2 evaluated models the first listed,"
        " cnn_rnn, stands."
    )


def test_nothing_is_published_of_a_training_that_promoted_nothing(videos, task, tmp_path):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    plan = snapshot(lake, task, architectures=["cnn", "attention"])
    *_, promote = (Manifest.read(lake.store, uri) for uri in plan.result["shards"])
    with pytest.raises(BadInputError, match="Not one model was evaluated: cnn: its task left no"):
        run_stage(promote, lake)
    with pytest.raises(BadInputError, match="5 of 5 items failed, that of promote among them"):
        audit_and_publish(lake, plan.run_key, plan, needed="promote")
    assert task not in {row["dataset"] for row in rows(lake, "splits")}


def test_a_rollback_makes_the_champion_before_and_its_labels_current_again(videos, task, mlflow):
    lake, named = videos
    video_id = min(named.values())

    def promote_and_label() -> None:
        before = tracking.champion(task)
        version = register(task, tracking.CHAMPION)
        of = {"task": task, "model": version.name, "model_version": version.version}
        promotion = {
            **of,
            "replaced_version": before and before.version,
            "promoted_at": datetime.now(UTC),
        }
        label = {**of, "video_id": video_id}
        run_key = f"{task}-{version.version}"
        publish_rows(lake, run_key, "label", {"promotions": [promotion], "labels": [label]})

    def roll_back() -> None:
        plan = stage(lake, f"rollback-{secrets.token_hex(4)}", "rollback", task=task, why="wrong")
        audit_and_publish(lake, plan.run_key, plan)

    def current() -> set[str]:
        sql = "select model_version from current_labels where task = '{}' and video_id = '{}'"
        found = run_query(sql.format(task, video_id), lake.settings)
        return set(found["model_version"].to_pylist())

    promote_and_label()
    with pytest.raises(NothingToDoError, match="first champion"):
        roll_back()
    promote_and_label()
    promote_and_label()
    assert current() == {"3"}
    for before in ("2", "1"):
        roll_back()
        assert tracking.champion(task).version == before
        assert current() == {before}
    with pytest.raises(NothingToDoError, match="first champion"):
        roll_back()
    last = max(
        (row for row in rows(lake, "promotions") if row["task"] == task),
        key=lambda row: row["promoted_at"],
    )
    assert (last["model_version"], last["replaced_version"], last["why"]) == ("1", "2", "wrong")


@pytest.mark.long
def test_a_training_that_is_planned_anew_has_a_run_of_its_own(videos, task, mlflow, tmp_path):
    """As when all tasks are cleared after an upgrade: MLflow lets no parameter of a run change."""
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    plan = snapshot(lake, task, **SMALLEST)
    first = run_stage(Manifest.read(lake.store, plan.result["shards"][0]), lake)
    config = {"task": task, **CONFIG, **SMALLEST}
    again = run_stage(
        Manifest(plan.run_key, "snapshot", config=config, planned_at=NOW, code_version="newer"),
        lake,
    )
    second = run_stage(Manifest.read(lake.store, again.result["shards"][0]), lake)

    client = MlflowClient(mlflow.uri)
    runs = [client.get_run(report.result["mlflow_run_id"]) for report in (first, second)]
    assert [run.data.tags["vidpipe.code_version"] for run in runs] == ["test", "newer"]


def test_what_holds_is_learned_and_contradictions_are_counted(videos, task, tmp_path):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    first, second, third = sorted(named)[:3]
    annotate(
        lake,
        tmp_path,
        task,
        [
            (first, "", "", "yes"),  # withdrawn
            (second, "a", "ann", ""),  # a tie with b
            (third, "b", "ann", ""),  # two of three
            (third, "b", "bob", ""),
        ],
    )
    plan = snapshot(lake, task)
    (uri,) = {Manifest.read(lake.store, u).config.get("dataset") for u in plan.result["shards"][:2]}
    labels = {v.video_id: v.labels for v in Dataset.from_json(lake.store.get_json(uri)).videos}
    expected = {named[name]: (label,) for name, label, *_ in two_classes(named)}
    del expected[named[first]], expected[named[second]]
    assert labels == {**expected, named[third]: ("b",)}
    assert plan.result["counts"]["tied"] == 1


def test_architecture_defaults_hold_where_nothing_is_given(videos, task, tmp_path):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    plan = snapshot(lake, task, epochs=None, batch_size=None, learning_rate=None)
    config = Manifest.read(lake.store, plan.result["shards"][0]).config
    assert (config["epochs"], config["batch_size"], config["learning_rate"]) == (30, 16, 3e-3)


def test_clips_that_do_not_fit_the_disk_are_streamed(videos, task, mlflow, tmp_path, capsys):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    plan = snapshot(lake, task, **SMALLEST)
    settings = dataclasses.replace(lake.settings, train=TrainSettings(cache_gb=0))
    manifest = Manifest.read(lake.store, plan.result["shards"][0])
    report = run_stage(manifest, Lake(settings))
    assert "more than [train] cache_gb = 0: they are decoded anew" in capsys.readouterr().out
    assert report.result["model_version"] == "1"


def test_what_is_mirrored_must_not_be_told_apart_by_its_labels(videos, task, tmp_path):
    lake, named = videos
    labels = [
        (name, {"a": "turn_left", "b": "other"}[of], *rest)
        for name, of, *rest in two_classes(named)
    ]
    annotate(lake, tmp_path, task, labels)
    assert snapshot(lake, task).result["shards"]
    with pytest.raises(BadInputError, match="'turn_left' tells left from right"):
        snapshot(lake, task, mirrored=True)


@pytest.mark.parametrize(
    "choice, told",
    [
        ({"augmentation": True}, "An augmentation is one of none, light, .*Received: True"),
        ({"mix": "blend"}, "A mixing of clips is one of none, .*'blend'"),
        ({"weights": "s3://b/model.json"}, "Weights are for a backbone"),
        ({"backbone": "vgg19"}, "A backbone is one of mobilenet_v2, .*'vgg19'"),
        ({"backbone": "resnet50", "fine_tune": False}, "has random weights, which must learn"),
        ({"backbone": "resnet50", "weights": "s3://lake/no.h5"}, "no weights file 's3://lake/no.h"),
        ({"backbone": "resnet50", "weights": "/no/model.json"}, "'/no/model.json' on this machine"),
        ({"backbone": "resnet50", "weights": "s3://lake/no.pt"}, "or an .h5 file of Keras"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(videos, task, choice, told):
    lake, _ = videos
    with pytest.raises(UsageError, match=told):
        snapshot(lake, task, **choice)


@pytest.mark.long
def test_a_frozen_backbone_sees_each_video_once(videos, task, mlflow, tmp_path):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    network = keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    path = write_tfjs(tmp_path / "weights", tensors_of(network))
    uri = f"{lake.uri}/weights/{task}"
    for file in path.parent.iterdir():
        lake.store.upload(file, f"{uri}/{file.name}")
    choice = {
        "architectures": ["attention"],
        "backbone": "mobilenet_v2",
        "weights": f"{uri}/model.json",
        **{"frames": 2, "height": 32, "width": 32, "batch_size": 4, "epochs": 2},
    }

    def kept() -> dict[str, object]:
        found = lake.store.list(layout.features_uri(lake.uri))
        return {item.uri: item.modified_at for item in found if item.uri.endswith(".npz")}

    plan = snapshot(lake, task, **choice)
    train, *_ = shards(lake, plan)
    counts, features = plan.result["counts"], kept()
    assert len(features) == counts["train"] + counts["validation"]
    run = MlflowClient(mlflow.uri).get_run(train.result["mlflow_run_id"])
    assert run.data.params["backbone"] == "mobilenet_v2"
    assert run.data.params["fine_tune"] == "False"
    assert run.data.tags["vidpipe.weights_digest"]
    assert run.data.metrics["parameters"] > network.count_params()
    assert run.data.metrics["flops_per_clip"] > 1e6
    bundle = Bundle.load(train.result["model_uri"])
    bundle.check_canary()
    of_backbone = bundle.model.get_layer("encoder").get_layer("backbone").get_weights()
    for found, given in zip(of_backbone, network.get_weights(), strict=True):
        np.testing.assert_array_equal(found, given)

    # What a network hears is nothing that a backbone would see.
    again = snapshot(lake, task, **choice, learning_rate=0.1, sound=True)
    second = run_stage(Manifest.read(lake.store, again.result["shards"][0]), lake)
    assert kept() == features
    hearing = Bundle.load(second.result["model_uri"])
    hearing.check_canary()
    assert hearing.sampling == dataclasses.replace(bundle.sampling, sound=True)

    (tmp_path / "weights" / "model.json").write_text("{}")
    lake.store.upload(path, f"{uri}/model.json")
    with pytest.raises(BadInputError, match="no model.json of TensorFlow.js"):
        snapshot(lake, task, **choice)


def test_a_training_that_was_killed_for_good_ends_in_mlflow(videos, task, mlflow, tmp_path):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    plan = snapshot(lake, task, **SMALLEST)
    client = MlflowClient(mlflow.uri)
    train = Manifest.read(lake.store, plan.result["shards"][0])
    killed, other = (tracking.begin_run(task, work, work, {}) for work in (train.hash, "other"))
    give_up(lake.store, lake.uri, train, "out_of_memory", "Too large.")
    began = now()
    with pytest.raises(BadInputError, match="2 of 3 items failed"):
        audit_and_publish(lake, plan.run_key, plan)
    not_done = changes_since(began, lake.settings).sections["Not done"].to_pylist()
    assert f"{task}/cnn" in {row["such as"] for row in not_done}, "there is no video to name"
    assert client.get_run(killed.id).info.status == "FAILED"
    assert client.get_run(other.id).info.status == "RUNNING"


def test_a_backbone_without_weights_is_told(videos, task, tmp_path):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    note = "convnext_tiny begins with random weights"
    plan = snapshot(lake, task, backbone="convnext_tiny", **SMALLEST)
    assert note in plan.result["summary"] and " 0 tied" not in plan.result["summary"]
    assert note not in snapshot(lake, task, **SMALLEST).result["summary"]


def test_too_few_annotations_end_in_one_clear_line(videos, task, tmp_path):
    lake, named = videos
    with pytest.raises(BadInputError, match=f"{task}' has no annotation"):
        snapshot(lake, task)
    labels = two_classes(named)
    annotate(lake, tmp_path, task, [row for row in labels if row[1] == "a"])
    with pytest.raises(BadInputError, match="at least two. Received: a only"):
        snapshot(lake, task)
    annotate(lake, tmp_path, task, [next(row for row in labels if row[1] == "b")])
    with pytest.raises(BadInputError, match="'b' has one example"):
        snapshot(lake, task)
    annotate(
        lake, tmp_path, f"{task}tied", [(*labels[0][:2], "x", ""), (labels[0][0], "c", "y", "")]
    )
    with pytest.raises(BadInputError, match=r"has one label .* \(1 tied\).*kind `several`"):
        snapshot(lake, f"{task}tied")
    annotate(lake, tmp_path, f"{task}tied", [(labels[1][0], "z", "", "")])
    with pytest.raises(BadInputError, match=r"are 'z', but for 1 tied"):
        snapshot(lake, f"{task}tied")
    with pytest.raises(UsageError, match="Received: 'vgg'"):
        snapshot(lake, task, architectures=["vgg"])


def start_training(lake: Lake, shard_uri: str, **environment: str) -> subprocess.Popen:
    settings = lake.settings
    return subprocess.Popen(
        [sys.executable, "-m", "vidpipe", "train", "--shard", shard_uri],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "VIDPIPE_LAKE_URI": settings.lake.uri,
            "VIDPIPE_LAKE_CATALOG_URI": settings.lake.catalog_uri,
            "VIDPIPE_S3_ENDPOINT_URL": settings.s3.endpoint_url,
            "VIDPIPE_S3_ACCESS_KEY_ID": settings.s3.access_key_id,
            "VIDPIPE_S3_SECRET_ACCESS_KEY": settings.s3.secret_access_key,
            "VIDPIPE_TRAIN_CHECKPOINT_EVERY_S": "0.1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def newest_step(lake: Lake, folder_uri: str) -> int:
    """Of the steps that were kept the last; 0 while there is none."""
    records = [found.uri for found in lake.store.list(folder_uri) if found.uri.endswith(".json")]
    return max((int(uri.rpartition("/")[2].partition("-")[0]) for uri in records), default=0)


def what_came_of_it(client: MlflowClient, result: dict) -> tuple[str, dict[str, list]]:
    """A hash of the weights, and the metrics by step."""
    digest = hashlib.sha256()
    for weight in Bundle.load(result["model_uri"]).model.get_weights():
        digest.update(weight.tobytes())
    run_id = result["mlflow_run_id"]
    return digest.hexdigest(), {
        name: sorted((m.step, m.value) for m in client.get_metric_history(run_id, name))
        for name in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    }


@pytest.mark.long
@pytest.mark.parametrize(
    "config, cache_gb",
    [({}, 8.0), pytest.param({"sound": True}, 0.0, marks=pytest.mark.slow)],
    ids=["decoded once", "streamed, and hears"],
)
def test_a_training_that_was_killed_and_stopped_ends_as_undisturbed(
    videos, task, mlflow, tmp_path, capsys, config, cache_gb
):
    lake, named = videos
    lake = Lake(dataclasses.replace(lake.settings, train=TrainSettings(cache_gb=cache_gb)))
    annotate(lake, tmp_path, task, two_classes(named))
    client = MlflowClient(mlflow.uri)
    epochs = 90
    random.seed(epochs)
    undisturbed, plan = (snapshot(lake, task, epochs=epochs, **RICH, **config) for _ in range(2))
    shard_uri = plan.result["shards"][0]
    manifest = Manifest.read(lake.store, shard_uri)
    folder_uri = layout.checkpoints_uri(
        lake.uri, plan.run_key, "train", manifest.shard, manifest.hash
    )
    for stop, exit_code, status in (
        (signal.SIGKILL, -signal.SIGKILL, "RUNNING"),
        (signal.SIGTERM, EXIT_TEMPORARY, "KILLED"),
    ):
        before = newest_step(lake, folder_uri)
        enough = before + random.randint(1, 12)
        command = start_training(lake, shard_uri, VIDPIPE_TRAIN_CACHE_GB=str(cache_gb))
        while newest_step(lake, folder_uri) < enough:
            assert command.poll() is None
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
        command.send_signal(stop)
        told, errors = command.communicate(timeout=300)
        assert command.returncode == exit_code, errors
        assert ("goes on after step" in told) == (before > 0)
        assert ("they are decoded anew" in told) == (cache_gb == 0)
        experiment = client.get_experiment_by_name(tracking.model_name(task)).experiment_id
        (begun,) = client.search_runs([experiment])
        assert begun.info.status == status
    # Not one step was lost to the signal.
    (stopped_after,) = re.findall(r"Stopped by a signal after training step (\d+)", errors)
    assert newest_step(lake, folder_uri) == int(stopped_after)

    capsys.readouterr()
    report = run_stage(manifest, lake)
    assert f"goes on after step {stopped_after} of" in capsys.readouterr().out
    (resumed,) = client.search_runs([experiment])
    assert resumed.info.run_id == begun.info.run_id == report.result["mlflow_run_id"]
    assert resumed.info.status == "FINISHED"
    assert list(lake.store.list(folder_uri)) == []

    weights, metrics = what_came_of_it(client, report.result)
    for history in metrics.values():
        assert [step for step, _ in history] == list(range(1, epochs + 1))
    expected = run_stage(Manifest.read(lake.store, undisturbed.result["shards"][0]), lake)
    assert (weights, metrics) == what_came_of_it(client, expected.result)


def start_workers(lake: Lake, shard_uri: str, cache_gb: float) -> list[subprocess.Popen]:
    """Two workers, as an Indexed Job would start them."""
    with contextlib.ExitStack() as opened:
        servers = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        hosts = ",".join(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)
    return [
        start_training(
            lake,
            shard_uri,
            VIDPIPE_WORKER_HOSTS=hosts,
            JOB_COMPLETION_INDEX=str(index),
            VIDPIPE_TRAIN_CACHE_GB=str(cache_gb),
        )
        for index in range(2)
    ]


def ended(workers: list[subprocess.Popen], within_s: float) -> list[tuple[int, str]]:
    """The exit code of each, and what it told."""
    try:
        told = [worker.communicate(timeout=within_s) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [
        (worker.returncode, out + err) for worker, (out, err) in zip(workers, told, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("cache_gb", [8.0, 0.0], ids=["decoded once", "streamed"])
def test_two_workers_that_were_killed_and_stopped_end_as_undisturbed(
    videos, task, mlflow, tmp_path, cache_gb
):
    lake, named = videos
    annotate(lake, tmp_path, task, two_classes(named))
    client = MlflowClient(mlflow.uri)
    epochs = 60
    undisturbed, plan = (
        snapshot(lake, task, epochs=epochs, augmentation="article") for _ in range(2)
    )
    shard_uri = plan.result["shards"][0]
    manifest = Manifest.read(lake.store, shard_uri)
    folder_uri = layout.checkpoints_uri(
        lake.uri, plan.run_key, "train", manifest.shard, manifest.hash
    )
    for stopped, stop in ((1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGTERM)):
        before = newest_step(lake, folder_uri)
        workers = start_workers(lake, shard_uri, cache_gb)
        while newest_step(lake, folder_uri) < before + 3:
            assert [worker.poll() for worker in workers] == [None, None], ended(workers, 300)
            time.sleep(0.02)
        workers[stopped].send_signal(stop)
        ends = ended(workers, 300)
        codes = [EXIT_TEMPORARY, EXIT_TEMPORARY]
        if stop == signal.SIGKILL:
            codes[stopped] = -signal.SIGKILL
            assert f"Worker {stopped} of 2 is gone" in ends[1 - stopped][1].splitlines()[-1]
        assert [code for code, _ in ends] == codes, ends
        assert all(("goes on after step" in told) == (before > 0) for _, told in ends)
    # Not one step was lost to the signal, which only the second worker got.
    after = {
        re.findall(r"Stopped by a signal after training step (\d+)", told)[0] for _, told in ends
    }
    assert after == {str(newest_step(lake, folder_uri))}

    assert [code for code, _ in ended(start_workers(lake, shard_uri, cache_gb), 600)] == [0, 0]
    # Ended between registering and reporting: there is nothing to train, and both hear of it.
    reports_uri = layout.reports_uri(lake.uri, plan.run_key, "train", manifest.shard)
    for found in list(lake.store.list(reports_uri)):
        lake.store.delete(found.uri)
    assert [code for code, _ in ended(start_workers(lake, shard_uri, cache_gb), 600)] == [0, 0]
    experiment = client.get_experiment_by_name(tracking.model_name(task)).experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.tags["vidpipe.workers"] == "2" and run.data.tags["vidpipe.devices"] == "2 CPU"
    (version,) = client.search_model_versions(f"name = '{tracking.model_name(task)}'")
    assert version.run_id == run.info.run_id
    assert list(lake.store.list(folder_uri)) == []

    other_uri = undisturbed.result["shards"][0]
    assert [code for code, _ in ended(start_workers(lake, other_uri, cache_gb), 600)] == [0, 0]
    results = [run_stage(Manifest.read(lake.store, u), lake).result for u in (shard_uri, other_uri)]
    (weights, metrics), expected = (what_came_of_it(client, result) for result in results)
    for history in metrics.values():
        assert [step for step, _ in history] == list(range(1, epochs + 1))
    assert (weights, metrics) == expected
