"""What every DAG has: a manual, a form that explains itself, limits, an owner."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.airflow_runs import DAGS
from vidpipe.config import SourceSettings, load_settings

NAMES = sorted(path.stem for path in DAGS.glob("*.py"))
HEAVY = (
    "boto3",
    "ffmpeg",
    "keras",
    "mlflow",
    "numpy",
    "pandas",
    "pyarrow",
    "pyiceberg",
    "tensorflow",
)


@pytest.fixture(scope="module", params=NAMES)
def dag(airflow_home: Path, request: pytest.FixtureRequest):
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(DAGS / f"{request.param}.py"))
    assert bag.import_errors == {}
    return bag.dags[request.param]  # a file is named as its DAG


def test_dag_is_a_manual(dag):
    assert dag.doc_md.strip().startswith("### ")
    assert "**Tasks.**" in dag.doc_md and "**When it fails**" in dag.doc_md
    for task in dag.tasks:
        assert f"`{task.task_id}`" in dag.doc_md or task.task_id == "is_import"
    assert dag.description.endswith(".")
    assert "vidpipe" in dag.tags


def test_display_names_are_in_the_order_of_work(dag):
    number, _, name = dag.dag_display_name.partition(" · ")
    assert name == dag.dag_id, "by which a shell starts it"
    order = "ingest annotate train tune label_nightly review relabel forget maintain".split()
    assert order[int(number) - 1] == name


def test_it_is_the_same_whenever_it_is_parsed(dag):
    from airflow.serialization.serialized_objects import DagSerialization

    # An address in it would be a new version of the DAG each time.
    assert " object at 0x" not in json.dumps(DagSerialization.to_dict(dag), default=str)


def test_one_run_at_a_time(dag):
    # A run that waits for somebody's answer does not hold up the next.
    waits = {"offer", "approval"} & set(dag.task_ids)
    assert dag.max_active_runs == (16 if waits else 1)
    assert dag.catchup is False


def test_form_explains_every_parameter(dag):
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.schema["title"], name
        assert param.description.startswith(f"{name}: ") and param.description.endswith("."), name
        assert param.schema["type"], name
        if "number" in param.schema["type"] or "integer" in param.schema["type"]:
            assert {"minimum", "exclusiveMinimum", "enum"} & set(param.schema), name
        if None in param.schema.get("enum", ()):
            assert "null" in param.schema["values_display"], name


def test_tasks_are_owned_tried_again_and_end(dag):
    for task in dag.tasks:
        assert task.owner == "vidpipe"
        assert task.retries == 2
        assert task.retry_delay == timedelta(seconds=300), "Airflow's own setting"
        assert task.execution_timeout <= timedelta(hours=12)


def test_nobody_is_told_unless_configured(dag):
    assert not any(task.on_failure_callback or task.on_success_callback for task in dag.tasks)


def test_form_of_ingest_offers_the_configured_buckets(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch
):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("VIDPIPE_SOURCES_URIS", "s3://one,s3://two/videos")
    load_settings.cache_clear()
    assert load_settings().sources == SourceSettings(("s3://one", "s3://two/videos"))
    dag = DagBag(str(DAGS / "ingest.py")).dags["ingest"]
    load_settings.cache_clear()

    source = dag.params.get_param("source")
    assert source.schema["enum"] == [None, "s3://one", "s3://two/videos"]
    assert source.resolve() is None


def test_dag_files_are_light(airflow_home: Path):
    """They import nothing that takes long: in a process of its own, as Airflow reads them."""
    program = f"""
import json, pathlib, runpy, sys
for file in sorted(pathlib.Path({str(DAGS)!r}).glob("*.py")):
    runpy.run_path(str(file))
import vidpipe.orchestration.notify
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert "airflow" in modules and "vidpipe.orchestration.operator" in modules
    assert modules.intersection(HEAVY) == set()
    assert not any(".notifications." in name for name in modules)
