"""Links to MLflow, and their plugin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.airflow_runs import PretendStages, run_dag
from vidpipe.config import load_settings
from vidpipe.mlflow_pages import artifact_page

TRAINING = "?workflowType=machine_learning"  # else MLflow shows "GenAI"


def test_task_links_to_its_run(airflow_home: Path, stages: PretendStages):
    stages.tell(discover={"result": {"mlflow_url": "http://mlflow/run/1"}, "shards": ["extract"]})

    run = run_dag(airflow_home, "probe")

    assert run.links["plan"] == "http://mlflow/run/1"
    assert run.links["work[0]"] == "", "Airflow shows a button that leads to None, else"


def test_task_links_to_its_run_while_it_is_at_work_and_when_it_failed(
    airflow_home: Path, stages: PretendStages, monkeypatch: pytest.MonkeyPatch
):
    from vidpipe.orchestration.operator import StageOperator

    pushed = []
    push = StageOperator._link_to_run

    def watched(self, context, line):
        push(self, context, line)
        key = "_link_MlflowRunLink"
        pushed.append(context["ti"].xcom_pull(task_ids="plan", key=key))

    monkeypatch.setattr(StageOperator, "_link_to_run", watched)
    stages.tell(discover={"say": "train: MLflow run http://mlflow/run/2?a=b", "exits": [65]})

    run = run_dag(airflow_home, "probe")

    assert run.state == "failed"
    assert pushed == ["http://mlflow/run/2?a=b"], "before its end"
    assert run.links["plan"] == "http://mlflow/run/2?a=b"


@pytest.mark.parametrize(
    ("uri", "views"),
    [
        (
            "https://mlflow.example",
            [("MLflow", f"https://mlflow.example/#/experiments{TRAINING}", "nav")],
        ),
        ("sqlite:///mlflow.db", []),
        ("", []),
    ],
)
def test_menu_leads_to_mlflow(
    airflow_home: Path, monkeypatch: pytest.MonkeyPatch, uri: str, views: list[tuple]
):
    from vidpipe.orchestration.links import external_views

    monkeypatch.setenv("VIDPIPE_MLFLOW_TRACKING_URI", uri)
    load_settings.cache_clear()
    found = external_views(load_settings())
    load_settings.cache_clear()

    assert [(view["name"], view["href"], view["destination"]) for view in found] == views


def test_links_lead_where_people_reach_mlflow(airflow_home: Path, monkeypatch: pytest.MonkeyPatch):
    from vidpipe import tracking
    from vidpipe.orchestration.links import external_views

    monkeypatch.setenv("VIDPIPE_MLFLOW_TRACKING_URI", "http://mlflow.vidpipe:5000")
    monkeypatch.setenv("VIDPIPE_MLFLOW_PUBLIC_URI", "https://mlflow.example")
    load_settings.cache_clear()
    (view,) = external_views(load_settings())
    run = tracking.Run(tracking.connect(), "run", "1")
    load_settings.cache_clear()

    assert view["href"] == f"https://mlflow.example/#/experiments{TRAINING}"
    assert run.url == f"https://mlflow.example/#/experiments/1/runs/run{TRAINING}"
    assert artifact_page(run.url, "flips.png") == (
        f"https://mlflow.example/#/experiments/1/runs/run/artifacts/flips.png{TRAINING}"
    )


def test_plugin_is_registered_once(airflow_home: Path):
    from airflow import plugins_manager

    found = [p for p in plugins_manager.get_plugin_info() if p["name"] == "vidpipe"]

    assert len(found) == 1
    (link,) = found[0]["operator_extra_links"]
    assert "vidpipe.orchestration.links.MlflowRunLink" in link
