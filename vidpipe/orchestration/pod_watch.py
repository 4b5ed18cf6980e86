"""Removes pods that no task waits for any longer within a minute, whoever changed the task.

Most are removed by their task, or by Airflow's triggerer when somebody marks or clears the task.
But a triggerer may be away, or may not have begun to wait. So every scheduler has a process of this
module beside it, which compares the pods of this deployment with their tasks in Airflow's database.
It is no thread, as the scheduler forks, and it ends with the scheduler.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from typing import Any

from airflow.listeners import hookimpl

from vidpipe.config import load_settings

log = logging.getLogger(__name__)

EVERY_S = 15.0


@hookimpl
def on_starting(component: Any) -> None:
    """Called by Airflow in each of its processes that starts, those of tasks included."""
    if sys.argv[1:2] != ["scheduler"] or not load_settings().kubernetes.worker_image:
        return
    from airflow.jobs.job import Job

    # A task that the scheduler forked has its arguments, too, but is no job. Which job it is, it
    # does not say yet.
    if isinstance(component, Job):
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid())],
            # Connections are read from the database, as in the scheduler.
            env=os.environ | {"_AIRFLOW_PROCESS_CONTEXT": "server"},
        )


def is_over(annotations: dict[str, str]) -> bool:
    """Whether the task that a pod names is over, is not known, or was cleared since.

    A task that Airflow tries again finds the pod and goes on with it; one that was cleared begins
    anew. Clearing raises how often a task may be tried, and nothing else does.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from vidpipe.orchestration.pods import ANNOTATIONS, MAX_TRIES
    from vidpipe.orchestration.sweep import OVER

    names = [annotations.get(name) for name in ANNOTATIONS]
    if not all(names):
        return False  # nobody knows whose it is
    dag_id, run_id, task = names
    task_id, _, index = task.removesuffix("]").rpartition("[")
    with create_session() as session:
        found = session.execute(
            select(TaskInstance.state, TaskInstance.max_tries).where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id == run_id,
                TaskInstance.task_id == task_id,
                TaskInstance.map_index == int(index),
            )
        ).first()
    if found is None or found.state in OVER:
        return True
    return annotations.get(MAX_TRIES, str(found.max_tries)) != str(found.max_tries)


def main() -> None:
    """Looks at the pods until the scheduler, whose process id is given, is gone."""
    from vidpipe.orchestration.pods import Cluster

    logging.basicConfig(format="pod_watch: %(message)s", level=logging.WARNING)
    logging.getLogger("vidpipe").setLevel(logging.INFO)
    settings, scheduler = load_settings(), int(sys.argv[1])
    while os.getppid() == scheduler:
        try:
            # A new login each time: those of clouds end.
            Cluster(settings).remove_left(is_over)
        except Exception as error:  # the cluster or the database is away: later it is not
            log.warning("pods are not looked at: %s", error)
        looked_s = time.monotonic()
        while os.getppid() == scheduler and time.monotonic() - looked_s < EVERY_S:
            time.sleep(1)


if __name__ == "__main__":
    main()
