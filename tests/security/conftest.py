"""Servers that are attacked, started as `vidpipe up` starts them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
import requests

from tests.airflow_runs import airflow_home, configured, stage_processes, stages  # noqa: F401
from tests.servers import wait_for_port
from vidpipe.config import load_settings
from vidpipe.local import processes
from vidpipe.local.parts import CHECKOUT, part_environment, parts, write_files
from vidpipe.local.state import HOST, SERVERS, StackState, free_ports, make_private_folder


@pytest.fixture(scope="session")
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackState]:
    root = tmp_path_factory.mktemp("servers") / ".vidpipe"
    make_private_folder(root)
    state = StackState(root, ports=dict(zip(SERVERS, free_ports(len(SERVERS)), strict=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_files(state, CHECKOUT / "dags")
    started = []
    try:
        for part in parts(state):
            if part.name in ("s3", "mlflow"):
                log = root / "logs" / f"{part.name}.log"
                env = part_environment(state, part)
                started.append(processes.start(root, part.name, part.command, env, log))
                wait_for_port(HOST, state.ports[part.name], within_s=300)
        requests.get(f"{state.url('mlflow')}/health", timeout=300).raise_for_status()
        yield state
    finally:
        processes.stop([p for of_part in processes.find(root).values() for p in of_part], 10)


@pytest.fixture
def servers(_servers: StackState, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackState]:
    """S3 and MLflow of a stack; this process is configured to use them, as its owner."""
    monkeypatch.setenv("VIDPIPE_CONFIG", str(_servers.root / "vidpipe.toml"))
    load_settings.cache_clear()
    yield _servers
    load_settings.cache_clear()
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        os.environ.pop(name, None)  # set by `tracking.connect` for all of this process


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port at which nobody must knock."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()
