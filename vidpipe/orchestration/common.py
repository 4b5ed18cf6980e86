"""What all DAGs share: settings, and how a run ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.sdk import XComArg

from vidpipe.config import load_settings
from vidpipe.orchestration import notify
from vidpipe.orchestration.operator import StageOperator

# Set by StageOperator when it has read the manifest.
SHARD_NAME = "{{ shard_name }}"
# Pools of Airflow that count tasks which wait for their pods; docker/kubernetes/ makes them.
PODS_POOL, GPU_POOL = "pods", "gpu"
# At a time, of a DAG that may have several: the pools hold them back before that.
RUNS = 16


def dag_settings(*, several: bool = False) -> dict[str, Any]:
    """Arguments that every DAG has.

    Args:
        several: Whether it may have several runs at a time: one that waits for people does not hold
            up those after it. On one machine their trainings follow each other all the same.
    """
    in_pods = load_settings().runtime == "kubernetes"
    pool = {"pool": PODS_POOL} if in_pods else {}
    return {
        "start_date": pendulum.datetime(2026, 1, 1, tz="UTC"),
        "catchup": False,
        "max_active_runs": RUNS if several else 1,
        "default_args": {
            "owner": "vidpipe",
            # How long a retry waits at first is Airflow's setting [core] default_task_retry_delay.
            "retries": 2,
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": timedelta(minutes=10),
            "execution_timeout": timedelta(hours=1),
            # Of two tasks that want a slot, the one that is nearer to the end of its run: else
            # what is done would wait for publication until others have begun all they have.
            "weight_rule": "upstream",
            **pool,
            **notify.failed_task(),
        },
    }


def shard_settings() -> dict[str, Any]:
    """Arguments of tasks that are mapped over shards."""
    return {
        "map_index_template": SHARD_NAME,
        # A task that waits for its pod holds no worker: without this all would begin at once.
        "max_active_tis_per_dagrun": load_settings().kubernetes.max_active,
        "execution_timeout": timedelta(hours=6),
    }


def training_settings() -> dict[str, Any]:
    """Arguments of a task that trains one of several models, and may take GPUs."""
    settings = load_settings()
    in_pods = settings.runtime == "kubernetes"
    # It takes one slot, however many GPUs: slots are fixed before anybody fills in the form.
    pool = {"pool": GPU_POOL} if in_pods else {}
    return {
        "map_index_template": SHARD_NAME,
        # One machine trains one after the other, for each takes all of it; so do several runs.
        **(
            {"max_active_tis_per_dagrun": settings.kubernetes.max_active}
            if in_pods
            else {"max_active_tis_per_dag": 1}
        ),
        "execution_timeout": timedelta(hours=12),
        **pool,
    }


def audit_and_publish(plan: StageOperator, **config: Any) -> StageOperator:
    """Ends a run: what was planned and done is audited, and what is fit is published.

    Args:
        plan: The task whose report tells what was planned.
        config: Further parameters of the audit.

    Returns:
        The task `audit`; `publish` comes after it.
    """
    audit = StageOperator(
        task_id="audit",
        stage="audit",
        config={"plan": XComArg(plan, key="report"), **config},
        multiple_outputs=True,
    )
    publish = StageOperator(
        task_id="publish",
        stage="publish",
        config={"publication": XComArg(audit, key="publication")},
    )
    audit >> publish
    return audit


def audit_what_is_done(plan: StageOperator, work: Any, **config: Any) -> StageOperator:
    """Does the same after work that may have failed or may not have been needed.

    For the audit decides whether the failures are within budget; so the state of the run is that of
    `publish`. A plan that failed or was skipped takes both with it.

    Returns:
        The task `publish`.
    """
    # Set-up and teardown: Airflow's only rule for "the plan succeeded, and the work is over".
    audit = audit_and_publish(plan, **config)
    (publish,) = audit.downstream_list
    work >> audit.as_teardown(setups=plan, on_failure_fail_dagrun=True)
    return publish
