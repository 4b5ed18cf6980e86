"""Links from Airflow's pages to MLflow; `plugins/vidpipe_plugin.py` registers them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from vidpipe.config import Settings
from vidpipe.mlflow_pages import home_page

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class MlflowRunLink(BaseOperatorLink):
    """Leads from a task to its run in MLflow, where it has one.

    Airflow shows what the XCom `xcom_key` holds. It calls `get_link` only when a task ends; while a
    stage is at work, whoever reads its log pushes the address that the log names.
    """

    name = "MLflow run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        # Empty: no link; of None Airflow would make one to "None".
        return getattr(operator, "mlflow_url", None) or ""


def external_views(settings: Settings) -> list[dict[str, str]]:
    """Entries of Airflow's menu that lead elsewhere."""
    uri = settings.mlflow.public_uri or settings.mlflow.tracking_uri
    if not uri.startswith(("http://", "https://")):
        return []
    # Directly in the menu, Airflow 3.3 makes a button of it that leads nowhere.
    view = {"name": "MLflow", "href": home_page(uri), "destination": "nav", "category": "browse"}
    return [view]
