"""A network that hears, from annotation to the labelled table.

All videos show the same; what tells their classes apart is how high a tone is. Some are mute.
"""

from __future__ import annotations

import csv
import secrets
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict

from tests.media_files import make_clip
from tests.runs import audit_and_publish, ingest, rows, shards, stage
from tests.servers import new_lake
from vidpipe import tracking
from vidpipe.errors import UsageError
from vidpipe.lake.tables import Lake
from vidpipe.models.bundle import Bundle
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.by_hand import upload_annotations
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.trying import try_model

LOW, HIGH, MUTE = "low", "high", "mute"
# Of each kind in each split.
SPLITS = {"train": (5, 5, 2), "validation": (2, 2, 1), "test": (3, 3, 2)}
CONFIG = {
    "architectures": ["cnn"],
    "seed": 0,
    "epochs": 12,
    "learning_rate": 3e-3,
    "dropout": 0.0,
    "batch_size": 4,
    "frames": 2,
    "height": 32,
    "width": 32,
    "near_duplicate_bits": 0,
    "augmentation": "none",
    "sound": True,
}


@pytest.fixture(scope="module")
def videos(s3_server, tmp_path_factory) -> tuple[Lake, dict[str, tuple[str, str]]]:
    """A lake with the videos, and kind and split of each."""
    folder = tmp_path_factory.mktemp("sound")
    lake = new_lake(s3_server.settings, folder, "sound")
    kinds = {}
    for split, counts in SPLITS.items():
        for kind, count in zip((LOW, HIGH, MUTE), counts, strict=True):
            for _ in range(count):
                number = len(kinds)
                path = folder / f"{number:02d}.mp4"
                hz = {LOW: 300 + 8 * number, HIGH: 2000 + 60 * number, MUTE: None}[kind]
                make_clip(path, size="32x32", fps=8, duration_s=1 + number / 8, tone_hz=hz)
                lake.store.upload(path, f"s3://videos/sound/{path.name}")
                kinds[path.stem] = kind, split
    ingest(lake, "ingest", source="s3://videos", prefix="sound/", fps=4.0)
    named = {Path(row["source_uri"]).stem: row["video_id"] for row in rows(lake, "videos")}
    return lake, {named[stem]: of for stem, of in kinds.items()}


def annotate(lake: Lake, folder: Path, task: str, labels: Iterable[tuple[str, str, str]]) -> None:
    file = folder / f"{secrets.token_hex(4)}.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("video", "label", "split"), *labels])
    run_key = f"annotate-{secrets.token_hex(4)}"
    plan = stage(lake, run_key, "annotate", task=task, file=upload_annotations(lake, file))
    audit_and_publish(lake, run_key, plan)


def told(kinds: dict[str, tuple[str, str]], *wanted: str) -> list[tuple[str, str, str]]:
    """Rows of labels; those of mute videos tell nothing."""
    return [
        (video, kind if kind != MUTE else (LOW, HIGH)[number % 2], split)
        for number, (video, (kind, split)) in enumerate(kinds.items())
        if kind in wanted
    ]


@pytest.mark.long
def test_what_only_sound_tells_apart_is_learnt_and_mute_videos_are_shown_apart(
    videos, mlflow, tmp_path, capsys
):
    lake, kinds = videos
    task = f"t{secrets.token_hex(4)}"
    annotate(lake, tmp_path, task, told(kinds, LOW, HIGH, MUTE))
    plan = stage(lake, f"train-{task}", "snapshot", task=task, **CONFIG)
    assert plan.result["counts"]["without_sound"] == 5
    assert "5 without_sound" in plan.result["summary"]
    trained, evaluated, promoted = shards(lake, plan)
    audit_and_publish(lake, plan.run_key, plan)

    run = MlflowClient(mlflow.uri).get_run(trained.result["mlflow_run_id"])
    assert run.data.params["sound"] == "True"
    assert "version 1, which hears, http" in trained.result["summary"]
    assert "version 1, which hears, is the champion" in promoted.result["summary"]
    capsys.readouterr()
    tracking.print_models(task)
    assert "cnn + audio" in capsys.readouterr().out
    slices = {
        (of["name"], of["value"]): of for of in load_dict(f"runs:/{run.info.run_id}/slices.json")
    }
    there, missing = slices["sound", "there"], slices["sound", "missing"]
    assert (there["videos"], missing["videos"]) == (6, 2)
    assert there["metric"] > 0.8
    metrics = run.data.metrics
    assert metrics["test_accuracy_without_imputed"] == there["metric"]
    together = (6 * there["metric"] + 2 * missing["metric"]) / 8
    assert metrics["test_accuracy"] == pytest.approx(together)
    assert evaluated.result["metrics"]["accuracy"] == metrics["test_accuracy"]

    version = tracking.champion(task)
    bundle = Bundle.load(version.uri)
    bundle.check_canary()
    assert bundle.sampling.sound
    night = stage(lake, f"night-{task}", "label", task=task)
    shards(lake, night)
    audit_and_publish(lake, night.run_key, night)
    labels = {row["video_id"]: row for row in rows(lake, "labels") if row["task"] == task}
    assert labels.keys() == kinds.keys()
    heard = {video: kind for video, (kind, _) in kinds.items() if kind != MUTE}
    right = sum(labels[video]["label"] == kind for video, kind in heard.items())
    assert right > 0.8 * len(heard)
    # It knows what it does not know.
    scores = {v: row["score"] for v, row in labels.items()}
    assert max(scores[v] for v in kinds.keys() - heard.keys()) < 0.7
    assert np.median([scores[v] for v in heard]) > 0.8

    # Those who look before they promote hear the same.
    found = {row["video_id"]: row for row in rows(lake, "videos")}
    with Attempt(Manifest("preview", "preview"), lake.store, lake.uri) as attempt:
        tried = {
            v: said for v, said, _ in try_model(version, lake, lake.published(), found, attempt)
        }
    assert {v: said[0].score for v, said in tried.items()} == pytest.approx(scores, abs=1e-5)


def test_to_hear_where_nothing_has_sound_is_refused(videos, tmp_path):
    lake, kinds = videos
    task = f"t{secrets.token_hex(4)}"
    annotate(lake, tmp_path, task, told(kinds, MUTE))
    with pytest.raises(UsageError, match=f"asked for.*no video of task '{task}'.*label videos"):
        stage(lake, f"train-{task}", "snapshot", task=task, **CONFIG)
    deaf = {**CONFIG, "sound": False}
    plan = stage(lake, f"deaf-{task}", "snapshot", task=task, **deaf)
    assert plan.result["shards"] and "without_sound" not in plan.result["counts"]
