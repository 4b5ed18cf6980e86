"""Servers, stages and a whole Airflow for tests on a real cluster."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_runs import airflow_home  # noqa: F401
from tests.kubernetes.cluster import (
    ROOT,
    TestCluster,
    build_image,
    configure_pods,
    connect,
    new_namespace,
)
from tests.kubernetes.platform import Platform, serve_platform, serve_postgres
from tests.mlflow_server import serve_mlflow
from tests.servers import S3Server, new_lake, serve_s3
from vidpipe.config import load_settings
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api

BOTO3 = ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3")


@pytest.fixture(scope="session")
def cluster() -> TestCluster:
    """The cluster; tests skip where there is none."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    try:
        return connect()
    except Exception as error:
        pytest.skip(f"the cluster of KUBECONFIG does not answer: {type(error).__name__}")


@pytest.fixture(scope="session")
def stage_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of `image/stage.py`."""
    own = ROOT / "tests/kubernetes/image"
    sources = [*(ROOT / "vidpipe").rglob("*.py"), *filter(Path.is_file, own.iterdir())]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    # Not from the checkout: what images of the product leave out is just what this one needs.
    folder = tmp_path_factory.mktemp("image")
    shutil.copytree(own, folder, dirs_exist_ok=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vidpipe", folder / "vidpipe", ignore=ignored)
    with (folder / "requirements.txt").open("w") as file:
        command = [sys.executable, ROOT / "tools/pinned.py", "hashes", *BOTO3]
        subprocess.run(command, stdout=file, check=True)
    return build_image(f"vidpipe-tests:{digest[:12]}", folder)


@pytest.fixture(scope="session")
def mlflow_for_pods(
    cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URI of an MLflow server that pods reach, unlike the S3 server where it keeps artifacts."""
    folder = tmp_path_factory.mktemp("mlflow-pods")
    with (
        serve_s3(tmp_path_factory.mktemp("s3-mlflow")) as s3,
        serve_mlflow(folder, cluster.address, s3) as server,
    ):
        yield server.uri


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
        self.tell()

    def tell(self, **stages: Any) -> None:
        """Says what stages do from now on; a shard's name is `STAGE/00000`.

        Earlier calls are not counted any longer: what is to be done first is done again.
        """
        self._calls = f"{self.lake.uri}/pretend/calls/{secrets.token_hex(4)}/"
        script = {"calls": self._calls, "stages": stages}
        self.lake.store.put_json(f"{self.lake.uri}/pretend/script.json", script)

    def calls(self, name: str = "") -> list[dict[str, Any]]:
        """The calls of a stage since it was last said what they do, in their order."""
        found = self.lake.store.list(f"{self._calls}{name}")
        return [self.lake.store.get_json(uri) for uri in sorted({f.uri for f in found})]


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
    yield PodStages(lake)
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

    def end_all(self) -> None:
        """Ends the runs that a test left, and removes their pods."""
        client = airflow_api.connect(self.root)
        for state in ("running", "queued"):
            for run in client._pages(f"/dags/~/dagRuns?state={state}", "dag_runs"):
                path = airflow_api._run_path(run["dag_id"], run["dag_run_id"])
                client._call("PATCH", path, json={"state": "failed"})
        self.cluster.remove_all()


@pytest.fixture
def airflow(running_airflow: RunningAirflow) -> Iterator[RunningAirflow]:
    """A running Airflow without runs and pods; what a test leaves is no matter to the next."""
    yield running_airflow
    running_airflow.end_all()


@pytest.fixture(scope="module")
def running_airflow(
    cluster: TestCluster,
    stage_image: str,
    s3_for_pods: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningAirflow]:
    """The scheduler, the triggerer and the other parts of one."""
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
        stack.up(root, dags_folder=folder / "dags")
        try:
            yield RunningAirflow(root, folder / "dags", made, stages)
        finally:
            stack.down(root)


@pytest.fixture(scope="session")
def catalog_for_pods(cluster: TestCluster) -> Iterator[str]:
    """URI of a PostgreSQL database that pods reach."""
    with serve_postgres(cluster) as uri:
        yield uri


@pytest.fixture(scope="module")
def platform(
    cluster: TestCluster,
    s3_for_pods: S3Server,
    catalog_for_pods: str,
    mlflow_for_pods: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """An empty platform, whose trainings keep a checkpoint every second."""
    folder = tmp_path_factory.mktemp("platform")
    servers = s3_for_pods, catalog_for_pods, mlflow_for_pods
    often = {"VIDPIPE_TRAIN_CHECKPOINT_EVERY_S": "1"}
    again = (ROOT / "dags/ingest.py").read_text().replace('"ingest"', '"ingest_too"', 1)
    again = again.replace('schedule="@hourly"', "schedule=None")
    with serve_platform(folder, cluster, *servers, more_dags=[again], **often) as made:
        yield made
