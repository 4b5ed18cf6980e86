"""Runs and the registry, on a real MLflow server."""

from __future__ import annotations

import json
import re
import secrets

import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from tests.servers import free_port
from vidpipe import tracking
from vidpipe.config import load_settings
from vidpipe.errors import StoppedError, TemporaryError, UsageError

TAGS = {"vidpipe.run_key": "r"}


@pytest.fixture
def task(mlflow) -> str:
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def client(mlflow) -> MlflowClient:
    return MlflowClient(mlflow.uri)


def register(task: str, client: MlflowClient, accuracy: float = 0.5) -> tracking.Version:
    """A version without a model: it is the registry that is looked at."""
    name = tracking.model_name(task)
    with tracking.training_run(task, "a run", secrets.token_hex(8), TAGS) as run:
        run.log_params({"architecture": "cnn", "test_videos": 17})
        run.log_metrics({"test_accuracy": accuracy})
    if tracking.champion(task) is None and not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run.id}/model", run.id)
    return tracking.version_of_run(task, run.id)


def test_a_run_keeps_what_is_logged_and_finishes(task, client):
    with tracking.training_run(task, "a run", "work", TAGS) as run:
        assert client.get_run(run.id).info.status == "RUNNING"
        run.log_params({"epochs": 2})
        run.log_params({"epochs": 2})
        for step in (1, 2):
            run.log_metrics({"train_loss": 1 / step}, step)
    found = client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"epochs": "2"}
    assert found.data.tags["vidpipe.run_key"] == "r"
    history = client.get_metric_history(run.id, "train_loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5)]


def test_what_an_earlier_attempt_noted_is_not_noted_twice(task, client):
    for steps in ((1, 2), (2, 3)):
        with tracking.training_run(task, "a run", "work", TAGS) as run:
            for step in steps:
                run.log_metrics({"train_loss": step, "train_accuracy": 0}, step, once=True)
    history = client.get_metric_history(run.id, "train_loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 2.0), (3, 3.0)]


@pytest.mark.parametrize(
    "error, status",
    [(StoppedError("stop"), "KILLED"), (KeyboardInterrupt(), "KILLED"), (OSError("x"), "FAILED")],
)
def test_how_a_run_ends_and_that_a_retry_resumes_it(task, client, error, status):
    with pytest.raises(type(error)), tracking.training_run(task, "a run", "work", TAGS) as run:
        raise error
    assert client.get_run(run.id).info.status == status
    with tracking.training_run(task, "a run", "work", TAGS) as again:
        assert client.get_run(run.id).info.status == "RUNNING"
    assert again.id == run.id
    with tracking.training_run(task, "a run", "other work", TAGS) as other:
        assert other.id != run.id


def test_an_existing_run_can_be_added_to(task, client):
    with tracking.training_run(task, "a run", "work", TAGS) as run:
        pass
    later = tracking.open_run(run.id)
    later.log_metrics({"test_accuracy": 0.75})
    later.log_json([{"label": "a"}], "per_class.json")
    assert client.get_run(run.id).data.metrics == {"test_accuracy": 0.75}
    assert later.url == run.url and run.id in run.url


def test_a_task_has_one_champion_and_one_challenger(task, client):
    assert tracking.champion(task) is None
    one, two = (register(task, client) for _ in range(2))
    assert tracking.champion(task) is None, "registered, but not promoted"
    tracking.set_alias(one, tracking.CHAMPION)
    tracking.set_alias(two, tracking.CHALLENGER)
    assert tracking.champion(task) == one
    tracking.set_alias(two, tracking.CHAMPION)
    assert tracking.champion(task) == two
    assert client.get_registered_model(two.name).aliases == {"champion": "2"}
    assert two.uri == f"models:/vidpipe-{task}/2"


def test_versions_are_listed_with_their_metrics(task, client, capsys):
    tracking.set_alias(register(task, client, 0.75), tracking.CHAMPION)
    register(task, client, 0.5)
    found = tracking.list_models(task)
    assert [(m["version"], m["alias"], m["metrics"]["test_accuracy"]) for m in found] == [
        ("2", "", 0.5),
        ("1", "champion", 0.75),
    ]
    assert {m["task"] for m in tracking.list_models()} >= {task}
    tracking.print_models(task)
    second, result, first, *_ = capsys.readouterr().out.splitlines()
    assert second.startswith(f"{task} version 2: cnn, 20")
    assert result == "  accuracy 0.500, 17 test videos"
    assert first.startswith(f"{task} version 1 (champion): cnn, 20")


def test_interval_decision_and_reason_are_legible_on_a_narrow_terminal(
    task, client, capsys, monkeypatch
):
    version = register(task, client, 0.75)
    tracking.open_run(version.run_id).log_metrics(
        {"test_accuracy_low": 0.41, "test_accuracy_high": 0.93, "test_macro_f1": 0.741}
    )
    why = "Its accuracy is 0.750, that of version 2 is 0.625, on the same 8 test videos: +0.125."
    tracking.describe_decision(version, "not promoted", why)
    tracking.print_models(task)
    _, result, decision = capsys.readouterr().out.splitlines()
    assert result == "  accuracy 0.750 (0.410 to 0.930), macro F1 0.741, 17 test videos"
    assert decision == f"  Not promoted. {why}", "whole in a pipe"

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    tracking.print_models(task)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", of) for of in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80 and all(line.startswith("  ") for line in lines[1:])
    assert " ".join(" ".join(lines[2:]).split()) == f"Not promoted. {why}"


def test_pages_of_mlflow_say_what_they_show(task, client):
    name = tracking.model_name(task)
    with tracking.training_run(task, "a run", "work", TAGS) as run:
        experiment = client.get_experiment(run.experiment_id)
        assert f"the task **{task}**" in experiment.tags["mlflow.note.content"]
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
        client.set_experiment_tag(run.experiment_id, "mlflow.note.content", "Ours.")
        for _ in range(2):  # as in a second attempt
            run.describe("Data", "2 videos.")
            run.log_dataset(task, "abc", "s3://lake/d.json", "s3://lake", {"videos": {"train": 2}})
    client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run.id}/model", run.id)
    version = tracking.version_of_run(task, run.id)
    tracking.describe_model(task)
    tracking.describe_version(version, "Result", "accuracy 0.5")
    tracking.describe_decision(version, "not promoted", "It guesses.")
    tracking.describe_decision(version, "promoted by hand", "We need one.")

    described = "**Data.** 2 videos.\n\n**Result.** accuracy 0.5\n\n**Decision.** Promoted by hand."
    assert client.get_run(run.id).data.tags["mlflow.note.content"] == f"{described} We need one."
    assert client.get_model_version(name, "1").description == f"{described} We need one."
    assert f"Models of the task **{task}**" in client.get_registered_model(name).description
    (noted,) = client.get_run(run.id).inputs.dataset_inputs
    assert (noted.dataset.name, noted.dataset.digest) == (task, "abc")
    assert json.loads(noted.dataset.source) == {"uri": "s3://lake/d.json", "lake": "s3://lake"}
    assert json.loads(noted.dataset.profile) == {"videos": {"train": 2}}
    assert [(tag.key, tag.value) for tag in noted.tags] == [("mlflow.data.context", "training")]
    with tracking.training_run(task, "another", "other", TAGS):
        pass
    kept = client.get_experiment(run.experiment_id).tags["mlflow.note.content"]
    assert kept == "Ours.", "what people wrote stays"


def test_no_model_is_told(mlflow, capsys):
    tracking.print_models("never_trained")
    assert "No model of task 'never_trained' is registered yet" in capsys.readouterr().out


def test_a_server_that_is_gone_is_one_clear_line(mlflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # that it waits is MLflow's part
    monkeypatch.setenv("VIDPIPE_MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{free_port()}")
    load_settings.cache_clear()
    with pytest.raises(TemporaryError, match="MLflow at .*does not answer") as caught:
        tracking.champion("motion")
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_no_server_configured_says_what_to_do(mlflow, monkeypatch):
    monkeypatch.setenv("VIDPIPE_MLFLOW_TRACKING_URI", "")
    load_settings.cache_clear()
    with pytest.raises(UsageError, match="vidpipe up"):
        tracking.champion("motion")


def test_pictures_are_found_by_the_videos_they_show_and_removed_for_good(
    task, client, mlflow_server
):
    one, two = "a" * 64, "b" * 64
    with tracking.training_run(task, "a run", "work", TAGS) as run:
        run.log_pictures(dict.fromkeys(tracking.PICTURES, Figure()), [one, two])
        run.log_json([], "per_class.json")
    client.delete_run(run.id)  # in MLflow's bin it has its files still
    with tracking.training_run(task, "another", "other", TAGS) as other:
        other.log_pictures({tracking.MISCLASSIFIED: Figure()}, [two])
    assert [found.id for found in tracking.runs_showing([one])] == [run.id]
    assert {found.id for found in tracking.runs_showing([one, two])} == {run.id, other.id}

    run.remove_pictures()
    files = [path.name for path in mlflow_server.folder.rglob(f"{run.id}/artifacts/*")]
    assert files == ["per_class.json"]
    assert tracking.runs_showing([one]) == []
    run.remove_pictures()
    assert list(mlflow_server.folder.rglob(f"{other.id}/artifacts/misclassified.png"))
