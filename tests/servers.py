"""Real servers for tests, on this machine only."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from vidpipe.config import ExtractSettings, LakeSettings, S3Settings, Settings, SourceSettings
from vidpipe.lake.tables import Lake

ACCESS_KEY_ID, SECRET_ACCESS_KEY = "tests-only", "tests-only-secret"


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(host: str, port: int, within_s: float) -> None:
    """Waits until somebody listens."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection((host, port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class S3Server:
    """`rclone serve s3` over a folder whose subfolders are the buckets."""

    def __init__(self, folder: Path, host: str = "127.0.0.1"):
        self.folder = folder
        self.host, self.port = host, free_port()
        self.settings = S3Settings(
            f"http://{host}:{self.port}", "us-east-1", ACCESS_KEY_ID, SECRET_ACCESS_KEY
        )
        for bucket in ("videos", "lake"):
            (folder / bucket).mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        rclone = Path(sysconfig.get_path("scripts")) / "rclone"
        self._process = subprocess.Popen(
            [rclone, "serve", "s3", "--addr", f"{self.host}:{self.port}", self.folder],
            env={
                "PATH": os.environ["PATH"],
                "RCLONE_CONFIG": "",
                # Quoted: the variable is a list, and a pair is one member of it.
                "RCLONE_AUTH_KEY": f'"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}"',
                "RCLONE_CACHE_DIR": str(self.folder / "../rclone-cache"),
            },
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.host, self.port, within_s=120)

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


def new_lake(settings: S3Settings, folder: Path, name: str) -> Lake:
    """An empty lake of its own on a server, its catalog in `folder`."""
    return Lake(
        Settings(
            deployment="tests",
            lake=LakeSettings(f"s3://lake/{name}", f"sqlite:///{folder}/{name}.db?timeout=60"),
            s3=settings,
            sources=SourceSettings(("s3://videos",)),
            # A decoder takes longer to start than a clip of a test to decode.
            extract=ExtractSettings(workers=1),
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


@contextlib.contextmanager
def serve_webhook() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """A web server that takes JSON; yields its URL, and path and document of what was posted."""
    posts: list[tuple[str, Any]] = []

    class Web(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            posts.append((self.path, json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"ok": true}')

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posts
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def serve_refusals(
    status: int, code: str, message: str = "", headers: dict[str, str] | None = None
) -> Iterator[S3Settings]:
    """An S3 server that answers all with one error, as Amazon's words it; no code: with a page."""
    body = "<html>It works!</html>"
    if code:
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"

    class S3(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_HEAD = do_PUT = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), S3)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield S3Settings(
            f"http://127.0.0.1:{server.server_port}", "us-east-1", ACCESS_KEY_ID, SECRET_ACCESS_KEY
        )
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def serve_guarded_s3(*refused: str) -> Iterator[S3Settings]:
    """An S3 server whose user may do all but what is refused; buckets `lake`, `videos`, `closed`.

    Any object name is a key there, also those that `rclone` has no file for.

    Args:
        refused: Buckets that the user may not list, objects that it may not read.
    """
    import boto3
    import requests
    from moto.moto_server import werkzeug_app
    from moto.server import ThreadedMotoServer

    class AnyKey(werkzeug_app.RegexConverter):
        def __init__(self, url_map: Any, *patterns: str):
            super().__init__(url_map, f"(?s:{patterns[0]})")  # a key may have several lines

    werkzeug_app.RegexConverter = AnyKey
    server = ThreadedMotoServer("127.0.0.1", free_port(), verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    try:
        root = {
            "endpoint_url": url,
            "region_name": "us-east-1",
            "aws_access_key_id": ACCESS_KEY_ID,
            "aws_secret_access_key": SECRET_ACCESS_KEY,
        }
        s3, iam = boto3.client("s3", **root), boto3.client("iam", **root)
        for bucket in ("lake", "videos", "closed"):
            s3.create_bucket(Bucket=bucket)
        iam.create_user(UserName="vidpipe")
        statements = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]
        if refused:
            arns = [f"arn:aws:s3:::{resource}" for resource in refused]
            actions = ["s3:ListBucket", "s3:GetObject"]
            statements.append({"Effect": "Deny", "Action": actions, "Resource": arns})
        policy = {"Version": "2012-10-17", "Statement": statements}
        iam.put_user_policy(UserName="vidpipe", PolicyName="s3", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName="vidpipe")["AccessKey"]
        requests.post(f"{url}/moto-api/reset-auth", data="0", timeout=10)
        yield S3Settings(url, "us-east-1", key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        # Its state is this process's, and would be the next server's too.
        requests.post(f"{url}/moto-api/reset-auth", data="inf", timeout=10)
        requests.post(f"{url}/moto-api/reset", timeout=10)
        server.stop()
