"""A DAG whose stage may take some seconds only."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from vidpipe.orchestration.operator import StageOperator

with DAG("brief", schedule=None):
    StageOperator(task_id="plan", stage="discover", execution_timeout=timedelta(seconds=20))
