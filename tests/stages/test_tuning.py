"""The DAG `tune` without Airflow: trials on real servers, killed and gone on with."""

from __future__ import annotations

import csv
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict

from tests.runs import audit_and_publish, ingest, rows, shards, stage
from tests.servers import new_lake
from vidpipe import tracking
from vidpipe.errors import BadInputError, UsageError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.local.demo_data import DemoData
from vidpipe.stages.by_hand import upload_annotations
from vidpipe.stages.manifest import Manifest, Report
from vidpipe.stages.runner import run_stage
from vidpipe.training.settings import complete
from vidpipe.training.study import COMPLETE, DIVERGED, HALVED, RUNNING, Study

CONFIG = {
    "architectures": ["cnn_rnn", "attention"],
    "search": ["learning_rate", "dropout", "batch_size"],
    "trials": 5,
    "min_epochs": 1,
    "reduction": 2,
    "test_share": 0.3,
    **{"seed": 0, "epochs": 2, "frames": 4, "height": 32, "width": 32, "recurrent": "gru"},
}


@pytest.fixture(scope="module")
def lake(s3_server, tmp_path_factory, media: DemoData) -> Lake:
    """One with the frames of some videos, and two classes of them in the task `tuned`."""
    folder = tmp_path_factory.mktemp("tuning")
    lake = new_lake(s3_server.settings, folder, "tuning")
    for path in media.videos:
        lake.store.upload(path, f"s3://videos/tuning/{path.name}")
    ingest(lake, "ingest", source="s3://videos", prefix="tuning/", fps=4.0, short_side=64)
    labels = folder / "labels.csv"
    with labels.open("w", newline="") as opened:
        csv.writer(opened).writerows(
            [("video", "label"), *((path.name, "ab"[n % 2]) for n, path in enumerate(media.videos))]
        )
    annotate(lake, labels, "tuned")
    return lake


def annotate(lake: Lake, labels: Path, task: str, **config) -> None:
    file, run_key = upload_annotations(lake, labels), f"annotate-{task}"
    audit_and_publish(
        lake, run_key, stage(lake, run_key, "annotate", task=task, file=file, **config)
    )


def tune(lake: Lake, task: str = "tuned", **config):
    return stage(lake, f"tune-{secrets.token_hex(4)}", "tune", task=task, **CONFIG | config)


def study_of(lake: Lake, plan) -> Study:
    config = Manifest.read(lake.store, plan.result["last"]).config
    return Study(lake.store, config["study"])


def run_id_of(report: Report) -> str:
    """The run whose page a report names."""
    return report.result["mlflow_url"].partition("?")[0].rpartition("/")[2]


def children(client: MlflowClient, parent_id: str, task: str = "tuned") -> list:
    experiment = client.get_experiment_by_name(tracking.model_name(task)).experiment_id
    return client.search_runs([experiment], f"tags.`{tracking.PARENT}` = '{parent_id}'")


@pytest.mark.long
def test_trials_lead_to_a_configuration_of_train(lake, mlflow):
    plan = tune(lake)
    assert plan.result["shards"] == [*plan.result["mapped"], plan.result["last"]]
    *trials, best = shards(lake, plan)
    audit_and_publish(lake, plan.run_key, plan, needed="best")

    study = study_of(lake, plan)
    of_study = study.trials()
    assert [trial.number for trial in of_study] == list(range(5))
    assert [trial.params["architecture"] for trial in of_study[:2]] == ["cnn_rnn", "attention"]
    for trial in of_study:
        assert (trial.state, len(trial.epochs)) in ((COMPLETE, 2), (HALVED, 1))
        assert 0 <= trial.value <= 1, "halved ones are judged as well"
    assert of_study[0].state == COMPLETE, "the first is the best that was there"
    assert of_study[0].seconds > 0
    winner = of_study[best.result["trial"]]
    assert winner == max((t for t in of_study if t.state == COMPLETE), key=lambda t: t.score)

    client = MlflowClient(mlflow.uri)
    parent = client.get_run(run_id_of(best))
    assert (parent.info.status, parent.info.run_id) == (
        "FINISHED",
        run_id_of(plan),
    )
    assert parent.data.params["best_learning_rate"] == str(winner.params["learning_rate"])
    assert parent.data.metrics["best_validation_accuracy"] == winner.value
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"importance.png", "history.png", "trials.json", "best.json"} <= files
    table = load_dict(f"runs:/{parent.info.run_id}/trials.json")
    assert sorted(row["trial"] for row in table) == list(range(5))
    below = children(client, parent.info.run_id)
    assert {run.info.run_name.partition(":")[0] for run in below} == {
        f"trial {number}" for number in range(5)
    }
    for run in below:
        trial = of_study[int(run.info.run_name.partition(":")[0].removeprefix("trial "))]
        assert run.info.status == "FINISHED"
        assert run.data.tags["vidpipe.trial"] == trial.state
        assert run.data.params["learning_rate"] == str(trial.params["learning_rate"])
        history = client.get_metric_history(run.info.run_id, "validation_loss")
        assert [metric.value for metric in history] == [loss for _, loss in trial.epochs]
    assert client.search_registered_models("name = 'vidpipe-tuned'") == [], "none is registered"

    conf = best.result["train"]
    assert conf["architectures"] == [winner.params["architecture"]]
    assert (conf["task"], conf["frames"], conf["test_share"]) == ("tuned", 4, 0.3)
    assert conf["learning_rate"] == winner.params["learning_rate"]
    told, command = best.result["summary"].splitlines()
    assert f"is number {winner.number}: validation accuracy {winner.value:.3f}" in told
    assert command == f"Train with it: {best.result['command']}"
    asked = best.result["body"].split("\n\n")
    assert asked == [
        told.rpartition(" ")[0],
        f"[Its trials in MLflow]({best.result['mlflow_url']})",
        f"From a shell: `{best.result['command']}`",
    ]
    assert asked[0].startswith("The best of 5 trials")
    assert f"--param architectures={winner.params['architecture']} " in command
    assert "recurrent" not in command, "it is the default"
    again = stage(lake, f"train-{secrets.token_hex(4)}", "snapshot", **conf)
    train = Manifest.read(lake.store, again.result["shards"][0]).config
    assert {name: train[name] for name in winner.params} == winner.params
    assert again.result["dataset"] == plan.result["dataset"], "the same videos in the same splits"
    outcomes = [row for row in rows(lake, "outcomes") if row["run_key"] == plan.run_key]
    assert {row["status"] for row in outcomes} == {"done"}
    assert trials[0].result["name"].startswith("0: cnn_rnn, validation accuracy ")


@pytest.mark.long
def test_trials_of_several_labels_are_judged_by_mean_average_precision(
    lake, media: DemoData, mlflow, tmp_path
):
    file = tmp_path / "several.csv"
    with file.open("w", newline="") as opened:
        told = [
            (path.name, of) for n, path in enumerate(media.videos) for of in ("", "a", "ab")[n % 3]
        ]
        csv.writer(opened).writerows([("video", "label"), *told])
    annotate(lake, file, "together", several=True)
    plan = tune(lake, "together", kind="several", trials=2, epochs=1, architectures=["cnn"])
    *_, best = shards(lake, plan)
    trials = study_of(lake, plan).trials()
    winner = max(trials, key=lambda trial: trial.value)
    assert best.result["trial"] == winner.number
    assert f"validation map {winner.value:.3f}" in best.result["summary"]
    client = MlflowClient(mlflow.uri)
    run_id = run_id_of(best)
    assert client.get_run(run_id).data.metrics["best_validation_map"] == winner.value
    table = load_dict(f"runs:/{run_id}/trials.json")
    assert [row["validation_map"] for row in table] == sorted(
        (trial.value for trial in trials), reverse=True
    )
    of_trial = children(client, run_id, "together")[0]
    assert 0 <= of_trial.data.metrics["best_validation_map"] <= 1


@pytest.mark.long
def test_a_killed_trial_goes_on_with_what_was_chosen_for_it(lake, mlflow):
    plan = tune(lake, trials=4, epochs=60, min_epochs=60, architectures=["cnn_rnn"])
    study = study_of(lake, plan)
    (_, _, shard_uri, other_uri), last = plan.result["mapped"], plan.result["last"]
    manifest = Manifest.read(lake.store, shard_uri)
    checkpoints = layout.checkpoints_uri(
        lake.uri, plan.run_key, "trial", manifest.shard, manifest.hash
    )
    settings = lake.settings
    command = subprocess.Popen(
        [sys.executable, "-m", "vidpipe", "trial", "--shard", shard_uri],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "VIDPIPE_LAKE_URI": settings.lake.uri,
            "VIDPIPE_LAKE_CATALOG_URI": settings.lake.catalog_uri,
            "VIDPIPE_S3_ENDPOINT_URL": settings.s3.endpoint_url,
            "VIDPIPE_S3_ACCESS_KEY_ID": settings.s3.access_key_id,
            "VIDPIPE_S3_SECRET_ACCESS_KEY": settings.s3.secret_access_key,
            "VIDPIPE_TRAIN_CHECKPOINT_EVERY_S": "0.1",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 600
    while len(list(lake.store.list(checkpoints))) < 4:
        assert command.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    command.send_signal(signal.SIGKILL)
    told, _ = command.communicate(timeout=300)
    killed = study.find(2)
    assert killed.state == RUNNING and 0 < len(killed.epochs) < 60

    # Meanwhile others begin and end: asked anew, it would be told to try something else.
    run_stage(Manifest.read(lake.store, other_uri), lake)
    report = run_stage(manifest, lake)
    ended = study.find(2)
    assert (ended.params, ended.state, len(ended.epochs)) == (killed.params, COMPLETE, 60)
    assert ended.epochs[: len(killed.epochs)] == killed.epochs
    assert list(lake.store.list(checkpoints)) == []
    client = MlflowClient(mlflow.uri)
    (run,) = (
        run for run in children(client, run_id_of(plan)) if run.info.run_name.startswith("trial 2")
    )
    assert run_id_of(report) == run.info.run_id
    history = client.get_metric_history(run.info.run_id, "validation_loss")
    assert [metric.step for metric in history] == list(range(1, 61))
    assert json.dumps(killed.params["learning_rate"]) in told

    # Two were never begun: the best of those that ended is found all the same.
    best = run_stage(Manifest.read(lake.store, last), lake)
    assert best.result["trial"] in (2, 3) and "2 were not begun" in best.result["summary"]


def test_a_halved_trial_that_was_killed_is_judged_by_all_that_it_learnt(lake, mlflow):
    plan = tune(lake, trials=1, epochs=5, architectures=["cnn_rnn"])
    study = study_of(lake, plan)
    # Halved after its third epoch, and killed before it knew how good it is.
    halved = study.begin(0)
    halved.state, halved.epochs = HALVED, [(0.5, 1.0), (0.5, 0.9), (0.5, 0.8)]
    study.keep(halved)
    run_stage(Manifest.read(lake.store, plan.result["mapped"][0]), lake)
    ended = study.find(0)
    assert (ended.state, ended.epochs) == (HALVED, halved.epochs) and ended.value is not None


def test_the_command_says_what_its_architecture_would_not_do_by_itself(lake, mlflow):
    said = {"schedule": "cosine", "dropout": 0.0, "ema": 0.0, "fine_tune": False}
    plan = tune(lake, trials=1, epochs=1, architectures=["cnn"], **said)
    *_, best = shards(lake, plan)
    command = best.result["command"]
    assert all(f" --param {of} " in command for of in ("schedule=cosine", "dropout=0.0"))
    # Whoever types it trains what was found.
    typed = {}
    for name, text in re.findall(r" --param (\w+)=(\S+)", command):
        try:
            typed[name] = json.loads(text)
        except ValueError:
            typed[name] = text
    found = {**best.result["train"], "architecture": "cnn"}
    assert complete({**typed, "architecture": "cnn"}) == complete(found)
    assert not {"ema", "fine_tune"} & typed.keys(), "so it is anyway"


def test_what_would_begin_too_late_is_skipped_and_what_diverges_costs_itself(lake, mlflow):
    late = tune(lake, max_hours=1e-9)
    report = run_stage(Manifest.read(lake.store, late.result["mapped"][0]), lake)
    assert report.counts == {"skipped": 1}
    assert report.result["name"] == "0: not begun, the time was over"
    with pytest.raises(BadInputError, match="Not one trial learnt to its end"):
        run_stage(Manifest.read(lake.store, late.result["last"]), lake)
    with pytest.raises(BadInputError, match="that of best among them"):
        audit_and_publish(lake, late.run_key, late, needed="best")
    skipped = [row for row in rows(lake, "outcomes") if row["run_key"] == late.run_key]
    (of_trial,) = (row for row in skipped if row["item"] == "tuned/trial 0")
    assert (of_trial["status"], of_trial["reason"]) == ("skipped", "out_of_budget")
    assert re.match("The tuning was to begin no trial after", of_trial["message"])

    wild = tune(lake, architectures=["cnn_rnn"], learning_rate=1e30, search=["dropout"])
    told = run_stage(Manifest.read(lake.store, wild.result["mapped"][1]), lake)
    assert told.counts == {"done": 1}
    assert study_of(lake, wild).find(1).state == DIVERGED
    assert re.search(r"^1: cnn_rnn.*, diverged after \d epochs$", told.result["name"])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"trials": 0}, "trials is a whole number from 1 to 500. Received: 0"),
        ({"search": ["colour"]}, "Received: colour"),
        ({"search": [], "architectures": ["cnn"]}, "Nothing is searched"),
        ({"architectures": []}, "needs architectures"),
    ],
)
def test_what_cannot_be_searched_is_one_line(lake, config, told):
    with pytest.raises(UsageError, match=told):
        tune(lake, **config)
