"""A DAG for the tests of the stack: mapped tasks, parameters, and a failure on request."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException


@dag(
    dag_id="tiny",
    schedule=None,
    params={
        "shards": Param(2, type="integer", minimum=0, maximum=10),
        "fail": Param(False, type="boolean"),
        "retry": Param(False, type="boolean"),
        "said": Param(False, type="boolean"),
        "word": Param("one", type="string"),
    },
)
def tiny():
    @task
    def plan(params: dict, ti=None) -> list[int]:
        ti.xcom_push(key="summary", value=f"{params['shards']} shards")
        return list(range(params["shards"]))

    @task(retries=1, retry_delay=timedelta(seconds=5))
    def work(number: int, params: dict, ti=None) -> str:
        if params["retry"] and number == 1 and ti.try_number == 1:
            raise ValueError("not at the first try")
        if params["fail"] and number == 1:
            if params["said"]:
                print("vidpipe: a failure on request")  # as a stage does
            raise AirflowFailException("a failure on request")
        return f"{params['word']} {os.environ['VIDPIPE_CONFIG']}"

    work.expand(number=plan())


tiny()
