"""Links from Airflow's pages to MLflow; `plugins/vidpipe_plugin.py` registers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from vidpipe.config import Settings

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class MlflowRunLink(BaseOperatorLink):
    """Leads from a task to its run in MLflow, where it has one."""

    name = "MLflow run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        # Set when the task has ended. Empty: no link; of None Airflow would make one to "None".
        return getattr(operator, "mlflow_url", None) or ""


def external_views(settings: Settings) -> list[dict[str, str]]:
    """Entries of Airflow's menu that lead elsewhere."""
    uri = settings.mlflow.public_uri or settings.mlflow.tracking_uri
    if not uri.startswith(("http://", "https://")):
        return []
    return [{"name": "MLflow", "href": uri, "destination": "nav"}]
