"""A real cluster for tests: a namespace, a server that pods reach, and an image."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.airflow_runs import airflow_home  # noqa: F401
from tests.kubernetes.platform import Platform
from tests.mlflow_server import serve_mlflow
from tests.servers import S3Server, free_port, new_lake, wait_for_port
from tests.tcp_proxy import TcpProxy
from vidpipe.config import LakeSettings, MlflowSettings, load_settings
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api

ROOT = Path(__file__).parents[2]
REGISTRY = os.environ.get("VIDPIPE_TEST_REGISTRY", "localhost:5000")

# Of a pod that passes Pod Security `restricted`, and fits no node.
_SPEC = {
    "restartPolicy": "Never",
    "nodeSelector": {"vidpipe.io/no-such": "node"},
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "stage",
            "image": "none",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
}


@dataclass
class TestCluster:
    """The cluster that KUBECONFIG names, and a namespace of the test's own in it.

    Attributes:
        address: That of this machine, as pods see it.
        namespace: Pods in it must pass Pod Security `restricted`.
    """

    __test__ = False

    core: Any
    address: str
    namespace: str = ""

    def pods(self) -> list[dict[str, Any]]:
        """The pods of the namespace, as JSON."""
        listed = self.core.list_namespaced_pod(self.namespace)
        return self.core.api_client.sanitize_for_serialization(listed)["items"]

    def wait_for_pod(self, is_so: Callable[[dict[str, Any]], Any], within_s: float = 60) -> dict:
        """The first pod of which something holds."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for pod in self.pods():
                if is_so(pod):
                    return pod
            time.sleep(0.3)
        raise AssertionError(f"No such pod within {within_s} s; there are: {self.pods()}")

    def wait_until_empty(self, within_s: float = 60) -> None:
        """Waits until no pod is left; those that are told to go may take a moment."""
        deadline = time.monotonic() + within_s
        while pods := self.pods():
            stay = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
            assert not stay, stay
            assert time.monotonic() < deadline, pods
            time.sleep(0.3)

    def create_waiting_pod(
        self, name: str, labels: dict[str, str], annotations: dict[str, str]
    ) -> None:
        """A pod that waits for a node that is nowhere."""
        body = {"metadata": _metadata(name, labels, annotations), "spec": _SPEC}
        self.core.create_namespaced_pod(self.namespace, body)

    def create_job(self, name: str, labels: dict[str, str], annotations: dict[str, str]) -> None:
        """A Job that makes no pods."""
        spec = {
            **{"suspend": True, "completionMode": "Indexed", "completions": 2, "parallelism": 2},
            "template": {"spec": _SPEC},
        }
        body = {"metadata": _metadata(name, labels, annotations), "spec": spec}
        self.batch.create_namespaced_job(self.namespace, body)

    def names(self) -> set[tuple[str, str]]:
        """Kind and name of what is there and stays."""
        return {
            (kind, item.metadata.name)
            for kind, listed in (
                ("pods", self.core.list_namespaced_pod(self.namespace)),
                ("Jobs", self.batch.list_namespaced_job(self.namespace)),
            )
            for item in listed.items
            if not item.metadata.deletion_timestamp
        }

    @property
    def batch(self) -> Any:
        """What handles Jobs."""
        from kubernetes.client import BatchV1Api

        return BatchV1Api(self.core.api_client)


def _metadata(
    name: str, labels: dict[str, str], annotations: dict[str, str]
) -> dict[str, str | dict[str, str]]:
    return {"name": name, "labels": labels, "annotations": annotations}


@pytest.fixture(scope="session")
def cluster() -> TestCluster:
    """The cluster; tests skip where there is none."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    from kubernetes import client, config

    config.load_kube_config()
    core = client.CoreV1Api()
    try:
        core.list_node(_request_timeout=10)
    except Exception as error:
        pytest.skip(f"the cluster of KUBECONFIG does not answer: {type(error).__name__}")
    server = urlsplit(core.api_client.configuration.host)
    with socket.create_connection((server.hostname, server.port or 443)) as connection:
        return TestCluster(core, connection.getsockname()[0])


def build_image(name: str, *arguments: str | Path) -> str:
    """Builds an image and pushes it to the registry that the cluster pulls from."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True).returncode
    ):
        pytest.skip("no docker builds images here")
    base = os.environ.get("VIDPIPE_TEST_BASE_IMAGE")
    image = f"{REGISTRY}/{name}"
    for command in (
        [
            *("build", "--quiet", "--network", "host", "--tag", image),
            *(["--build-arg", f"BASE_IMAGE={base}"] if base else []),
            *arguments,
        ],
        ["push", "--quiet", image],
    ):
        ended = subprocess.run(["docker", *command], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr[-2000:]
    return image


@pytest.fixture(scope="session")
def stage_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of `image/stage.py`."""
    sources = [*(ROOT / "vidpipe").rglob("*.py"), *(ROOT / "tests/kubernetes/image").iterdir()]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    # Not from the checkout: what images of the product leave out is just what this one needs.
    folder = tmp_path_factory.mktemp("image")
    shutil.copytree(ROOT / "tests/kubernetes/image", folder, dirs_exist_ok=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vidpipe", folder / "vidpipe", ignore=ignored)
    shutil.copy(ROOT / "constraints.txt", folder)
    return build_image(f"vidpipe-tests:{digest[:12]}", folder)


@pytest.fixture(scope="session")
def worker_image() -> str:
    """The image of docker/ that stages run in; minutes, the first time."""
    sources = sorted((ROOT / "vidpipe").rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    arguments = ("--target", "worker", "--file", ROOT / "docker/Dockerfile", ROOT)
    return build_image(f"vidpipe-worker:test-{digest[:12]}", *arguments)


@pytest.fixture(scope="session")
def catalog_for_pods(cluster: TestCluster) -> Iterator[str]:
    """URI of a PostgreSQL database that pods reach."""
    folder = ROOT / "tests/kubernetes/images"
    image = build_image("postgres:test", "--target", "postgres", folder)
    name, port = f"vidpipe-test-{secrets.token_hex(4)}", free_port()
    password = secrets.token_hex(8)
    settings = {"PGDATA": "/data/db", "POSTGRES_USER": "vidpipe", "POSTGRES_PASSWORD": password}
    subprocess.run(
        [
            *("docker", "run", "--rm", "--detach", "--network", "host", "--name", name),
            *("--user", "postgres", "--tmpfs", "/data:mode=1777"),
            *itertools.chain.from_iterable(("--env", key) for key in settings),
            *(image, "postgres", "-p", str(port)),
        ],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    try:
        wait_for_port(cluster.address, port, within_s=30)
        yield f"postgresql+psycopg2://vidpipe:{password}@{cluster.address}:{port}/postgres"
    finally:
        subprocess.run(["docker", "stop", "--time", "2", name], stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def mlflow_for_pods(
    cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URI of an MLflow server that pods reach."""
    with serve_mlflow(tmp_path_factory.mktemp("mlflow-pods"), cluster.address) as server:
        yield server.uri


@contextlib.contextmanager
def new_namespace(cluster: TestCluster) -> Iterator[TestCluster]:
    """A new namespace, removed with all that is in it."""
    name = f"vidpipe-test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.core.create_namespace({"metadata": {"name": name, "labels": labels}})
    try:
        yield dataclasses.replace(cluster, namespace=name)
    finally:
        with contextlib.suppress(Exception):
            cluster.core.delete_collection_namespaced_pod(name, grace_period_seconds=0)
        cluster.core.delete_namespace(name)


@pytest.fixture
def namespace(cluster: TestCluster) -> Iterator[TestCluster]:
    """A namespace of the test's own."""
    with new_namespace(cluster) as made:
        yield made


@pytest.fixture(scope="session")
def s3_for_pods(
    cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    """An S3 server that pods reach."""
    server = S3Server(tmp_path_factory.mktemp("s3-pods"), host=cluster.address)
    server.start()
    yield server
    server.stop()


class PodStages:
    """Stages in pods that do what a test says; see `image/stage.py`."""

    def __init__(self, lake: Lake):
        self.lake = lake

    def tell(self, **stages: Any) -> None:
        """Says what stages do; a shard's name is `STAGE/00000`."""
        self.lake.store.put_json(f"{self.lake.uri}/pretend/script.json", stages)

    def calls(self, name: str = "") -> list[dict[str, Any]]:
        """The calls of a stage, in their order."""
        found = self.lake.store.list(f"{self.lake.uri}/pretend/calls/{name}")
        return [self.lake.store.get_json(uri) for uri in sorted({f.uri for f in found})]


def configure_pods(cluster: TestCluster, lake: Lake, image: str) -> dict[str, str]:
    """Puts into a namespace what its pods are told; returns the environment of who starts them."""
    settings = lake.settings
    told = {
        "VIDPIPE_LAKE_URI": settings.lake.uri,
        "VIDPIPE_S3_ENDPOINT_URL": settings.s3.endpoint_url,
        "VIDPIPE_MLFLOW_TRACKING_URI": settings.mlflow.tracking_uri,
        "VIDPIPE_SOURCES_URIS": ",".join(settings.sources.uris),
        # As the embedded stack does it: the S3 server of tests knows no newer checksums.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }
    secret = {
        "VIDPIPE_LAKE_CATALOG_URI": settings.lake.catalog_uri,
        "VIDPIPE_S3_ACCESS_KEY_ID": settings.s3.access_key_id,
        "VIDPIPE_S3_SECRET_ACCESS_KEY": settings.s3.secret_access_key,
    }
    name = {"metadata": {"name": "vidpipe"}}
    cluster.core.create_namespaced_config_map(cluster.namespace, {**name, "data": told})
    coded = {key: base64.b64encode(value.encode()).decode() for key, value in secret.items()}
    cluster.core.create_namespaced_secret(cluster.namespace, {**name, "data": coded})
    return {
        **told,
        **secret,
        "VIDPIPE_RUNTIME": "kubernetes",
        "VIDPIPE_DEPLOYMENT": "tests",
        "VIDPIPE_KUBERNETES_NAMESPACE": cluster.namespace,
        "VIDPIPE_KUBERNETES_WORKER_IMAGE": image,
        "VIDPIPE_KUBERNETES_RESOURCES_FILE": str(Path(__file__).with_name("resources.toml")),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture
def pod_stages(
    airflow_home: Path,  # noqa: F811
    namespace: TestCluster,
    stage_image: str,
    s3_for_pods: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[PodStages]:
    """This process is configured to run stages in pods, and the pods to find what they need."""
    lake = new_lake(s3_for_pods.settings, tmp_path, secrets.token_hex(4))
    for key, value in configure_pods(namespace, lake, stage_image).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("VIDPIPE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    load_settings.cache_clear()
    stages = PodStages(lake)
    stages.tell()
    yield stages
    load_settings.cache_clear()


@dataclass
class RunningAirflow:
    """A whole Airflow whose stages are pods.

    Attributes:
        root: Folder of its stack.
        cluster: Where the pods are.
        stages: What they do.
    """

    root: Path
    dags_folder: Path
    cluster: TestCluster
    stages: PodStages


@pytest.fixture(scope="module")
def airflow(
    cluster: TestCluster,
    stage_image: str,
    s3_for_pods: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningAirflow]:
    """A running Airflow, with scheduler and triggerer."""
    from vidpipe.local import stack

    folder = tmp_path_factory.mktemp("airflow-pods")
    (folder / "dags").mkdir()
    for dag in (*ROOT.glob("tests/orchestration/dags/*.py"), *Path(__file__).parent.glob("dags/*")):
        if dag.suffix == ".py":
            (folder / "dags" / dag.name).symlink_to(dag)
    lake = new_lake(s3_for_pods.settings, folder, secrets.token_hex(4))
    with new_namespace(cluster) as made, pytest.MonkeyPatch.context() as patch:
        for key, value in configure_pods(made, lake, stage_image).items():
            patch.setenv(key, value)
        patch.chdir(folder)
        root = folder / ".vidpipe"
        stages = PodStages(lake)
        stages.tell()
        stack.up(root, dags_folder=folder / "dags")
        try:
            yield RunningAirflow(root, folder / "dags", made, stages)
        finally:
            stack.down(root)


@pytest.fixture(scope="module")
def platform(
    cluster: TestCluster,
    worker_image: str,
    s3_for_pods: S3Server,
    catalog_for_pods: str,
    mlflow_for_pods: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """An empty platform."""
    from vidpipe.local import stack

    folder = tmp_path_factory.mktemp("platform")
    settings = dataclasses.replace(
        new_lake(s3_for_pods.settings, folder, "unused").settings,
        lake=LakeSettings(f"s3://lake/{secrets.token_hex(4)}", catalog_for_pods),
        mlflow=MlflowSettings(mlflow_for_pods),
    )
    lake, resources = Lake(settings), folder / "resources.toml"
    resources.write_text("")
    kubeconfig, api_server = _kubeconfig_through_proxy(folder)
    with new_namespace(cluster) as made, pytest.MonkeyPatch.context() as patch:
        told = configure_pods(made, lake, worker_image) | {
            "VIDPIPE_KUBERNETES_RESOURCES_FILE": str(resources),
            "KUBECONFIG": str(kubeconfig),
        }
        for key, value in told.items():
            patch.setenv(key, value)
        patch.delenv("VIDPIPE_CONFIG", raising=False)
        patch.chdir(folder)
        load_settings.cache_clear()
        root, dags = folder / ".vidpipe", folder / "dags"
        dags.mkdir()
        for file in (ROOT / "dags").glob("*.py"):
            # Only what a test begins.
            text = re.sub(r"schedule=\".*", "schedule=None,", file.read_text())
            (dags / file.name).write_text(text)
        stack.up(root, dags_folder=dags)
        client = airflow_api.connect(root)
        for pool in ("pods", "gpu"):
            made_pool = {"name": pool, "slots": 4, "include_deferred": True}
            client._call("POST", "/pools", json=made_pool)
        try:
            yield Platform(root, made, lake, s3_for_pods, api_server, resources)
        finally:
            stack.down(root)
            api_server.close()
            load_settings.cache_clear()


def _kubeconfig_through_proxy(folder: Path) -> tuple[Path, TcpProxy]:
    """A copy of the kubeconfig whose API server is reached through a proxy."""
    import yaml

    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    (cluster,) = config["clusters"]
    server = urlsplit(cluster["cluster"]["server"])
    proxy = TcpProxy(server.hostname, server.port or 443)
    cluster["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path, proxy
