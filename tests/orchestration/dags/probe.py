"""A DAG for the tests of the operator: one stage that plans, and its shards."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from vidpipe.orchestration.common import SHARD_NAME
from vidpipe.orchestration.operator import StageOperator

PARAMS = {name: Param(None, type=["null", "string"]) for name in ("prefix", "pattern", "source")}

with DAG(
    "probe",
    schedule=None,
    params=PARAMS,
    default_args={"retries": 1, "retry_delay": 0},
) as dag:
    plan = StageOperator(
        task_id="plan",
        stage="discover",
        config={**{name: dag.param(name) for name in PARAMS}, "list": [dag.param("prefix"), 1]},
    )
    StageOperator.partial(task_id="work", stage="extract", map_index_template=SHARD_NAME).expand(
        shard=plan.output
    )
