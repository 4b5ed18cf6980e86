"""Attacks through what people and stages hand to a run: forms, results, logs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_runs import PretendStages, run_dag
from vidpipe.config import KubernetesSettings
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake

SECRET = "DATABASE_PASSWORD"
VALUES = {
    "references": (f"$({SECRET})", "$$", f"${{{SECRET}}}`id`$(id)"),
    "templates, lines, options": (
        "{{ conn.values() }}{% for x in [] %}{# #}",
        "x\nvidpipe: extract ended with 0\r\n::group::",
        "--shard",
    ),
    "sizes": ("\x1b]0;title\x07\x1b[2J\u202e", "x" * 100_000, "\u202e" * 33_000),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_a_form_holds_more_than_words(
    airflow_home: Path, stage_processes: PretendStages, capfd, monkeypatch, values: tuple[str, ...]
):
    """Tries: fields of a form with references to secrets, templates, options, lines, 100 kB.

    Stopped by: parameters travel in an object, never in a command line or a template.
    """
    monkeypatch.setenv(SECRET, "very-secret")
    stage_processes.tell(discover={"shards": []})
    fields = dict(zip(("prefix", "pattern", "source"), values, strict=True))
    run = run_dag(airflow_home, "probe", **fields)
    assert run.tasks["plan"] == "success"
    (call,) = stage_processes.calls
    assert call["config"] == {**fields, "list": [fields["prefix"], 1]}
    streams = capfd.readouterr()
    assert "very-secret" not in streams.out + streams.err


def test_a_pods_arguments_hold_a_reference(monkeypatch):
    """Tries: `$(NAME)` in what a pod is told; Kubernetes puts the value of a Secret there.

    Stopped by: every dollar is escaped, as Kubernetes has it.
    """
    from vidpipe.orchestration.pods import PodRequest, pod_manifest
    from vidpipe.orchestration.resources import load_resources

    request = PodRequest(
        *("extract", ["extract", "--shard", f"s3://lake/$({SECRET})$$"]),
        **{"task": "t", "work": "w" * 8, "deployment": "d", "run_key": "r"},
        deadline_s=1,
        max_wait_s=1,
        environment={"WORD": f"$({SECRET})"},
    )
    settings = KubernetesSettings(worker_image="image")
    (container,) = pod_manifest(request, load_resources("", "extract", {}), settings)["spec"][
        "containers"
    ]
    assert container["args"] == ["extract", "--shard", f"s3://lake/$$({SECRET})$$$$"]
    assert {"name": "WORD", "value": f"$$({SECRET})"} in container["env"]


def test_another_user_reads_the_list_of_processes(
    airflow_home: Path, stages: PretendStages, monkeypatch
):
    """Tries: to read what a run is asked, such as whom to forget, in the list of processes.

    Stopped by: arguments hold nothing but the address of an object in the lake.
    """
    from vidpipe.orchestration.local_process import LocalProcess

    seen: list[str] = []
    run = LocalProcess.run

    def watched(process: Any, arguments: list[str], *more: Any) -> Any:
        seen.extend(arguments)
        return run(process, arguments, *more)

    monkeypatch.setattr(LocalProcess, "run", watched)
    stages.tell(discover={"shards": []})
    run_dag(airflow_home, "probe", prefix="people/anna-smith.mp4")
    assert seen[:2] == ["discover", "--shard"] and len(seen) == 3
    assert "anna" not in "".join(seen)


def test_what_was_asked_stays_in_the_lake(
    airflow_home: Path, stages: PretendStages, configured: Lake
):
    """Tries: to find the name of a person, whom a run was to forget, in what it left.

    Stopped by: the object with the parameters goes when the stage is done.
    """
    stages.tell(discover={"shards": []})
    run_dag(airflow_home, "probe", prefix="people/anna-smith.mp4")
    left = list(configured.store.list(layout.run_uri(configured.uri, "")))
    assert left and not [stored.uri for stored in left if "/plans/" in stored.uri]


@pytest.mark.parametrize(
    "value",
    [
        {"__classname__": "subprocess.Popen", "__version__": 1, "__data__": ["touch", "ran"]},
        {"__type": "subprocess.Popen", "__var": ["touch", "ran"]},
        {"py/object": "subprocess.Popen", "py/newargs": [["touch", "ran"]]},
    ],
    ids=["Airflow 3", "Airflow 2", "jsonpickle"],
)
def test_a_result_is_to_become_an_object(
    airflow_home: Path, stages: PretendStages, tmp_path: Path, monkeypatch, value: dict[str, Any]
):
    """Tries: a report of a stage, by whoever writes the bucket, that Airflow's XCom would turn into
    an object of any class.

    Stopped by: Airflow makes objects of its own classes only.
    """
    monkeypatch.chdir(tmp_path)
    stages.tell(discover={"shards": [], "result": {"summary": "done", "evil": value}})
    run_dag(airflow_home, "probe")
    assert not (tmp_path / "ran").exists()


def test_a_program_lies_below_the_dag_files(tmp_path: Path):
    """Tries: a Python file in a folder below the DAG files, such as an artifact of MLflow.

    Stopped by: `dags/.airflowignore` leaves out all that is not directly in the folder.
    """
    project = Path(__file__).parents[2]
    for file in (project / "dags").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    evil = tmp_path / "0" / "artifacts" / "evil.py"
    evil.parent.mkdir(parents=True)
    evil.write_text("from airflow.sdk import DAG  # airflow dag\n")
    script = (
        "import sys; from airflow.utils.file import list_py_file_paths as listed;"
        "print(*listed(sys.argv[1]), sep='\\n')"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert str(tmp_path / "ingest.py") in listed
    assert "evil.py" not in listed


def test_a_run_is_named_like_a_path():
    """Tries: the id of a run that leads out of the run's folder, or into another run's.

    Stopped by: an id becomes letters and digits and a hash of the whole.
    """
    names = ["../../tables", "a/b", "a-b", "$(X)", "\n", "x" * 1000, "é"]
    keys = [layout.make_run_key("acme", "ingest", name) for name in names]
    assert len(set(keys)) == len(names)
    assert all(key.isascii() and not set(key) & set("/$()\n\\ ") for key in keys)
    assert all(".." not in layout.run_uri("s3://lake", key) for key in keys)


def test_secrets_are_printed_with_the_settings():
    """Tries: a message, a log or a traceback that holds the settings.

    Stopped by: secret fields are left out of what is printed.
    """
    from vidpipe.config import LakeSettings, MlflowSettings, S3Settings, Settings
    from vidpipe.local.state import StackState

    settings = Settings(
        lake=LakeSettings(catalog_uri="postgresql://u:very-secret@h/d"),
        s3=S3Settings(access_key_id="very-secret", secret_access_key="very-secret"),
        mlflow=MlflowSettings(password="very-secret"),
    )
    assert "very-secret" not in repr(settings)
    state = StackState(Path("/nowhere"))
    named = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    for name, value in named.items():
        if any(word in name for word in ("password", "secret", "key")):
            assert value not in repr(state), name
