"""What goes wrong in the middle of work, and the tables that come of it all the same.

Each fault meets an `ingest` of its own; all of them work on the same pictures and sounds, under
names and bytes of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import runs
from tests.kubernetes.platform import DagRun, Platform
from tests.media_files import make_clip
from tests.servers import new_lake
from vidpipe.errors import NotFoundError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.local import processes, stack

pytestmark = pytest.mark.kubernetes

OPTIONS = {"fps": 4, "short_side": 64}
VIDEOS = 4
AWAY_S = 60
# Of a video, whatever its name and its bytes are, and whoever worked on it.
OF_A_VIDEO = (
    *("size_bytes", "container", "width", "height", "duration_s"),
    *("extracted_frames", "extracted_audio_s", "decode_errors"),
)


class Videos:
    """Videos that take a while, again and again as new ones."""

    def __init__(self, folder: Path):
        self._clips = [
            make_clip(folder / f"{n}.mp4", size="1280x720", fps=25, duration_s=40, tone_hz=300 + n)
            for n in range(VIDEOS)
        ]

    def upload(self, lake: Lake, prefix: str) -> None:
        """Puts them into the bucket, with other bytes than ever before."""
        for clip in self._clips:
            # A box of MP4 that nobody reads.
            content = clip.read_bytes() + b"\0\0\0\x10free" + secrets.token_bytes(8)
            lake.store.put(f"s3://videos/{prefix}/{clip.name}", content)


def extracted(lake: Lake, prefix: str) -> dict[str, Any]:
    """What the tables tell of the videos under a prefix, by table."""
    known = f"s3://videos/{prefix}/"
    outcomes = [
        row
        for row in runs.rows(lake, "outcomes")
        if row["stage"] == "extract" and row["source_uri"].startswith(known)
        if row["status"] != "failed"  # and done by a later run
    ]
    names = {row["video_id"]: row["source_uri"].removeprefix(known) for row in outcomes}

    def of(table: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in runs.rows(lake, table):
            if row["video_id"] in names:
                yield names[row["video_id"]], row

    return {
        # One of each run that did the work; of all other tables there is one row.
        "outcomes": sorted({(names[r["video_id"]], r["status"], r["reason"]) for r in outcomes}),
        "videos": sorted((name, *(r[key] for key in OF_A_VIDEO)) for name, r in of("videos")),
        "frames": sorted(
            (name, r["frame_index"], r["pts"], _digest(r["jpeg"])) for name, r in of("frames")
        ),
        "audio": sorted((name, r["start_s"], _digest(r["samples"])) for name, r in of("audio")),
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    return Videos(tmp_path_factory.mktemp("busy"))


@pytest.fixture(scope="module")
def undisturbed(
    platform: Platform, videos: Videos, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What comes of the videos where nothing is wrong, on this machine."""
    lake = new_lake(platform.s3.settings, tmp_path_factory.mktemp("here"), secrets.token_hex(4))
    videos.upload(platform.lake, "undisturbed")
    runs.ingest(lake, "undisturbed", prefix="undisturbed/", **OPTIONS)
    found = extracted(lake, "undisturbed")
    assert [status for _, status, _ in found["outcomes"]] == ["done"] * VIDEOS
    return found


class Ingest:
    """A run of `ingest` over videos of its own."""

    def __init__(self, platform: Platform, videos: Videos):
        self.platform = platform
        self.prefix = secrets.token_hex(4)
        videos.upload(platform.lake, self.prefix)
        self.run = self.begin()

    def begin(self, dag_id: str = "ingest") -> DagRun:
        return self.platform.begin(dag_id, prefix=f"{self.prefix}/", **OPTIONS)

    def wait_until_at_work(self) -> dict[str, Any]:
        """Waits until videos are being decoded; returns the pod."""
        pod = self.platform.wait_for_pod("extract")
        store, lake_uri = self.platform.lake.store, self.platform.lake.uri
        told = layout.progress_uri(lake_uri, self.run.run_key, "extract", "00000")
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(NotFoundError):
                done = store.get_json(told)["done"]
                assert 0 < done < VIDEOS, "it is over before anything could go wrong"
                return pod
            assert time.monotonic() < deadline, pod
            time.sleep(0.3)

    def wait_until_well(self, undisturbed: dict[str, Any]) -> None:
        """Waits for the run's end: all went well, and nothing is left over."""
        assert self.run.wait() == "success"
        assert extracted(self.platform.lake, self.prefix) == undisturbed
        self.platform.cluster.wait_until_empty()


@pytest.fixture
def ingest(platform: Platform, videos: Videos, undisturbed: dict[str, Any]) -> Ingest:
    return Ingest(platform, videos)


def test_deleted_pod(ingest: Ingest, undisturbed: dict[str, Any]):
    pod = ingest.wait_until_at_work()
    cluster = ingest.platform.cluster
    cluster.core.delete_namespaced_pod(pod["metadata"]["name"], cluster.namespace)

    ingest.wait_until_well(undisturbed)
    assert ingest.run.tasks()["extract[0]"]["try_number"] == 1
    assert "Its pod was lost" in ingest.run.log("extract[0]")


@pytest.mark.slow
def test_cleared_task(ingest: Ingest, undisturbed: dict[str, Any]):
    ingest.wait_until_at_work()
    ingest.run.clear("extract")

    ingest.wait_until_well(undisturbed)
    assert ingest.run.tasks()["extract[0]"]["try_number"] == 2


@pytest.mark.slow
def test_two_runs_of_the_same_work(ingest: Ingest, undisturbed: dict[str, Any]):
    """Of two DAGs, for a DAG has one run at a time."""
    other = ingest.begin("ingest_too")

    assert other.wait() == "success"
    ingest.wait_until_well(undisturbed)


@pytest.mark.slow
def test_storage_away(ingest: Ingest, undisturbed: dict[str, Any]):
    ingest.wait_until_at_work()
    ingest.platform.s3.stop()
    time.sleep(AWAY_S)
    assert ingest.run.state == "running"
    ingest.platform.s3.start()

    ingest.wait_until_well(undisturbed)


@pytest.mark.slow
def test_kubernetes_away(ingest: Ingest, undisturbed: dict[str, Any]):
    ingest.wait_until_at_work()
    with ingest.platform.api_server.cut():
        time.sleep(AWAY_S)
        assert ingest.run.state == "running"

    ingest.wait_until_well(undisturbed)
    assert ingest.run.tasks()["extract[0]"]["try_number"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("part", ["scheduler", "triggerer"])
def test_killed_part_of_airflow(ingest: Ingest, undisturbed: dict[str, Any], part: str):
    pod = ingest.wait_until_at_work()
    killed = processes.find(ingest.platform.root.resolve())[part]
    for process in killed:
        process.kill()
    psutil.wait_procs(killed, timeout=10)
    stack.up(ingest.platform.root, dags_folder=ingest.platform.root.parent / "dags")

    ingest.wait_until_well(undisturbed)
    assert ingest.run.tasks()["extract[0]"]["try_number"] == 1
    assert pod["metadata"]["name"] in ingest.run.log("extract[0]")


@pytest.mark.slow
def test_too_little_memory(platform: Platform, videos: Videos, undisturbed: dict[str, Any]):
    platform.resources.write_text('[extract]\nmemory = "160Mi"\nmemory_limit = "4Gi"\n')
    try:
        ingest = Ingest(platform, videos)
        ingest.wait_until_well(undisturbed)
    finally:
        platform.resources.write_text("")
    assert "ran out: started again" in ingest.run.log("extract[0]")


@pytest.mark.slow
def test_missing_image(platform: Platform, videos: Videos, undisturbed: dict[str, Any]):
    platform.resources.write_text('[extract]\nimage = "localhost:5000/nothing:here"\n')
    try:
        ingest = Ingest(platform, videos)
        began_s = time.monotonic()
        assert ingest.run.wait() == "failed"
        assert time.monotonic() - began_s < 240
    finally:
        platform.resources.write_text("")
    assert "localhost:5000/nothing:here" in ingest.run.log("extract[0]")
    platform.cluster.wait_until_empty()

    ingest.run = ingest.begin()  # a run that is published is over
    ingest.wait_until_well(undisturbed)


@pytest.mark.slow
def test_node_gone(platform: Platform, videos: Videos, undisturbed: dict[str, Any]):
    commands = os.environ.get("VIDPIPE_TEST_NODE_STOP"), os.environ.get("VIDPIPE_TEST_NODE_START")
    if not all(commands):
        pytest.skip("VIDPIPE_TEST_NODE_STOP and VIDPIPE_TEST_NODE_START tell no way to stop a node")
    stop, start = commands
    # The other node may be for GPUs.
    anywhere = 'tolerations = [{ key = "nvidia.com/gpu", operator = "Exists" }]'
    platform.resources.write_text(f"[default]\n{anywhere}\n")
    ingest = Ingest(platform, videos)
    node = ingest.wait_until_at_work()["spec"]["nodeName"]
    subprocess.run(["sh", "-c", stop], env=os.environ | {"NODE": node}, check=True)
    try:
        ingest.wait_until_well(undisturbed)
    finally:
        platform.resources.write_text("")
        subprocess.run(["sh", "-c", start], env=os.environ | {"NODE": node}, check=True)
    assert ingest.run.tasks()["extract[0]"]["try_number"] == 1
