"""`vidpipe demo`: the whole loop on one machine, on made videos or on one's own.

It does what a user would: puts videos into the bucket, triggers the DAGs in the running Airflow,
and asks the tables. It ends with an error where a part failed, an item was lost or the accounting
is wrong. A model that learned little is no error: the table of results says so.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shlex
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from rich.table import Table
from rich.text import Text

from vidpipe import tracking
from vidpipe.config import load_settings
from vidpipe.console import Console
from vidpipe.errors import BadInputError, UsageError
from vidpipe.lake.layout import TASK_PATTERN
from vidpipe.lake.query import run_query
from vidpipe.lake.store import open_store
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api, stack
from vidpipe.local.contact_sheet import Strip, draw_contact_sheet
from vidpipe.local.demo_data import DemoData, make_demo_videos
from vidpipe.local.state import load_running
from vidpipe.mlflow_pages import home_page
from vidpipe.stages.by_hand import upload_annotations

SHEET = Path("demo.png")
STRIPS = 24
# Of the made videos: short and small as they are, they need more frames than others.
EXTRACT = {"fps": 8, "short_side": 128}
SCHEDULED_WITHIN_S = 60
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".3gp"}

# Small, as the things in the made videos are large.
TRAIN = {"height": 64, "width": 64}
LEARNED = 0.9
ABOVE_CHANCE = 0.15
FAULTS_SHOWN = 5
DEFAULT_TASK = "label"


@dataclass(frozen=True)
class Lesson:
    """What the training of an architecture on made videos shows.

    Attributes:
        sentence: It, where the accuracy is as expected.
        learns: Whether it can be learned; else accuracy stays near chance.
    """

    task: str
    architecture: str
    sentence: str
    learns: bool = True

    def judge(self, accuracy: float, chance: float) -> str:
        """Returns what an accuracy says of it, in a sentence."""
        if self.learns and accuracy < LEARNED:
            return f"Missed: {LEARNED:.2f} or more is usual."
        if not self.learns and accuracy > chance + ABOVE_CHANCE:
            return f"Missed: near {chance:.2f} is usual."
        return self.sentence


# The motion classes cannot be told from one frame; the colors can.
LESSONS = (
    Lesson("appearance", "cnn", "One frame shows the color."),
    Lesson("motion", "cnn", "One frame does not show motion.", learns=False),
    Lesson("motion", "cnn_rnn", "Frames in order show motion."),
    Lesson("motion", "attention", "Frames in order show motion."),
)


@dataclass(frozen=True)
class Result:
    """A trained model on the test videos.

    Attributes:
        chance: Accuracy without having learned anything.
        low: Lower end of the 95 % interval of the accuracy.
        alias: In the registry; empty where another model of the run was better.
    """

    task: str
    architecture: str
    accuracy: float
    low: float
    chance: float
    test_videos: int
    alias: str


@dataclass
class Demo:
    """What the demo knows while it runs."""

    root: Path
    console: Console
    phases: list[tuple[str, float]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    results: list[tuple[Result, str]] = field(default_factory=list)
    has_sheet: bool = False
    queries: Sequence[str] = ()
    next_step: str = ""

    @contextlib.contextmanager
    def phase(self, name: str, description: str) -> Iterator[None]:
        """Announces a phase and notes how long it took."""
        self.console.rule(Text(f"{name}: {description}", "bold"), align="left")
        started_s = time.monotonic()
        yield
        self.phases.append((name, time.monotonic() - started_s))

    def run_dag(self, dag_id: str, *confs: dict[str, Any]) -> list[str]:
        """Triggers a run of a DAG for each configuration, and shows them until they end.

        Returns:
            The ids of the runs.

        Raises:
            BadInputError: A run failed.
        """
        client = airflow_api.connect(self.root)
        run_ids = [client.trigger(dag_id, conf) for conf in confs or [{}]]
        for run_id in run_ids:
            self._watch(client, dag_id, run_id)
        return run_ids

    def train(self, *confs: dict[str, Any]) -> list[Result]:
        """Trains side by side; returns the results of all models, in the order of the registry."""
        client = airflow_api.connect(self.root)
        evaluated = {
            (conf["task"], found["model_version"]): found
            for conf, run_id in zip(confs, self.run_dag("train", *confs), strict=True)
            for instance in client.task_instances("train", run_id)
            if (instance["task_id"], instance["state"]) == ("evaluate", "success")
            for found in [client.xcom(instance)]
        }
        return [
            Result(
                model["task"],
                model["architecture"],
                found["metrics"]["accuracy"],
                found["intervals"]["accuracy"][0],
                found["by_chance"],
                found["test_videos"],
                model["alias"],
            )
            for model in tracking.list_models()
            if (found := evaluated.get((model["task"], model["version"])))
        ]

    def start_schedule(self, dag_id: str) -> None:
        """Unpauses a DAG and shows the run that its schedule begins with.

        One that has run before is triggered.
        """
        client = airflow_api.connect(self.root)
        if client.dags()[dag_id]["is_paused"] and not client.runs(dag_id):
            client.unpause(dag_id)
            for _ in range(SCHEDULED_WITHIN_S):
                if runs := client.runs(dag_id):
                    self._watch(client, dag_id, runs[0]["dag_run_id"])
                    return
                time.sleep(1)
        self.run_dag(dag_id)

    def _watch(self, client: airflow_api.AirflowClient, dag_id: str, run_id: str) -> None:
        state = airflow_api.watch(client, dag_id, run_id, console=self.console)
        if state != "success":
            raise BadInputError(f"The DAG {dag_id} ended as {state}; see its log above.")

    def require(self, right: bool, fault: str) -> None:
        """Notes a fault unless something is right."""
        if not right:
            self.faults.append(fault)


def run(
    root: Path,
    *,
    videos: Path | None,
    labels: Path | None,
    task: str | None,
    clips: int,
    seed: int,
) -> None:
    """Runs the demo.

    Args:
        root: Folder of the stack.
        videos: A folder of videos; None: they are made.
        labels: The file of their labels; None: one is written that lacks only these.
        task: Name of the task that is trained on the labels; None: after the file of labels.
        clips: How many videos are made.
        seed: Of the made videos, the split and the training.

    Raises:
        UsageError: There is no such folder, file or task.
        BadInputError: A part failed, an item was lost, or the accounting is wrong.
    """
    if labels and not videos:
        raise UsageError(
            "LABELS goes with VIDEOS: a folder of videos and the file of their labels."
        )
    if task and not labels:
        raise UsageError("TASK goes with LABELS: it names what the labels say.")
    if task and not re.fullmatch(TASK_PATTERN, task):
        raise UsageError(
            "TASK is one word of small letters, digits and underscores, such as motion."
            f" Received: {task!r}"
        )
    # Not every shell expands the ~ of VIDEOS=~/clips.
    videos, labels = (path and Path(os.path.expanduser(path)) for path in (videos, labels))
    if videos and not videos.is_dir():
        raise UsageError(f"{videos} is no folder of videos.")
    if videos and not _videos_in(videos):
        raise UsageError(f"{videos} holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))}).")
    if labels and not labels.is_file():
        raise UsageError(f"LABELS is a CSV or JSON Lines file. There is none called {labels}.")
    demo = Demo(root, Console())
    if not videos:
        _made_videos(demo, clips, seed)
    else:
        _own_videos(demo, videos, labels, task, seed)
    show_end(demo)
    if demo.faults:
        more = len(demo.faults) - FAULTS_SHOWN
        raise BadInputError(
            "The demo found faults: "
            + "; ".join(demo.faults[:FAULTS_SHOWN])
            + (f"; and {more} more." if more > 0 else ".")
        )


def task_of(labels: Path) -> str:
    """Returns the name of a task after the file of its labels."""
    letters = unicodedata.normalize("NFKD", labels.stem).encode("ascii", "ignore").decode()
    name = re.sub("[^a-z0-9]+", "_", letters.lower()).lstrip("_0123456789")
    return name[:63].rstrip("_") or DEFAULT_TASK


def _made_videos(demo: Demo, clips: int, seed: int) -> None:
    with demo.phase("start", f"the stack, and {clips} videos that are made beside it"):
        data = _start_and_make(demo, clips, seed)
        own = _upload(data.folder, "demo")
    with demo.phase("ingest", "videos become frames and audio"):
        demo.run_dag("ingest", EXTRACT)
    with demo.phase("annotate", "import labels of motion and of color"):
        lake = Lake()
        demo.run_dag(
            "annotate",
            {"task": "appearance", "file": upload_annotations(lake, data.appearance_csv)},
            {"task": "motion", "file": upload_annotations(lake, data.motion_csv)},
        )
    with demo.phase("train", "cnn on color; cnn_rnn, attention and cnn on motion"):
        architectures_of: dict[str, list[str]] = {}
        for lesson in sorted(LESSONS, key=lambda lesson: not lesson.learns):
            architectures_of.setdefault(lesson.task, []).append(lesson.architecture)
        results = demo.train(
            *(
                {"task": task, "architectures": architectures, "seed": seed, **TRAIN}
                for task, architectures in architectures_of.items()
            )
        )
    with demo.phase("label", "the champions label every video"):
        demo.start_schedule("label_nightly")
    _check_tables(demo, data)
    result_of = {(result.task, result.architecture): result for result in results}
    for lesson in LESSONS:
        if result := result_of.get((lesson.task, lesson.architecture)):
            sentence = lesson.judge(result.accuracy, result.chance)
            demo.results.append((result, sentence))
        else:
            demo.require(False, f"{lesson.architecture} was not trained on {lesson.task}")
    _draw_sheet(demo, "motion", own)
    demo.queries = (
        "select task, label, count(*) from current_labels group by all",
        "select source_uri, label, score from current_labels limit 5",
        "select reason, count(*) from current_outcomes group by all",
    )


def _own_videos(demo: Demo, videos: Path, labels: Path | None, task: str | None, seed: int) -> None:
    with demo.phase("start", "the stack"):
        stack.up(demo.root, echo=demo.console.print)
        own = _upload(videos, videos.resolve().name)
    with demo.phase("ingest", "videos become frames and audio"):
        demo.start_schedule("ingest")
    outcomes = run_query(
        f"""
        select status, reason, count(*) as videos from current_outcomes
        where stage = 'extract' and {_is_in(own)} group by all order by all
        """
    ).to_pylist()
    for outcome in outcomes:
        why = f": {outcome['reason']}" if outcome["reason"] else ""
        demo.console.print(f"{outcome['videos']} {outcome['status']}{why}")
    demo.queries = (
        "select source_uri, duration_s, width, height from current_videos",
        "select source_uri, reason from current_outcomes where status <> 'done'",
        "select video_id, count(*) as frames from frames group by 1",
    )
    if outcomes and all(outcome["reason"] == "duplicate" for outcome in outcomes):
        demo.next_step = (
            "All of these videos were in the bucket before, under other names: it is these that\n"
            'labels are for. Which, tells vidpipe query "select source_uri, message from'
            " current_outcomes\nwhere reason = 'duplicate'\"."
        )
        return
    if not any(outcome["status"] == "done" for outcome in outcomes):
        demo.require(False, "no video could be extracted (vidpipe changes tells why)")
        return
    if labels is None:
        _write_label_file(demo, videos, own)
        return
    task = task or task_of(labels)
    with demo.phase("annotate", f"import the labels as the task {task}"):
        demo.run_dag("annotate", {"task": task, "file": upload_annotations(Lake(), labels)})
    with demo.phase("train", "attention over the frames"):
        results = demo.train({"task": task, "architectures": ["attention"], "seed": seed})
    with demo.phase("label", "the champion labels every video"):
        demo.start_schedule("label_nightly")
    demo.results = [(result, _beside_chance(result)) for result in results]
    _draw_sheet(demo, task, own)
    demo.queries = (
        f"select source_uri, label, score from current_labels where task = '{task}'",
        *demo.queries[:2],
    )


def _beside_chance(result: Result) -> str:
    if result.low > result.chance:
        return f"Better than chance ({result.chance:.2f})."
    return f"Maybe chance ({result.chance:.2f}): label more."


def _write_label_file(demo: Demo, videos: Path, own: str) -> None:
    """Writes a file that lacks nothing but the labels, and says what to do with it.

    Where each video lies in a folder of several, the folders' names are filled in as labels.
    """
    file = demo.root / "labels" / f"{videos.resolve().name}.csv"
    extracted = run_query(
        f"select source_uri from current_videos where {_is_in(own)} order by 1"
    ).to_pylist()
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        with file.open("w", encoding="utf-8", newline="") as opened:
            rows = csv.writer(opened)
            rows.writerow(["video", "label"])
            uris = [row["source_uri"] for row in extracted]
            rows.writerows(zip(uris, folder_labels(uris, own), strict=True))
    else:
        filled_in = file.read_text(encoding="utf-8", errors="replace")
        if new := [row["source_uri"] for row in extracted if row["source_uri"] not in filled_in]:
            demo.console.print(
                "",
                f"{file} was written before and is kept; videos that came since:",
                *(f"  {uri}" for uri in new),
                sep="\n",
                soft_wrap=True,
            )
    demo.next_step = ask_for_labels(videos, file)


def folder_labels(uris: Sequence[str], own: str) -> list[str]:
    """Returns the name of the folder of each video below `own`; empty, unless each has one."""
    folders = [uri.removeprefix(own).strip("/").rpartition("/")[0] for uri in uris]
    labels = [folder.rpartition("/")[2] for folder in folders]
    return labels if all(labels) and len(set(labels)) > 1 else [""] * len(uris)


def ask_for_labels(videos: Path, file: Path) -> str:
    """Returns what to do with a file that lacks nothing but the labels."""
    return (
        f"{file} lists the videos. Look at the labels (folders' names, if\n"
        "there are several) or write them; delete rows without one, and train on them:\n"
        f"  make demo VIDEOS={shlex.quote(str(videos))} LABELS={shlex.quote(str(file))}\n"
        f"The task is then called {task_of(file)}, after the file; TASK=name gives another name."
    )


def _start_and_make(demo: Demo, clips: int, seed: int) -> DemoData:
    """The stack starts and the videos are made side by side: both mostly wait for something."""
    made: list[DemoData] = []
    failed: list[Exception] = []

    def make() -> None:
        try:
            made.append(
                make_demo_videos(
                    demo.root / "demo" / f"seed-{seed}-{clips}", clips=clips, seed=seed
                )
            )
        except Exception as error:
            failed.append(error)

    demo.root.mkdir(mode=0o700, exist_ok=True)
    maker = threading.Thread(target=make)
    maker.start()
    stack.up(demo.root, echo=demo.console.print)
    maker.join()
    if failed:
        raise failed[0]
    return made[0]


def _videos_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    )


def _is_in(prefix: str) -> str:
    """The condition, in SQL, for sources below a prefix."""
    return "starts_with(source_uri, '" + prefix.replace("'", "''") + "')"


def _upload(folder: Path, prefix: str) -> str:
    """Puts the videos of a folder into the watched bucket; known ones stay as they are.

    Returns:
        Where in the bucket they are.
    """
    load_settings.cache_clear()  # `up` has just written it
    settings = load_settings()
    store, bucket = open_store(settings), settings.sources.uris[0]
    target = f"{bucket}/{prefix}/"
    known = {found.uri: found.size_bytes for found in store.list(target)}
    for path in _videos_in(folder):
        uri = f"{target}{path.relative_to(folder).as_posix()}"
        if known.get(uri) != path.stat().st_size:
            store.upload(path, uri)
    return target


def _check_tables(demo: Demo, data: DemoData) -> None:
    lake = Lake()
    outcomes = lake.dataset("outcomes").to_table(filter=ds.field("stage") == "extract").to_pylist()
    status = {outcome["source_uri"].rpartition("/")[2]: outcome for outcome in outcomes}
    for path in (*data.videos, *data.broken):
        outcome = status.get(path.name)
        wanted = "quarantined" if path in data.broken else "done"
        demo.require(
            outcome is not None and outcome["status"] == wanted,
            f"{path.name} is {outcome['status'] if outcome else 'without outcome'}, not {wanted}",
        )
    without = run_query(
        """
        select count(*) as n from current_videos v
        anti join current_labels l on l.video_id = v.video_id and l.task = 'motion'
        """
    ).to_pylist()[0]["n"]
    demo.require(without == 0, f"{without} videos are not labelled")


def _draw_sheet(demo: Demo, task: str, own: str) -> None:
    rows = run_query(
        f"""
        select l.video_id, l.source_uri, l.label, l.score, any_value(a.label) as truth
        from (from current_labels where task = '{task}' and {_is_in(own)}) l
        left join current_annotations a
          on a.video_id = l.video_id and a.task = l.task and a.start_s is null
        group by all order by l.video_id limit {STRIPS}
        """
    ).to_pylist()
    frames = (
        Lake()
        .dataset("frames")
        .to_table(
            columns=["video_id", "time_s", "jpeg"],
            filter=ds.field("video_id").isin([row["video_id"] for row in rows]),
        )
    )
    jpegs: dict[str, list[bytes]] = {}
    for frame in frames.sort_by([("video_id", "ascending"), ("time_s", "ascending")]).to_pylist():
        jpegs.setdefault(frame["video_id"], []).append(frame["jpeg"])
    strips = [
        Strip(
            jpegs[row["video_id"]],
            row["source_uri"].rpartition("/")[2],
            row["label"],
            row["score"],
            row["truth"],
        )
        for row in rows
    ]
    draw_contact_sheet(SHEET, f"{task}: what the champion found in {len(strips)} videos", strips)
    demo.has_sheet = True


def show_end(demo: Demo) -> None:
    """Prints what came of it, on one screen of 80 columns and 24 lines."""
    state = load_running(demo.root)
    print_ = demo.console.print
    print_()
    if demo.results:
        counts = sorted({result.test_videos for result, _ in demo.results})
        videos = " or ".join(map(str, counts))
        chance = demo.results[0][0].chance
        table = Table(
            title=f"Accuracy on {videos} test videos (chance: {chance:.2f})",
            title_justify="left",
            box=None,
            pad_edge=False,
        )
        for heading in ("task", "architecture", "accuracy", "alias"):
            table.add_column(heading, no_wrap=True)
        table.add_column("result")
        for result, sentence in demo.results:
            accuracy = f"{result.accuracy:.2f}"
            table.add_row(result.task, result.architecture, accuracy, result.alias, sentence)
        print_(table)
    if demo.next_step:
        print_(*demo.next_step.split("\n"), sep="\n", soft_wrap=True)
    all_s = sum(seconds for _, seconds in demo.phases)
    phases = ", ".join(f"{name} {seconds:.0f}" for name, seconds in demo.phases)
    lines = [
        "",
        f"Airflow  {state.url('airflow')}  user {state.airflow_user}"
        f"  password {state.airflow_password}",
        f"MLflow   {home_page(state.url('mlflow'))}",
        f"         user {state.mlflow_user}  password {state.mlflow_password}",
        *([f"Picture  {SHEET}"] if demo.has_sheet else []),
        f"Seconds  {all_s:.0f}: {phases}",
        "",
        "Three queries to try, after: source .venv/bin/activate",
        *(f'  vidpipe query "{sql}"' for sql in demo.queries),
        "The stack still runs. Stop it: make down. Remove it with its data: make clean",
    ]
    print_(*lines, sep="\n", soft_wrap=True)
