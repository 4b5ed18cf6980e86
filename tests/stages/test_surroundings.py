"""A pod that was told of servers on 127.0.0.1 says so at once."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import config_file
from vidpipe.config import S3Settings
from vidpipe.errors import EXIT_TEMPORARY, EXIT_USAGE
from vidpipe.lake.tables import Lake

POSTGRES = "postgresql+psycopg2://catalog.acme.example/catalog"


def told_to(lake: Lake, tmp_path: Path, catalog_uri: str, endpoint_url: str, **more: str):
    settings = dataclasses.replace(
        lake.settings,
        lake=dataclasses.replace(lake.settings.lake, catalog_uri=catalog_uri),
        s3=S3Settings(endpoint_url, access_key_id="tests-only", secret_access_key="tests-only"),
    )
    config = config_file(Lake(settings), tmp_path / "vidpipe.toml")
    environment = os.environ | {"VIDPIPE_CONFIG": str(config), **more}
    return subprocess.run(
        [sys.executable, "-m", "vidpipe", "discover", "--run-key", "r", "--params", "{}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("catalog_uri", "endpoint_url", "why"),
    [
        (POSTGRES, "http://127.0.0.1:9000", "[s3] endpoint_url is 127.0.0.1"),
        (POSTGRES, "http://localhost:9000", "[s3] endpoint_url is localhost"),
        ("postgresql://[::1]/catalog", "http://s3:9000", "[lake] catalog_uri is ::1"),
        ("sqlite:////lake/catalog.db", "http://s3:9000", "[lake] catalog_uri is a SQLite file"),
    ],
)
def test_in_a_pod(lake: Lake, tmp_path: Path, catalog_uri: str, endpoint_url: str, why: str):
    host = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    ended = told_to(lake, tmp_path, catalog_uri, endpoint_url, **host)
    assert ended.returncode == EXIT_USAGE
    assert why in ended.stderr.splitlines()[-1]


def test_elsewhere_all_servers_may_be_on_one_machine(lake: Lake, tmp_path: Path):
    catalog_uri = f"sqlite:///{tmp_path}/catalog.db"
    ended = told_to(lake, tmp_path, catalog_uri, "http://127.0.0.1:1")
    assert ended.returncode == EXIT_TEMPORARY, ended.stderr
