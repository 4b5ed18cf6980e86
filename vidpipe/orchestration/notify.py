"""Messages about failed runs and waiting promotions, through Airflow's own notifiers.

Who is told stands in `[notify]`; how to reach them in Airflow's connections `smtp_default`,
`slack_default` and `http_default`. Nothing configured: no message, and no provider is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseNotifier, conf

from vidpipe.config import NotifySettings, load_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

Callback = Callable[["Context"], None]


def failed_task() -> dict[str, Callback]:
    """Arguments that make tasks tell of it when they failed for good."""
    return {"on_failure_callback": _tell_failed_task} if _anybody() else {}


def waiting_promotion() -> dict[str, Callback]:
    """Arguments that make a task `promote` tell of a model that it left to people."""
    return {"on_success_callback": _tell_waiting_promotion} if _anybody() else {}


def _tell_failed_task(context: Context) -> None:
    # Of shards the audit decides whether too many failed: then `publish` fails, and tells.
    if context["ti"].map_index < 0:
        why = context.get("exception") or "The log of the task tells why."
        tell(context, f"{context['dag'].dag_id} failed: {why}")


def _tell_waiting_promotion(context: Context) -> None:
    promoted = context["ti"].xcom_pull(task_ids="promote")
    if not promoted["promoted"]:
        task = context["params"]["task"]
        tell(
            context,
            f"A model of {task} was not promoted. {promoted['why']} "
            f"To promote it: vidpipe promote {task} {promoted['model_version']}",
        )


def tell(context: Context, message: str) -> None:
    """Tells whoever is to be told, with a link to the run."""
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    base = conf.get("api", "base_url", fallback="").rstrip("/")
    link = f"{base}/dags/{dag_id}/runs/{quote(run_id, safe='')}"
    # Notifiers render their texts: what a message quotes must not become a template.
    values: dict[str, Any] = {"vidpipe_message": message, "vidpipe_link": link}
    for notifier in _notifiers(load_settings().notify):
        try:
            notifier({**context, **values})
        except Exception:
            # One way that is blocked must not keep the message from the others.
            log.exception("%s could not tell: %s", type(notifier).__name__, message)


def _anybody() -> bool:
    notify = load_settings().notify
    return bool(notify.email_to or notify.slack_channel or notify.webhook_path)


def _notifiers(notify: NotifySettings) -> Iterator[BaseNotifier]:
    if notify.email_to:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        yield SmtpNotifier(
            to=list(notify.email_to),
            subject="vidpipe: {{ dag.dag_id }}",
            html_content="{{ vidpipe_message | e }}<br>{{ vidpipe_link | e }}",
        )
    if notify.slack_channel:
        from airflow.providers.slack.notifications.slack import SlackNotifier

        yield SlackNotifier(
            slack_conn_id="slack_default",
            channel=notify.slack_channel,
            # What Slack reads as a mention or a link begins with one of these.
            text="{{ vidpipe_message | replace('&', '&amp;') | replace('<', '&lt;')"
            " | replace('>', '&gt;') }} {{ vidpipe_link }}",
        )
    if notify.webhook_path:
        from airflow.providers.http.notifications.http import HttpNotifier

        yield HttpNotifier(
            endpoint=notify.webhook_path,
            json={
                "dag": "{{ dag.dag_id }}",
                "run": "{{ run_id }}",
                "message": "{{ vidpipe_message }}",
                "link": "{{ vidpipe_link }}",
            },
        )
