"""The one operator: a task is a stage, and a stage is a command."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
)

from vidpipe.config import RUNTIMES, Settings, load_settings
from vidpipe.errors import (
    EXIT_BAD_INPUT,
    EXIT_NOTHING_TO_DO,
    EXIT_USAGE,
    CeilingError,
    OutOfMemoryError,
    TemporaryError,
    UsageError,
    VidpipeError,
)
from vidpipe.lake.layout import make_run_key, plan_uri
from vidpipe.memory import stage_limit_bytes
from vidpipe.mlflow_pages import find_run_url
from vidpipe.orchestration.links import MlflowRunLink
from vidpipe.orchestration.local_process import LocalProcess
from vidpipe.version import code_version

if TYPE_CHECKING:
    from airflow.sdk import Context

    from vidpipe.lake.store import ObjectStore
    from vidpipe.orchestration.pod_course import Course
    from vidpipe.orchestration.pods import PodRequest
    from vidpipe.orchestration.resources import Resources
    from vidpipe.stages.manifest import Manifest, Report

log = logging.getLogger(__name__)

_T = TypeVar("_T")

# Of a pod whose task has no timeout.
DEADLINE = timedelta(hours=24)

# What to do where a stage by itself takes too much memory.
_LESS_MEMORY = dict.fromkeys(
    ("train", "trial"),
    "Set accumulation higher, which learns from a batch in pieces, or batch_size lower, or choose"
    " smaller or fewer frames.",
)

# What other exit codes stand for may be better next time: Airflow's retries decide.
_EXCEPTIONS = {
    EXIT_USAGE: AirflowFailException,
    EXIT_BAD_INPUT: AirflowFailException,
    EXIT_NOTHING_TO_DO: AirflowSkipException,
}


@dataclass(frozen=True)
class _Work:
    """What a task is to do, read anew whenever it goes on."""

    settings: Settings
    store: ObjectStore
    runtime: str
    manifest: Manifest
    manifest_uri: str

    @property
    def arguments(self) -> list[str]:
        """What follows `vidpipe`.

        Nothing that a person typed: other users can read arguments, and Kubernetes puts secrets for
        `$(NAME)` in them.
        """
        return [self.manifest.stage, "--shard", self.manifest_uri]


class StageOperator(BaseOperator):
    """Runs one stage, as `vidpipe STAGE` does by hand, and reads its report.

    The stage is a process on this machine or, with the runtime `kubernetes`, a pod that is waited
    for without a worker. The runtime is the parameter of that name of the run, else as configured.

    Returns the URIs of shards where the stage planned some (those that tasks are mapped over, where
    it tells them), else the result in its report. Further XComs: `report` is the URI of the report,
    `summary` what came of it, in words, `failure` why it failed, `last` the shard that comes after
    all others, and `preview` the one that shows people what they are asked.

    Args:
        stage: The stage, as in `vidpipe STAGE`.
        config: Its parameters, where it is one task.
        shard: URI of its manifest, where it is a shard; empty: there is none, and it is skipped.
        pod: What its pod is to have in place of what is configured, such as gpus.

    Example:
        >>> StageOperator.partial(
        ...     task_id="extract", stage="extract", map_index_template=SHARD_NAME
        ... ).expand(shard=discover.output)
    """

    template_fields = ("config", "shard", "pod")
    template_fields_renderers = {"config": "json", "pod": "json"}
    operator_extra_links = (MlflowRunLink(),)

    def __init__(
        self,
        *,
        stage: str,
        config: dict[str, Any] | None = None,
        shard: str | None = None,
        pod: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.stage = stage
        self.config = config
        self.shard = shard
        self.pod = pod
        self.mlflow_url: str | None = None
        self._process: LocalProcess | None = None
        self._pods_of: str | None = None

    def execute(self, context: Context) -> Any:
        if self.shard == "":
            raise AirflowSkipException(f"This run asked for no {self.stage}.")
        with self._told(context):
            work = self._work(context)
            self._write_plan(work)
            if work.runtime == "kubernetes":
                self._start_pod(context, work)
            return self._run_here(context, work)

    def on_kill(self) -> None:
        if self._process is not None:
            self._process.stop()
        if self._pods_of is not None:
            self._cluster(load_settings()).remove_all(self._pods_of)

    def _link_to_run(self, context: Context, line: str) -> None:
        """Links to the run in MLflow that a line of the log names, from now on."""
        if (url := find_run_url(line)) and url != self.mlflow_url:
            self.mlflow_url = url
            context["ti"].xcom_push(key=MlflowRunLink().xcom_key, value=url)

    # --- What is to be done, and what came of it --------------------------------------------------

    @contextlib.contextmanager
    def _told(self, context: Context) -> Iterator[None]:
        """What ends the work is raised as Airflow has it; why a shard failed the audit tells."""
        try:
            yield
        except AirflowSkipException as skip:
            context["ti"].xcom_push(key="summary", value=str(skip))
            raise
        except VidpipeError as error:
            self._give_up(context, error)
            raise airflow_error(error.exit_code, str(error)) from None  # it says all
        except (Exception, AirflowTaskTimeout) as error:
            self._give_up(context, error)
            raise

    def _give_up(self, context: Context, error: BaseException) -> None:
        with contextlib.suppress(Exception):  # the error that is under way matters more
            context["ti"].xcom_push(key="failure", value=str(error) or type(error).__name__)
        if not self.shard:
            return
        from vidpipe.lake.store import open_store
        from vidpipe.stages.manifest import Manifest, give_up

        reason = "out_of_budget" if isinstance(error, CeilingError) else "stage_failed"
        why = str(error) or type(error).__name__
        with contextlib.suppress(VidpipeError):
            settings = load_settings()
            store = open_store(settings)
            manifest = Manifest.read(store, self.shard)
            # Of several items it is not known which one is at fault.
            if isinstance(error, OutOfMemoryError) and len(manifest.items) == 1:
                reason = "out_of_memory"
            give_up(store, settings.lake.uri, manifest, reason, why)

    def _work(self, context: Context, version: str = "") -> _Work:
        # The object store's client, which DAG files must not import.
        from vidpipe.lake.store import open_store
        from vidpipe.stages.manifest import Manifest

        settings = load_settings()
        runtime = context["params"].get("runtime") or settings.runtime
        if runtime not in RUNTIMES:
            names = ", ".join(RUNTIMES)
            raise UsageError(f"The runtime must be one of {names}. Received: {runtime!r}")
        store = open_store(settings)
        if self.shard:
            manifest, uri = Manifest.read(store, self.shard), self.shard
            context["shard_name"] = _shard_name(manifest)
        else:
            run = context["dag_run"]
            run_key = make_run_key(settings.deployment, run.dag_id, run.run_id)
            manifest = Manifest(
                run_key,
                self.stage,
                config=self.config or {},
                code_version=version or code_version(),
            )
            uri = plan_uri(settings.lake.uri, run_key, self.stage, manifest.hash)
        return _Work(settings, store, runtime, manifest, uri)

    def _write_plan(self, work: _Work) -> None:
        """Writes what the stage is to do, where no earlier stage did."""
        from vidpipe.stages.manifest import now

        if not self.shard:
            manifest = dataclasses.replace(work.manifest, planned_at=now().isoformat())
            manifest.write(work.store, work.manifest_uri)

    def _finish(self, context: Context, work: _Work, exit_code: int, last_line: str) -> Any:
        from vidpipe.stages.manifest import find_report

        if exit_code < 0:
            why = "; the kernel does that where memory runs out" * (exit_code == -signal.SIGKILL)
            raise AirflowException(
                f"{self.stage} was ended by signal {-exit_code}{why}. It said last: {last_line}"
            )
        if exit_code:
            why = last_line.removeprefix("vidpipe: ")
            raise airflow_error(exit_code, f"{self.stage} ended with {exit_code}: {why}")
        report = _patiently(lambda: find_report(work.store, work.settings.lake.uri, work.manifest))
        if report is None:
            raise AirflowException(f"{self.stage} ended well but left no report.")
        return self._tell(context, work, report)

    def _tell(self, context: Context, work: _Work, report: Report) -> Any:
        if not self.shard:
            try:
                work.store.delete(work.manifest_uri)  # it may name somebody
            except VidpipeError as error:
                # The work is done, whether this goes or not; `forget` looks there, too.
                self.log.warning("%s stays: %s", work.manifest_uri, error)
        context["ti"].xcom_push(key="report", value=report.uri)
        if summary := report.result.get("summary"):
            context["ti"].xcom_push(key="summary", value=summary)
        if name := report.result.get("name"):
            context["shard_name"] = name
        for name in ("last", "preview"):
            if uri := report.result.get(name):
                context["ti"].xcom_push(key=name, value=uri)
        self.mlflow_url = report.result.get("mlflow_url") or self.mlflow_url
        return report.result.get("mapped", report.result.get("shards", report.result))

    # --- Processes --------------------------------------------------------------------------------

    def _run_here(self, context: Context, work: _Work) -> Any:
        """Runs the stage on this machine; without an item, where that takes too much memory."""
        from vidpipe.orchestration.pod_course import Course
        from vidpipe.orchestration.pod_end import OUT_OF_MEMORY, PodEnd

        course, environment = Course(until=""), _memory_of_batches(context)
        while True:
            limit_bytes = stage_limit_bytes(work.settings.memory)
            self._process = process = LocalProcess(limit_bytes)
            told = {**environment, **course.environment}
            exit_code, last_line = process.run(
                work.arguments, self.log, told, lambda line: self._link_to_run(context, line)
            )
            if not process.out_of_memory:
                return self._finish(context, work, exit_code, last_line)
            why = f'{process.out_of_memory} It said last: "{last_line}".'
            if not process.memory.over_limit:
                # Others took the memory, too: later there may be enough.
                raise TemporaryError(f"{self.stage} ran out of memory. {why}")
            end = PodEnd(OUT_OF_MEMORY, exit_code, why, process.working)
            following = course.without_what_is_too_large(end, f"{limit_bytes / 1e9:.1f} GB")
            if following is None:
                advice = _LESS_MEMORY.get(self.stage, "Give it more, or run fewer stages at once.")
                raise OutOfMemoryError(f"{self.stage} ran out of memory. {why} {advice}")
            course, next_step = following
            self.log.warning("%s %s", process.out_of_memory, next_step)

    # --- Pods -------------------------------------------------------------------------------------

    def _start_pod(self, context: Context, work: _Work, course: Course | None = None) -> NoReturn:
        """Starts the pod, or the Job of several, and waits for it in the triggerer.

        One that an earlier try started goes on.
        """
        from vidpipe.orchestration.pod_course import Course
        from vidpipe.orchestration.pod_trigger import PodTrigger
        from vidpipe.stages.manifest import forget_given_up, now

        kubernetes = work.settings.kubernetes
        max_wait_s = (context["params"].get("max_wait_hours") or 0) * 3600 or kubernetes.max_wait_s
        if course is None:
            # What it waits for a node is not taken from the time that it has.
            until = now() + (self.execution_timeout or DEADLINE) + timedelta(seconds=max_wait_s)
            course = Course(until.isoformat(), work.manifest.code_version)
        resources = self._resources(work, course)
        request = self._request(context, work, course, resources, max_wait_s)
        cluster = self._cluster(work.settings)
        self._pods_of = request.task
        name, workers, found = cluster.start_or_find(request, resources)
        if self.shard and context["ti"].try_number > 1:
            # An earlier try was refused by a ceiling, perhaps: this one has begun.
            _patiently(lambda: forget_given_up(work.store, work.settings.lake.uri, work.manifest))
        self.log.info(
            "%s %s in namespace %s %s.",
            "Pod" if workers == 1 else f"Job of {workers} workers",
            name,
            kubernetes.namespace,
            "was found: it goes on" if found else f"is started with {resources.memory} of memory",
        )
        self.defer(
            trigger=PodTrigger(
                dataclasses.asdict(dataclasses.replace(course, pod=name, workers=workers)),
                kubernetes.namespace,
                cluster.in_cluster,
                max_wait_s,
                kubernetes.autoscaling,
            ),
            method_name="go_on",
            timeout=datetime.fromisoformat(course.until) - now(),
        )

    def go_on(self, context: Context, event: dict[str, Any]) -> Any:
        """Called by Airflow when the pod has ended."""
        from vidpipe.orchestration.pod_course import Course
        from vidpipe.orchestration.pod_end import (
            EXITED,
            FINAL,
            LOST,
            TO_RAISE,
            PodEnd,
            of_any_version,
        )
        from vidpipe.stages.manifest import find_report

        end = of_any_version(PodEnd, event["end"])
        course = of_any_version(Course, event["course"])
        self.mlflow_url = event.get("mlflow_url")
        # First of all: nothing else that goes wrong here may leave it over.
        self._cluster(load_settings()).remove(course.pod, course.workers, at_once=end.kind == LOST)
        # The code may be another by now, where Airflow was upgraded: the pod knew its own.
        work = _patiently(lambda: self._work(context, course.code_version))
        if end.kind == EXITED:
            return self._finish(context, work, end.exit_code, end.last_line)
        # A child that ran out of memory, or a pod that was lost after its work was done.
        report = _patiently(lambda: find_report(work.store, work.settings.lake.uri, work.manifest))
        if report:
            return self._tell(context, work, report)
        kubernetes = work.settings.kubernetes
        if following := course.after(end, self._resources(work, course), kubernetes.max_lost):
            again, why = following
            self.log.warning("%s", why)
            if again.lost > course.lost:
                # What took it may be about to take the next one, too.
                time.sleep(2**again.lost)
            _patiently(lambda: self._write_plan(work))
            self._start_pod(context, work, again)
        message = f"The pod of {self.stage} ended: {end.kind}. {end.told}".strip()
        if what := TO_RAISE.get(end.kind):
            message += f" Raise {what} of {self.stage} in [kubernetes] resources_file."
        if end.last_line:
            message += f" It said last: {end.last_line}"
        raise (AirflowFailException if end.kind in FINAL else AirflowException)(message)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        if next_method != "go_on":
            # It took too long, or the triggerer gave it up: nobody waits for its pod any longer.
            self._cluster(load_settings()).remove_all(_task_label(context))
        with self._told(context):
            return super().resume_execution(next_method, next_kwargs, context)

    def _resources(self, work: _Work, course: Course) -> Resources:
        from vidpipe.orchestration.resources import load_resources

        file = work.settings.kubernetes.resources_file
        asked = dict(self.pod or {})
        if course.memory:
            asked["memory"] = course.memory
        return load_resources(file, self.stage, asked)

    def _request(
        self,
        context: Context,
        work: _Work,
        course: Course,
        resources: Resources,
        max_wait_s: float,
    ) -> PodRequest:
        from vidpipe.orchestration.ceilings import NEVER_REFUSED, Ceilings
        from vidpipe.orchestration.pods import MAX_TRIES, PodRequest, label
        from vidpipe.stages.manifest import now

        ti = context["ti"]
        ceilings = Ceilings()
        if self.stage not in NEVER_REFUSED:
            ceilings = Ceilings.of(work.settings.kubernetes, context["params"])
        left = datetime.fromisoformat(course.until) - now()
        may_take = min(left, self.execution_timeout or DEADLINE)
        workers = work.settings.extract.workers or resources.whole_cpus
        return PodRequest(
            stage=self.stage,
            arguments=work.arguments,
            task=_task_label(context),
            work=label(work.manifest.run_key, self.stage, work.manifest.hash),
            deployment=work.settings.deployment,
            run_key=work.manifest.run_key,
            deadline_s=max(1, int(may_take.total_seconds())),
            max_wait_s=int(max_wait_s),
            ceilings=ceilings,
            annotations={
                "vidpipe.io/dag": ti.dag_id,
                "vidpipe.io/run": ti.run_id,
                "vidpipe.io/task": f"{ti.task_id}[{ti.map_index}]",
                "vidpipe.io/try": str(ti.try_number),
                MAX_TRIES: str(ti.max_tries),
                "vidpipe.io/run-key": work.manifest.run_key,
            },
            environment={
                "VIDPIPE_EXTRACT_WORKERS": str(workers),
                **_memory_of_batches(context),
                **course.environment,
            },
        )

    def _cluster(self, settings: Settings) -> Any:
        # Importing the provider takes seconds, which DAG files do not have.
        from vidpipe.orchestration.pods import Cluster

        return Cluster(settings)


def _shard_name(manifest: Manifest) -> str:
    """What Airflow calls a mapped task: by the model that is its one item, or by its number."""
    items = manifest.items
    if len(items) == 1 and not {"source_uri", "video_id"} & set(items[0]):
        task, slash, model = items[0]["item"].partition("/")
        if slash:
            return model
    return f"{manifest.shard}: {len(items)} items"


def _memory_of_batches(context: Context) -> dict[str, str]:
    """What a stage is told where the run chose how much memory a batch may take."""
    chosen_gb = context["params"].get("batch_memory_gb")
    return {"VIDPIPE_MEMORY_BATCH_GB": str(chosen_gb)} if chosen_gb else {}


def _patiently(read: Callable[[], _T]) -> _T:
    """Reads from the object store what tells of work that is done; it may be away for a while."""
    for wait_s in (2, 4, 8, 16, 32, 64):
        try:
            return read()
        except TemporaryError as error:
            log.info("%s; asking again in %s s", error, wait_s)
            time.sleep(wait_s)
    return read()


def _task_label(context: Context) -> str:
    from vidpipe.orchestration.pods import label

    ti = context["ti"]
    return label(load_settings().deployment, ti.dag_id, ti.run_id, ti.task_id, ti.map_index)


def airflow_error(exit_code: int, message: str) -> AirflowException:
    """What an exit code is for Airflow: no retry helps, it is skipped, or retries decide."""
    return _EXCEPTIONS.get(exit_code, AirflowException)(message)
