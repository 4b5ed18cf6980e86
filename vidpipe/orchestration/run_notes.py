"""Notes on runs: what a run is about, and what came of it, on its page and in the list of runs.

A task cannot set the note of its run: Airflow's Task SDK and Execution API have no such call
(3.3.2). So the plugin registers this module as a listener, which Airflow calls where the state of a
run changes: in the scheduler, or in the API server where a person marks a run. There, and only
there, the database is at hand; nothing is committed here, Airflow does that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import Session

NOTE_CHARS = 1_000  # the database takes no more
LINE_CHARS = 300
_TAG = "vidpipe"
# XComs of tasks in which they say what came of them.
_KEYS = ("summary", "failure")


@hookimpl
def on_dag_run_running(dag_run: DagRun, msg: str) -> None:
    """Notes what the run is about."""
    _note(dag_run)


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Adds what came of it."""
    _note(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Adds why it failed."""
    _note(dag_run)


def _note(dag_run: DagRun) -> None:
    from airflow.models.dagrun import DagRun as Stored
    from airflow.utils.session import create_session
    from sqlalchemy.orm import object_session

    if dag_run.dag is None or _TAG not in dag_run.dag.tags:
        return  # somebody else's DAG
    if session := object_session(dag_run):
        _write(dag_run, _about(dag_run), session)
        return
    with create_session() as session:  # as in a run that is tried out by `dag.test()`
        _write(session.get_one(Stored, dag_run.id), _about(dag_run), session)


def _write(dag_run: DagRun, about: str, session: Session) -> None:
    # What a person wrote is kept; what an earlier call wrote begins with the same words.
    written = (dag_run.note or "").partition(about)[0].rstrip()
    lines: list[str] = []
    room = NOTE_CHARS - len(written) - len(about) - 4
    for line in reversed(_results(dag_run, session)):  # the last tasks matter most
        if (room := room - len(line) - 2) < 0:
            break
        lines.insert(0, line)
    dag_run.note = "\n\n".join(filter(None, (written, about, *lines)))[:NOTE_CHARS]


def _about(dag_run: DagRun) -> str:
    """The parameters that differ from their defaults, and who started the run."""
    defaults = {name: dag_run.dag.params.get_param(name).value for name in dag_run.dag.params}
    chosen = [
        f"{name}={_shown(value)}"
        for name, value in (dag_run.conf or {}).items()
        if value != defaults.get(name)
    ]
    started_by = "its schedule"
    if dag_run.run_type != "scheduled":
        started_by = dag_run.triggering_user_name or "hand"
    about = f"**{dag_run.dag_id}** {', '.join(chosen)}".rstrip()
    return f"{about[:LINE_CHARS]} (started by {started_by})"


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _results(dag_run: DagRun, session: Session) -> list[str]:
    """What each task said came of it, or why it failed, in the order in which they began."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    rows = session.scalars(
        select(XComModel).where(
            XComModel.dag_id == dag_run.dag_id,
            XComModel.run_id == dag_run.run_id,
            XComModel.key.in_(_KEYS),
            XComModel.map_index < 0,  # of mapped tasks the audit tells
        )
    )
    said = {row.task_id: XComModel.deserialize_value(row) for row in rows}
    instances = dag_run.get_task_instances(session=session)
    return [
        f"{_mark(ti)} {ti.task_id}: {_line(said[ti.task_id])}"
        for ti in sorted(instances, key=lambda ti: (ti.start_date is None, ti.start_date))
        if ti.task_id in said
    ]


def _mark(instance: TaskInstance) -> str:
    return "✗" if instance.state == "failed" else "–" if instance.state == "skipped" else "✓"


def _line(text: str) -> str:
    line = str(text).partition("\n")[0]
    return line if len(line) <= LINE_CHARS else f"{line[: LINE_CHARS - 1]}…"
