"""Asks people: whether what was found is to be used, whether a model may be promoted.

One click in Airflow. No worker is held while it waits.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk.exceptions import AirflowSkipException

from vidpipe.config import load_settings
from vidpipe.lake.layout import approval_uri, make_run_key
from vidpipe.orchestration import notify

if TYPE_CHECKING:
    from airflow.sdk import Context


class OfferOperator(ApprovalOperator):
    """Waits for somebody to approve, as many hours as the run's parameter `ask_hours` says.

    It is skipped, with a reason, where nobody is asked and where the answer is no; so is what comes
    after it, unless its trigger rule says otherwise.
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

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        # That of operators that ask at all: the one for approvals ends well where the answer is no.
        answer = HITLOperator.execute_complete(self, context, event)
        user = answer["responded_by_user"]
        answered = {
            "approved": answer["chosen_options"] == [self.APPROVE],
            "by": user and user["name"],
            "at": answer["responded_at"].isoformat(),
        }
        self.keep(context, answered)
        who = answered["by"] or "nobody, in the time that there was"
        summary = f"{'approved' if answered['approved'] else 'not approved'} by {who}"
        context["ti"].xcom_push(key="summary", value=summary)
        if not answered["approved"]:
            raise AirflowSkipException(summary)
        return answered

    def keep(self, context: Context, answered: dict[str, Any]) -> None:
        """Keeps an answer: approved, by (a name, or None where nobody answered), at."""


class ApprovePromotionOperator(OfferOperator):
    """Waits for somebody to approve a promotion, and notes the answer where `promote` looks for it.

    It is skipped, with a reason, where nobody is asked (there was no preview, or that found nothing
    to approve) and where the answer is no. `promote` runs in any case, and decides.
    """

    def __init__(self, *, preview: str, **kwargs: Any):
        self._preview = preview
        super().__init__(
            subject="May this model become the champion of {{ params.task }}?",
            body=f"{{{{ (ti.xcom_pull('{preview}') or {{}}).get('body', '') }}}}",
            trigger_rule="none_failed",
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        found = context["ti"].xcom_pull(self._preview)
        if not found:
            raise AirflowSkipException("This run asks nobody (parameter approve).")
        if not found["ask"]:
            raise AirflowSkipException("There is nothing to approve: the task preview tells why.")
        task = context["params"]["task"]
        notify.tell(context, f"A better model of {task} waits for your approval: task approval.")
        return super().execute(context)

    def keep(self, context: Context, answered: dict[str, Any]) -> None:
        from vidpipe.lake.store import open_store

        settings, run = load_settings(), context["dag_run"]
        run_key = make_run_key(settings.deployment, run.dag_id, run.run_id)
        open_store(settings).put_json(approval_uri(settings.lake.uri, run_key), answered)
