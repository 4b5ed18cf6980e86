"""Servers on this machine are reached without the proxy that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mlflow_server import MlflowServer
from tests.servers import config_file, free_port
from vidpipe.config import bypass_proxies
from vidpipe.lake.tables import Lake

# As boto3, pyarrow's S3 and MLflow's requests each read it.
CODE = """
from vidpipe import tracking
from vidpipe.lake.tables import Lake
lake = Lake()
lake.store.put(f"{lake.uri}/one", b"1")
path = lake.uri.removeprefix("s3://")
with lake.filesystem.open_output_stream(f"{path}/two") as file:
    file.write(b"2")
with lake.filesystem.open_input_stream(f"{path}/one") as file:
    assert file.read() == b"1"
assert lake.dataset("videos").count_rows() == 0
assert tracking.list_models("proxied") == []
"""


@pytest.mark.parametrize("exceptions", [{}, {"NO_PROXY": "example.org"}])
def test_every_client_bypasses_a_proxy_that_does_not_answer(
    lake: Lake, mlflow_server: MlflowServer, tmp_path: Path, exceptions: dict[str, str]
):
    proxy = f"http://127.0.0.1:{free_port()}"
    names = ("http_proxy", "https_proxy", "all_proxy")
    inherited = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }
    environment = {
        **inherited,
        **dict.fromkeys((*names, *map(str.upper, names)), proxy),
        **exceptions,
        "VIDPIPE_CONFIG": str(config_file(lake, tmp_path / "vidpipe.toml")),
        "VIDPIPE_MLFLOW_TRACKING_URI": mlflow_server.uri,
    }
    ended = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()


def test_exceptions_that_were_made_stay():
    merged = "example.org,10.0.0.0/8,127.0.0.1,localhost"
    given = {"NO_PROXY": "example.org, 127.0.0.1", "no_proxy": "10.0.0.0/8"}
    bypassed = bypass_proxies(given)
    assert bypassed["NO_PROXY"] == bypassed["no_proxy"]
    assert sorted(bypassed["NO_PROXY"].split(",")) == sorted(merged.split(","))
