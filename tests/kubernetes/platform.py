"""A running Airflow with the project's DAGs, whose stages are pods of the real image."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.kubernetes.cluster import (
    ROOT,
    TestCluster,
    build_image,
    build_worker_image,
    configure_pods,
    new_namespace,
)
from tests.servers import S3Server, free_port, new_lake, wait_for_port
from tests.tcp_proxy import TcpProxy
from vidpipe.config import LakeSettings, MlflowSettings, load_settings
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api, stack
from vidpipe.stages.manifest import Manifest


@dataclass
class Platform:
    """Where whole DAGs run.

    Attributes:
        root: Folder of the stack.
        cluster: Where the pods are.
        lake: What they read and write.
        s3: Its server.
        api_server: Airflow's way to Kubernetes.
        resources: The file that says what pods get.
    """

    root: Path
    cluster: TestCluster
    lake: Lake
    s3: S3Server
    api_server: TcpProxy
    resources: Path

    def run(self, dag_id: str, *params: str) -> str:
        """Runs a DAG to its end; returns its state."""
        return airflow_api.run_dag(dag_id, params, root=self.root)

    def begin(self, dag_id: str, **params: Any) -> DagRun:
        """Triggers a DAG."""
        client = airflow_api.connect(self.root)
        return DagRun(client, dag_id, client.trigger(dag_id, params), self)

    def manifests(self, stage: str) -> list[Manifest]:
        """The shards of a stage, of all runs."""
        store = self.lake.store
        uris = [found.uri for found in store.list(f"{self.lake.uri}/runs/")]
        return [Manifest.read(store, uri) for uri in uris if f"/shards/{stage}/" in uri]

    def forget_reports(self, manifest: Manifest) -> None:
        """Lets a shard be done once more."""
        names = manifest.run_key, manifest.stage, manifest.shard
        for found in self.lake.store.list(layout.reports_uri(self.lake.uri, *names)):
            self.lake.store.delete(found.uri)

    def wait_for_pod(
        self, stage: str, is_it: Callable[[dict[str, Any]], bool] = lambda pod: True
    ) -> dict[str, Any]:
        """The pod of a stage, once it runs."""
        return self.cluster.wait_for_pod(lambda pod: _runs(pod, stage) and is_it(pod), 120)


@dataclass
class DagRun:
    """A run of a DAG that is under way."""

    client: airflow_api.AirflowClient
    dag_id: str
    run_id: str
    platform: Platform

    @property
    def run_key(self) -> str:
        """Its name in the lake."""
        return layout.make_run_key("tests", self.dag_id, self.run_id)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Its tasks by name; `extract[0]` where it is mapped."""
        return {
            ti["task_id"] if ti["map_index"] < 0 else f"{ti['task_id']}[{ti['map_index']}]": ti
            for ti in self.client.task_instances(self.dag_id, self.run_id)
        }

    @property
    def state(self) -> str:
        """Such as running."""
        return self.client.run_state(self.dag_id, self.run_id)

    def wait(self, within_s: float = 600) -> str:
        """Waits for its end; returns its state."""
        deadline = time.monotonic() + within_s
        while (state := self.state) not in ("success", "failed"):
            assert time.monotonic() < deadline, self.tasks()
            time.sleep(1)
        return state

    def clear(self, *task_ids: str) -> None:
        """Has tasks done once more, as their page does."""
        self.client._call(
            "POST",
            f"/dags/{self.dag_id}/clearTaskInstances",
            json={
                "dag_run_id": self.run_id,
                "task_ids": list(task_ids),
                "dry_run": False,
                "only_failed": False,
                "reset_dag_runs": True,
            },
        )

    def log(self, task: str) -> str:
        """The log of a task's last try."""
        return "\n".join(self.client.task_log(self.tasks()[task]))


def _runs(pod: dict[str, Any], stage: str) -> bool:
    labels = pod["metadata"]["labels"]
    return (
        labels.get("app.kubernetes.io/component") == stage
        and pod["status"].get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
    )


@contextlib.contextmanager
def serve_postgres(cluster: TestCluster) -> Iterator[str]:
    """Serves a PostgreSQL database that pods reach; yields its URI."""
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


@contextlib.contextmanager
def serve_platform(
    folder: Path,
    cluster: TestCluster,
    s3: S3Server,
    catalog_uri: str,
    mlflow_uri: str,
    *,
    more_dags: Sequence[str] = (),
    **told: str,
) -> Iterator[Platform]:
    """An empty platform while the context lasts.

    Args:
        folder: Of its stack, and the current one meanwhile.
        cluster: Where its pods are, in a namespace of their own.
        s3: Pods reach it, as the other servers.
        catalog_uri: A PostgreSQL database.
        mlflow_uri: An MLflow server.
        more_dags: Files beside those of the project.
        told: Further environment, of Airflow and of the pods.
    """
    settings = dataclasses.replace(
        new_lake(s3.settings, folder, "unused").settings,
        lake=LakeSettings(f"s3://lake/{secrets.token_hex(4)}", catalog_uri),
        mlflow=MlflowSettings(mlflow_uri),
    )
    lake, resources = Lake(settings), folder / "resources.toml"
    resources.write_text("")
    kubeconfig, api_server = _kubeconfig_through_proxy(folder)
    with new_namespace(cluster) as made, pytest.MonkeyPatch.context() as patch:
        environment = configure_pods(made, lake, build_worker_image(), **told) | {
            "VIDPIPE_KUBERNETES_RESOURCES_FILE": str(resources),
            "KUBECONFIG": str(kubeconfig),
        }
        for key, value in environment.items():
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
        for number, text in enumerate(more_dags):
            (dags / f"more_{number}.py").write_text(text)
        stack.up(root, dags_folder=dags)
        client = airflow_api.connect(root)
        for pool in ("pods", "gpu"):
            made_pool = {"name": pool, "slots": 4, "include_deferred": True}
            client._call("POST", "/pools", json=made_pool)
        try:
            yield Platform(root, made, lake, s3, api_server, resources)
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
