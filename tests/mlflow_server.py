"""A real MLflow server for tests, on this machine only."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers import S3Server, free_port

if TYPE_CHECKING:
    from vidpipe import tracking


class MlflowServer:
    """`mlflow server` over a folder; artifacts may be on an S3 server, known to this one alone."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", s3: S3Server | None = None):
        self.folder = folder
        self.s3 = s3
        self.host, self.port = host, free_port()
        self.uri = f"http://{host}:{self.port}"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        artifacts, known = self.folder / "artifacts", {}
        if self.s3:
            artifacts = "s3://lake/mlflow"
            known = {
                "MLFLOW_S3_ENDPOINT_URL": self.s3.settings.endpoint_url,
                "AWS_ACCESS_KEY_ID": self.s3.settings.access_key_id,
                "AWS_SECRET_ACCESS_KEY": self.s3.settings.secret_access_key,
                "AWS_DEFAULT_REGION": self.s3.settings.region,
                "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            }
        mlflow = Path(sysconfig.get_path("scripts")) / "mlflow"
        self._process = subprocess.Popen(
            [
                *(mlflow, "server", "--workers", "1"),
                *("--host", self.host, "--port", str(self.port)),
                *("--allowed-hosts", f"{self.host}:{self.port}"),
                *("--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"),
                *("--serve-artifacts", "--artifacts-destination", artifacts),
            ],
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
                **known,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(1800):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health"):
                return
            time.sleep(0.1)
        self.stop()
        raise RuntimeError("MLflow did not start")

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()


@contextlib.contextmanager
def serve_mlflow(
    folder: Path, host: str = "127.0.0.1", s3: S3Server | None = None
) -> Iterator[MlflowServer]:
    """Serves a folder while the context lasts."""
    server = MlflowServer(folder, host, s3)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def register(task: str, alias: str | None) -> tracking.Version:
    """Registers a version of a task's model that has no model, and gives it an alias or none."""
    from vidpipe import tracking  # MLflow takes seconds, which most tests need not wait for

    client, name = tracking.connect(), tracking.model_name(task)
    with tracking.training_run(task, "a run", secrets.token_hex(8), {}) as run:
        pass
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    client.create_model_version(name, f"runs:/{run.id}/model", run.id)
    version = tracking.version_of_run(task, run.id)
    if alias:
        tracking.set_alias(version, alias)
    return version
