"""What `maintain` does in a cluster, also to what is only just left over."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import DAG

from vidpipe.orchestration.sweep import SweepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class SweepSoonOperator(SweepOperator):
    """Does not wait some minutes."""

    def execute(self, context: Context) -> dict[str, int]:
        from vidpipe.orchestration import accounts

        accounts.LEFT_AFTER = timedelta(0)
        return super().execute(context)


with DAG("sweep_soon", schedule=None):
    SweepSoonOperator(task_id="sweep")
