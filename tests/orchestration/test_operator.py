"""What becomes of a task, by how its stage ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.airflow_runs import PretendStages, run_dag, wait_for_end
from vidpipe.lake.tables import Lake
from vidpipe.stages.manifest import Manifest, find_given_up, find_report


def test_shards_are_returned_and_mapped_by_name(airflow_home: Path, stages: PretendStages):
    stages.tell(discover={"shards": ["extract", "extract"]}, extract={"result": {"rows": 7}})

    run = run_dag(airflow_home, "probe", prefix="2026")

    assert run.state == "success"
    assert [uri.rpartition("/")[2] for uri in run.xcoms["plan"]] == ["00000.json", "00001.json"]
    assert run.names["work[0]"] == "00000: 1 items"
    assert run.names["work[1]"] == "00001: 2 items"
    assert run.xcoms["work[1]"] == {"rows": 7}
    assert sorted(call["name"] for call in stages.calls) == [
        "discover",
        "extract/00000",
        "extract/00001",
    ]


def test_parameters_keep_their_type(airflow_home: Path, stages: PretendStages):
    stages.tell(discover={"shards": []})

    run_dag(airflow_home, "probe", prefix="2026", pattern="{{ 1 + 1 }}")

    assert stages.calls[0]["config"] == {
        "prefix": "2026",
        "pattern": "{{ 1 + 1 }}",
        "source": None,
        "list": ["2026", 1],
    }


def test_exit_code_decides(airflow_home: Path, stages: PretendStages):
    exits = [[0], [2], [65], [99], [75], [1], [75, 0]]
    shards = {f"extract/{number:05d}": {"exits": codes} for number, codes in enumerate(exits)}
    stages.tell(discover={"shards": ["extract"] * len(exits)}, **shards)

    run = run_dag(airflow_home, "probe")

    calls = [call["name"] for call in stages.calls]
    ended = [(run.tasks[f"work[{n}]"], calls.count(f"extract/{n:05d}")) for n in range(len(exits))]
    assert ended == [
        ("success", 1),
        ("failed", 1),
        ("failed", 1),
        ("skipped", 1),
        ("failed", 2),
        ("failed", 2),
        ("success", 2),
    ]


def test_why_a_shard_failed_is_left_for_the_audit(
    airflow_home: Path, stage_processes: PretendStages, configured: Lake
):
    stage_processes.tell(
        discover={"shards": ["extract", "extract"]},
        **{
            "extract/00000": {"exits": [65], "say": "vidpipe: No disk is left."},
            "extract/00001": {"exits": [75, 0]},
        },
    )

    run = run_dag(airflow_home, "probe")

    assert [run.tasks[f"work[{number}]"] for number in (0, 1)] == ["failed", "success"]
    store = configured.store
    shards = [Manifest.read(store, uri) for uri in run.xcoms["plan"]]
    given_up = [find_given_up(store, configured.uri, shard) for shard in shards]
    assert given_up[0] == {
        "reason": "stage_failed",
        "message": "extract ended with 65: No disk is left.",
    }
    # Of an earlier try: its report counts more.
    assert given_up[1]["reason"] == "stage_failed"
    assert find_report(store, configured.uri, shards[1])


def test_stop_leaves_no_process(airflow_home: Path, stage_processes: PretendStages):
    stage_processes.tell(discover={"shards": ["extract"]}, extract={"stopped": True})

    run = run_dag(airflow_home, "probe")

    assert run.tasks["work[0]"] == "failed"
    wait_for_end(stage_processes.calls[-1]["pid"])
    wait_for_end(stage_processes.child)


def test_real_stage_is_run_and_its_report_found(airflow_home: Path, configured: Lake):
    configured.store.put("s3://videos/operator/no-video.mp4", b"not a video")

    run = run_dag(airflow_home, "probe", prefix="operator/")

    assert run.tasks["plan"] == "success"
    assert len(run.xcoms["plan"]) == 1
    assert run.names["work[0]"] == "00000: 1 items"


def test_store_that_is_away_is_tried_again(
    airflow_home: Path, stages: PretendStages, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VIDPIPE_S3_ENDPOINT_URL", "http://127.0.0.1:9")

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["plan"], run.tries["plan"]) == ("failed", 2)


def test_shard_goes_on_without_the_item_that_takes_too_much_memory(
    airflow_home: Path, stage_processes: PretendStages, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VIDPIPE_MEMORY_STAGE_GB", "0.8")
    stage_processes.tell(
        discover={"shards": ["extract", "extract"]},
        **{"extract/00001": {"eats": [[0, 1], [1], None]}},
    )

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["work[1]"], run.tries["work[1]"]) == ("success", 1)
    told = [
        tuple(call["environment"].get(f"VIDPIPE_{n}") for n in ("ONE_AT_A_TIME", "OUT_OF_MEMORY"))
        for call in stage_processes.calls
        if call["name"] == "extract/00001"
    ]
    assert told == [(None, None), ("1", None), ("1", "1")]


def test_item_that_takes_all_of_its_stage_is_out_of_memory(
    airflow_home: Path,
    stage_processes: PretendStages,
    configured: Lake,
    monkeypatch: pytest.MonkeyPatch,
):
    """Without a retry, which would end the same."""
    monkeypatch.setenv("VIDPIPE_MEMORY_STAGE_GB", "0.8")
    stage_processes.tell(discover={"shards": ["extract"]}, extract={"eats": [[], [], []]})

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["work[0]"], len(stage_processes.calls)) == ("failed", 2)
    store = configured.store
    given_up = find_given_up(store, configured.uri, Manifest.read(store, run.xcoms["plan"][0]))
    assert given_up["reason"] == "out_of_memory"
    assert "more than the 0.8 GB that it may" in given_up["message"]
