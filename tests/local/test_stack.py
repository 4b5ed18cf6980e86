"""The embedded stack with its real servers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import boto3
import psutil
import pytest
import requests
from rich.console import Console

from vidpipe.config import load_settings
from vidpipe.errors import TemporaryError, UsageError
from vidpipe.lake.store import open_store
from vidpipe.local import processes
from vidpipe.local.stack import doctor, down, print_status, status, up
from vidpipe.local.state import StackState, free_ports


def states(root: Path) -> dict[str, str]:
    return {part.name: part.state for part in status(root)}


def pids(root: Path) -> dict[str, int | None]:
    return {part.name: part.pid for part in status(root)}


def all_processes(root: Path) -> list[psutil.Process]:
    return [process for group in processes.find(root).values() for process in group]


def make_state(root: Path, **values) -> StackState:
    root.mkdir(parents=True)
    ports = dict(zip(("s3", "mlflow", "airflow"), free_ports(3), strict=True))
    state = StackState(root.resolve(), ports=ports, **values)
    state.save()
    return state


def test_all_parts_run_and_listen_on_loopback_only(stack):
    assert set(states(stack.root).values()) == {"running"}
    listening = set()
    for process in all_processes(stack.root):
        with contextlib.suppress(psutil.NoSuchProcess):  # the parts' own children come and go
            listening |= {
                connection.laddr.ip
                for connection in process.net_connections()
                if connection.status == psutil.CONN_LISTEN
            }
    assert listening == {"127.0.0.1"}


def test_secrets_are_private(stack):
    state = StackState.load(stack.root)
    assert stat.S_IMODE(stack.root.stat().st_mode) == 0o700
    for name in (
        "stack.json",
        "vidpipe.toml",
        "airflow/airflow.cfg",
        "airflow/passwords.json",
        "mlflow/basic_auth.ini",
    ):
        assert stat.S_IMODE((stack.root / name).stat().st_mode) == 0o600, name
    shown = ""
    for process in all_processes(stack.root):
        with contextlib.suppress(psutil.NoSuchProcess):
            shown += " ".join(process.cmdline()) + "\n"
    logs = "\n".join(log.read_text(errors="replace") for log in (stack.root / "logs").iterdir())
    for secret in (
        state.s3_secret_access_key,
        state.airflow_password,
        state.airflow_secret,
        state.airflow_fernet_key,
        state.mlflow_password,
        state.mlflow_secret,
    ):
        assert secret not in shown
        assert secret not in logs


def test_nothing_is_left_in_the_home_folder(stack):
    assert list(stack.home.rglob("*")) == []


def test_servers_answer_with_the_written_configuration(stack):
    settings = load_settings()
    s3 = boto3.client(
        "s3",
        endpoint_url=settings.s3.endpoint_url,
        region_name=settings.s3.region,
        aws_access_key_id=settings.s3.access_key_id,
        aws_secret_access_key=settings.s3.secret_access_key,
    )
    buckets = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    assert buckets == {"videos", "vidpipe-lake", "mlflow"}
    assert not requests.get(settings.s3.endpoint_url, timeout=60).ok  # a stranger
    # MLflow keeps artifacts on that S3 server.
    uri = f"{settings.mlflow.tracking_uri}/api/2.0/mlflow-artifacts/artifacts/proof/a.txt"
    assert not requests.put(uri, data=b"evil", timeout=120).ok
    login = (settings.mlflow.username, settings.mlflow.password)
    assert requests.put(uri, data=b"kept", auth=login, timeout=120).ok
    assert s3.get_object(Bucket="mlflow", Key="artifacts/proof/a.txt")["Body"].read() == b"kept"


def test_a_video_copied_into_the_folder_is_in_the_bucket(stack):
    store = open_store(load_settings())
    assert list(store.list("s3://videos/copied")) == []  # and so it is remembered
    file = stack.root / "s3" / "videos" / "copied.mp4"
    file.write_bytes(b"video")
    deadline = time.monotonic() + 120
    while not (found := list(store.list("s3://videos/copied"))) and time.monotonic() < deadline:
        time.sleep(0.5)
    file.unlink()
    assert [(copy.uri, copy.size_bytes) for copy in found] == [("s3://videos/copied.mp4", 5)]


def test_up_twice_changes_nothing(stack):
    before = pids(stack.root)
    up(stack.root, dags_folder=stack.dags_folder)
    assert pids(stack.root) == before


def test_another_port_needs_a_stop_first(stack):
    with pytest.raises(UsageError, match="vidpipe down"):
        up(stack.root, ports={"s3": free_ports(1)[0]})


def test_a_killed_part_is_reported_and_started_again(stack):
    before = pids(stack.root)
    os.kill(before["scheduler"], signal.SIGKILL)
    psutil.wait_procs([psutil.Process(before["scheduler"])], timeout=60)
    assert states(stack.root)["scheduler"] == "died"
    console = Console(record=True, width=120)
    assert not print_status(stack.root, console)
    assert "Not running: scheduler" in console.export_text()
    (wrong,) = (check for check in doctor(stack.root) if not check.ok)
    assert wrong.name == "scheduler" and "vidpipe up" in wrong.found
    up(stack.root, dags_folder=stack.dags_folder)
    after = pids(stack.root)
    assert after.pop("scheduler") != before.pop("scheduler")
    assert after == before


def test_down_leaves_no_process_and_up_keeps_ports_and_password(stack):
    before = StackState.load(stack.root)
    os.kill(before.processes["triggerer"][0], signal.SIGKILL)  # its child is left alone
    down(stack.root)
    assert all_processes(stack.root) == []
    assert set(states(stack.root).values()) == {"stopped"}
    with pytest.raises(TemporaryError, match="vidpipe up"):
        print_status(stack.root)
    up(stack.root, dags_folder=stack.dags_folder)
    after = StackState.load(stack.root)
    assert after.ports == before.ports
    assert after.airflow_password == before.airflow_password
    assert after.mlflow_password == before.mlflow_password
    assert print_status(stack.root)


def test_doctor_finds_all_right(stack):
    assert [check for check in doctor(stack.root) if not check.ok] == []


def test_doctor_names_what_is_wrong(tmp_path):
    asked = subprocess.run(
        [sys.executable, "-m", "vidpipe", "doctor"],
        cwd=tmp_path,
        env={**os.environ, "VIDPIPE_EXTRACT_FFMPEG_PATH": str(tmp_path / "ffmpeg")},
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 1
    assert re.search(r"^look ffmpeg: .*FFMPEG_PATH", asked.stdout, re.MULTILINE)
    sandbox = "ok   decoder sandbox: no new privileges, no network (seccomp"
    assert sandbox in asked.stdout or sys.platform != "linux"


def test_doctor_asks_the_services_that_are_configured(tmp_path):
    port = free_ports(1)[0]
    asked = subprocess.run(
        [sys.executable, "-m", "vidpipe", "doctor"],
        cwd=tmp_path,
        env={
            **os.environ,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "VIDPIPE_MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
        },
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 1
    assert re.search(r"^look MLflow: .*does not answer", asked.stdout, re.MULTILINE)


def test_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr("vidpipe.local.stack.NEEDED_DISK_BYTES", 10**18)
    with pytest.raises(UsageError, match="too full: .* GB are free"):
        up(tmp_path / "s")
    assert all_processes(tmp_path / "s") == []


def test_busy_port_is_refused_before_anything_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match=f"{port} for mlflow is busy"):
            up(tmp_path / "s", ports={"mlflow": port})
    assert all_processes(tmp_path / "s") == []


def test_a_part_that_ends_while_starting_shows_its_log(tmp_path):
    root = tmp_path / "s"
    (root / "airflow").mkdir(parents=True)
    (root / "airflow" / "airflow.db").write_text("this is no database " * 100)
    with pytest.raises(TemporaryError, match="(?s)migration ended.*not a database"):
        up(root)
    assert all_processes(root) == []
    assert set(states(root).values()) <= {"stopped"}


def test_a_foreign_process_with_a_remembered_pid_lives_on(tmp_path):
    foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        make_state(tmp_path / "s", processes={"s3": (foreign.pid, 1.0)})
        assert states(tmp_path / "s")["s3"] == "died"
        down(tmp_path / "s")
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_down_finds_children_in_other_sessions(tmp_path):
    root = tmp_path.resolve()
    script = (
        "import subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "subprocess.Popen(sleep, start_new_session=True)\n"
        "time.sleep(600)"
    )
    log = root / "log"
    parent = processes.start(root, "s3", [sys.executable, "-c", script], dict(os.environ), log)
    deadline = time.monotonic() + 120
    while len(all_processes(root)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.kill()
    down(root)
    assert all_processes(root) == []


def test_two_at_once_are_refused(tmp_path):
    root = tmp_path / "s"
    root.mkdir()
    hold = (
        "import fcntl, sys\n"
        f"file = open({str(root / 'lock')!r}, 'w')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(TemporaryError, match="Another"):
            up(root)
        other.stdin.close()
