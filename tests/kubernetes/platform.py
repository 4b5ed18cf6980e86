"""A running Airflow with the project's DAGs, whose stages are pods of the real image."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers import S3Server
from tests.tcp_proxy import TcpProxy
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api
from vidpipe.stages.manifest import Manifest

if TYPE_CHECKING:
    from tests.kubernetes.conftest import TestCluster


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

    def wait_for_pod(self, stage: str, within_s: float = 120) -> dict[str, Any]:
        """The pod of a stage, once it runs."""
        return self.cluster.wait_for_pod(lambda pod: _runs(pod, stage), within_s)


@dataclass
class DagRun:
    """A run of a DAG that is under way."""

    client: airflow_api.AirflowClient
    dag_id: str
    run_id: str
    platform: Platform

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Its tasks by name; `extract[0]` where it is mapped."""
        return {
            ti["task_id"] if ti["map_index"] < 0 else f"{ti['task_id']}[{ti['map_index']}]": ti
            for ti in self.client.task_instances(self.dag_id, self.run_id)
        }

    def wait(self, within_s: float = 600) -> str:
        """Waits for its end; returns its state."""
        deadline = time.monotonic() + within_s
        while (state := self.client.run_state(self.dag_id, self.run_id)) not in (
            "success",
            "failed",
        ):
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
