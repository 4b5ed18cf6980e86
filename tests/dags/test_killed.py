"""A process of Airflow or of the stack is killed while a run extracts, or tunes."""

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
from vidpipe import tracking
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api, processes
from vidpipe.local import stack as local_stack
from vidpipe.local.demo_data import make_demo_videos
from vidpipe.stages.by_hand import upload_annotations

CLIPS = 12
# From the stage upwards: the task that started it, its supervisor, the scheduler.
ABOVE_A_STAGE = ("task", "supervisor", "scheduler")
OTHER_PARTS = ("airflow", "dag-processor", "triggerer", "s3")

pytestmark = pytest.mark.slow


def victim_of(root: Path, name: str, stage: str) -> psutil.Process | None:
    """The process to be killed, once a stage is at work on a shard."""
    found = processes.find(root.resolve())
    for process in found.get("scheduler", []):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[3:5] == [stage, "--shard"]:
                if name in ABOVE_A_STAGE:
                    return process.parents()[ABOVE_A_STAGE.index(name)]
                return min(found[name], key=psutil.Process.create_time)
    return None


@contextlib.contextmanager
def killing(
    root: Path, name: str, dags_folder: Path, stage: str = "extract", after_s: float = 0.5
) -> Iterator[list[str]]:
    """Kills a process while a stage is at work, and has `vidpipe up` start what is missing."""
    killed: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            if (victim := victim_of(root, name, stage)) is not None:
                time.sleep(after_s)
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


def test_a_tuning_survives_the_scheduler_and_is_one_click_from_train(stack, tmp_path, capsys):
    media = make_demo_videos(tmp_path, clips=CLIPS, seed=7)
    lake = Lake()
    for path in media.videos:
        lake.store.upload(path, f"s3://videos/tuned/{path.name}")
    conf = ("prefix=tuned/", "fps=4", "short_side=64")
    assert airflow_api.run_dag("ingest", conf, root=stack.root) == "success"
    file = upload_annotations(lake, media.motion_csv)
    conf = ("task=tuned", f"file={file}")
    assert airflow_api.run_dag("annotate", conf, root=stack.root) == "success"

    small = ("frames=4", "height=32", "width=32", "test_share=0.3")
    budget = ("architectures=cnn_rnn", "trials=3", "epochs=40", "min_epochs=40", "search=dropout")
    with killing(stack.root, "scheduler", stack.dags_folder, "trial", after_s=12) as killed:
        conf = ("task=tuned", *budget, *small)
        assert airflow_api.run_dag("tune", conf, root=stack.root) == "success"
    assert killed, "no trial was at work"
    told = capsys.readouterr().out
    assert "best of 3 trials (3 learnt to the end" in told
    assert "Train with it: vidpipe run train --param task=tuned" in told
    assert "It waits for an answer: " in told
    client = tracking.connect()
    experiment = client.get_experiment_by_name("vidpipe-tuned").experiment_id
    trials = client.search_runs([experiment], "tags.`vidpipe.trial` = 'complete'")
    assert len(trials) == 3, "the trial that was cut off went on in its own run"
    for run in trials:
        history = client.get_metric_history(run.info.run_id, "validation_loss")
        assert [metric.step for metric in history] == list(range(1, 41))

    airflow = airflow_api.connect(stack.root)
    (run,) = airflow.runs("tune")
    (best,) = (
        ti for ti in airflow.task_instances("tune", run["dag_run_id"]) if ti["task_id"] == "best"
    )
    # Whoever answers at once is ahead of the scheduler, which then asks once more.
    time.sleep(5)
    path = f"/dags/tune/dagRuns/{run['dag_run_id']}/taskInstances/offer/-1/hitlDetails"
    airflow._call("PATCH", path, json={"chosen_options": ["Approve"], "params_input": {}})
    airflow.unpause("train")
    deadline = time.monotonic() + 300
    while not (trainings := airflow.runs("train")):
        left = airflow.task_instances("tune", run["dag_run_id"])
        assert time.monotonic() < deadline, [
            (ti["task_id"], ti["state"], airflow.task_log(ti)) for ti in left[-2:]
        ]
        time.sleep(1)
    assert airflow_api.watch(airflow, "train", trainings[0]["dag_run_id"]) == "success"
    assert trainings[0]["conf"] == airflow.xcom(best)["train"]
    assert len(tracking.list_models("tuned")) == 1
