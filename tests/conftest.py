"""Fixtures that several packages' tests share."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.mlflow_server import MlflowServer, serve_mlflow
from tests.servers import S3Server, new_lake, serve_s3, serve_webhook
from vidpipe.lake.tables import Lake

TESTS = Path(__file__).parent
# Given out first, so that none of them is left alone at the end.
LONGEST = ("stages/test_training.py", "training", "stages", "dags")

# How long an example takes is no matter of a test: machines are shared.
hypothesis.settings.register_profile("untimed", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the tests that take minutes")


@pytest.hookimpl(tryfirst=True)  # before `-m "not long"` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_turn)
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.long)
    if not config.getoption("--run-slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: --run-slow"))


def _turn(item: pytest.Item) -> int:
    turns = (n for n, name in enumerate(LONGEST) if item.path.is_relative_to(TESTS / name))
    return next(turns, len(LONGEST))


@dataclass(frozen=True)
class RunningStack:
    """The whole embedded stack, one for all tests of a module: even idle it takes its share.

    Attributes:
        root: Its folder; `VIDPIPE_CONFIG` names the configuration in it while a test uses it.
        home: The home folder of its processes.
        dags_folder: The DAG files of the project, and those of tests/local/dags.
        posts: What was sent to the webhook that its Airflow tells of failures.
    """

    root: Path
    home: Path
    dags_folder: Path
    posts: list[tuple[str, Any]]


@pytest.fixture(scope="module")
def _webhook() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    with serve_webhook() as running:
        yield running


@pytest.fixture(scope="module")
def _stack_of_module(
    tmp_path_factory: pytest.TempPathFactory, _webhook: tuple[str, list[tuple[str, Any]]]
) -> Iterator[RunningStack]:
    from vidpipe.local import stack

    url, posts = _webhook
    folder = tmp_path_factory.mktemp("stack")
    running = RunningStack(folder / ".vidpipe", folder / "home", folder / "dags", posts)
    running.home.mkdir()
    running.dags_folder.mkdir()
    own = [file for file in (TESTS.parent / "dags").iterdir() if file.is_file()]
    for dag in (*own, *TESTS.glob("local/dags/*.py")):
        (running.dags_folder / dag.name).symlink_to(dag)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(running.home))
        patch.setenv("VIDPIPE_NOTIFY_WEBHOOK_PATH", "hook")
        patch.setenv("AIRFLOW_CONN_HTTP_DEFAULT", url)
        patch.chdir(folder)
        stack.up(running.root, dags_folder=running.dags_folder)
    yield running
    stack.down(running.root)


@pytest.fixture
def stack(
    _stack_of_module: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningStack]:
    """The running stack, with this process configured to use it; who asks for it is `long`."""
    from vidpipe.config import load_settings

    monkeypatch.setenv("VIDPIPE_CONFIG", str(_stack_of_module.root / "vidpipe.toml"))
    load_settings.cache_clear()
    yield _stack_of_module
    load_settings.cache_clear()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with the buckets `videos` and `lake`."""
    with serve_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def lake(s3_server: S3Server, tmp_path: Path) -> Lake:
    """An empty lake on a real S3 server."""
    return new_lake(s3_server.settings, tmp_path, f"lake-{secrets.token_hex(4)}")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server."""
    with serve_mlflow(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def mlflow(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """The MLflow server, with this process configured to use it; tests take tasks of their own."""
    from vidpipe.config import load_settings

    monkeypatch.setenv("VIDPIPE_MLFLOW_TRACKING_URI", mlflow_server.uri)
    load_settings.cache_clear()
    yield mlflow_server
    load_settings.cache_clear()
