"""A shard of videos to label goes on without the one that takes more memory than there is."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.lake.rows import publish_rows
from tests.runs import rows
from vidpipe.config import load_settings
from vidpipe.datasets import clips
from vidpipe.errors import OutOfMemoryError
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import Network, Sampling
from vidpipe.models.bundle import Bundle, save_model
from vidpipe.models.classification import build_model
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, now
from vidpipe.stages.runner import run_stage

SAMPLING = Sampling(frames=3, height=64, width=96)
VIDEOS = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = build_model(Network("attention"), SAMPLING, 2)
    bundle = Bundle.pack(
        network, task="t", architecture="attention", labels=["x", "y"], sampling=SAMPLING
    )
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(bundle, folder)
    return folder


@pytest.fixture
def shard(lake: Lake, model: Path) -> Manifest:
    """Four videos of three frames each."""
    file = io.BytesIO()
    Image.fromarray(np.full((64, 96, 3), 90, np.uint8)).save(file, "JPEG")
    frames = [
        {
            "video_id": video,
            "frame_index": index,
            "time_s": index / 2,
            "jpeg": file.getvalue(),
            "work_key": f"extracted-{video}",
        }
        for video in VIDEOS
        for index in range(3)
    ]
    publish_rows(lake, "ingested", "extract", {"frames": frames})
    config = {
        "task": "t",
        "model": "vidpipe-t",
        "model_version": "1",
        "model_uri": str(model),
        "threshold": None,
        "deadline": None,
        "frames_snapshot": lake.published()["frames"],
        "audio_snapshot": None,
    }
    items = [
        {
            "item": f"t/{video}",
            "video_id": video,
            "source_uri": f"s3://videos/{video}.mp4",
            "duration_s": 1.5,
            "extraction": f"extracted-{video}",
            "extraction_run": "ingested",
        }
        for video in VIDEOS
    ]
    return Manifest("night", "label", "00000", config, items, now().isoformat())


def outcomes(lake: Lake, shard: Manifest) -> dict[str, tuple[str, str | None]]:
    import pyarrow.parquet as pq

    report = run_stage(shard, lake)
    files = [file["uri"] for file in report.files if file["table"] == "outcomes"]
    found = [
        row
        for uri in files
        for row in pq.read_table(uri.removeprefix("s3://"), filesystem=lake.filesystem).to_pylist()
    ]
    return {row["video_id"]: (row["status"], row["reason"]) for row in found}


def test_shard_goes_on_without_what_took_too_much_memory(
    lake: Lake, shard: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """As the task tells it after it ended the stage: one at a time, and without the third."""
    monkeypatch.setenv("VIDPIPE_ONE_AT_A_TIME", "1")
    monkeypatch.setenv("VIDPIPE_OUT_OF_MEMORY", "2")
    monkeypatch.setenv("VIDPIPE_WORKING_FILE", str(tmp_path / "working"))
    held = []
    working = Attempt.working

    def note(self, *items):
        held.append([item["video_id"] for item in items])
        return working(self, *items)

    monkeypatch.setattr(Attempt, "working", note)
    done = ("done", None)
    quarantined = ("quarantined", "out_of_memory")
    assert outcomes(lake, shard) == {"a": done, "b": done, "c": quarantined, "d": done}
    assert held == [["a"], ["b"], ["c"], ["d"]]
    assert (tmp_path / "working").read_text() == "[]"


def test_few_clips_are_on_disk_at_a_time(
    lake: Lake, shard: Manifest, monkeypatch: pytest.MonkeyPatch
):
    size_bytes = 3 * 64 * 96 * 3
    durations_s = dict.fromkeys(VIDEOS, 1.5)
    assert list(clips.cut_by_size(durations_s, SAMPLING, 2 * size_bytes)) == [
        ["a", "b"],
        ["c", "d"],
    ]
    dense = dataclasses.replace(SAMPLING, clips=5)
    assert list(clips.cut_by_size(durations_s, dense, 2 * size_bytes)) == [[v] for v in VIDEOS]
    assert list(clips.cut_by_size({}, SAMPLING)) == []


def test_model_that_does_not_fit_is_refused_and_nothing_is_lost(
    lake: Lake, shard: Manifest, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("VIDPIPE_MEMORY_STAGE_GB", "0.001")
    load_settings.cache_clear()
    with pytest.raises(OutOfMemoryError, match="does not fit in the memory"):
        run_stage(shard, lake)
    monkeypatch.delenv("VIDPIPE_MEMORY_STAGE_GB")
    load_settings.cache_clear()
    assert set(outcomes(lake, shard).values()) == {("done", None)}
    assert rows(lake, "labels") == []  # until it is published
