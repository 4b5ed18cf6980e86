"""A process of Airflow or of the stack is killed while a run of `ingest` extracts."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.runs import rows
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api, processes
from vidpipe.local import stack as local_stack
from vidpipe.local.demo_data import make_demo_videos

CLIPS = 12
# From the stage upwards: the task that started it, its supervisor, the scheduler.
ABOVE_A_STAGE = ("task", "supervisor", "scheduler")
OTHER_PARTS = ("airflow", "dag-processor", "triggerer", "s3")

pytestmark = pytest.mark.slow


def victim_of(root: Path, name: str) -> psutil.Process | None:
    """The process to be killed, once a shard is being extracted."""
    found = processes.find(root.resolve())
    for process in found.get("scheduler", []):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[3:5] == ["extract", "--shard"]:
                if name in ABOVE_A_STAGE:
                    return process.parents()[ABOVE_A_STAGE.index(name)]
                return min(found[name], key=psutil.Process.create_time)
    return None


@contextlib.contextmanager
def killing(root: Path, name: str, dags_folder: Path) -> Iterator[list[str]]:
    """Kills a process while a shard is extracted, and has `vidpipe up` start what is missing."""
    killed: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            if (victim := victim_of(root, name)) is not None:
                time.sleep(0.5)
                victim.kill()
                victim.wait()
                killed.append(name)
                local_stack.up(root, dags_folder=dags_folder)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield killed
    finally:
        over.set()
        watcher.join()


@pytest.mark.parametrize("victim", [*ABOVE_A_STAGE, *OTHER_PARTS])
def test_a_killed_process_costs_no_row_and_doubles_none(stack, tmp_path, victim):
    media = make_demo_videos(tmp_path, clips=CLIPS, seed=100 + sum(victim.encode()))
    prefix = f"killed-{victim}/"
    lake = Lake()
    for path in (*media.videos, *media.broken):
        lake.store.upload(path, f"s3://videos/{prefix}{path.name}")
    conf = (f"prefix={prefix}", "fps=6", "short_side=64")
    with killing(stack.root, victim, stack.dags_folder) as killed:
        first = airflow_api.run_dag("ingest", conf, root=stack.root)
    assert killed, "no extraction was at work"
    if first != "success":
        assert airflow_api.run_dag("ingest", conf, root=stack.root) == "success"

    def ours(table: str) -> list[dict]:
        return [row for row in rows(lake, table) if row["video_id"] in videos]

    outcomes = [row for row in rows(lake, "outcomes") if f"/{prefix}" in str(row["source_uri"])]
    done = [row["source_uri"] for row in outcomes if row["status"] == "done"]
    assert sorted(Path(uri).name for uri in done) == sorted(path.name for path in media.videos)
    reasons = {row["source_uri"] for row in outcomes if row["status"] == "quarantined"}
    assert len(reasons) == len(media.broken)
    videos = {row["video_id"] for row in outcomes if row["status"] == "done"}
    assert len(ours("videos")) == len(videos) == CLIPS
    frames = collections.Counter((row["video_id"], row["pts"]) for row in ours("frames"))
    assert set(frames.values()) == {1}
    kept = collections.Counter(video_id for video_id, _ in frames)
    assert kept == {row["video_id"]: row["extracted_frames"] for row in ours("videos")}
