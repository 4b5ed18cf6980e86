"""Removes from the cluster what is left over: pods and Jobs of tasks that are over.

Most are removed by the task itself when it ends, and those whose task was marked or cleared by the
scheduler (`pod_watch.py`). Left over are those that no scheduler saw, such as where it may not talk
to Kubernetes.

It looks for the label of this deployment, and asks Airflow for the state of the task that each
thing names: in Airflow's own worker, because pods may not talk to Kubernetes, nor to Airflow.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from vidpipe.config import load_settings
from vidpipe.errors import VidpipeError
from vidpipe.orchestration.operator import airflow_error

if TYPE_CHECKING:
    from airflow.sdk import Context

# A task in any other state waits for its pod, or may still find it and go on with it.
OVER = ("success", "failed", "skipped", "upstream_failed", "removed")


class SweepOperator(BaseOperator):
    """Removes what is left over in the cluster; where no pods are configured it is skipped."""

    def execute(self, context: Context) -> dict[str, int]:
        settings = load_settings()
        if not settings.kubernetes.worker_image:
            raise AirflowSkipException(
                "No pods are configured: [kubernetes] worker_image is empty."
            )
        # Importing the provider takes seconds, which DAG files do not have.
        from vidpipe.orchestration.pods import ANNOTATIONS, Cluster

        ti = context["ti"]

        @functools.cache
        def states(dag_id: str, run_id: str) -> dict[str, str | None]:
            return ti.get_task_states(dag_id, run_ids=[run_id]).get(run_id, {})

        def is_over(told: dict[str, str]) -> bool:
            names = [told.get(name) for name in ANNOTATIONS]
            if not all(names):
                return False  # nobody knows whose it is
            dag_id, run_id, task = names
            task_id, _, index = task.removesuffix("]").rpartition("[")
            key = task_id if index == "-1" else f"{task_id}_{index}"
            # Of a run that was deleted nothing is known any more.
            return states(dag_id, run_id).get(key, "removed") in OVER

        try:
            removed = Cluster(settings).sweep(is_over)
        except VidpipeError as error:
            raise airflow_error(error.exit_code, str(error)) from error
        summary = f"removed {', '.join(f'{count} {kind}' for kind, count in removed.items())}"
        self.log.info("%s", summary)
        ti.xcom_push(key="summary", value=summary)
        return removed
