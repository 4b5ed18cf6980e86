"""Fixtures of the tests that run Airflow."""

from tests.airflow_runs import airflow_home, configured, stage_processes, stages  # noqa: F401
