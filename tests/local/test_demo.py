"""`vidpipe demo`: what it asks for, and which runs it watches."""

from __future__ import annotations

import pytest
from rich.console import Console

from vidpipe.errors import UsageError
from vidpipe.local import demo
from vidpipe.local.airflow_api import connect


def test_a_dag_that_ran_before_runs_again(stack):
    shown = demo.Demo(stack.root, Console(quiet=True))
    client = connect(stack.root)
    shown.run_dag("tiny", word="two")
    assert client.runs("tiny")[0]["conf"] == {"word": "two"}
    before = {run["dag_run_id"] for run in client.runs("tiny")}
    client._call("PATCH", "/dags/tiny", json={"is_paused": True})
    shown.start_schedule("tiny")
    (run,) = (run for run in client.runs("tiny") if run["dag_run_id"] not in before)
    assert run["state"] == "success"


@pytest.mark.parametrize(
    ("videos", "labels", "words"),
    [
        ("no-such-folder", None, "no folder of videos"),
        (None, "labels.csv", "LABELS goes with VIDEOS"),
        ("empty", None, "holds no videos"),
        ("folders", None, "holds no videos"),
        ("clips", "no-such-file", "There is none called .*no-such-file"),
    ],
)
def test_what_is_missing_is_told_before_anything_starts(tmp_path, videos, labels, words):
    root = tmp_path / ".vidpipe"
    for folder in ("empty", "clips", "folders/one.mp4"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "clips" / "one.mp4").touch()
    with pytest.raises(UsageError, match=words):
        demo.run(
            root,
            videos=None if videos is None else tmp_path / videos,
            labels=labels and tmp_path / labels,
            clips=24,
            seed=0,
        )
    assert not root.exists()
