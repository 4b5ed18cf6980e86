"""Runs DAGs in this process, with an Airflow home of the tests' own.

Airflow reads its settings when it is first imported: tests import it only after `airflow_home`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from logging import Logger
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import pretend_stage
from vidpipe.config import Settings, load_settings
from vidpipe.lake.tables import Lake
from vidpipe.orchestration.last_words import LastWords
from vidpipe.orchestration.local_process import LocalProcess

TESTS = Path(__file__).parent
DAGS = TESTS.parent / "dags"


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Airflow home with a database; its DAGs are the project's and those of the tests."""
    home = tmp_path_factory.getbasetemp() / "airflow"
    if home.exists():
        return home
    (home / "dags").mkdir(parents=True)
    for dag in (*DAGS.glob("*.py"), *TESTS.glob("orchestration/dags/*.py")):
        (home / "dags" / dag.name).symlink_to(dag)
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONFIG": str(home / "airflow.cfg"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(TESTS.parent / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    from airflow.utils.db import initdb

    initdb()
    return home


def configure(settings: Settings, path: Path) -> dict[str, str]:
    """Writes the configuration that `settings` are; returns the environment that names it."""
    lines = [f"deployment = {json.dumps(settings.deployment)}"]
    for section in ("lake", "s3", "mlflow", "sources", "notify"):
        values = dataclasses.asdict(getattr(settings, section))
        lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
    path.write_text("\n".join(lines))
    return {"VIDPIPE_CONFIG": str(path)}


@pytest.fixture
def configured(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """An empty lake that this process, and the stages that it starts, are configured to use."""
    for name, value in configure(lake.settings, tmp_path / "vidpipe.toml").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(TESTS.parent))
    load_settings.cache_clear()
    yield lake
    load_settings.cache_clear()


def wait_for_end(pid: int) -> None:
    """Waits until a process is gone; a test that waits for ever has failed."""
    with contextlib.suppress(psutil.NoSuchProcess):
        # Who adopts an orphan may be slow to bury it.
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.05)


@dataclass
class Run:
    """How a run of a DAG ended.

    Attributes:
        run_id: What Airflow calls it.
        state: `success` or `failed`.
        tasks: State of each task; `extract[0]` where it is mapped.
        xcoms: What each of them returned.
        names: What Airflow calls the mapped ones.
        tries: How often each was tried.
        links: Where the link to MLflow leads.
        note: What its page says of it.
    """

    run_id: str
    state: str
    tasks: dict[str, str]
    xcoms: dict[str, Any]
    names: dict[str, str]
    tries: dict[str, int]
    links: dict[str, str | None]
    note: str | None = None


def run_dag(home: Path, dag_id: str, **conf: Any) -> Run:
    """Runs a DAG to its end; retries do not wait."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(str(home / "dags" / f"{dag_id}.py")).dags[dag_id]
    for task in dag.tasks:
        with contextlib.suppress(AttributeError):  # mapped tasks have no setter
            task.retry_delay = timedelta(0)
            task.retry_exponential_backoff = 0
    run = dag.test(run_conf=conf)
    done = Run(run.run_id, str(run.state), {}, {}, {}, {}, {})
    for ti in run.get_task_instances():
        name = ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"
        done.tasks[name] = str(ti.state)
        done.names[name] = ti.rendered_map_index
        done.tries[name] = ti.try_number
        done.links[name] = ti.xcom_pull(
            task_ids=ti.task_id, map_indexes=ti.map_index, key="_link_MlflowRunLink"
        )
        done.xcoms[name] = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index)
    done.note = _note(run.dag_id, run.run_id)
    return done


def _note(dag_id: str, run_id: str) -> str | None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        chosen = (DagRun.dag_id == dag_id, DagRun.run_id == run_id)
        return session.scalars(select(DagRun).where(*chosen)).one().note


class PretendStages:
    """Stages that do what a test says; see `pretend_stage.py`."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        (folder / "calls.jsonl").touch()
        self.told: dict[str, Any] = {}
        self.tell()

    def tell(self, **stages: dict[str, Any]) -> None:
        """Says what stages do; a shard's name is `STAGE/00000`."""
        self.told |= stages
        (self.folder / "script.json").write_text(json.dumps(self.told))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The stages that ran, in their order, each with its name and its configuration."""
        return [json.loads(line) for line in (self.folder / "calls.jsonl").open()]

    @property
    def child(self) -> int:
        """Process id of the child that a stage left."""
        return int((self.folder / "child.pid").read_text())


@pytest.fixture
def stages(
    configured: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PretendStages]:
    """Stages that do what the test says, in place of the real ones; within this process."""
    pretended = PretendStages(tmp_path / "pretend")

    def run(
        _: LocalProcess,
        arguments: Sequence[str],
        log: Logger,
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> tuple[int, str]:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exit_code = pretend_stage.run(pretended.folder, arguments)
        last = LastWords()
        for line in said.getvalue().splitlines():
            log.info("%s", line)
            last.add(line)
            on_line(line)
        return exit_code, str(last)

    monkeypatch.setattr(LocalProcess, "run", run)
    yield pretended


@pytest.fixture
def stage_processes(
    configured: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PretendStages]:
    """As `stages`, each in a process of its own, as the real ones are."""
    pretended = PretendStages(tmp_path / "pretend")
    python = pretended.folder / "python"
    command = shlex.join([sys.executable, pretend_stage.__file__])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PRETEND_FOLDER", str(pretended.folder))
    yield pretended
