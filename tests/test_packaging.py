"""Set-up: what is installed, at which versions, and how `make` says what is wrong."""

from __future__ import annotations

import configparser
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def requirements(text: str) -> set[str]:
    """Names in a list of requirements, written alike."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    names = (re.match(r"[\w.-]+", line)[0] for line in lines if line)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


@pytest.fixture(scope="module")
def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(CHECKOUT / "setup.cfg")
    return parser


def test_every_requirement_is_pinned(metadata):
    wanted = requirements(metadata["options"]["install_requires"])
    for extra in metadata["options.extras_require"].values():
        wanted |= requirements(extra)
    constraints = (CHECKOUT / "constraints.txt").read_text()
    pinned = set(re.findall(r"^([\w.-]+)==", constraints, re.MULTILINE))
    assert wanted - {"vidpipe"} <= pinned


def test_everything_is_listed_with_version_and_hash(metadata):
    def pinned(*arguments: str) -> list[str]:
        command = [sys.executable, CHECKOUT / "tools/pinned.py", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    for extra in metadata["options.extras_require"]:
        assert all("==" in line for line in pinned("requirements", extra))
    for name in ("uv", "setuptools"):
        first, *hashes = pinned("hashes", name)
        assert first.startswith(f"{name}==") and hashes
        assert all("--hash=sha256:" in line for line in hashes)


def test_airflow_and_worker_images_stay_apart(metadata):
    extras = metadata["options.extras_require"]

    def wanted(extra: str) -> set[str]:
        """All that an extra names, and those that it is made of."""
        inner = re.findall(r"^vidpipe\[(.+)\]", extras[extra], re.MULTILINE)
        return requirements(extras[extra]).union(*map(wanted, inner)) - {"vidpipe"}

    assert not {"tensorflow", "tensorflow-cpu", "keras", "mlflow"} & wanted("cluster")
    assert "keras" in wanted("worker") & wanted("worker-gpu")
    assert "tensorflow-cpu" not in wanted("worker-gpu")
    assert not [name for name in wanted("worker") | wanted("worker-gpu") if "airflow" in name]


def test_make_lists_all_targets():
    targets = re.search(r"^\.PHONY: (.*)$", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)[1]
    shown = subprocess.run(["make"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    for target in targets.split():
        assert f"make {target} " in shown.stdout


def test_set_up_does_without_a_cache_where_no_home_can_be_written(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(CHECKOUT / "tools")
    cache_settings = runpy.run_path(str(CHECKOUT / "tools/bootstrap.py"))["cache_settings"]
    for name in ("UV_CACHE_DIR", "XDG_CACHE_HOME", "UV_NO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_settings(sys.executable) == {}
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert cache_settings(sys.executable) == {"UV_NO_CACHE": "1"}


def test_no_fitting_python_is_one_clear_line(tmp_path):
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, tmp_path)
    made = subprocess.run(
        ["make", "setup", "PYTHON="], cwd=tmp_path, capture_output=True, text=True
    )
    assert made.returncode != 0
    assert "vidpipe needs Python 3.11 or 3.12; none was found" in made.stderr
    assert not (tmp_path / ".venv").exists()
