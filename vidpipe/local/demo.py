"""`vidpipe demo`: the whole loop on one machine, on made videos or on one's own.

It does what a user would: puts videos into the bucket, triggers the DAGs in the running Airflow,
and asks the tables. It ends with an error when something that it promises did not happen.
"""

from __future__ import annotations

import contextlib
import csv
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
from rich.console import Console
from rich.table import Table

from vidpipe import tracking
from vidpipe.config import load_settings
from vidpipe.errors import BadInputError, UsageError
from vidpipe.lake.query import run_query
from vidpipe.lake.store import open_store
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api, stack
from vidpipe.local.contact_sheet import Strip, draw_contact_sheet
from vidpipe.local.demo_data import DemoData, make_demo_videos
from vidpipe.local.state import load_running
from vidpipe.stages.by_hand import upload_annotations

SHEET = Path("demo.png")
STRIPS = 24
# Of the made videos: short and small as they are, they need more frames than others.
EXTRACT = {"fps": 8, "short_side": 128}
SCHEDULED_WITHIN_S = 60
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".3gp"}

# What each training is to show, and the accuracy that shows it. The motion classes cannot be told
# from one frame; the colours can.
LESSONS = (
    ("appearance", "cnn", "one frame at a time, and one frame is enough"),
    ("motion", "cnn", "one frame at a time, and one frame is not enough"),
    ("motion", "cnn_rnn", "frames in their order"),
    ("motion", "attention", "frames that look at each other"),
)
LEARNT = 0.9
ABOVE_CHANCE = 0.15


@dataclass
class Demo:
    """What the demo knows while it runs."""

    root: Path
    console: Console
    phases: list[tuple[str, float]] = field(default_factory=list)
    broken_promises: list[str] = field(default_factory=list)
    has_sheet: bool = False
    queries: Sequence[str] = ()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Announces a phase and notes how long it took."""
        self.console.rule(f"[bold]{name}", align="left")
        started_s = time.monotonic()
        yield
        self.phases.append((name, time.monotonic() - started_s))

    def run_dag(self, dag_id: str, **conf: Any) -> dict[str, Any]:
        """Triggers a DAG, shows it until it ends, and returns what its tasks returned.

        Raises:
            BadInputError: The run failed.
        """
        client = airflow_api.connect(self.root)
        run_id = client.trigger(dag_id, conf)
        return self._watch(client, dag_id, run_id)

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

    def _watch(self, client: airflow_api.AirflowClient, dag_id: str, run_id: str) -> dict[str, Any]:
        state = airflow_api.watch(client, dag_id, run_id, console=self.console)
        if state != "success":
            raise BadInputError(f"The DAG {dag_id} ended as {state}; see its log above.")
        return {
            instance["task_id"]: client.xcom(instance)
            for instance in client.task_instances(dag_id, run_id)
            if instance["map_index"] < 0 and instance["state"] == "success"
        }

    def promise(self, kept: bool, what: str) -> None:
        """Notes a promise that was not kept."""
        if not kept:
            self.broken_promises.append(what)


def run(root: Path, *, videos: Path | None, labels: Path | None, clips: int, seed: int) -> None:
    """Runs the demo.

    Raises:
        BadInputError: Something that the demo promises did not happen.
    """
    if labels and not videos:
        raise UsageError(
            "LABELS goes with VIDEOS: a folder of videos and the file of their labels."
        )
    # Not every shell expands the ~ of VIDEOS=~/clips.
    videos, labels = (path and path.expanduser() for path in (videos, labels))
    if videos and not videos.is_dir():
        raise UsageError(f"{videos} is no folder of videos.")
    if videos and not _videos_in(videos):
        raise UsageError(f"{videos} holds no videos ({', '.join(sorted(VIDEO_SUFFIXES))}).")
    if labels and not labels.is_file():
        raise UsageError(f"LABELS is a CSV or JSON Lines file. There is none called {labels}.")
    demo = Demo(root, Console(highlight=False))
    if videos:
        _own_videos(demo, videos, labels, seed)
    else:
        _made_videos(demo, clips, seed)
    _show_end(demo)
    if demo.broken_promises:
        raise BadInputError("The demo did not keep: " + "; ".join(demo.broken_promises) + ".")


def _made_videos(demo: Demo, clips: int, seed: int) -> None:
    with demo.phase(f"Start the stack, and make {clips} videos beside it"):
        data = _start_and_make(demo, clips, seed)
        own = _upload(data.folder, "demo")
    with demo.phase("ingest: videos become frames and audio"):
        demo.run_dag("ingest", **EXTRACT)
    with demo.phase("annotate: what people say of them"):
        for task, file in (("motion", data.motion_csv), ("appearance", data.appearance_csv)):
            demo.run_dag("annotate", task=task, file=upload_annotations(Lake(), file))
    results = []
    for task, architecture, lesson in LESSONS:
        with demo.phase(f"train: {task} by {architecture}, {lesson}"):
            done = demo.run_dag("train", task=task, architectures=[architecture], seed=seed)
            results.append((task, architecture, done["promote"]))
    with demo.phase("label_nightly: the champion labels every video"):
        demo.start_schedule("label_nightly")
    _check_tables(demo, data)
    _show_results(demo, results)
    demo.console.print(
        "cnn sees one frame at a time: enough for the appearance, and blind to motion."
        "\ncnn_rnn and attention see the frames in their order."
        "\nA challenger may stand above the champion, which stays until one is surely better: on so"
        "\nfew videos, what one has more may be luck."
    )
    _draw_sheet(demo, "motion", own)
    demo.queries = (
        "select task, label, count(*) from current_labels group by all",
        "select status, reason, count(*) from current_outcomes group by all",
        "select video_codec, width, height, count(*) from videos group by all",
    )


def _own_videos(demo: Demo, videos: Path, labels: Path | None, seed: int) -> None:
    with demo.phase("Start the stack"):
        stack.up(demo.root, echo=demo.console.print)
        own = _upload(videos, videos.resolve().name)
    with demo.phase("ingest: videos become frames and audio"):
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
        "select source_uri, duration_s, width, height, video_codec from current_videos",
        "select source_uri, status, reason, message from current_outcomes where status <> 'done'",
        "select video_id, count(*) as frames from frames group by 1",
    )
    if not any(outcome["status"] == "done" for outcome in outcomes):
        demo.promise(False, "not one video could be extracted (vidpipe changes tells why)")
        return
    if labels is None:
        _ask_for_labels(demo, videos, own)
        return
    with demo.phase("annotate: what people say of them"):
        demo.run_dag("annotate", task="label", file=upload_annotations(Lake(), labels))
    with demo.phase("train: attention over the frames"):
        done = demo.run_dag("train", task="label", architectures=["attention"], seed=seed)
    with demo.phase("label_nightly: the champion labels every video"):
        demo.start_schedule("label_nightly")
    _show_results(demo, [("label", "attention", done["promote"])])
    _draw_sheet(demo, "label", own)
    demo.queries = (
        "select source_uri, label, score from current_labels"
        f" where task = 'label' and {_is_in(own)}",
        *demo.queries[:2],
    )


def _ask_for_labels(demo: Demo, videos: Path, own: str) -> None:
    """Writes a file that lacks nothing but the labels, and says what to do with it."""
    file = demo.root / "labels" / f"{videos.resolve().name}.csv"
    extracted = run_query(
        f"select source_uri from current_videos where {_is_in(own)} order by 1"
    ).to_pylist()
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        with file.open("w", encoding="utf-8", newline="") as opened:
            rows = csv.writer(opened)
            rows.writerow(["video", "label"])
            rows.writerows([row["source_uri"], ""] for row in extracted)
    else:
        filled_in = file.read_text(encoding="utf-8", errors="replace")
        if new := [row["source_uri"] for row in extracted if row["source_uri"] not in filled_in]:
            demo.console.print(
                f"\n{file} was written before and is kept; videos that came since:",
                *(f"  {uri}" for uri in new),
                sep="\n",
                soft_wrap=True,
                markup=False,
            )
    demo.console.print(
        f"\nNo labels were given. {file} lists the videos: write a label beside each (delete the"
        f"\nrows of those that you do not label), and go on with:"
        f"\n  make demo VIDEOS={shlex.quote(str(videos))} LABELS={shlex.quote(str(file))}",
        soft_wrap=True,
        markup=False,
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
        demo.promise(
            outcome is not None and outcome["status"] == wanted,
            f"{path.name} is {outcome['status'] if outcome else 'without outcome'}, not {wanted}",
        )
    without = run_query(
        """
        select count(*) as n from current_videos v
        anti join current_labels l on l.video_id = v.video_id and l.task = 'motion'
        """
    ).to_pylist()[0]["n"]
    demo.promise(without == 0, f"{without} videos are not labelled")


def _show_results(demo: Demo, results: list[tuple]) -> None:
    table = Table(title="Accuracy on the test split", title_justify="left")
    for heading in ("task", "architecture", "accuracy", "chance", "videos", "alias"):
        table.add_column(heading, no_wrap=True)
    alias_of = {(m["task"], m["version"]): m["alias"] for m in tracking.list_models()}
    for task, architecture, promoted in results:
        accuracy, chance = promoted["metrics"]["accuracy"], 1 / promoted["classes"]
        table.add_row(
            task,
            architecture,
            f"{accuracy:.2f}",
            f"{chance:.2f}",
            str(promoted["test_videos"]),
            alias_of[task, promoted["model_version"]],
        )
        if task == "label":
            continue
        if (task, architecture) == ("motion", "cnn"):
            limit = chance + ABOVE_CHANCE
            demo.promise(
                accuracy <= limit, f"cnn tells motion from one frame: {accuracy:.2f} > {limit:.2f}"
            )
        else:
            demo.promise(
                accuracy > LEARNT, f"{architecture} on {task} reached {accuracy:.2f}, not {LEARNT}"
            )
    demo.console.print(table)


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


def _show_end(demo: Demo) -> None:
    state = load_running(demo.root)
    table = Table(title="Seconds", title_justify="left", show_header=False)
    for name, seconds in demo.phases:
        table.add_row(name, f"{seconds:.0f}")
    table.add_row("[bold]all", f"[bold]{sum(seconds for _, seconds in demo.phases):.0f}")
    print_ = demo.console.print
    print_(table)
    print_(f"Airflow  {state.url('airflow')}  user {state.airflow_user}  password", end=" ")
    print_(state.airflow_password, markup=False)
    print_(f"MLflow   {state.url('mlflow')}  (choose Model training at the top left)")
    if demo.has_sheet:
        print_(f"Picture  {SHEET}")
    print_(
        "\nThree queries to try (.venv/bin/vidpipe):\n"
        + "".join(f'  vidpipe query "{sql}"\n' for sql in demo.queries)
        + "\nThe stack goes on running. Stop it: make down. Remove it with its data: make clean.",
        markup=False,
        soft_wrap=True,
    )
