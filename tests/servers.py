"""Real servers for tests, on this machine only."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from vidpipe.config import LakeSettings, S3Settings, Settings, SourceSettings
from vidpipe.lake.tables import Lake

ACCESS_KEY_ID, SECRET_ACCESS_KEY = "tests-only", "tests-only-secret"


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class S3Server:
    """`rclone serve s3` over a folder whose subfolders are the buckets."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.settings = S3Settings(
            f"http://127.0.0.1:{self.port}", "us-east-1", ACCESS_KEY_ID, SECRET_ACCESS_KEY
        )
        for bucket in ("videos", "lake"):
            (folder / bucket).mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        rclone = Path(sysconfig.get_path("scripts")) / "rclone"
        self._process = subprocess.Popen(
            [rclone, "serve", "s3", "--addr", f"127.0.0.1:{self.port}", self.folder],
            env={
                "PATH": os.environ["PATH"],
                "RCLONE_CONFIG": "",
                # Quoted: the variable is a list, and a pair is one member of it.
                "RCLONE_AUTH_KEY": f'"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}"',
                "RCLONE_CACHE_DIR": str(self.folder / "../rclone-cache"),
            },
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.1)
        raise RuntimeError("rclone did not start")

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()


@contextlib.contextmanager
def serve_s3(folder: Path) -> Iterator[S3Server]:
    """Serves a folder while the context lasts."""
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def new_lake(server: S3Server, folder: Path, name: str) -> Lake:
    """An empty lake of its own on a server, its catalog in `folder`."""
    return Lake(
        Settings(
            deployment="tests",
            lake=LakeSettings(f"s3://lake/{name}", f"sqlite:///{folder}/{name}.db?timeout=60"),
            s3=server.settings,
            sources=SourceSettings(("s3://videos",)),
        )
    )


def config_file(lake: Lake, path: Path) -> Path:
    """Writes the configuration of a lake for processes of their own; returns the file."""
    settings = lake.settings
    path.write_text(
        "\n".join(
            (
                f'deployment = "{settings.deployment}"',
                "[lake]",
                f'uri = "{settings.lake.uri}"',
                f'catalog_uri = "{settings.lake.catalog_uri}"',
                "[s3]",
                f'endpoint_url = "{settings.s3.endpoint_url}"',
                f'access_key_id = "{settings.s3.access_key_id}"',
                f'secret_access_key = "{settings.s3.secret_access_key}"',
                "[mlflow]",
                f'tracking_uri = "{settings.mlflow.tracking_uri}"',
                "[sources]",
                f"uris = [{', '.join(repr(uri) for uri in settings.sources.uris)}]",
            )
        )
    )
    return path
