"""What becomes of a task whose stage is a pod, by how the pod ends."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.airflow_runs import run_dag
from tests.kubernetes.cluster import TestCluster
from tests.kubernetes.conftest import PodStages
from vidpipe.config import load_settings

pytestmark = pytest.mark.kubernetes

CREDENTIALS = "client.authentication.k8s.io/v1"


@contextlib.contextmanager
def in_background(action: Callable[[], None]) -> Iterator[None]:
    """Does something while a DAG runs; it must go well."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(action)
        yield
        done.result()


def connect_to(
    monkeypatch: pytest.MonkeyPatch, folder: Path, server: dict[str, str], user: dict[str, Any]
) -> Path:
    """Has Airflow use a copy of the kubeconfig with another server or user; returns its path."""
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    if server:
        config["clusters"][0]["cluster"] |= server
    if user:
        config["users"][0]["user"] = user
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(path)}}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
    return path


def as_exec_credential(token: str) -> str:
    """What a program says that a kubeconfig names for a login."""
    credential = {"apiVersion": CREDENTIALS, "kind": "ExecCredential", "status": {"token": token}}
    return json.dumps(credential)


@contextlib.contextmanager
def losing_first_answer(to: str) -> Iterator[tuple[str, list[str]]]:
    """An API server whose first answer to a POST at a path that ends so is lost, the work done.

    Yields:
        Its URL, and the paths of what was lost.
    """
    lost: list[str] = []

    class Forward(http.server.BaseHTTPRequestHandler):
        def forward(self) -> None:
            behind = http.client.HTTPConnection("127.0.0.1", port)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            behind.request(self.command, self.path, body, dict(self.headers))
            answer = behind.getresponse()
            if self.command == "POST" and self.path.partition("?")[0].endswith(to) and not lost:
                lost.append(self.path)
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type", ""))
            self.end_headers()
            while chunk := answer.read1(1 << 16):
                self.wfile.write(chunk)

        do_GET = do_POST = do_DELETE = forward

        def log_message(self, *_: Any) -> None:
            pass

    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl is here")
    command = ["kubectl", "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        # "Starting to serve on 127.0.0.1:…"
        port = int(proxy.stdout.readline().rpartition(":")[2])
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forward) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield f"http://127.0.0.1:{server.server_port}", lost
            finally:
                server.shutdown()
                proxy.terminate()


def test_plan_and_shards_run_in_pods(
    airflow_home: Path, pod_stages: PodStages, namespace: TestCluster
):
    pod_stages.tell(discover=[[["say", 3], ["plan", ["extract", "extract"]]]])
    # Kubernetes would put the key of the S3 server there.
    prefix = "2026 $(VIDPIPE_S3_SECRET_ACCESS_KEY) $$ {{ conn }}\n" + "x" * 100_000

    run = run_dag(airflow_home, "probe", prefix=prefix)

    assert run.state == "success"
    assert pod_stages.calls("discover")[0]["config"]["prefix"] == prefix
    assert run.names["work[1]"] == "00001: 2 items"
    assert run.xcoms["work[1]"] == {"summary": "done"}
    (plan,) = pod_stages.calls("discover")
    assert plan["uid"] == 10001
    namespace.wait_until_empty()


def test_exit_code_decides(airflow_home: Path, pod_stages: PodStages, namespace: TestCluster):
    exits = [0, 2, 65, 99, 75, 1]
    pod_stages.tell(
        discover=[[["plan", ["extract"] * (len(exits) + 1)]]],
        **{f"extract/{n:05d}": [[["report"], ["exit", code]]] for n, code in enumerate(exits)},
        **{"extract/00006": [[["exit", 75]], [["report"]]]},
    )

    run = run_dag(airflow_home, "probe")

    ended = [(run.tasks[f"work[{n}]"], len(pod_stages.calls(f"extract/{n:05d}"))) for n in range(7)]
    assert ended == [
        ("success", 1),
        ("failed", 1),
        ("failed", 1),
        ("skipped", 1),
        ("failed", 2),
        ("failed", 2),
        ("success", 2),
    ]
    namespace.wait_until_empty()


def test_memory_that_runs_out_is_doubled(airflow_home: Path, pod_stages: PodStages):
    """Up to the bound. Then items go one at a time, and the one that needs more is left out."""
    pod_stages.tell(
        discover=[[["plan", ["extract"]]]],
        **{
            "extract/00000": [
                [["hold", [0, 1]], ["eat", 900]],
                [["hold", [0, 1]], ["eat", 900]],
                [["hold", [0, 1]], ["eat", 900]],
                [["hold", [0]], ["eat", 900]],
                [["report"]],
            ]
        },
    )

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["work[0]"], run.tries["work[0]"]) == ("success", 1)
    calls = pod_stages.calls("extract")
    assert [call["limit_bytes"] >> 20 for call in calls] == [128, 256, 512, 512, 512]
    told = [
        tuple(call["environment"].get(f"VIDPIPE_{name}") for name in names)
        for names in [("ONE_AT_A_TIME", "OUT_OF_MEMORY")]
        for call in calls
    ]
    assert told == [(None, None)] * 3 + [("1", None), ("1", "0")]


def test_child_killed_for_memory(airflow_home: Path, pod_stages: PodStages):
    """The pod may end well all the same: what it reported counts, and otherwise it has more."""
    pod_stages.tell(
        discover=[[["plan", ["extract", "extract"]]]],
        **{
            "extract/00000": [[["spawn", 900], ["report"]]],
            "extract/00001": [[["spawn", 900], ["exit", 0]], [["report"]]],
        },
    )

    run = run_dag(airflow_home, "probe")

    assert [run.tasks[f"work[{n}]"] for n in range(2)] == ["success", "success"]
    assert [len(pod_stages.calls(f"extract/{n:05d}")) for n in range(2)] == [1, 2]


def test_lost_pods_are_replaced_within_the_try(
    airflow_home: Path, pod_stages: PodStages, namespace: TestCluster
):
    """As this one, which is deleted by hand."""
    pod_stages.tell(discover=[[["sleep", 600]], [["report"]]])

    def delete_it() -> None:
        pod = namespace.wait_for_pod(lambda pod: pod_stages.calls("discover"), within_s=120)
        namespace.core.delete_namespaced_pod(pod["metadata"]["name"], namespace.namespace)

    with in_background(delete_it):
        run = run_dag(airflow_home, "probe")

    assert (run.tasks["plan"], run.tries["plan"]) == ("success", 1)
    assert len(pod_stages.calls("discover")) == 2
    namespace.wait_until_empty()


def test_code_that_changes_while_a_pod_runs(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    monkeypatch: pytest.MonkeyPatch,
):
    """Airflow was upgraded: the pod's work is known under the version that it began with."""
    pod_stages.tell(discover=[[["sleep", 5], ["report"]]])
    version = ["before"]
    monkeypatch.setattr("vidpipe.orchestration.operator.code_version", lambda: version[0])

    def upgrade() -> None:
        namespace.wait_for_pod(lambda pod: pod_stages.calls("discover"), within_s=120)
        version[0] = "after"

    with in_background(upgrade):
        run = run_dag(airflow_home, "probe")

    assert (run.tasks["plan"], run.tries["plan"]) == ("success", 1)
    (call,) = pod_stages.calls("discover")
    assert call["environment"]["VIDPIPE_CODE_VERSION"] == "before"


@pytest.mark.slow
def test_pod_that_fills_its_disk(
    airflow_home: Path, pod_stages: PodStages, capfd: pytest.CaptureFixture[str]
):
    """The node evicts it, as it does with others; but the next pod would end the same."""
    pod_stages.tell(discover=[[["write", 200], ["sleep", 300], ["report"]]])

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["plan"], run.tries["plan"]) == ("failed", 1)
    assert len(pod_stages.calls("discover")) == 1
    told = capfd.readouterr().out
    assert "The pod of discover ended: out_of_disk. Evicted: " in told
    assert "Raise scratch and ephemeral_storage of discover in [kubernetes]" in told


def test_pod_is_made_once_where_the_answer_is_lost(
    airflow_home: Path, pod_stages: PodStages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with losing_first_answer(to="pods") as (url, lost):
        connect_to(monkeypatch, tmp_path, {"server": url}, {})
        run = run_dag(airflow_home, "probe")

    assert len(lost) == 1
    assert (run.tasks["plan"], run.tries["plan"]) == ("success", 1)
    assert len(pod_stages.calls("discover")) == 1


@pytest.mark.slow
def test_login_that_ends_while_a_pod_runs(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    """As logins of clouds do: a program that the kubeconfig names tells the next one."""
    pod_stages.tell(discover=[[["sleep", 40], ["report"]]])
    first, second = (namespace.create_login(name) for name in ("first", "second"))
    login = tmp_path / "login.json"
    login.write_text(as_exec_credential(first))
    program = {"apiVersion": CREDENTIALS, "command": "cat", "args": [str(login)]}
    connect_to(monkeypatch, tmp_path, {}, {"exec": {**program, "interactiveMode": "Never"}})
    refused = []

    def end_it() -> None:
        namespace.wait_for_pod(lambda pod: pod_stages.calls("discover"), within_s=120)
        login.write_text(as_exec_credential(second))
        refused.append(namespace.end_login("first", first))

    with in_background(end_it):
        run = run_dag(airflow_home, "probe")

    assert refused == [401]
    assert (run.tasks["plan"], run.tries["plan"]) == ("success", 1)
    assert len(pod_stages.calls("discover")) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"WORKER_IMAGE": "localhost:5000/no-such-image:1"}, "ImagePull"),
        ({"RESOURCES_FILE": "cpu = '900'"}, "It asks for 900 of cpu; the largest node offers 2."),
        ({"RESOURCES_FILE": "gpus = 3"}, "It asks for 3 of nvidia.com/gpu; the largest node offer"),
        (
            {"RESOURCES_FILE": "gpus = 1\ngpu_resource = 'acme.com/gpu'"},
            "It asks for 1 of acme.com/gpu; the largest node offers 0.",
        ),
        ({"NAMESPACE": "no-such-place"}, "[kubernetes] namespace 'no-such-place' does not exist"),
        ({"SERVICE_ACCOUNT": "nobody"}, 'serviceaccount \\"nobody\\" not found'),
        ({"WORKER_IMAGE": ""}, "[kubernetes] worker_image is empty"),
        ({"RESOURCES_FILE": "memory = 'much'"}, "A quantity looks like 500m or 4Gi."),
        ({"RESOURCES_FILE": "workers = 2"}, "workers of discover must be 1, or more for train"),
    ],
)
def test_what_cannot_start_fails_with_its_reason(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    settings: dict[str, str],
    told: str,
):
    if table := settings.get("RESOURCES_FILE"):
        (tmp_path / "resources.toml").write_text(f"[default]\n{table}\n")
        settings = {"RESOURCES_FILE": str(tmp_path / "resources.toml")}
    for name, value in settings.items():
        monkeypatch.setenv(f"VIDPIPE_KUBERNETES_{name}", value)
    load_settings.cache_clear()
    began = time.monotonic()

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["plan"], run.tries["plan"]) == ("failed", 1)
    assert time.monotonic() - began < load_settings().kubernetes.max_wait_s / 2, "it was waited for"
    assert told in capfd.readouterr().out
    namespace.wait_until_empty()


@pytest.mark.parametrize(
    ("kubeconfig", "tries", "told"),
    [
        ("missing", 1, "There is no Kubernetes to run pods in: "),
        ("no rights", 1, "Kubernetes does not let vidpipe do this: "),
        pytest.param("nowhere", 2, "Kubernetes does not answer: ", marks=pytest.mark.slow),
    ],
)
def test_kubeconfig_that_does_not_lead_to_pods(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kubeconfig: str,
    tries: int,
    told: str,
):
    server = {"server": "https://127.0.0.1:1"} if kubeconfig == "nowhere" else {}
    # Whom nobody gave a role.
    user = {"token": namespace.create_token("default")} if kubeconfig == "no rights" else {}
    path = connect_to(monkeypatch, tmp_path, server, user)
    if kubeconfig == "missing":
        path.unlink()

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["plan"], run.tries["plan"]) == ("failed", tries)
    assert told in capfd.readouterr().out
    assert namespace.pods() == []
