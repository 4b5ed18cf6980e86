"""Links to MLflow, and their plugin."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.airflow_runs import PretendStages, run_dag
from vidpipe.config import load_settings


def test_task_links_to_its_run(airflow_home: Path, stages: PretendStages):
    stages.tell(discover={"result": {"mlflow_url": "http://mlflow/run/1"}, "shards": ["extract"]})

    run = run_dag(airflow_home, "probe")

    assert run.links["plan"] == "http://mlflow/run/1"
    assert run.links["work[0]"] == "", "Airflow shows a button that leads to None, else"


@pytest.mark.parametrize(
    ("uri", "views"),
    [
        ("https://mlflow.example", [("MLflow", "https://mlflow.example", "nav")]),
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

    assert view["href"] == "https://mlflow.example"
    assert run.url == "https://mlflow.example/#/experiments/1/runs/run"


def test_plugin_is_registered_once(airflow_home: Path):
    from airflow import plugins_manager

    found = [p for p in plugins_manager.get_plugin_info() if p["name"] == "vidpipe"]

    assert len(found) == 1
    (link,) = found[0]["operator_extra_links"]
    assert "vidpipe.orchestration.links.MlflowRunLink" in link
