"""Attacks by whoever may register models in MLflow, but may not touch the lake."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from tests.lake.rows import DAY, publish_rows
from tests.mlflow_server import MlflowServer, serve_mlflow
from tests.runs import audit_and_publish, rows, shards, stage
from vidpipe import tracking
from vidpipe.config import load_settings
from vidpipe.errors import BadInputError
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import Network, Sampling
from vidpipe.models.bundle import Bundle, save_model
from vidpipe.models.classification import build_model
from vidpipe.stages.manifest import Report

SAMPLING = Sampling(frames=2, height=32, width=32)
VIDEOS = ("a" * 64, "b" * 64)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[MlflowServer]:
    """A server of these tests alone: a night labels by all champions that there are."""
    with serve_mlflow(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture
def client(server, monkeypatch) -> Iterator:
    monkeypatch.setenv("VIDPIPE_MLFLOW_TRACKING_URI", server.uri)
    load_settings.cache_clear()
    connected = tracking.connect()
    yield connected
    for model in connected.search_registered_models():
        connected.delete_registered_model(model.name)
    load_settings.cache_clear()


@pytest.fixture
def videos(lake: Lake) -> Lake:
    """A lake with two videos of two frames each."""
    file = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(file, "JPEG")
    about = {
        video: {"video_id": video, "work_key": f"extracted-{video[0]}", "ingested_at": DAY}
        for video in VIDEOS
    }
    frames = [
        {**about[video], "frame_index": index, "time_s": index / 2, "jpeg": file.getvalue()}
        for video in VIDEOS
        for index in range(2)
    ]
    more = {"source_uri": "s3://videos/a.mp4", "duration_s": 1.0}
    publish_rows(
        lake,
        "ingested",
        "extract",
        {"frames": frames, "videos": [facts | more for facts in about.values()]},
    )
    return lake


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    model = build_model(Network("cnn"), SAMPLING, 2)
    about = {"architecture": "cnn", "labels": ["x", "y"], "sampling": SAMPLING}
    return Bundle.pack(model, task="good", **about)


def new_task() -> str:
    return f"t{secrets.token_hex(4)}"


def train(bundle: Bundle, task: str) -> tracking.Version:
    """Registers a model as a training does, and makes it the champion."""
    bundle.task = task
    with tracking.training_run(task, "a run", secrets.token_hex(8), {}) as run:
        bundle.log(run.id)
    version = tracking.version_of_run(task, run.id)
    tracking.set_alias(version, tracking.CHAMPION)
    return version


def register(client, task: str, source: str, run_id: str | None = None) -> tracking.Version:
    """Registers a version as somebody does who has only MLflow, and makes it the champion."""
    name = tracking.model_name(task)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, source, run_id)
    client.set_registered_model_alias(name, tracking.CHAMPION, version.version)
    return tracking.champion(task)


def run_elsewhere(client, task: str, place: str) -> str:
    """A run whose experiment, made before any training, keeps its files at a place."""
    return client.create_run(client.create_experiment(f"vidpipe-{task}", place)).info.run_id


def night(lake: Lake, name: str) -> Report:
    """A night of label_nightly; the report of its plan."""
    plan = stage(lake, name, "label")
    shards(lake, plan)
    audit_and_publish(lake, name, plan)
    return plan


def labelled(lake: Lake) -> set[tuple[str, str]]:
    return {(row["task"], row["video_id"]) for row in rows(lake, "labels")}


@pytest.mark.parametrize("run_id", [None, "0" * 32, "no run", "../../../etc"])
def test_version_without_a_run(client, bundle, capsys, run_id):
    """Tries: registers a version that names no run, or one that does not exist, so that nobody can
    list any model.

    Stopped by: `vidpipe models` says so of this version, and lists the others.
    """
    train(bundle, "good")
    register(client, "other", "s3://elsewhere/model", run_id)
    tracking.print_models()
    out = capsys.readouterr().out
    assert "good version 1 (champion)" in out and "other version 1 (champion)" in out
    assert "nothing is known of its training. Delete the version in MLflow" in out


@pytest.mark.parametrize(
    "source",
    [
        "s3://elsewhere/model",
        "s3://elsewhere/../lake/model",
        "gs://elsewhere/model",
        "http://127.0.0.1:9/model",
        "ftp://127.0.0.1/model",
        "hdfs://127.0.0.1/model",
        "dbfs:/model",
    ],
)
def test_foreign_source(client, source):
    """Tries: registers a model in another bucket, or at an address of its own choice.

    Stopped by: nothing is loaded but from where MLflow and the lake keep their files.
    """
    try:
        version = register(client, new_task(), source)
    except tracking.MlflowException:
        return  # MLflow itself refuses it
    with pytest.raises(BadInputError, match="is not loaded: its files lie at"):
        Bundle.load(version.uri)


def test_foreign_folder(client, bundle, tmp_path):
    """Tries: registers a sound model in a folder of the machine, by way of an experiment that
    keeps its files there.

    Stopped by: nothing is loaded but from where MLflow and the lake keep their files.
    """
    task, place = new_task(), tmp_path.as_uri()
    run_id = run_elsewhere(client, task, place)
    folder = tmp_path / run_id / "artifacts" / "model"
    folder.parent.mkdir(parents=True)
    save_model(bundle, folder)
    version = register(client, task, f"{place}/{run_id}/artifacts/model", run_id)
    with pytest.raises(BadInputError, match="is not loaded: its files lie at 'file:"):
        Bundle.load(version.uri)


@pytest.mark.parametrize("place", ["s3://elsewhere", "mlflow-artifacts://127.0.0.1:9/a"])
def test_experiment_that_keeps_its_files_elsewhere(client, place):
    """Tries: makes the experiment of a task before it is trained, with its files at a server of
    the attacker, and registers a model of a run in it.

    Stopped by: a run is followed to where its files lie, and that is compared.
    """
    task = new_task()
    try:
        run_id = run_elsewhere(client, task, place)
    except tracking.MlflowException:
        return  # MLflow itself refuses it
    version = register(client, task, f"runs:/{run_id}/model", run_id)
    with pytest.raises(BadInputError, match="is not loaded: its files lie at"):
        Bundle.load(version.uri)


def test_documents_of_a_run_that_lie_elsewhere(client, tmp_path):
    """Tries: has a document of a run, such as its thresholds, read from a folder of the machine.

    Stopped by: documents are read only from where MLflow and the lake keep their files.
    """
    run_id = run_elsewhere(client, new_task(), tmp_path.as_uri())
    folder = tmp_path / run_id / "artifacts"
    folder.mkdir(parents=True)
    (folder / "thresholds.json").write_text('{"hunter2": 2.0}')
    with pytest.raises(BadInputError, match="is not loaded: its files lie at"):
        tracking.open_run(run_id).read_json("thresholds.json")


@pytest.mark.parametrize("run_id", [None, "0" * 32])
def test_foreign_champion_in_the_night(client, bundle, videos, run_id):
    """Tries: moves the alias of one task to a foreign version, so that the night fails for all.

    Stopped by: the plan says which task is not labelled and why, and labels the others.
    """
    train(bundle, "good")
    register(client, "bad", "s3://elsewhere/model", run_id)
    plan = night(videos, "one")
    assert labelled(videos) == {("good", video) for video in VIDEOS}
    (line,) = [line for line in plan.result["summary"].splitlines() if line.startswith("bad ")]
    assert "bad is not labelled: models:/vidpipe-bad/1 is not loaded" in line
    assert "promote another version" in line


def test_only_foreign_champions(client, videos):
    """Tries: moves the only champion to a foreign version, so that nothing is labelled, unnoticed.

    Stopped by: the night fails, and says why.
    """
    register(client, "bad", "s3://elsewhere/model")
    with pytest.raises(BadInputError, match="models:/vidpipe-bad/1 is not loaded"):
        night(videos, "one")


@pytest.mark.parametrize("harm", ["cut", "gone", "replaced"])
def test_damaged_champion_in_the_night(client, bundle, videos, server, harm):
    """Tries: damages the files of one task's champion, so that nothing of the night is published.

    Stopped by: its videos fail with the reason `model_unusable` and wait; the others are labelled.
    """
    train(bundle, "good")
    version = train(bundle, "bad")
    place = tracking.find_files(version.uri).removeprefix("mlflow-artifacts:/")
    file = server.folder / "artifacts" / place / "data" / "model.keras"
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif harm == "gone":
        file.unlink()
    else:
        other = build_model(Network("cnn"), SAMPLING, 2)
        other.set_weights([weights + 1 for weights in other.get_weights()])
        other.save(file)
    night(videos, "one")
    assert labelled(videos) == {("good", video) for video in VIDEOS}
    outcomes = [
        o for o in rows(videos, "outcomes") if o["item"].startswith("bad/") and o["video_id"]
    ]
    failed = {(o["video_id"], o["status"], o["reason"]) for o in outcomes}
    assert failed == {(video, "failed", "model_unusable") for video in VIDEOS}
    tries = videos.settings.extract.max_tries
    for number in range(tries):  # they wait, however often it fails
        plan = stage(videos, f"again-{number}", "label")
        assert plan.result["counts"]["selected"] == len(VIDEOS)


@pytest.mark.parametrize(
    "name",
    [
        "vidpipe-",
        "vidpipe-Motion",
        "vidpipe-two words",
        "vidpipe-it's",
        "vidpipe-a' or name like '%",
        "vidpipe-\x1b[31mred",
        "vidpipe-" + "x" * 200,
        "vidpipe-..",
    ],
)
def test_registered_name_that_is_no_task(client, bundle, videos, capsys, name):
    """Tries: registers a model whose name is no name of a task, which ends in SQL, URIs and paths.

    Stopped by: only names that vidpipe gives itself are looked at.
    """
    train(bundle, "good")
    try:
        client.create_registered_model(name)
        client.create_model_version(name, "s3://elsewhere/model")
        client.set_registered_model_alias(name, tracking.CHAMPION, "1")
    except tracking.MlflowException:
        pass  # MLflow itself refuses it, or a part of it
    assert set(tracking.champions()) == {"good"}
    tracking.print_models()
    out = capsys.readouterr().out
    assert "good version 1 (champion)" in out and "\x1b" not in out


def test_alias_of_a_version_that_is_deleted(client, bundle, videos):
    """Tries: deletes the version that is the champion of one task.

    Stopped by: the task has no champion then, and the others are labelled.
    """
    train(bundle, "good")
    version = train(bundle, "bad")
    client.delete_model_version(version.name, version.version)
    assert tracking.champion("bad") is None
    night(videos, "one")
    assert labelled(videos) == {("good", video) for video in VIDEOS}


def test_promotion_of_a_foreign_version(client, bundle, videos):
    """Tries: has a person promote a version whose files lie elsewhere.

    Stopped by: `vidpipe promote` refuses it, and the champion stays.
    """
    version = train(bundle, "good")
    client.create_model_version("vidpipe-good", "s3://elsewhere/model")
    with pytest.raises(BadInputError, match="models:/vidpipe-good/2 is not loaded"):
        stage(videos, "by-hand", "promote", task="good", version="2", why="")
    assert tracking.champion("good") == version
