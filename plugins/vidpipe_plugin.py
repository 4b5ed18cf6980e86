"""Registers in Airflow what vidpipe/orchestration/ defines."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from vidpipe.config import load_settings
from vidpipe.orchestration import links, pod_watch, run_notes


class VidpipePlugin(AirflowPlugin):
    """Links to MLflow, from tasks and from the menu; notes on runs; what removes pods."""

    name = "vidpipe"
    operator_extra_links = [links.MlflowRunLink()]
    external_views = links.external_views(load_settings())
    listeners = [pod_watch, run_notes]
