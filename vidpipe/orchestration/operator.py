"""The one operator: a task is a stage, and a stage is a command."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from vidpipe.config import load_settings
from vidpipe.errors import (
    EXIT_BAD_INPUT,
    EXIT_NOTHING_TO_DO,
    EXIT_USAGE,
    UsageError,
    VidpipeError,
)
from vidpipe.lake.layout import make_run_key
from vidpipe.orchestration.links import MlflowRunLink
from vidpipe.orchestration.local_process import LocalProcess
from vidpipe.version import code_version

if TYPE_CHECKING:
    from airflow.sdk import Context

    from vidpipe.stages.manifest import Report

RUNTIMES: dict[str, Callable[[], LocalProcess]] = {"local": LocalProcess}

# What other exit codes stand for may be better next time: Airflow's retries decide.
_EXCEPTIONS = {
    EXIT_USAGE: AirflowFailException,
    EXIT_BAD_INPUT: AirflowFailException,
    EXIT_NOTHING_TO_DO: AirflowSkipException,
}


class StageOperator(BaseOperator):
    """Runs one stage, as `vidpipe STAGE` does by hand, and reads its report.

    Returns the URIs of shards where the stage planned some, else the result in its report. The
    report's own URI is the XCom `report`, and what came of it, in words, the XCom `summary`.

    Args:
        stage: The stage, as in `vidpipe STAGE`.
        config: Its parameters, where it is one task.
        shard: URI of its manifest, where it is a shard.

    Example:
        >>> StageOperator.partial(
        ...     task_id="extract", stage="extract", map_index_template=SHARD_NAME
        ... ).expand(shard=discover.output)
    """

    template_fields = ("config", "shard")
    template_fields_renderers = {"config": "json"}
    operator_extra_links = (MlflowRunLink(),)

    def __init__(
        self,
        *,
        stage: str,
        config: dict[str, Any] | None = None,
        shard: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.stage = stage
        self.config = config
        self.shard = shard
        self.mlflow_url: str | None = None
        self._runtime: LocalProcess | None = None

    def execute(self, context: Context) -> Any:
        try:
            report = self._run(context)
        except AirflowSkipException as skip:
            context["ti"].xcom_push(key="summary", value=str(skip))
            raise
        except VidpipeError as error:
            raise _exception(error.exit_code, str(error)) from error
        context["ti"].xcom_push(key="report", value=report.uri)
        if summary := report.result.get("summary"):
            context["ti"].xcom_push(key="summary", value=summary)
        self.mlflow_url = report.result.get("mlflow_url")
        return report.result.get("shards", report.result)

    def on_kill(self) -> None:
        if self._runtime is not None:
            self._runtime.stop()

    def _run(self, context: Context) -> Report:
        # The object store's client, which DAG files must not import.
        from vidpipe.lake.store import open_store
        from vidpipe.stages.manifest import Manifest, find_report

        settings = load_settings()
        if settings.runtime not in RUNTIMES:
            names = ", ".join(RUNTIMES)
            raise UsageError(f"The runtime must be one of {names}. Received: {settings.runtime!r}")
        store = open_store(settings)
        if self.shard:
            manifest = Manifest.read(store, self.shard)
            context["shard_name"] = f"{manifest.shard}: {len(manifest.items)} items"
            arguments = ["--shard", self.shard]
        else:
            run = context["dag_run"]
            run_key = make_run_key(settings.deployment, run.dag_id, run.run_id)
            manifest = Manifest(
                run_key, self.stage, config=self.config or {}, code_version=code_version()
            )
            arguments = ["--run-key", run_key, "--params", json.dumps(manifest.config)]
        self._runtime = RUNTIMES[settings.runtime]()
        exit_code, last_line = self._runtime.run([self.stage, *arguments], self.log)
        if exit_code < 0:
            why = "; the kernel does that where memory runs out" * (exit_code == -signal.SIGKILL)
            raise AirflowException(
                f"{self.stage} was ended by signal {-exit_code}{why}. It said last: {last_line}"
            )
        if exit_code:
            why = last_line.removeprefix("vidpipe: ")
            raise _exception(exit_code, f"{self.stage} ended with {exit_code}: {why}")
        report = find_report(store, settings.lake.uri, manifest)
        if report is None:
            raise AirflowException(f"{self.stage} ended well but left no report.")
        return report


def _exception(exit_code: int, message: str) -> AirflowException:
    return _EXCEPTIONS.get(exit_code, AirflowException)(message)
