"""A DAG whose one stage may be at work in several pods."""

from __future__ import annotations

from airflow.sdk import DAG

from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import pod_params, runtime_params

POD = pod_params()

with DAG(
    "together",
    schedule=None,
    params={**runtime_params(), **POD},
    default_args={"retries": 1, "retry_delay": 0},
) as dag:
    StageOperator(task_id="train", stage="train", pod={name: dag.param(name) for name in POD})
