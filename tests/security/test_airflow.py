"""Attacks on Airflow and on the ports of a whole stack, by other users of the machine."""

from __future__ import annotations

import base64
import json
from typing import Any

import psutil
import pytest
import requests

from tests.conftest import RunningStack
from vidpipe.local import processes
from vidpipe.local.state import StackState

REQUESTS = {
    "DAGs": ("GET", "/api/v2/dags"),
    "a run": ("POST", "/api/v2/dags/ingest/dagRuns"),
    "connections": ("GET", "/api/v2/connections"),
    "variables": ("GET", "/api/v2/variables"),
    "configuration": ("GET", "/api/v2/config"),
    "an XCom": ("POST", "/api/v2/dags/ingest/dagRuns/x/taskInstances/extract/xcomEntries"),
    "a log": ("GET", "/api/v2/dags/ingest/dagRuns/x/taskInstances/extract/logs/1"),
    "an answer": ("PATCH", "/api/v2/dags/train/dagRuns/x/taskInstances/a/-1/hitlDetails"),
    "its pages": ("GET", "/ui/config"),
    "a task's connection": ("GET", "/execution/connections/aws_default"),
    "a task's XCom": ("POST", "/execution/xcoms/ingest/x/extract/return_value"),
}


def ask(state: StackState, method: str, path: str, **headers: str) -> requests.Response:
    body = {} if method != "GET" else None
    return requests.request(
        method, state.url("airflow") + path, json=body, headers=headers, timeout=120
    )


@pytest.fixture
def state(stack: RunningStack) -> StackState:
    return StackState.load(stack.root)


@pytest.mark.parametrize(("method", "path"), REQUESTS.values(), ids=REQUESTS)
def test_another_user_of_the_machine_asks(state: StackState, method: str, path: str):
    """Tries: any request to Airflow from another account of the same machine.

    Stopped by: a login, which Airflow asks for before everything.
    """
    assert ask(state, method, path).status_code == 401


@pytest.mark.parametrize("password", ["", "admin", "airflow", "password"])
def test_a_login_that_is_known_is_tried(state: StackState, password: str):
    """Tries: the logins that Airflow is known for, and one without a password.

    Stopped by: each stack makes its own password; nobody is let in without one.
    """
    url = f"{state.url('airflow')}/auth/token"
    answers = [
        requests.get(url, timeout=120),
        requests.post(url, json={"username": "admin", "password": password}, timeout=120),
    ]
    assert not any(answer.ok for answer in answers)


def _token(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in (header, claims)]
    return ".".join([*(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in parts), ""])


def test_a_token_is_forged(state: StackState):
    """Tries: a token that is not signed, and one whose claims were changed.

    Stopped by: Airflow takes signed tokens of its own only.
    """
    url = f"{state.url('airflow')}/auth/token"
    login = {"username": state.airflow_user, "password": state.airflow_password}
    token = requests.post(url, json=login, timeout=120).json()["access_token"]
    header, claims, signature = token.split(".")
    changed = json.loads(base64.urlsafe_b64decode(claims + "=="))
    changed["exp"] += 10**6
    forged = [
        _token({"alg": "none", "typ": "JWT"}, changed),
        _token({"alg": "HS512", "typ": "JWT"}, changed) + signature,
    ]
    assert ask(state, "GET", "/api/v2/dags", Authorization=f"Bearer {token}").ok
    for other in forged:
        answer = ask(state, "GET", "/api/v2/dags", Authorization=f"Bearer {other}")
        assert answer.status_code in (401, 403)


def test_a_persons_token_is_used_as_a_tasks(state: StackState):
    """Tries: to read a connection, with its password, as only a task may.

    Stopped by: tokens of people are none of tasks.
    """
    url = f"{state.url('airflow')}/auth/token"
    login = {"username": state.airflow_user, "password": state.airflow_password}
    token = requests.post(url, json=login, timeout=120).json()["access_token"]
    answer = ask(
        state, "GET", "/execution/connections/http_default", Authorization=f"Bearer {token}"
    )
    assert answer.status_code in (401, 403)


@pytest.mark.parametrize("run_id", ["../../../etc/passwd", "a/b", "$(id)", "{{ conn }}"])
def test_a_run_is_named_like_a_path(state: StackState, run_id: str):
    """Tries: the id of a run by which its log would lie elsewhere.

    Stopped by: Airflow refuses ids that are more than a word.
    """
    url = f"{state.url('airflow')}/auth/token"
    login = {"username": state.airflow_user, "password": state.airflow_password}
    token = requests.post(url, json=login, timeout=120).json()["access_token"]
    answer = requests.post(
        f"{state.url('airflow')}/api/v2/dags/maintain/dagRuns",
        json={"dag_run_id": run_id, "logical_date": None},
        headers={"Authorization": f"Bearer {token}"},
        timeout=120,
    )
    assert 400 <= answer.status_code < 500


def test_what_listens_is_looked_for(stack: RunningStack):
    """Tries: any port of the stack, from this machine and from others.

    Stopped by: three servers listen, on 127.0.0.1 alone, and each asks for a login.
    """
    listening = {
        connection.laddr
        for group in processes.find(stack.root).values()
        for process in group
        if process.is_running()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    state = StackState.load(stack.root)
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == set(state.ports.values())
    for server in ("s3", "mlflow", "airflow"):
        path = "/api/v2/dags" if server == "airflow" else "/"
        assert not requests.get(state.url(server) + path, timeout=120).ok
