"""`vidpipe up`, `down`, `status` and `doctor`: the parts started, watched and stopped."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import requests
from rich.table import Table
from rich.text import Text

from vidpipe.config import CONFIG_NAME, find_config, load_settings, read_config
from vidpipe.console import Console, echo
from vidpipe.errors import TemporaryError, UsageError, VidpipeError
from vidpipe.lake.tables import Lake
from vidpipe.local import processes
from vidpipe.local.airflow_api import connect
from vidpipe.local.parts import (
    CHECKOUT,
    SCRIPTS,
    environment,
    part_environment,
    parts,
    write_files,
)
from vidpipe.local.state import (
    SERVERS,
    StackState,
    free_ports,
    is_free,
    load_running,
    make_private_folder,
)
from vidpipe.memory import stage_limit_bytes
from vidpipe.stages.backlog import ingest_backlog, label_backlog

DAGS_FOLDER = CHECKOUT / "dags"
MIGRATION = "migration"
START_WITHIN_S = 180
READ_DAGS_WITHIN_S = 60
STOP_WITHIN_S = 22  # a stage may take 20 s to leave its work in order
NEEDED_DISK_BYTES = 2_000_000_000
NEEDED_MEMORY_BYTES = 4_000_000_000
LOG_TAIL_LINES = 12

Echo = Callable[[str], object]


# --- Starting ------------------------------------------------------------------------------------


def up(
    root: Path,
    *,
    ports: dict[str, int] | None = None,
    dags_folder: Path = DAGS_FOLDER,
    echo: Echo = echo,
) -> None:
    """Starts the parts that do not run, and waits until all answer and the DAG files are read.

    Args:
        root: Folder that holds all state of the stack.
        ports: Chosen ports by server (`s3`, `mlflow`, `airflow`); the others stay what they were
            or are free ones.
        dags_folder: The DAG files.
        echo: Takes lines that tell how it goes.

    Raises:
        UsageError: A chosen port is busy, the disk too full, or the folder not this user's alone.
        TemporaryError: A part ended or did not answer in time; what this call started is stopped.
    """
    make_private_folder(root)
    _require_disk(root)
    with _locked(root):
        state = StackState.load(root)
        if state is None:
            state = StackState(root.resolve())
            # It knows the password of a stack.json that is gone, and would take no other.
            (root / "mlflow" / "basic_auth.db").unlink(missing_ok=True)
        running = {
            name for name, started in state.processes.items() if processes.is_alive(*started)
        }
        # A part that was killed may have left children that hold its port.
        found = processes.find(state.root)
        left = [p for name, group in found.items() if name not in running for p in group]
        processes.stop(left, grace_s=5)
        _settle_ports(state, ports or {}, running)
        missing = [part.name for part in parts(state) if part.name not in running]
        if missing:
            write_files(state, dags_folder.resolve())
            try:
                _start(state, missing, echo)
                _read_dags(root, dags_folder, echo)
            except BaseException:
                found = processes.find(state.root)
                began = [p for name in (*missing, MIGRATION) for p in found.get(name, [])]
                processes.stop(began, grace_s=5)
                state.processes = {k: v for k, v in state.processes.items() if k in running}
                state.save()
                raise
    for server in SERVERS:
        echo(f"{server:8} {state.url(server)}")
    for line in _logins(state, show_passwords=sys.stdout.isatty()):
        echo(line)


def _logins(state: StackState, *, show_passwords: bool) -> list[str]:
    """Returns the logins for people, each a line; with its password or where that stands."""
    logins = (
        ("Airflow", state.airflow_user, state.airflow_password),
        ("MLflow", state.mlflow_user, state.mlflow_password),
    )
    place = f"in {state.root / 'stack.json'}"
    return [
        f"{server}: user {user}, password {password if show_passwords else place}"
        for server, user, password in logins
    ]


def _settle_ports(state: StackState, chosen: dict[str, int], running: set[str]) -> None:
    for server, port in chosen.items():
        if state.ports.get(server) == port and server in running:
            continue
        if running:
            raise UsageError(
                f"The port of {server} can change only while the stack is down: vidpipe down. "
                f"Received: {port}"
            )
        if not is_free(port):
            raise UsageError(f"Port {port} for {server} is busy or not allowed. Choose another.")
        state.ports[server] = port
    for server, free in zip(SERVERS, free_ports(len(SERVERS)), strict=True):
        kept = state.ports.get(server)
        if kept is not None and (server in running or is_free(kept)):
            continue
        if running:
            raise UsageError(
                f"Port {kept} of {server} was taken by another program, and the other parts "
                "rely on it. Run: vidpipe down, then vidpipe up"
            )
        state.ports[server] = free


def _start(state: StackState, names: list[str], echo: Echo) -> None:
    began = time.monotonic()
    commands = {part.name: part for part in parts(state)}
    migrated = state.root / "airflow" / "migrated"
    airflow_version = importlib.metadata.version("apache-airflow-core")
    is_migrated = migrated.is_file() and migrated.read_text() == airflow_version
    migration = None if is_migrated else _start_migration(state)

    def start(name: str) -> None:
        part = commands[name]
        process = processes.start(
            state.root, name, part.command, part_environment(state, part), _log(state.root, name)
        )
        state.processes[name] = (process.pid, process.create_time())
        state.save()

    first = [name for name in names if name in ("s3", "mlflow")]
    for name in first:
        start(name)
    if migration is not None:
        echo("Making Airflow's database …")
        if migration.wait() != 0:
            raise TemporaryError(_why_it_ended(state.root, MIGRATION))
        migrated.write_text(airflow_version)
    for name in names:
        if name not in first:
            start(name)
    _wait_until_ready(state, names, began, echo)


def _start_migration(state: StackState) -> psutil.Process:
    command = (str(SCRIPTS / "airflow"), "db", "migrate")
    log = _log(state.root, MIGRATION)
    return processes.start(state.root, MIGRATION, command, environment(state), log)


def _wait_until_ready(state: StackState, names: list[str], began: float, echo: Echo) -> None:
    waiting = list(names)
    while waiting:
        time.sleep(0.5)
        health = _airflow_health(state)
        for name in list(waiting):
            if not processes.is_alive(*state.processes[name]):
                raise TemporaryError(_why_it_ended(state.root, name))
            if _is_ready(state, name, health):
                waiting.remove(name)
                echo(f"{name} is ready after {time.monotonic() - began:.0f} s")
        if waiting and time.monotonic() - began > START_WITHIN_S:
            raise TemporaryError(
                f"{', '.join(waiting)} did not answer within {START_WITHIN_S} s. "
                f"Logs: {state.root / 'logs'}"
            )


def _is_ready(state: StackState, name: str, health: dict) -> bool:
    if name == "s3":
        return _ask(state.url("s3")) is not None  # it answers strangers with a refusal
    if name == "mlflow":
        answer = _ask(state.url("mlflow") + "/health")
        return answer is not None and answer.ok
    if name == "airflow":
        return bool(health)
    part = health.get(name.replace("-", "_")) or {}
    heartbeat = part.get(f"latest_{name.replace('-', '_')}_heartbeat")
    # An older heartbeat is that of the process before.
    started = state.processes[name][1]
    return bool(heartbeat) and datetime.fromisoformat(heartbeat).timestamp() >= started


def _airflow_health(state: StackState) -> dict:
    answer = _ask(state.url("airflow") + "/api/v2/monitor/health")
    return answer.json() if answer is not None and answer.ok else {}


def _ask(url: str) -> requests.Response | None:
    with requests.Session() as session, contextlib.suppress(requests.RequestException):
        session.trust_env = False  # never through a proxy
        return session.get(url, timeout=5)
    return None


def _read_dags(root: Path, dags_folder: Path, echo: Echo) -> None:
    """Waits until Airflow has read every DAG file; tells those it cannot import."""
    unread = {path.name for path in dags_folder.glob("*.py")}
    client = connect(root)
    deadline = time.monotonic() + READ_DAGS_WITHIN_S
    while True:
        errors = client.import_errors()
        read = {Path(dag["fileloc"]).name for dag in client.dags().values()}
        unread -= read | {Path(name).name for name, _ in errors}
        if not unread or time.monotonic() > deadline:
            break
        time.sleep(1)
    for name, trace in errors:
        echo(f"{Path(name).name} cannot be imported: {trace.strip().splitlines()[-1]}")
    if unread:
        echo(f"Airflow has found no DAG so far in: {', '.join(sorted(unread))}")


def _why_it_ended(root: Path, name: str) -> str:
    log = _log(root, name)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n".join([f"{name} ended while it started. The last lines of {log}:", *lines])


def _log(root: Path, name: str) -> Path:
    return root / "logs" / f"{name}.log"


def _require_disk(root: Path) -> None:
    free_bytes = shutil.disk_usage(root).free
    if free_bytes < NEEDED_DISK_BYTES:
        raise UsageError(
            f"The disk of {root.resolve()} is too full: {free_bytes / 1e9:.1f} GB are free, "
            f"{NEEDED_DISK_BYTES / 1e9:.0f} GB are needed."
        )


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
    with os.fdopen(os.open(root / "lock", flags, 0o600), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TemporaryError(
                f"Another `vidpipe up` or `down` is at work in {root.resolve()}; wait for it."
            ) from error
        yield


# --- Stopping ------------------------------------------------------------------------------------


def down(root: Path, *, echo: Echo = echo) -> None:
    """Stops all processes of the stack; the data, ports and passwords stay.

    Works also where the folder is damaged or deleted: what belongs to the stack carries its mark.
    """
    began = time.monotonic()
    with _locked(root) if root.is_dir() else contextlib.nullcontext():
        ended = 0
        # Again, for what was being started while the rest was stopped.
        while alive := [p for group in processes.find(root.resolve()).values() for p in group]:
            processes.stop(alive, STOP_WITHIN_S)
            ended += len(alive)
        state = StackState.load(root)
        if state is not None:
            state.processes.clear()
            state.save()
    seconds = time.monotonic() - began
    echo(f"Stopped after {seconds:.0f} s." if ended else f"Nothing runs in {root.resolve()}.")


# --- Watching ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartStatus:
    """One part.

    Attributes:
        state: `running`, `died` (it was started and not stopped), or `stopped`.
        pid: Of its first process, while it runs.
        url: Where it listens; empty where it does not.
        memory_bytes: Resident memory with its children and, for the scheduler, the tasks.
    """

    name: str
    state: str
    pid: int | None
    url: str
    memory_bytes: int


def status(root: Path) -> list[PartStatus]:
    """The parts of the stack, all of them `stopped` where none was started."""
    state = StackState.load(root)
    if state is None:
        return []
    found = processes.find(state.root)
    rows = []
    for part in parts(state):
        started = state.processes.get(part.name)
        alive = started is not None and processes.is_alive(*started)
        rows.append(
            PartStatus(
                part.name,
                "running" if alive else "died" if started else "stopped",
                started[0] if started and alive else None,
                state.url(part.name) if part.name in SERVERS else "",
                processes.memory_bytes(found.get(part.name, [])),
            )
        )
    return rows


def print_status(root: Path, console: Console | None = None) -> bool:
    """Shows the parts of the stack, and on a terminal the passwords.

    Returns:
        Whether all parts run.

    Raises:
        TemporaryError: No stack was started.
    """
    console = console or Console()
    state = load_running(root)
    rows = status(root)
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "state", "pid", "address"):
        table.add_column(heading)
    table.add_column("memory", justify="right")
    for row in rows:
        color = "green" if row.state == "running" else "red"
        pid = str(row.pid or "")
        memory = f"{row.memory_bytes / 1e6:.0f} MB"
        table.add_row(row.name, Text(row.state, color), pid, row.url, memory)
    console.print(table)
    for line in _logins(state, show_passwords=console.is_terminal):
        console.print(line, soft_wrap=True)
    died = [row.name for row in rows if row.state != "running"]
    if died:
        console.print(
            f"Not running: {', '.join(died)}. Logs: {state.root / 'logs'}. Start again: vidpipe up",
            soft_wrap=True,
        )
    else:
        _print_backlog(console)
    return not died


def _print_backlog(console: Console) -> None:
    """Tells what the nightly DAGs have not come to yet, from the bucket and the tables."""
    load_settings.cache_clear()
    lake = Lake()
    console.print(f"ingest: {ingest_backlog(lake)} objects to extract")
    for task, videos in label_backlog(lake).items():
        console.print(f"label_nightly: {videos} videos without a label of {task}")


# --- Checking ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One thing that must be right.

    Attributes:
        found: What was found, and what to do where it is not right.
    """

    name: str
    ok: bool
    found: str


def doctor(root: Path) -> list[Check]:
    """Looks for what commonly keeps the stack and the stages from working."""
    checks = [_check_python(), _check_config(), _check_ffmpeg(), _check_sandbox()]
    for program in ("rclone", "mlflow", "airflow"):
        ok = (SCRIPTS / program).is_file()
        checks.append(Check(program, ok, str(SCRIPTS) if ok else "not installed: make setup"))
    folder = root if root.is_dir() else Path()
    free_bytes = shutil.disk_usage(folder).free
    checks.append(
        Check(
            "disk",
            free_bytes >= NEEDED_DISK_BYTES,
            f"{free_bytes / 1e9:.1f} GB free, {NEEDED_DISK_BYTES / 1e9:.0f} GB needed for data",
        )
    )
    memory_bytes = psutil.virtual_memory().available
    checks.append(
        Check(
            "memory",
            memory_bytes >= NEEDED_MEMORY_BYTES,
            f"{memory_bytes / 1e9:.1f} GB free, {NEEDED_MEMORY_BYTES / 1e9:.0f} GB needed"
            + _told_of_limit(),
        )
    )
    return [*checks, *_check_parts(root), *_check_services(root)]


def print_doctor(root: Path, console: Console | None = None) -> bool:
    """Shows what `doctor` found.

    Returns:
        Whether all is right.
    """
    console = console or Console()
    checks = doctor(root)
    for check in checks:
        mark = Text("ok  ", style="green") if check.ok else Text("look", style="red")
        console.print(mark, f"{check.name}: {check.found}", soft_wrap=True)
    return all(check.ok for check in checks)


def _told_of_limit() -> str:
    """How much memory a stage that starts now may take."""
    try:
        limit_bytes = stage_limit_bytes(load_settings().memory)
    except VidpipeError:
        return ""  # the configuration is told of by itself
    return f"; a stage may take {limit_bytes / 1e9:.1f} GB" if math.isfinite(limit_bytes) else ""


def _check_python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = (3, 11) <= sys.version_info[:2] <= (3, 12)
    return Check("python", ok, version if ok else f"{version}; needed is 3.11 or 3.12")


def _check_config() -> Check:
    try:
        load_settings()
        if (own := Path(CONFIG_NAME)).exists():
            read_config(own)  # `vidpipe up` makes the stack's of it
    except VidpipeError as error:
        return Check("configuration", False, str(error))
    return Check("configuration", True, str(find_config() or "the environment only"))


def _check_ffmpeg() -> Check:
    from vidpipe.media import ffmpeg_path

    try:
        path = ffmpeg_path()
        answer = subprocess.run([path, "-version"], capture_output=True, text=True, check=True)
    except (VidpipeError, OSError, subprocess.CalledProcessError) as error:
        return Check("ffmpeg", False, str(error))
    return Check("ffmpeg", True, answer.stdout.partition("\n")[0])


def _check_sandbox() -> Check:
    from vidpipe.media import check_sandbox

    walls = check_sandbox()
    ok = walls.no_privileges and walls.no_network
    return Check("decoder sandbox", ok or sys.platform != "linux", str(walls))


def _check_parts(root: Path) -> list[Check]:
    state = StackState.load(root)
    checks = []
    for row in status(root):
        port = state.ports.get(row.name)
        name = f"{row.name} (port {port})" if port else row.name
        ok, found = True, row.state
        if row.state == "died":
            ok, found = False, f"it died; see {_log(root, row.name)}, start it again: vidpipe up"
        elif port and row.state == "running":
            ok = _ask(row.url) is not None
            found = "answers" if ok else f"no answer; see {_log(root, row.name)}"
        elif port and not is_free(port):
            ok, found = False, "its port was taken by another program; `vidpipe up` finds another"
        checks.append(Check(name, ok, found))
    return checks


def _check_services(root: Path) -> list[Check]:
    """Asks the configured lake and MLflow, unless they are those of a stack that is down."""
    if any(row.state != "running" for row in status(root)):
        return []
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # whoever asks is waiting
    from vidpipe import tracking  # MLflow takes a second to import

    def check(name: str, counted: str, ask: Callable[[], Sized]) -> Check:
        try:
            return Check(name, True, f"{len(ask())} {counted}")
        except (VidpipeError, OSError) as error:
            return Check(name, False, " ".join(str(error).split()))

    checks = []
    with contextlib.suppress(VidpipeError):  # told by the check of the configuration
        settings = load_settings()
        if settings.lake.uri:
            checks.append(check("lake", "tables published", lambda: Lake(settings).published()))
        if settings.mlflow.tracking_uri:
            checks.append(check("MLflow", "champions", tracking.champions))
    return checks
