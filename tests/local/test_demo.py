"""`vidpipe demo`: what it asks for, which runs it watches, what it ends with, and what it shows."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from vidpipe.errors import BadInputError, UsageError
from vidpipe.local import demo
from vidpipe.local.airflow_api import connect
from vidpipe.local.state import SERVERS, StackState

WIDTH, LINES = 80, 24


@pytest.fixture
def shown(tmp_path: Path) -> demo.Demo:
    """A demo whose stack runs, on a screen of 80 columns."""
    ports = dict.fromkeys(SERVERS, 65535)
    StackState(tmp_path, ports=ports, processes={"s3": (1, 0.0)}).save()
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    phases = [(name, 100.0) for name in ("start", "ingest", "annotate", "train", "label")]
    return demo.Demo(tmp_path, console, phases=phases, has_sheet=True)


def screen(shown: demo.Demo) -> tuple[str, int]:
    """The end of the output, and how many lines of the screen it takes."""
    demo.show_end(shown)
    text = shown.console.file.getvalue()
    return text, sum(max(1, math.ceil(len(line) / WIDTH)) for line in text.splitlines())


def test_a_dag_that_ran_before_runs_again(stack):
    shown = demo.Demo(stack.root, Console(quiet=True))
    client = connect(stack.root)
    shown.run_dag("tiny", {"word": "two"})
    assert client.runs("tiny")[0]["conf"] == {"word": "two"}
    before = {run["dag_run_id"] for run in client.runs("tiny")}
    client._call("PATCH", "/dags/tiny", json={"is_paused": True})
    shown.start_schedule("tiny")
    (run,) = (run for run in client.runs("tiny") if run["dag_run_id"] not in before)
    assert run["state"] == "success"


@pytest.mark.parametrize(
    ("videos", "labels", "words"),
    [
        ("no-such-folder", None, "no folder of videos"),
        (None, "labels.csv", "LABELS goes with VIDEOS"),
        ("empty", None, "holds no videos"),
        ("folders", None, "holds no videos"),
        ("clips", "no-such-file", "There is none called .*no-such-file"),
    ],
)
def test_what_is_missing_is_told_before_anything_starts(tmp_path, videos, labels, words):
    root = tmp_path / ".vidpipe"
    for folder in ("empty", "clips", "folders/one.mp4"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "clips" / "one.mp4").touch()
    with pytest.raises(UsageError, match=words):
        demo.run(
            root,
            videos=None if videos is None else tmp_path / videos,
            labels=labels and tmp_path / labels,
            task=None,
            clips=24,
            seed=0,
        )
    assert not root.exists()


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("clips.csv", "clips"),
        ("My Labels (2).CSV", "my_labels_2"),
        ("2026-12 émotions.jsonl", "emotions"),
        ("123.csv", "label"),
        ("動作.csv", "label"),
        ("a" * 80 + ".csv", "a" * 63),
    ],
)
def test_a_task_is_named_after_the_file_of_its_labels(name, task):
    assert demo.task_of(Path("folder") / name) == task


@pytest.mark.parametrize(
    ("labels", "task", "words"),
    [(None, "motion", "TASK goes with LABELS"), ("labels.csv", "My Task", "Received: 'My Task'")],
)
def test_a_name_that_no_task_can_have_is_refused_at_once(tmp_path, labels, task, words):
    (tmp_path / "one.mp4").touch()
    (tmp_path / "labels.csv").touch()
    with pytest.raises(UsageError, match=words):
        demo.run(
            tmp_path / ".vidpipe",
            videos=tmp_path,
            labels=labels and tmp_path / labels,
            task=task,
            clips=24,
            seed=0,
        )


def test_folders_are_labels_where_each_video_has_one_of_several():
    own = "s3://videos/clips"
    uris = [f"{own}/a/1.mp4", f"{own}/x/b/2.mp4"]
    assert demo.folder_labels(uris, own) == ["a", "b"]
    assert demo.folder_labels(uris[:1], own) == [""], "one folder tells nothing apart"
    assert demo.folder_labels([*uris, f"{own}/3.mp4"], own) == ["", "", ""]


def test_a_folder_of_a_user_who_is_unknown_is_none(tmp_path):
    with pytest.raises(UsageError, match="^~nobody-of-this-name/a is no folder of videos"):
        demo.run(
            tmp_path,
            videos=Path("~nobody-of-this-name/a"),
            labels=None,
            task=None,
            clips=24,
            seed=0,
        )


def test_the_end_fits_one_screen(shown, monkeypatch):
    shown.results = [
        (
            demo.Result(
                lesson.task, lesson.architecture, 0.5, 0.4, 0.25, number // 2 + 48, "challenger"
            ),
            lesson.judge(0.5, 0.25),
        )
        for number, lesson in enumerate(demo.LESSONS)
    ]
    shown.queries = ["select task, label, count(*) from current_labels group by all"] * 3
    text, lines = screen(shown)
    assert lines < LINES  # the prompt takes one
    assert text.count("Missed: 0.90 or more is usual.") == 3
    assert "Missed: near 0.25 is usual." in text
    assert "stack.json" not in text and "password" in text and "make down" in text


def test_the_end_fits_one_screen_where_labels_are_missing(shown):
    videos = Path("/home/Jane Doe/" + "clips" * 20)
    shown.next_step = demo.ask_for_labels(videos, Path(".vidpipe/labels/clips.csv"))
    shown.queries = ["select source_uri, reason from current_outcomes where status <> 'done'"] * 3
    text, lines = screen(shown)
    assert lines < LINES
    assert f"VIDEOS='{videos}' LABELS=.vidpipe/labels/clips.csv" in text
    assert "called clips" in text


def test_only_faults_end_the_demo_with_an_error(shown, monkeypatch):
    def made_videos(running: demo.Demo, clips: int, seed: int) -> None:
        result = demo.Result("motion", "cnn_rnn", 0.5, 0.4, 0.25, 48, "champion")
        running.results = [(result, demo.LESSONS[2].judge(0.5, 0.25))]
        for number in range(clips):
            running.require(False, f"clip_{number} is lost")

    monkeypatch.setattr(demo, "_made_videos", made_videos)
    how = {"videos": None, "labels": None, "task": None, "seed": 0}
    demo.run(shown.root, clips=0, **how)
    with pytest.raises(BadInputError, match=r"clip_0 is lost; .*clip_4 is lost; and 2 more\.$"):
        demo.run(shown.root, clips=7, **how)


def test_each_lesson_is_judged_by_its_kind():
    one_frame, in_order = demo.LESSONS[1:3]
    assert one_frame.judge(0.25, 0.25) == one_frame.sentence != one_frame.judge(0.6, 0.25)
    assert in_order.judge(0.9, 0.25) == in_order.sentence != in_order.judge(0.89, 0.25)


def test_no_library_complains_where_no_home_can_be_written():
    command = [sys.executable, "-c", "import vidpipe.local.demo"]
    home = {**os.environ, "HOME": "/dev/null/home"}
    ended = subprocess.run(command, env=home, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
