"""Runs and the registry, on a real MLflow server."""

from __future__ import annotations

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
    shown = capsys.readouterr().out
    assert "champion" in shown and "0.750" in shown and "cnn" in shown
    assert shown.splitlines()[0].split()[-3:] == ["test", "videos", "created"]
    assert shown.splitlines()[2].split()[5] == "17"


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
