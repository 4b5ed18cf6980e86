"""Asks people whether what was found is to be used: one click in Airflow."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context


class OfferOperator(ApprovalOperator):
    """Waits for somebody to approve, as many hours as the run's parameter `ask_hours` says.

    What comes after it is skipped where nobody does. It holds no worker while it waits.
    """

    def __init__(self, **kwargs: Any):
        # How long it really is, the run says. The time that it has to ask is another.
        super().__init__(defaults=self.REJECT, response_timeout=timedelta(days=30), **kwargs)

    def execute(self, context: Context) -> Any:
        hours = context["params"]["ask_hours"]
        if not hours:
            raise AirflowSkipException("Nobody is to be asked.")
        self.response_timeout = timedelta(hours=hours)
        return super().execute(context)
