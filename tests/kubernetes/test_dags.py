"""The DAGs whole, each stage in a pod of the real image, on servers that pods reach."""

from __future__ import annotations

import collections
import hashlib
from pathlib import Path

import pytest

from tests import runs
from tests.kubernetes.platform import Platform
from vidpipe import tracking
from vidpipe.lake.tables import Lake
from vidpipe.local.demo_data import make_demo_videos
from vidpipe.stages import by_hand
from vidpipe.stages.by_hand import upload_annotations
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.runner import run_stage

pytestmark = pytest.mark.kubernetes

CLIPS = 16


def files_of(lake: Lake, manifest: Manifest) -> dict[str, dict[str, str]]:
    """SHA-256 of the files of a shard, by attempt and by table (and their names in it)."""
    found: dict[str, dict[str, str]] = collections.defaultdict(dict)
    of_the_shard = f"/{manifest.run_key}/{manifest.stage}/{manifest.shard}/"
    for stored in lake.store.list(f"{lake.uri}/tables/"):
        if of_the_shard in stored.uri:
            table, rest = stored.uri.removeprefix(f"{lake.uri}/tables/").split("/data/")
            attempt, name = rest.split("/")[-2:]
            content = lake.store.get(stored.uri)
            found[attempt][f"{table}/{name}"] = hashlib.sha256(content).hexdigest()
    return found


def test_from_a_bucket_to_labels(platform: Platform, tmp_path: Path):
    lake = platform.lake
    media = make_demo_videos(tmp_path / "media", clips=CLIPS, seed=5)
    for path in (*media.videos, *media.broken):
        lake.store.upload(path, f"s3://videos/loop/{path.name}")
    assert platform.run("ingest", "prefix=loop/", "fps=6", "short_side=64") == "success"
    file = upload_annotations(lake, media.motion_csv)
    assert platform.run("annotate", "task=motion", f"file={file}") == "success"
    training = ("task=motion", "architectures=cnn_rnn", "epochs=2")
    assert platform.run("train", *training) == "success"
    if tracking.champion("motion") is None:  # two epochs may be no better than guessing
        by_hand.promote("motion", "1", "to go on")
    assert platform.run("label_nightly", "task=motion") == "success"

    outcomes = [r for r in runs.rows(lake, "outcomes") if r["stage"] == "extract"]
    assert {r["status"] for r in outcomes} == {"done", "quarantined"}
    champion = tracking.champion("motion")
    labels = runs.rows(lake, "labels")
    assert {row["model_version"] for row in labels} == {champion.version}
    assert len({row["video_id"] for row in labels}) == len(labels) == CLIPS
    (found,) = tracking.connect().search_runs(
        [tracking.connect().get_run(champion.run_id).info.experiment_id]
    )
    assert found.info.status == "FINISHED"
    platform.cluster.wait_until_empty()

    # The same shards here, as processes of this machine: the same bytes.
    for stage in ("extract", "label"):
        (manifest,) = platform.manifests(stage)
        in_pod = files_of(lake, manifest)
        assert len(in_pod) == 1
        platform.forget_reports(manifest)
        run_stage(manifest, lake)
        (here,) = files_of(lake, manifest).keys() - in_pod.keys()
        contents = {
            name: digest
            for name, digest in files_of(lake, manifest)[here].items()
            if not name.startswith("outcomes/")  # they tell who did it, and when
        }
        (told,) = in_pod.values()
        assert contents.items() <= told.items()
        assert contents
