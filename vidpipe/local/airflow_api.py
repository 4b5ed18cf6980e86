"""Airflow's REST API, as far as `vidpipe run` and the demo need it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from urllib3.util import Retry

from vidpipe.config import load_settings
from vidpipe.console import Console
from vidpipe.errors import TemporaryError, UsageError
from vidpipe.lake.layout import make_run_key
from vidpipe.lake.store import open_store
from vidpipe.lake.usage import Ledger, spent
from vidpipe.local.dag_params import parse_params, show_params
from vidpipe.local.state import load_running, require_running
from vidpipe.stages.manifest import Progress, now, read_progress
from vidpipe.text import lines_of

FINISHED = ("success", "failed")
ASKS = "awaiting_input"
_ASKING = ("ApprovePromotionOperator", "OfferOperator")
POLL_S = 2.0
PAGE = 100
LOG_TAIL_LINES = 15
# Of the log of a task: what Airflow says before it begins, and marks of groups.
STARTUP_LINES = "::", "DAG bundles loaded", "Filling up the DagBag", "Worker startup parse complete"
FAILURES_SHOWN = 3
TRIES_WHILE_AWAY = 40
# On SQLite two requests that write at the same time can block each other, until one gets 500.
RETRIES = Retry(
    connect=0,
    read=0,
    status=5,
    status_forcelist=(500, 502, 503, 504),
    allowed_methods=None,
    backoff_factor=0.5,
    raise_on_status=False,
)

Items = dict[str, Progress]

_STYLES = {
    "success": "green",
    ASKS: "yellow",
    "failed": "red",
    "upstream_failed": "red",
    "running": "cyan",
}


class _AlreadyThereError(UsageError):
    """Airflow has what was to be made."""


class AirflowClient:
    """A client of one Airflow.

    Args:
        url: Address of the API server, such as `http://127.0.0.1:8080`.
        user: Name to log in with.
        password: Its password.
    """

    def __init__(self, url: str, user: str, password: str):
        self.url = url
        self._login = {"username": user, "password": password}
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc: the password goes nowhere else
        self._session.mount(url, HTTPAdapter(max_retries=RETRIES))

    def dags(self) -> dict[str, dict[str, Any]]:
        """All DAGs that Airflow has read, by id."""
        return {dag["dag_id"]: dag for dag in self._pages("/dags", "dags")}

    def import_errors(self) -> list[tuple[str, str]]:
        """DAG files that could not be imported: (file name, stack trace)."""
        found = self._pages("/importErrors", "import_errors")
        return [(error["filename"], error["stack_trace"]) for error in found]

    def params(self, dag_id: str) -> dict[str, dict[str, Any]]:
        """Parameters of a DAG: for each its `value`, `description` and JSON `schema`.

        Raises:
            UsageError: There is no such DAG.
        """
        known = self.dags()
        if dag_id not in known:
            names = ", ".join(sorted(known)) or "none yet"
            raise UsageError(f"There is no such DAG; there are: {names}. Received: {dag_id}")
        return self._get(f"/dags/{quote(dag_id)}/details").get("params") or {}

    def unpause(self, dag_id: str) -> None:
        """Lets the runs of a DAG begin."""
        self._call("PATCH", f"/dags/{quote(dag_id)}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Starts a run of a DAG and unpauses it.

        Unpausing a DAG begins with a run of its schedule, and one runs at a time: this one comes
        first, or else it would find the work done, and not with its own parameters.

        Args:
            conf: Values of its parameters; the others keep their defaults.

        Returns:
            The id of the run.

        Raises:
            UsageError: Airflow refuses the values.
        """
        dag = self._get(f"/dags/{quote(dag_id)}")
        now = run_after = datetime.now(UTC)
        if dag["is_paused"] and dag["next_dagrun_run_after"]:
            due = datetime.fromisoformat(dag["next_dagrun_run_after"])
            if due <= now:
                # Airflow starts queued runs in this order.
                run_after = due - timedelta(seconds=1, microseconds=now.microsecond)
        # Named here, so that a request that is sent again does not start a second run.
        run_id = f"manual__{now.isoformat()}"
        body = {
            "dag_run_id": run_id,
            "logical_date": None,
            "run_after": run_after.isoformat(),
            "conf": conf,
        }
        with contextlib.suppress(_AlreadyThereError):
            self._call("POST", f"/dags/{quote(dag_id)}/dagRuns", json=body)
        self.unpause(dag_id)
        return run_id

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The runs of a DAG, the newest first."""
        found = self._pages(f"/dags/{quote(dag_id)}/dagRuns", "dag_runs")
        return sorted(found, key=lambda run: run["queued_at"], reverse=True)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """State of a run: queued, running, success or failed."""
        return self._get(_run_path(dag_id, run_id))["state"]

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Task instances of a run, as Airflow describes them; mapped ones each with `map_index`."""
        return self._pages(f"{_run_path(dag_id, run_id)}/taskInstances", "task_instances")

    def task_log(self, task_instance: dict[str, Any]) -> list[str]:
        """The log of the last try of a task instance, by lines.

        What a stage said is wrong is not said once more, as the error that Airflow was told.
        """
        entries = self._log_entries(task_instance)
        lines = [_log_line(entry) for entry in entries]
        if not any(line.startswith("vidpipe: ") for line in lines):
            return lines
        return [line for line, entry in zip(lines, entries, strict=True) if not _error_text(entry)]

    def task_error(self, task_instance: dict[str, Any]) -> str:
        """What ended the last try of a task instance, in words; empty where nothing is told."""
        errors = filter(None, map(_error_text, self._log_entries(task_instance)))
        return " ".join(next(errors, "").split())

    def _log_entries(self, task_instance: dict[str, Any]) -> list[dict[str, Any] | str]:
        ti = task_instance
        run = _run_path(ti["dag_id"], ti["dag_run_id"])
        return self._get(
            f"{run}/taskInstances/{quote(ti['task_id'])}/logs/{ti['try_number']}",
            params={"map_index": ti["map_index"], "full_content": "true"},
        )["content"]

    def xcom(self, task_instance: dict[str, Any], key: str = "return_value") -> Any:
        """A value that a task instance pushed; None where it pushed none."""
        ti = task_instance
        run = _run_path(ti["dag_id"], ti["dag_run_id"])
        found = self._get(
            f"{run}/taskInstances/{quote(ti['task_id'])}/xcomEntries",
            params={"xcom_key": key, "map_index": ti["map_index"]},
        )["xcom_entries"]
        if not found:
            return None
        path = f"{run}/taskInstances/{quote(ti['task_id'])}/xcomEntries/{quote(key)}"
        return self._get(path, params={"map_index": ti["map_index"]})["value"]

    def _pages(self, path: str, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            page = self._get(path, params={"limit": PAGE, "offset": len(rows)})
            rows += page[name]
            if not page[name] or len(rows) >= page["total_entries"]:
                return rows

    def _get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return self._call("GET", path, params=params)

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        response = self._send(method, path, **kwargs)
        if response.status_code == requests.codes.unauthorized:
            self._log_in()
            response = self._send(method, path, **kwargs)
        if response.status_code == requests.codes.conflict:
            raise _AlreadyThereError(_detail(response))
        if response.status_code in (400, 404, 422):
            raise UsageError(_detail(response))
        if not response.ok:
            raise TemporaryError(
                f"Airflow answered {response.status_code} to {method} {path}. "
                "Its log tells more: .vidpipe/logs/airflow.log"
            )
        return response.json()

    def _log_in(self) -> None:
        response = self._send("POST", "/auth/token", prefix="", json=self._login)
        if not response.ok:
            raise UsageError(f"{self.url} refuses the stored password ({response.status_code}).")
        self._session.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    def _send(
        self, method: str, path: str, prefix: str = "/api/v2", **kwargs: Any
    ) -> requests.Response:
        try:
            headers = {"Accept": "application/json"}
            return self._session.request(
                method, f"{self.url}{prefix}{path}", headers=headers, timeout=30, **kwargs
            )
        except requests.RequestException as error:
            raise TemporaryError(
                f"Airflow does not answer at {self.url}. See: vidpipe status"
            ) from error


def connect(root: Path) -> AirflowClient:
    """A client of the embedded stack's Airflow.

    Raises:
        TemporaryError: No stack was started in `root`.
    """
    state = load_running(root)
    return AirflowClient(state.url("airflow"), state.airflow_user, state.airflow_password)


def run_dag(
    dag_id: str,
    params: Iterable[str] = (),
    *,
    root: Path,
    console: Console | None = None,
) -> str:
    """Triggers a DAG in the running stack and shows its progress until it ends.

    Ctrl-C stops watching; the run goes on.

    Args:
        dag_id: The DAG.
        params: `NAME=VALUE` each; values are JSON where the DAG's parameter is no string, or words
            with commas between them where it is a choice of several.
        root: Folder of the stack.
        console: Where to show it: live on a terminal, else a line for each change.

    Returns:
        State of the run: `success` or `failed`.

    Raises:
        UsageError: There is no such DAG or parameter, a value does not fit, or one is missing.
        TemporaryError: The stack does not run.
    """
    require_running(root)
    client = connect(root)
    conf = parse_params(params, client.params(dag_id), dag_id)
    run_id = client.trigger(dag_id, conf)
    return watch(client, dag_id, run_id, console=console)


def print_params(
    dag_id: str, name: str = "", *, root: Path, console: Console | None = None
) -> None:
    """Lists the parameters of a DAG in the running stack, by the sections of its form.

    Args:
        dag_id: The DAG.
        name: Only this parameter, with its choices explained; empty: all.
        root: Folder of the stack.
        console: Where to show it, wrapped to its width.

    Raises:
        UsageError: There is no such DAG or parameter.
        TemporaryError: The stack does not run.
    """
    require_running(root)
    known = connect(root).params(dag_id)
    (console or Console()).print(show_params(known, dag_id, name))


def watch(
    client: AirflowClient, dag_id: str, run_id: str, *, console: Console | None = None
) -> str:
    """Shows the progress of a run until it ends, and then what came of it, or why it failed.

    A run of which nothing is left but a question to people is done as well.

    Returns:
        State of the run: `success`, `failed`, or `ASKS` where people decide whether it goes on.
    """
    console = console or Console()
    link = f"{client.url}/dags/{quote(dag_id)}/runs/{quote(run_id, safe='')}"
    console.print(f"{dag_id}: {link}", soft_wrap=True)
    started = time.monotonic()
    try:
        show = _show_live if console.is_terminal else _show_lines
        state = show(client, dag_id, run_id, console)
    except KeyboardInterrupt:
        console.print(f"No longer watching; the run goes on: {link}", soft_wrap=True)
        raise
    seconds = time.monotonic() - started
    styled = Text.assemble(f"{dag_id}: ", (state, _STYLES[state]), f" after {seconds:.0f} s")
    console.print(styled)
    _print_summaries(client, dag_id, run_id, console)
    _print_spent(dag_id, run_id, console)
    if state == "failed":
        _print_failures(client, dag_id, run_id, console)
    if state == ASKS:
        console.print(f"It waits for an answer: {link}/required_actions", soft_wrap=True)
        # What was published before the question is done, whatever the answer.
        tasks = summarize(client.task_instances(dag_id, run_id))
        published = any((task.name, task.state) == ("publish", "success") for task in tasks)
        return "success" if published else ASKS
    return state


@dataclass
class TaskProgress:
    """A task of a run, its mapped instances taken together.

    Attributes:
        state: The worst or least advanced state among the instances.
        done: Instances that ended well or were skipped.
        all: Instances.
        seconds: Time of the longest instance.
        why: What ended the try after which it is tried again.
        asks: Whether it is one that may ask people.
    """

    name: str
    state: str
    done: int
    all: int
    seconds: float
    why: str = ""
    asks: bool = False


_STATE_ORDER = (
    "failed",
    "upstream_failed",
    "up_for_retry",
    "running",
    "deferred",
    ASKS,
    "restarting",
    "queued",
    "scheduled",
    "waiting",
    "removed",
    "success",
    "skipped",
)


def summarize(task_instances: list[dict[str, Any]]) -> list[TaskProgress]:
    """One row a task, in the order in which they began; those that have not, last."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for ti in sorted(task_instances, key=lambda ti: ti["start_date"] or "9999"):
        tasks.setdefault(ti["task_id"], []).append(ti)
    rows = []
    for name, instances in tasks.items():
        states = [ti["state"] or "waiting" for ti in instances]
        worst = min(states, key=_STATE_ORDER.index)
        if worst == "success" and all(state == "skipped" for state in states):
            worst = "skipped"
        rows.append(
            TaskProgress(
                name,
                worst,
                done=sum(state in ("success", "skipped") for state in states),
                all=len(states),
                seconds=max(ti["duration"] or 0.0 for ti in instances),
                asks=instances[0]["operator_name"] in _ASKING,
            )
        )
    return rows


Show = Callable[[str, list[TaskProgress], Items], None]


def _items_of(dag_id: str, run_id: str) -> Callable[[], Items]:
    """Gives the items done and planned of each stage of a run, as far as the stages told."""
    settings = load_settings()
    if not settings.lake.uri:
        return dict
    store = open_store(settings)
    run_key = make_run_key(settings.deployment, dag_id, run_id)

    def items() -> Items:
        with contextlib.suppress(TemporaryError):
            return read_progress(store, settings.lake.uri, run_key)
        return {}

    return items


def _poll(client: AirflowClient, dag_id: str, run_id: str, show: Show) -> str:
    """Asks until the run ends; an API server that is away for a while is waited for."""
    items = _items_of(dag_id, run_id)
    away = 0
    why: dict[str, str] = {}
    asked: set[str] = set()
    while True:
        try:
            state = client.run_state(dag_id, run_id)
            instances = client.task_instances(dag_id, run_id)
            why = _why_retried(client, instances, why)
            tasks = [replace(task, why=why.get(task.name, "")) for task in summarize(instances)]
            asked |= {task.name for task in tasks if task.state == ASKS}
            show(state, _steps(tasks, asked), items())
            away = 0
        except TemporaryError:
            away += 1
            if away == TRIES_WHILE_AWAY:
                raise
        else:
            if state in FINISHED:
                return state
            if _asks(instances):
                return ASKS
        time.sleep(POLL_S)


def _steps(tasks: list[TaskProgress], asked: set[str]) -> list[TaskProgress]:
    """The tasks that are steps of a run, for people.

    Questions that nobody is asked are none, nor are tasks that only follow one that failed.
    """
    silent = ("running", "success", "skipped")
    return [
        task
        for task in tasks
        if task.state != "upstream_failed"
        and (not task.asks or task.name in asked or task.state not in silent)
    ]


def _asks(instances: list[dict[str, Any]]) -> bool:
    """Whether all that is left of a run is to be decided by somebody."""
    left = {ti["state"] for ti in instances} - {"success", "skipped", "failed", "upstream_failed"}
    return ASKS in left and left <= {ASKS, None}


def _why_retried(
    client: AirflowClient, instances: list[dict[str, Any]], known: dict[str, str]
) -> dict[str, str]:
    """What ended the last try of each task that is to be tried again; asked once a wait."""
    waiting = {ti["task_id"]: ti for ti in instances if ti["state"] == "up_for_retry"}
    return {
        name: known.get(name) or client.task_error(ti) or "its log tells why"
        for name, ti in waiting.items()
    }


def _show_lines(client: AirflowClient, dag_id: str, run_id: str, console: Console) -> str:
    shown: dict[str, str] = {}
    tenths: dict[str, int] = {}

    def tell(name: str, text: str, note: str = "") -> None:
        if shown.get(name) != text:
            shown[name] = text
            console.print(text + note, soft_wrap=True)

    def show(state: str, tasks: list[TaskProgress], items: Items) -> None:
        for stage, of in items.items():
            # A line for each tenth: a log is no place for every item.
            if of.planned and tenths.get(stage) != of.done * 10 // of.planned:
                tenths[stage] = of.done * 10 // of.planned
                tell(f"items of {stage}", f"  {stage}: {of.done} of {of.planned} {of.unit}")
        for task in tasks:
            if task.state in ("waiting", "scheduled", "queued"):
                continue
            of = f", {task.done} of {task.all}" if task.all > 1 else ""
            ended = task.state in ("success", "failed")
            note = f" ({task.seconds:.0f} s)" if ended else ""
            why = f": {task.why}" if task.why else ""
            tell(task.name, f"  {task.name}: {task.state}{of}{why}", note)

    return _poll(client, dag_id, run_id, show)


def _show_live(client: AirflowClient, dag_id: str, run_id: str, console: Console) -> str:
    with Live(console=console, refresh_per_second=4) as live:

        def show(state: str, tasks: list[TaskProgress], items: Items) -> None:
            live.update(_render(state, tasks, items))

        return _poll(client, dag_id, run_id, show)


def _render(state: str, tasks: list[TaskProgress], items: Items) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "state"):
        table.add_column(heading)
    for heading in ("done", "seconds"):
        table.add_column(heading, justify="right")
    for task in tasks:
        table.add_row(
            Text(task.name),
            Text(task.state, style=_STYLES.get(task.state, "")),
            f"{task.done} of {task.all}",
            f"{task.seconds:.0f}" if task.seconds else "",
        )
    notes = [Text(f"{s}: {of.done} of {of.planned} {of.unit}") for s, of in items.items()]
    notes += [Text(f"{task.name} is tried again: {task.why}") for task in tasks if task.why]
    return Group(table, *notes, Text(state, style=_STYLES.get(state, "")))


def _print_summaries(client: AirflowClient, dag_id: str, run_id: str, console: Console) -> None:
    """What each task said that came of it; those with many instances are told of by `audit`."""
    instances = client.task_instances(dag_id, run_id)
    for ti in sorted(instances, key=lambda ti: ti["start_date"] or "9999"):
        if ti["map_index"] < 0 and ti["state"] in ("success", "skipped") and ti["start_date"]:
            if summary := client.xcom(ti, "summary"):
                first, *more = f"  {ti['task_id']}: {summary}".split("\n")
                console.print(first, *(f"    {line}" for line in more), sep="\n", soft_wrap=True)


def _print_spent(dag_id: str, run_id: str, console: Console) -> None:
    """What the pods of a run took, where it had some."""
    settings = load_settings()
    if not settings.lake.uri:
        return
    ledger = Ledger(open_store(settings), settings.lake.uri)
    with contextlib.suppress(TemporaryError):
        uses = list(ledger.of_run(make_run_key(settings.deployment, dag_id, run_id)))
        if uses:
            took = spent(uses, now())
            console.print(f"  pods: {took.pods}, which took {took}", soft_wrap=True)


def _print_failures(client: AirflowClient, dag_id: str, run_id: str, console: Console) -> None:
    """How the logs of what failed end, and last of all, where people look, why it failed.

    Of a run that its first task refused, in words of its own, no log is shown.
    """
    instances = client.task_instances(dag_id, run_id)
    failed = [ti for ti in instances if ti["state"] == "failed"]
    refused = sum(ti["state"] not in (None, "upstream_failed", "skipped") for ti in instances) == 1
    failed.sort(key=lambda ti: ti["end_date"] or "9999")
    if (more := len(failed) - FAILURES_SHOWN) > 0:
        console.print(f"{more} more task instances failed before these.")
    reasons = []
    for ti in failed[-FAILURES_SHOWN:]:
        name = ti["task_id"] + (f"[{ti['map_index']}]" if ti["map_index"] >= 0 else "")
        lines = [line for line in client.task_log(ti) if not line.startswith(STARTUP_LINES)]
        is_told = any(line.startswith("vidpipe: ") for line in lines)
        error = client.xcom(ti, "failure") or client.task_error(ti)
        lines, reason = _without_reason(lines, error)
        reasons.append(f"{name} failed" + (f": {reason}" if reason else ""))
        if refused and is_told:
            continue
        console.print(f"{name} failed. Its log ends:")
        for line in lines[-LOG_TAIL_LINES:]:
            console.print(f"  {line}", soft_wrap=True)
    for reason in reasons:
        console.print(*lines_of(reason), sep="\n", style="red", soft_wrap=True)


def _without_reason(lines: list[str], error: str) -> tuple[list[str], str]:
    """The lines of a log that do not say why the task failed, and what those that do say.

    Args:
        lines: Of the log.
        error: What Airflow was told, for tasks that are no stages: a stage says it itself.
    """
    said = [number for number, line in enumerate(lines) if line.startswith("vidpipe: ")]
    if not said:
        return [line for line in lines if not error or error not in " ".join(line.split())], error
    begin = end = said[-1]
    while end + 1 < len(lines) and lines[end + 1].startswith("  "):
        end += 1
    reason = "\n".join(lines[begin : end + 1]).removeprefix("vidpipe: ")
    return lines[:begin] + lines[end + 1 :], reason


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _log_line(entry: dict[str, Any] | str) -> str:
    if isinstance(entry, str):
        return entry
    return " ".join(filter(None, (str(entry.get("event", "")), _error_text(entry))))


def _error_text(entry: dict[str, Any] | str) -> str:
    details = entry.get("error_detail") or [] if isinstance(entry, dict) else []
    return "; ".join(f"{e.get('exc_type')}: {e.get('exc_value')}" for e in details)


def _detail(response: requests.Response) -> str:
    """Why Airflow refuses a request, in words."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        asked = f"{response.request.method} {response.url}"
        return f"Airflow answered {response.status_code} to {asked}: {response.text[:300]}"
    # What the refused value was to be follows as JSON schema: the first lines say it in words.
    return " ".join(str(detail).partition("\n\n")[0].split())[:500]
