"""What people decide on, each stage in a pod: tuning, an approval, a review, a relabelling."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests import runs
from tests.kubernetes.platform import DagRun, Platform
from vidpipe import tracking
from vidpipe.local.demo_data import make_demo_videos
from vidpipe.stages import by_hand
from vidpipe.stages.by_hand import upload_annotations

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow]

CLIPS = 16
SMALL = {"frames": 4, "height": 48, "width": 48, "test_share": 0.3}
# What learns next to nothing, and what learns a colour.
BAD, GOOD = {"epochs": 1, "learning_rate": 1e-6}, {"epochs": 60, "batch_size": 2}


def approve(run: DagRun, task: str) -> None:
    """Gives the answer that a task of a run waits for."""
    deadline = time.monotonic() + 600
    while (state := run.tasks()[task]["state"]) != "awaiting_input":
        assert state in (None, "scheduled", "queued", "running"), run.log(task)
        assert time.monotonic() < deadline, run.tasks()
        time.sleep(1)
    # Whoever answers at once is ahead of the scheduler, which then asks once more.
    time.sleep(5)
    path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task}/-1/hitlDetails"
    answer = {"chosen_options": ["Approve"], "params_input": {}}
    run.client._call("PATCH", path, json=answer)


def test_tuned_approved_reviewed_and_relabelled(platform: Platform, tmp_path: Path):
    lake = platform.lake
    media = make_demo_videos(tmp_path / "media", clips=CLIPS, seed=5)
    for path in media.videos:
        lake.store.upload(path, f"s3://videos/learning/{path.name}")
    assert platform.run("ingest", "prefix=learning/", "fps=4", "short_side=64") == "success"
    file = upload_annotations(lake, media.appearance_csv)
    assert platform.run("annotate", "task=color", f"file={file}") == "success"

    tuning = platform.begin(
        "tune",
        **{"task": "color", "architectures": ["cnn_rnn"], "trials": 2, "search": ["dropout"]},
        **{"min_epochs": 1, **SMALL, **BAD},
    )
    tuning.client.unpause("train")
    approve(tuning, "offer")
    assert tuning.wait() == "success"
    for ti in (tuning.tasks()["trial[0]"], tuning.tasks()["trial[1]"]):
        assert "Pod vidpipe-trial-" in "\n".join(tuning.client.task_log(ti))
    (started,) = tuning.client.runs("train")
    training = DagRun(tuning.client, "train", started["dag_run_id"], platform)
    assert training.wait() == "success"
    assert tracking.champion("color") is None, "it may be guessing"
    by_hand.promote("color", "1", "to go on")
    assert platform.run("label_nightly", "task=color") == "success"

    better = {"task": "color", "architectures": ["cnn"], "confidence": 0, **SMALL, **GOOD}
    training = platform.begin("train", **better, approve=True)
    approve(training, "approval")
    assert training.wait() == "success"
    assert tracking.champion("color").version == "2"

    for dry_run in ("true", "false"):
        assert platform.run("relabel", "task=color", f"dry_run={dry_run}") == "success"
        versions = [row["model_version"] for row in runs.rows(lake, "labels")]
        assert versions.count("2") == (0 if dry_run == "true" else CLIPS)
    # Nobody said anything of them: they may be asked for.
    file = upload_annotations(lake, _taken_back(media.appearance_csv, tmp_path))
    assert platform.run("annotate", "task=color", f"file={file}") == "success"
    assert platform.run("review", "task=color", "max_videos=4") == "success"
    assert len(runs.rows(lake, "reviews")) == 4
    platform.cluster.wait_until_empty()


def _taken_back(labels: Path, folder: Path) -> Path:
    """Annotations that say so of others."""
    _, *lines = labels.read_text().splitlines()
    path = folder / "taken_back.csv"
    path.write_text("\n".join(["video,label,delete", *(f"{line},true" for line in lines)]))
    return path
