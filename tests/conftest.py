"""Fixtures that several packages' tests share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@dataclass(frozen=True)
class RunningStack:
    """The whole embedded stack, one for all tests of a session.

    Attributes:
        root: Its folder; `VIDPIPE_CONFIG` names the configuration in it while a test uses it.
        home: The home folder of its processes.
        dags_folder: The DAG files of the project, and those of tests/local/dags.
    """

    root: Path
    home: Path
    dags_folder: Path


@pytest.fixture(scope="session")
def _stack_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    from vidpipe.local import stack

    folder = tmp_path_factory.mktemp("stack")
    running = RunningStack(folder / ".vidpipe", folder / "home", folder / "dags")
    running.home.mkdir()
    running.dags_folder.mkdir()
    for dag in (*TESTS.parent.glob("dags/*.py"), *TESTS.glob("local/dags/*.py")):
        (running.dags_folder / dag.name).symlink_to(dag)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(running.home))
        patch.chdir(folder)
        stack.up(running.root, dags_folder=running.dags_folder)
    yield running
    stack.down(running.root)


@pytest.fixture
def stack(
    _stack_of_session: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningStack]:
    """The running stack, with this process configured to use it."""
    from vidpipe.config import load_settings

    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        monkeypatch.setenv(name, "when_required")
    monkeypatch.setenv("VIDPIPE_CONFIG", str(_stack_of_session.root / "vidpipe.toml"))
    load_settings.cache_clear()
    yield _stack_of_session
    load_settings.cache_clear()
