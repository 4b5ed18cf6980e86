"""Tables and views by their names, for Arrow, pandas and DuckDB."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow.dataset as ds
import pytest
from pyiceberg.expressions import EqualTo

from tests.lake.rows import DAY, publish_rows
from vidpipe.errors import UsageError
from vidpipe.lake import open_table


@pytest.fixture
def twice(lake):
    """A lake to which a label was published, then another; and the time between."""
    for run, video in (("r1", "a"), ("r2", "b")):
        annotation = {"task": "motion", "video_id": video, "label": "up"}
        publish_rows(lake, run, "annotate", {"annotations": [annotation]})
    return lake, list(lake.publications())[1].published_at


@pytest.mark.parametrize("name", ["annotations", "current_annotations", "best_labels"])
def test_a_table_and_a_view_are_opened_alike(twice, name):
    lake, between = twice
    opened = open_table(name, lake.settings)
    assert opened.to_arrow(["video_id"]).column_names == ["video_id"]
    assert sorted(opened.to_pandas()["video_id"]) == ["a", "b"]
    only_b = opened.to_arrow(["label"], ds.field("video_id") == "b")
    assert only_b.to_pylist() == [{"label": "up"}]
    for at in (between, between.astimezone(UTC).replace(tzinfo=None)):
        earlier = open_table(name, lake.settings, at=at)
        assert earlier.to_arrow()["video_id"].to_pylist() == ["a"]
    connection = duckdb.connect()
    connection.register("opened", opened.to_dataset())
    assert connection.sql("select count(*) from opened").fetchall() == [(2,)]


def test_names_and_times_that_do_not_exist(twice):
    lake, _ = twice
    with pytest.raises(UsageError, match="no table 'lables'. There are: .*labels, .*best_labels"):
        open_table("lables", lake.settings)
    for name in ("labels", "current_labels"):
        with pytest.raises(UsageError, match="the history begins at"):
            open_table(name, lake.settings, at=DAY - timedelta(days=9_000)).to_arrow()


def test_files_are_chosen_of_tables_only(twice):
    lake, _ = twice
    where = EqualTo("task", "motion")
    assert open_table("annotations", lake.settings).to_dataset(where).count_rows() == 2
    with pytest.raises(UsageError, match="filter="):
        open_table("current_annotations", lake.settings).to_dataset(where)


def test_an_empty_lake_opens(lake):
    now = datetime.now(UTC)
    assert open_table("best_labels", lake.settings).to_arrow().num_rows == 0
    assert open_table("labels", lake.settings, at=now).to_arrow().num_rows == 0
