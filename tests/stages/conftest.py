"""Made videos, and a bucket of their own for each test."""

from __future__ import annotations

import dataclasses
import secrets
from pathlib import Path

import pytest

from vidpipe.config import SourceSettings
from vidpipe.lake.tables import Lake
from vidpipe.local.demo_data import DemoData, make_demo_videos


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    """A few good clips, and files that are broken on purpose."""
    return make_demo_videos(tmp_path_factory.mktemp("media"), clips=10, seed=7)


class Bucket:
    """A watched place of its own in the bucket `videos`."""

    def __init__(self, lake: Lake, uri: str):
        self._lake = lake
        self.uri = uri

    def put(self, name: str, content: Path | bytes) -> str:
        """Puts an object there; returns its URI."""
        body = content if isinstance(content, bytes) else content.read_bytes()
        self._lake.store.put(f"{self.uri}/{name}", body)
        return f"{self.uri}/{name}"

    def delete(self, name: str) -> None:
        """Removes an object."""
        self._lake.store.delete(f"{self.uri}/{name}")


@pytest.fixture
def bucket(lake: Lake) -> Bucket:
    """An empty watched place; `lake` watches nothing else."""
    uri = f"s3://videos/{secrets.token_hex(4)}"
    lake.settings = dataclasses.replace(lake.settings, sources=SourceSettings((uri,)))
    return Bucket(lake, uri)
