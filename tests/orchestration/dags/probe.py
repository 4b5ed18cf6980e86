"""A DAG for the tests of the operator: one stage that plans, and its shards."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from vidpipe.orchestration.common import SHARD_NAME
from vidpipe.orchestration.operator import StageOperator

with DAG(
    "probe",
    schedule=None,
    params={"prefix": Param(None, type=["null", "string"])},
    default_args={"retries": 1},
) as dag:
    plan = StageOperator(
        task_id="plan",
        stage="discover",
        config={"prefix": dag.param("prefix"), "nested": {"list": [dag.param("prefix"), 1]}},
    )
    StageOperator.partial(
        task_id="work", stage="extract", map_index_template=SHARD_NAME, retries=0
    ).expand(shard=plan.output)
