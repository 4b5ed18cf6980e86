"""Checkpoints of trainings that are over go, and no others."""

from __future__ import annotations

import time
from pathlib import Path

import boto3
import pytest

from tests.servers import S3Server
from vidpipe.errors import UsageError
from vidpipe.lake import layout
from vidpipe.lake.store import split_uri
from vidpipe.lake.tables import Lake
from vidpipe.stages.manifest import Manifest, Report, now
from vidpipe.stages.runner import run_stage

DAY_S = 86400


@pytest.fixture
def put(s3_server: S3Server):
    """Puts an object that is some days old."""
    told = s3_server.settings
    client = boto3.client(
        "s3",
        endpoint_url=told.endpoint_url,
        region_name=told.region,
        aws_access_key_id=told.access_key_id,
        aws_secret_access_key=told.secret_access_key,
    )

    def put_old(uri: str, days: float) -> None:
        bucket, key = split_uri(uri)
        # Of rclone's S3: when the object was modified.
        modified = {"mtime": str(time.time() - days * DAY_S)}
        client.put_object(Bucket=bucket, Key=key, Body=b"{}", Metadata=modified)

    return put_old


@pytest.fixture
def training(lake: Lake, put):
    """Leaves what a training of some days ago left; returns the folder of its checkpoints."""

    def leave(run_key: str, days: float, report_days: float | None = None) -> str:
        folder = layout.checkpoints_uri(lake.uri, run_key, "train", "00000", "hash")
        report = layout.reports_uri(lake.uri, run_key, "snapshot", "plan") + "A.json"
        put(f"{folder}0000000007-a.npz", days)
        put(f"{folder}0000000007-a.json", days)
        put(report, days if report_days is None else report_days)
        return folder

    return leave


def maintain(lake: Lake, **config) -> Report:
    manifest = Manifest(f"tests.maintain.{now():%H%M%S%f}.0", "maintain", config=config)
    return run_stage(manifest, lake)


def names(lake: Lake, folder_uri: str) -> list[str]:
    return [Path(found.uri).name for found in lake.store.list(folder_uri)]


def test_checkpoints_of_runs_that_are_over_go(lake: Lake, training):
    over = [training("over", 8), training("over-too", 100)]
    # Cleared yesterday, it has not come to its first checkpoint.
    stay = [training("at-work", 0), training("failed", 6), training("goes-on", 9, report_days=1)]

    report = maintain(lake)

    assert report.result == {
        "summary": "removed 2 checkpoints of 2 runs, 0.0 MB, and the features of 0 videos, 0.0 MB",
        "checkpoints": 2,
        "runs": 2,
        "size_bytes": 8,
        "features": 0,
        "features_size_bytes": 0,
    }
    assert [names(lake, folder) for folder in over] == [[], []]
    assert [len(names(lake, folder)) for folder in stay] == [2, 2, 2]
    assert len(names(lake, layout.run_uri(lake.uri, "over/"))) == 1, "its report stays"
    assert maintain(lake, checkpoint_days=5).result["runs"] == 1
    assert names(lake, stay[1]) == []


def test_features_that_no_training_used_for_long_go(lake: Lake, put):
    folder = {key: layout.features_uri(lake.uri, key) for key in ("unused", "used", "new")}
    for key, days in (("unused", 40), ("used", 40), ("new", 1)):
        for video_id in ("a", "b"):
            put(f"{folder[key]}{video_id}/x.npz", days)
    put(f"{folder['unused']}used", 31)
    put(f"{folder['used']}used", 29)
    result = maintain(lake).result
    assert (result["features"], result["features_size_bytes"]) == (2, 6)
    assert [len(names(lake, of)) for of in folder.values()] == [0, 3, 2]
    assert maintain(lake, feature_days=28).result["features"] == 2


@pytest.mark.parametrize("name", ["checkpoint_days", "feature_days"])
@pytest.mark.parametrize("days", [0, -1, "all"])
def test_days_are_a_number(lake: Lake, name, days):
    with pytest.raises(UsageError, match=f"{name} must be a number, 1 or more. Received: {days!r}"):
        maintain(lake, **{name: days})
