"""Addresses of MLflow's pages. Light on purpose: DAG files and plugins read it without MLflow.

MLflow's pages show either "GenAI" or "Model training". A browser that is new to a server sees
"GenAI", which hides runs and models, unless the address says otherwise.
"""

from __future__ import annotations

import re
from urllib.parse import quote

_MODEL_TRAINING = "?workflowType=machine_learning"
_RUN_LINE = re.compile(r"\w+: MLflow run (https?://\S+)")


def home_page(server: str) -> str:
    """Address of the list of experiments."""
    return f"{server.rstrip('/')}/#/experiments{_MODEL_TRAINING}"


def run_page(server: str, experiment_id: str, run_id: str) -> str:
    """Address of a run's page."""
    run = f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    return run + _MODEL_TRAINING


def artifact_page(run_url: str, name: str) -> str:
    """Address of a file of a run, from the address of the run's page."""
    page, _, query = run_url.partition("?")
    return f"{page}/artifacts/{quote(name)}?{query}"


def run_line(stage: str, run_url: str) -> str:
    """Returns the line of a stage's log that names its run; `find_run_url` reads it."""
    return f"{stage}: MLflow run {run_url}"


def find_run_url(line: str) -> str | None:
    """Returns the address of the run that a line of a log names; None: it names none."""
    found = _RUN_LINE.fullmatch(line.strip())
    return found and found[1]
