"""Registers in Airflow what vidpipe/orchestration/ defines."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from vidpipe.config import load_settings
from vidpipe.orchestration import links


class VidpipePlugin(AirflowPlugin):
    """Links to MLflow, from tasks and from the menu."""

    name = "vidpipe"
    operator_extra_links = [links.MlflowRunLink()]
    external_views = links.external_views(load_settings())
