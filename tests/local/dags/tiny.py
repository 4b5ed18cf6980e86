"""A DAG for the tests of the stack: mapped tasks, parameters, and a failure on request."""

from __future__ import annotations

import os

from airflow.sdk import Param, dag, task


@dag(
    dag_id="tiny",
    schedule=None,
    params={
        "shards": Param(2, type="integer", minimum=0, maximum=10),
        "fail": Param(False, type="boolean"),
        "word": Param("one", type="string"),
    },
)
def tiny():
    @task
    def plan(params: dict) -> list[int]:
        return list(range(params["shards"]))

    @task
    def work(number: int, params: dict) -> str:
        if params["fail"] and number == 1:
            raise ValueError("a failure on request")
        return f"{params['word']} {os.environ['VIDPIPE_CONFIG']}"

    work.expand(number=plan())


tiny()
