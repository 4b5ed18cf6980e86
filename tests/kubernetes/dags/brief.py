"""DAGs whose stage may take some seconds only."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from vidpipe.orchestration.operator import StageOperator

WITHIN = timedelta(seconds=20)

with DAG("brief", schedule=None):
    StageOperator(task_id="plan", stage="discover", execution_timeout=WITHIN)

with DAG("brief_together", schedule=None):
    StageOperator(task_id="train", stage="train", pod={"workers": 2}, execution_timeout=WITHIN)
