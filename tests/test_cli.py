"""`vidpipe …` as a person runs it: what goes wrong ends in one clear line and an exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from tests.servers import config_file
from vidpipe.cli import cli
from vidpipe.errors import EXIT_BAD_INPUT, EXIT_TEMPORARY, EXIT_USAGE
from vidpipe.local.state import StackState

LAKE = '[lake]\nuri = "s3://lake/cli"\n'


def vidpipe(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Runs a command in a folder; returns its exit code and what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "vidpipe", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help_with_an_example(name):
    help_text = cli.commands[name].help
    assert help_text.strip()
    assert "Example:" in help_text
    assert f"vidpipe {name}" in help_text


def test_help_names_every_command_once_and_those_for_people_first():
    shown = CliRunner().invoke(cli, ["--help"]).output
    people, _, stages = shown.partition("Stages, which the DAGs run:")
    named = re.findall(r"^  ([a-z][a-z-]*)  ", people + stages, re.MULTILINE)
    assert sorted(named) == sorted(cli.commands)
    assert "..." not in shown.partition("Commands:")[2], "a summary is cut off"
    # Extraction is both, and stands where people look.
    assert "  query  " in people and "  extract  " in people and "  discover  " in stages


@pytest.mark.parametrize(
    ("config", "arguments", "words"),
    [
        ("lake = 3", ["tables"], "lake must be a section"),
        ("[lake]\nuri = 3", ["tables"], "uri must be a str"),
        ("[lake]\nurl = ''", ["tables"], "url is no setting"),
        ("[lake", ["tables"], "cannot be read"),
        ("", ["tables"], "No lake is configured"),
        (LAKE, ["tables"], "No lake is configured"),
        (LAKE, ["extract", "--shard", "s3://a/b"], "No lake is configured"),
        ("", ["annotate", "labels.csv"], "Give a file and a task"),
        ("", ["forget"], "Name a video or a source"),
        ("", ["run", "ingest"], "vidpipe up"),
        ("", ["retry"], "Say what to try again"),
        ("", ["retry", "--reason", "truncated"], "vidpipe up"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, config, arguments, words):
    (tmp_path / "vidpipe.toml").write_text(config)
    exit_code, told = vidpipe(tmp_path, *arguments)
    assert exit_code in (EXIT_USAGE, EXIT_TEMPORARY)
    assert told.startswith("vidpipe: ") and words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("[1]", "--params must look like"),
        ("{", "--params must be JSON"),
        ("{}", "needs a task"),
        ('{"task": "motion"}', "A training needs architectures"),
    ],
)
def test_parameters_of_a_stage_are_checked(lake, tmp_path, params, words):
    config = config_file(lake, tmp_path / "vidpipe.toml")
    exit_code, told = vidpipe(tmp_path, "snapshot", "--run-key", "by-hand", "--params", params)
    assert config.is_file() and exit_code == EXIT_USAGE
    assert told.startswith("vidpipe: ") and words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--seed", "-1"), ("--clips", "0"), ("--seed", "x")])
def test_numbers_of_the_demo_are_checked_before_anything_starts(tmp_path, arguments):
    exit_code, told = vidpipe(tmp_path, "demo", *arguments)
    assert exit_code == EXIT_USAGE and arguments[0] in told
    assert "Traceback" not in told and not any(tmp_path.iterdir())


def test_query_takes_times_as_changes_does(lake, tmp_path):
    lake.iceberg("outcomes")
    config_file(lake, tmp_path / "vidpipe.toml")
    for when in ("yesterday", "2 hours ago", "2026-01-31T18:00Z"):
        assert vidpipe(tmp_path, "query", "select 1", "--at", when) == (0, "")
    # As the examples of the docs begin.
    assert vidpipe(tmp_path, "query", "-- How many?\nselect 1") == (0, "")
    exit_code, told = vidpipe(tmp_path, "query", "select 1", "--at", "soon")
    assert exit_code == EXIT_USAGE and "Received: 'soon'" in told


@pytest.mark.parametrize(
    "command",
    [
        ("tables",),
        ("changes",),
        ("query", "select 1"),
        ("models",),
        ("annotate", "labels.csv", "--task", "motion"),
        ("forget", "s3://videos/a.mp4"),
        ("run", "ingest"),
        ("run", "ingest", "--params"),
        ("run", "ingest", "--params", "prefix"),
        ("promote", "motion", "1"),
        ("retry", "--reason", "truncated"),
    ],
)
def test_a_stack_that_is_down_is_told_as_such(lake, tmp_path, command):
    (tmp_path / ".vidpipe").mkdir()
    config_file(lake, tmp_path / ".vidpipe" / "vidpipe.toml")
    exit_code, told = vidpipe(tmp_path, *command)
    assert exit_code == EXIT_TEMPORARY
    assert told.startswith("vidpipe: No stack was started in ") and told.endswith("vidpipe up\n")


@pytest.mark.parametrize("command", [("tables",), ("models",), ("query", "select 1")])
def test_elsewhere_the_variable_is_named(tmp_path, command):
    exit_code, told = vidpipe(tmp_path, *command)
    assert exit_code == EXIT_USAGE and told.count("\n") == 1
    assert f"in {tmp_path} or above it" in told and "set VIDPIPE_CONFIG" in told


def test_elsewhere_no_stack_runs_and_the_variable_is_named(tmp_path):
    for command in (("status",), ("run", "ingest")):
        exit_code, told = vidpipe(tmp_path, *command)
        assert exit_code == EXIT_TEMPORARY and told.count("\n") == 1
        assert f"No stack was started in {tmp_path}" in told and "set VIDPIPE_CONFIG" in told


def test_commands_work_below_the_folder_of_the_stack(lake, tmp_path):
    (tmp_path / ".vidpipe").mkdir()
    config = config_file(lake, tmp_path / ".vidpipe" / "vidpipe.toml")
    below = tmp_path / "clips" / "new"
    below.mkdir(parents=True)
    me = psutil.Process()
    running = {"s3": (me.pid, me.create_time())}
    StackState((tmp_path / ".vidpipe").resolve(), processes=running).save()
    assert vidpipe(below, "query", "select 1", "--output", "one.csv") == (0, "")
    assert os.listdir(below) == ["one.csv"]
    assert (below / "one.csv").read_text() == "1\n1\n"
    elsewhere = tmp_path.parent
    assert vidpipe(elsewhere, "tables", VIDPIPE_CONFIG=str(config)) == (0, "")
    StackState((tmp_path / ".vidpipe").resolve()).save()
    for folder, environment in ((below, {}), (elsewhere, {"VIDPIPE_CONFIG": str(config)})):
        exit_code, told = vidpipe(folder, "tables", **environment)
        assert exit_code == EXIT_TEMPORARY and f"in {tmp_path / '.vidpipe'}." in told


@pytest.mark.parametrize("command", ["tables", "changes"])
def test_a_store_that_is_away_is_one_line(lake, tmp_path, command):
    lake.iceberg("outcomes")
    config_file(lake, tmp_path / "vidpipe.toml")
    exit_code, told = vidpipe(tmp_path, command, VIDPIPE_S3_ENDPOINT_URL="http://127.0.0.1:9")
    assert exit_code == EXIT_TEMPORARY
    assert told.startswith("vidpipe: ") and told.count("\n") == 1


@pytest.mark.parametrize("arguments", [("tables",), ("query", "from sources"), ("changes",)])
def test_a_wrong_key_is_told_as_such(lake, tmp_path, arguments):
    lake.iceberg("outcomes")
    config_file(lake, tmp_path / "vidpipe.toml")
    exit_code, told = vidpipe(tmp_path, *arguments, VIDPIPE_S3_SECRET_ACCESS_KEY="wrong")
    assert exit_code == EXIT_USAGE
    assert told.startswith("vidpipe: The object store refuses these credentials: look at [s3]")
    assert told.count("\n") == 1 and "wrong" not in told


def test_what_is_not_installed_is_one_line(tmp_path):
    """As in the images, which have no stack on one machine."""
    missing = "raise ModuleNotFoundError(\"No module named 'psutil'\", name='psutil')"
    (tmp_path / "psutil.py").write_text(missing)
    exit_code, told = vidpipe(tmp_path, "status", PYTHONPATH=str(tmp_path))
    assert exit_code == EXIT_USAGE
    assert told.startswith("vidpipe: This command needs psutil, which is not installed here; ")
    assert told.count("\n") == 1


def test_why_a_command_ends_is_left_for_whoever_finds_it_dead(lake, tmp_path):
    """Kubernetes keeps it, where the log may be lost."""
    config_file(lake, tmp_path / "vidpipe.toml")
    file = tmp_path / "working"
    arguments = ("extract", "--shard", "s3://lake/no-such/sh\u00e4rd.json")
    exit_code, told = vidpipe(tmp_path, *arguments, VIDPIPE_WORKING_FILE=str(file))
    assert exit_code == EXIT_BAD_INPUT
    assert f"vidpipe: {json.loads(file.read_text())}\n" == told


def test_every_stage_that_airflow_runs_takes_a_shard():
    project = Path(__file__).parents[1]
    files = [*project.glob("dags/*.py"), *project.glob("vidpipe/orchestration/*.py")]
    stages = {name for file in files for name in re.findall(r'stage="(\w+)"', file.read_text())}
    assert {"annotate", "forget", "promote", "discover", "audit"} <= stages
    for name in stages:
        options = {option for param in cli.commands[name].params for option in param.opts}
        assert "--shard" in options, name
