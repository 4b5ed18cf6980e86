"""annotate: labels of people become rows; corrections and withdrawals are newer rows."""

from __future__ import annotations

import pytest

from tests.runs import audit_and_publish, ingest, rows, stage
from vidpipe.errors import BadInputError, UsageError
from vidpipe.lake.query import run_query
from vidpipe.stages.manifest import Report


@pytest.fixture
def ingested(lake, bucket, media):
    for number in range(3):
        bucket.put(f"{number}.mp4", media.videos[number])
    ingest(lake, "ingest", fps=1.0, short_side=32)
    return lake


def annotate(lake, run_key: str, text: str, **config) -> Report:
    uri = f"{lake.uri}/annotations/{run_key}/labels.csv"
    lake.store.put(uri, text.encode())
    plan = stage(lake, run_key, "annotate", task="motion", file=uri, **config)
    if not config.get("diff"):
        audit_and_publish(lake, run_key, plan)
    return plan


def current(lake) -> dict[tuple[str, float | None, str], str]:
    found = run_query(
        "select v.source_uri, a.start_s, a.annotator, a.label"
        " from current_annotations a join current_videos v using (video_id)",
        lake.settings,
    )
    return {
        (row["source_uri"].rpartition("/")[2], row["start_s"], row["annotator"]): row["label"]
        for row in found.to_pylist()
    }


def test_rows_replace_rows_of_the_same_video_range_and_annotator(ingested):
    annotate(
        ingested,
        "one",
        "video,label,start_s,end_s,annotator\n0.mp4,left,,,\n1.mp4,up,0,1,ann\n2.mp4,down,,,\n",
    )
    plan = annotate(
        ingested,
        "two",
        "video,label,start_s,end_s,annotator\n0.mp4,right,,,\n1.mp4,up,0,1,ann\n1.mp4,up,0,1,bob\n",
    )
    assert plan.result["changes"] == {"added": 1, "replaced": 1, "unchanged": 1, "withdrawn": 0}
    assert current(ingested) == {
        ("0.mp4", None, ""): "right",
        ("1.mp4", 0.0, "ann"): "up",
        ("1.mp4", 0.0, "bob"): "up",
        ("2.mp4", None, ""): "down",
    }
    history = [row["label"] for row in rows(ingested, "annotations")]
    assert sorted(history) == ["down", "left", "right", "up", "up"]


def test_delete_withdraws_and_what_was_there_stays_in_the_history(ingested):
    annotate(ingested, "one", "video,label\n0.mp4,left\n1.mp4,up\n")
    annotate(ingested, "two", "video,label,delete\n0.mp4,,yes\n")
    assert current(ingested) == {("1.mp4", None, ""): "up"}
    assert len(rows(ingested, "annotations")) == 3
    annotate(ingested, "three", "video,label\n0.mp4,down\n")
    assert current(ingested)[("0.mp4", None, "")] == "down"


def test_diff_shows_what_would_change_and_changes_nothing(ingested, capsys):
    annotate(ingested, "one", "video,label\n0.mp4,left\n")
    plan = annotate(ingested, "two", "video,label\n0.mp4,right\n1.mp4,up\n", diff=True)
    assert plan.files == []
    shown = capsys.readouterr().out
    assert "left → right" in shown and ": up" in shown
    assert current(ingested) == {("0.mp4", None, ""): "left"}


def test_a_file_with_a_fault_imports_nothing(ingested):
    with pytest.raises(BadInputError, match="line 3: no video is called 'nope.mp4'"):
        annotate(ingested, "one", "video,label\n0.mp4,left\nnope.mp4,left\n")
    assert rows(ingested, "annotations") == []


def test_a_range_is_checked_against_the_video(ingested):
    with pytest.raises(BadInputError, match="outside the video"):
        annotate(ingested, "one", "video,label,start_s,end_s\n0.mp4,left,1,500\n")


@pytest.mark.parametrize("task", ["", "Motion", "two words", "../up", "motion\n"])
def test_a_task_is_a_word(ingested, task):
    with pytest.raises(UsageError, match="A task is a word"):
        stage(ingested, "one", "annotate", task=task, file="s3://lake/x.csv")
