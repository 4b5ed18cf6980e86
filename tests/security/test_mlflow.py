"""Attacks on MLflow, by other users of the machine and by pages in a browser."""

from __future__ import annotations

import configparser
import json
import secrets
from collections.abc import Callable

import pytest
import requests

from vidpipe.local.parts import CHECKOUT, MODEL_SOURCES
from vidpipe.local.state import StackState

API = "/api/2.0/mlflow"


class Client:
    """Asks MLflow over HTTP, as no client of its own would."""

    def __init__(self, state: StackState, login: tuple[str, str] | None):
        self._url, self._session = state.url("mlflow"), requests.Session()
        self._session.trust_env, self._session.auth = False, login

    def ask(self, method: str, path: str, **how: object) -> requests.Response:
        return self._session.request(method, self._url + path, timeout=120, **how)

    def experiment(self, **fields: object) -> requests.Response:
        body = {"name": secrets.token_hex(8), **fields}
        return self.ask("POST", f"{API}/experiments/create", json=body)


@pytest.fixture
def stranger(servers: StackState) -> Client:
    return Client(servers, None)


@pytest.fixture
def owner(servers: StackState) -> Client:
    return Client(servers, (servers.mlflow_user, servers.mlflow_password))


REQUESTS = {
    "page": ("GET", "/"),
    "experiment": ("POST", f"{API}/experiments/create"),
    "ajax": ("POST", "/ajax-api/2.0/mlflow/experiments/create"),
    "runs": ("POST", f"{API}/runs/search"),
    "alias": ("POST", f"{API}/registered-models/alias"),
    "delete": ("DELETE", f"{API}/registered-models/delete"),
    "write": ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/evil.py"),
    "list": ("GET", "/api/2.0/mlflow-artifacts/artifacts"),
    "read": ("GET", "/get-artifact?path=model&run_uuid=0"),
    "read of a version": ("GET", "/model-versions/get-artifact?path=x&name=x&version=1"),
    "upload": ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=0&path=evil.py"),
    "graphql": ("POST", "/graphql"),
    "sign-up": ("GET", "/signup"),
    "new user": ("POST", f"{API}/users/create"),
}


@pytest.mark.parametrize(("method", "path"), REQUESTS.values(), ids=REQUESTS)
def test_another_user_of_the_machine_asks(stranger: Client, method: str, path: str):
    """Tries: any request to MLflow from another account of the same machine.

    Stopped by: a generated login, which MLflow asks for before everything.
    """
    answer = stranger.ask(method, path, json={} if method == "POST" else None)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "login", [("admin", "password1234"), ("admin", "admin"), ("admin", ""), ("vidpipe", "vidpipe")]
)
def test_a_login_that_is_known_is_tried(servers: StackState, login: tuple[str, str]):
    """Tries: the logins that MLflow or vidpipe might have come with.

    Stopped by: no login comes with either; each stack makes its own password.
    """
    assert Client(servers, login).ask("POST", f"{API}/experiments/search").status_code == 401


LOCATIONS: dict[str, Callable[[str], dict[str, str]]] = {
    "a field": lambda uri: {"artifact_location": uri},
    "its other spelling": lambda uri: {"artifactLocation": uri},
}


@pytest.mark.parametrize("spelt", LOCATIONS.values(), ids=LOCATIONS)
@pytest.mark.parametrize(
    "uri", [(CHECKOUT / "dags").as_uri(), str(CHECKOUT / "dags"), "s3://vidpipe-lake/tables"]
)
def test_files_of_an_experiment_are_to_lie_elsewhere(owner: Client, uri: str, spelt: Callable):
    """Tries: an experiment whose files the server writes into the folder of the DAG files, where
    they would be run, or into the lake.

    Stopped by: the authorization function of the server refuses every such location.
    """
    answer = owner.experiment(**spelt(uri))
    assert answer.status_code == 400
    assert "stay in the store of this server" in answer.json()["message"]
    assert owner.experiment().ok, "without a location it is welcome"


def test_a_location_is_wrapped_twice(owner: Client):
    """Tries: the same in a document inside a text, as old clients send it.

    Stopped by: the request is read by MLflow's own reader, before MLflow acts on it.
    """
    body = json.dumps({"name": secrets.token_hex(8), "artifact_location": "file:///tmp"})
    answer = owner.ask("POST", f"{API}/experiments/create", json=body)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "source", ["s3://vidpipe-lake/x", "file:///etc", "/etc", "http://127.0.0.1:1/x", "dbfs:/x"]
)
def test_a_model_from_elsewhere_is_registered(owner: Client, source: str):
    """Tries: a version of a model whose files lie where the attacker can write.

    Stopped by: MLflow takes only sources in its own store.
    """
    name = f"vidpipe-{secrets.token_hex(4)}"
    owner.ask("POST", f"{API}/registered-models/create", json={"name": name})
    body = {"name": name, "source": source}
    assert owner.ask("POST", f"{API}/model-versions/create", json=body).status_code == 400


@pytest.mark.parametrize(
    "origin", ["http://localhost:9999", "http://127.0.0.1", "null", "http://x"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"{API}/experiments/search"), ("GET", "/api/2.0/mlflow-artifacts/artifacts")],
)
def test_a_page_of_another_server_asks(
    owner: Client, servers: StackState, method: str, path: str, origin: str
):
    """Tries: a page, also one of another server on this machine, that uses the login which the
    browser remembers.

    Stopped by: the authorization function refuses what other pages send.
    """
    body = {"max_results": 1} if method == "POST" else None
    answers = [
        owner.ask(method, path, json=body, headers={"Origin": sender})
        for sender in (origin, servers.url("mlflow"))
    ]
    assert [answer.status_code for answer in answers] == [403, 200]


def test_a_name_that_leads_to_this_machine_is_asked(owner: Client):
    """Tries: a page of a site whose name the attacker lets lead to 127.0.0.1 (DNS rebinding).

    Stopped by: MLflow answers only to names of this machine.
    """
    answer = owner.ask("POST", f"{API}/experiments/search", headers={"Host": "evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "/etc/passwd"])
def test_a_path_leads_out_of_the_store(owner: Client, path: str):
    """Tries: a file of a run whose path leads to another bucket or to the server's disk.

    Stopped by: MLflow refuses such paths.
    """
    answer = owner.ask("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}")
    assert not answer.ok
    assert "root:" not in answer.text


def test_the_login_is_looked_for(servers: StackState):
    """Tries: to read a password from a file, a command line or a log.

    Stopped by: the files are their owner's alone, and hold the only copies.
    """
    files = [path for path in servers.root.rglob("*") if path.is_file()]
    readable = [p for p in files if p.suffix in (".json", ".ini", ".toml", ".cfg")]
    assert {path.stat().st_mode & 0o077 for path in readable} == {0}
    secret = servers.mlflow_password
    logs = [path for path in files if path.suffix == ".log"]
    assert logs and not any(secret in path.read_text(errors="replace") for path in logs)


CLOSED = {
    "assistant": ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
    "its messages": ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    "its sessions": ("GET", "/ajax-api/3.0/mlflow/assistant/sessions/0/stream"),
    "its skills": ("POST", "/ajax-api/3.0/mlflow/assistant/skills/install"),
    "gateway": ("POST", "/gateway/proxy/x"),
    "its old proxy": ("POST", "/ajax-api/2.0/mlflow/gateway-proxy"),
    "its secrets": ("POST", "/ajax-api/3.0/mlflow/gateway/secrets/create"),
    "jobs": ("POST", "/ajax-api/3.0/jobs/search"),
    "scorers": ("POST", "/api/3.0/mlflow/scorers/register"),
    "webhooks": ("POST", "/api/2.0/mlflow/webhooks"),
    "MCP servers": ("POST", "/api/3.0/mlflow/mcp-servers"),
    "a trace": ("POST", "/api/3.0/mlflow/traces"),
    "its tags": ("PATCH", "/api/2.0/mlflow/traces/0/tags"),
    "its files": ("GET", "/ajax-api/2.0/mlflow/get-trace-artifact?request_id=0"),
    "OpenTelemetry": ("POST", "/v1/traces"),
    "demo data": ("POST", "/ajax-api/3.0/mlflow/demo/generate"),
}


@pytest.mark.parametrize(("method", "path"), CLOSED.values(), ids=CLOSED)
def test_a_login_uses_what_acts_for_it(owner: Client, method: str, path: str):
    """Tries: with any login, the parts of MLflow that act for people: the assistant, which runs
    commands; gateway, jobs, webhooks, which call other servers; traces, whose files may lie
    anywhere.

    Stopped by: only the parts that track experiments and models are open.
    """
    body = {} if method != "GET" else None
    for spelt in (path, path.replace("/", "//", 1), path.replace("mlflow", "%6dlflow")):
        assert not owner.ask(method, spelt, json=body).ok
    assert owner.ask(method, path, json=body).text == "This part of MLflow is not open here."


@pytest.mark.parametrize("path", ["/new", "/metrics", "/api/2.0/mlflow/new", "/api/9.0/new/runs"])
def test_an_upgrade_of_mlflow_brings_another_part(owner: Client, path: str):
    """Tries: what a later version of MLflow brings and nobody here has looked at.

    Stopped by: parts are closed unless they are listed.
    """
    assert owner.ask("GET", path).text == "This part of MLflow is not open here."


def test_the_cluster_is_attacked_in_the_same_ways(servers: StackState):
    """Tries: all of the above on a cluster, by somebody with a login that may only read.

    Stopped by: MLflow has the same authorization function and the same rule of sources there.
    """
    platform = CHECKOUT / "docker" / "kubernetes" / "base" / "platform"
    ours, theirs = configparser.RawConfigParser(), configparser.RawConfigParser()
    ours.read(servers.root / "mlflow" / "basic_auth.ini")
    theirs.read(platform / "basic_auth.ini")
    name = ("mlflow", "authorization_function")
    assert theirs.get(*name) == ours.get(*name) == "vidpipe.mlflow_login:authenticate"
    rule = f"MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX={MODEL_SOURCES}"
    assert rule in (platform / "mlflow.env").read_text().splitlines()
