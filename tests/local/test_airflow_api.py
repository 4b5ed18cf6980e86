"""`vidpipe run`, against the running stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.chaos import ChaosProxy, Request
from vidpipe.errors import TemporaryError, UsageError
from vidpipe.local.airflow_api import (
    AirflowClient,
    _asks,
    _steps,
    connect,
    print_params,
    run_dag,
    summarize,
    watch,
)
from vidpipe.local.dag_params import parse_params, show_params
from vidpipe.local.state import load_running

CHOICE = {
    "value": "light",
    "description": "mix: How clips change. Second sentence.",
    "schema": {
        "type": "string",
        "title": "Mix",
        "enum": ["light", "none"],
        "values_display": {"light": "light: a few changes", "none": "none: nothing"},
        "section": "Training",
    },
}


def shown_at(width: int, params: dict, name: str = "") -> str:
    console = Console(record=True, width=width)
    console.print(show_params(params, "train", name))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def test_all_parameters_are_shown_wrapped_with_whole_descriptions():
    number = {"value": 3, "schema": {"type": ["null", "integer"], "minimum": 1, "maximum": 9}}
    given = {"value": None, "description": "task: Its name.", "schema": {"type": "string"}}
    assert shown_at(40, {"task": given, "n": number, "mix": CHOICE}) == (
        "task  (must be given)\n"
        "    Its name.\n"
        "n  (default 3)\n"
        "    A whole number, or null for nothing\n"
        "    (at least 1, at most 9).\n"
        "\n"
        "Training\n"
        "mix  (default light)\n"
        "    Mix. How clips change. Second\n"
        "    sentence.\n"
        "    One of light, none."
    )


def test_one_parameter_is_shown_with_what_its_choices_mean():
    shown = shown_at(40, {"n": {"value": 1, "schema": {"type": "integer"}}, "mix": CHOICE}, "mix")
    assert shown.startswith("mix  (default light)\n    Mix. How clips")
    assert shown.endswith("    light  a few changes\n    none   nothing")
    with pytest.raises(UsageError, match="no such parameter; the nearest: mix.*Received: mxi"):
        shown_at(40, {"mix": CHOICE}, "mxi")


def known(**types) -> dict:
    return {name: {"value": None, "schema": {"type": type_}} for name, type_ in types.items()}


def test_params_are_read_by_their_types():
    given_params = ["n=3", "x=0.5", "on=true", 'names=["a"]', "s=3", "maybe=null", "e=", "u=1=2"]
    types = known(
        n="integer",
        x="number",
        on="boolean",
        names="array",
        s="string",
        maybe=["null", "string"],
        e="string",
        u="string",
    )
    assert parse_params(given_params, types, "train") == {
        "n": 3,
        "x": 0.5,
        "on": True,
        "names": ["a"],
        "s": "3",
        "maybe": None,
        "e": "",
        "u": "1=2",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("cnn", ["cnn"]), ("cnn, attention", ["cnn", "attention"]), ('["cnn"]', ["cnn"])],
)
def test_choices_of_several_may_be_plain_words(text, value):
    of_words = {
        "a": {"value": None, "schema": {"type": "array", "items": {"enum": ["cnn", "attention"]}}}
    }
    assert parse_params([f"a={text}"], of_words, "train") == {"a": value}
    with pytest.raises(UsageError, match="b must be a JSON list"):
        parse_params(["b=x,y"], known(b="array"), "train")


@given(st.text())
def test_strings_stay_as_they_are(text):
    assert parse_params([f"s={text}"], known(s="string"), "train") == {"s": text}


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("n", "NAME=VALUE"),
        ("=1", "NAME=VALUE"),
        ("m=1", "no such parameter. All are listed by: vidpipe run train --params. Received: m"),
        ("n=x", "n must be a whole number, or null for nothing. Received: 'x'"),
    ],
)
def test_wrong_params_are_one_clear_line(param, message):
    with pytest.raises(UsageError, match=message) as error:
        parse_params([param], known(n=["null", "integer"]), "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("epohcs", "epochs"),
        ("Batch-Size", "batch_size"),
        ("arch", "architectures"),
        ("colour", None),
    ],
)
def test_of_many_names_the_nearest_are_told(given, nearest):
    names = ("architectures", "batch_size", "epochs", "kind", "seed")
    with pytest.raises(UsageError) as error:
        parse_params([f"{given}=1"], known(**dict.fromkeys(names, "integer")), "train")
    near = f"; the nearest: {nearest}" if nearest else ""
    assert str(error.value).startswith(f"There is no such parameter{near}. All are listed by: ")


def test_a_value_that_is_missing_is_one_clear_line():
    types = known(task="string", seed=["null", "integer"]) | {"file": {"value": "s3://a/b"}}
    types["task"]["description"] = "What the labels tell,\nsuch as motion."
    with pytest.raises(UsageError) as error:
        parse_params(["seed=1"], types, "train")
    assert str(error.value) == (
        "A parameter is missing: add --param task=VALUE"
        " (task: What the labels tell, such as motion.)"
    )
    assert parse_params(["task=motion"], types, "train") == {"task": "motion"}


@pytest.mark.parametrize(
    ("text", "value"), [("True", True), ("TRUE", True), ("true", True), ("False", False)]
)
def test_truth_is_read_however_it_is_capitalised(text, value):
    for types in ("boolean", ["null", "boolean"]):
        assert parse_params([f"on={text}"], known(on=types), "train") == {"on": value}


def instance(
    task_id: str, state: str | None, start: str | None = None, operator: str = "StageOperator"
) -> dict:
    return {
        "task_id": task_id,
        "state": state,
        "start_date": start,
        "duration": 2.0,
        "operator_name": operator,
    }


def test_mapped_instances_are_taken_together():
    rows = summarize(
        [
            instance("publish", None),
            instance("extract", "success", "2026-01-02"),
            instance("extract", "running", "2026-01-03"),
            instance("discover", "success", "2026-01-01"),
            instance("extract", "skipped", "2026-01-02"),
        ]
    )
    assert [(row.name, row.state, row.done, row.all) for row in rows] == [
        ("discover", "success", 1, 1),
        ("extract", "running", 2, 3),
        ("publish", "waiting", 0, 1),
    ]


@pytest.mark.parametrize(
    ("states", "asks"),
    [
        (("success", "awaiting_input", None), True),
        (("success", "awaiting_input", "running"), False),
        (("failed", "awaiting_input", "up_for_retry"), False),
        (("success", None), False),
    ],
)
def test_a_run_that_only_asks_people_is_watched_no_longer(states, asks):
    assert _asks([instance(f"t{n}", state) for n, state in enumerate(states)]) == asks


@pytest.mark.parametrize(
    ("state", "asked", "shown"),
    [
        ("success", set(), False),
        ("running", set(), False),
        ("failed", set(), True),
        ("skipped", set(), False),
        ("awaiting_input", {"approval"}, True),
        ("success", {"approval"}, True),
    ],
)
def test_a_question_is_a_step_where_somebody_is_asked(state, asked, shown):
    question = instance("approval", state, operator="ApprovePromotionOperator")
    tasks = summarize([question, instance("train", state)])
    assert {task.name for task in _steps(tasks, asked)} == {"train", *["approval"] * shown}


def test_run_shows_progress_and_ends_with_the_state(stack):
    console = Console(record=True, width=200)
    state = run_dag("tiny", ["shards=3", "word=hello"], root=stack.root, console=console)
    assert state == "success"
    shown = console.export_text()
    assert "work: success, 3 of 3" in shown
    assert "plan: 3 shards" in shown.partition("tiny: success")[2]
    client = connect(stack.root)
    run_id = shown.split("/runs/")[1].split()[0].replace("%3A", ":").replace("%2B", "+")
    works = [ti for ti in client.task_instances("tiny", run_id) if ti["task_id"] == "work"]
    expected = f"hello {stack.root / 'vidpipe.toml'}"
    assert [client.xcom(ti) for ti in works] == [expected] * 3


def test_a_failed_run_shows_why(stack):
    console = Console(record=True, width=200)
    assert run_dag("tiny", ["fail=true"], root=stack.root, console=console) == "failed"
    shown = console.export_text()
    assert "work[1] failed" in shown
    *_, last = shown.splitlines()
    assert last == "work[1] failed: AirflowFailException: a failure on request"
    assert shown.count("a failure on request") == 1


def test_what_a_stage_said_is_wrong_is_told_once(stack):
    console = Console(record=True, width=200)
    assert run_dag("tiny", ["fail=true", "said=true"], root=stack.root, console=console) == "failed"
    shown = console.export_text()
    assert shown.count("a failure on request") == 1
    assert shown.endswith("\nwork[1] failed: a failure on request\n")


def test_a_refused_run_is_one_line(stack):
    console = Console(record=True, width=200)
    params = ["task=motion", "backbone=resnet50", "weights=s3://lake/none/model.json"]
    assert run_dag("train", params, root=stack.root, console=console) == "failed"
    lines = console.export_text().splitlines()
    assert not any("upstream_failed" in line for line in lines)
    assert [line.split()[:2] for line in lines] == [
        ["train:", lines[0].split()[1]],
        *[["snapshot:", "running"]] * ("  snapshot: running" in lines),
        ["snapshot:", "failed"],
        ["train:", "failed"],
        ["snapshot", "failed:"],
    ]
    assert lines[-1] == ("snapshot failed: There is no weights file 's3://lake/none/model.json'.")


def test_a_task_that_is_tried_again_tells_why(stack):
    console = Console(record=True, width=200)
    assert run_dag("tiny", ["retry=true"], root=stack.root, console=console) == "success"
    shown = console.export_text()
    assert "work: up_for_retry, 1 of 2: ValueError: not at the first try" in shown


@pytest.mark.parametrize(
    ("dag", "params", "message"),
    [
        ("nope", [], "no such DAG; there are: .*tiny"),
        ("tiny", ["shard=2"], r"nearest: shards, said\. .* vidpipe run tiny --params"),
        ("train", ["sound=True"], r"missing: add --param task=VALUE \(task: What the labels"),
        ("tiny", ["shards=99"], r"^(?!Airflow).*the maximum of 10$"),
    ],
)
def test_what_airflow_does_not_know_is_one_clear_line(stack, dag, params, message):
    with pytest.raises(UsageError, match=message) as error:
        run_dag(dag, params, root=stack.root)
    assert "\n" not in str(error.value)


def test_parameters_are_listed_by_section_with_defaults_and_choices(stack):
    console = Console(record=True, width=80)
    print_params("train", root=stack.root, console=console)
    shown = console.export_text()
    assert all(len(line) <= 80 for line in shown.splitlines())
    for heading in ("Network", "Training", "Promotion"):
        assert f"\n{heading}" in shown
    words = " ".join(shown.split())
    assert "task (must be given) Task. What the labels tell" in words
    assert "sound (default false) " in words
    assert "One or more of cnn, cnn3d, cnn_rnn, attention, transformer" in words

    console = Console(record=True, width=80)
    print_params("train", "augmentation", root=stack.root, console=console)
    shown = console.export_text()
    assert shown.startswith("augmentation  (default ") and "epochs" not in shown.split()
    with pytest.raises(UsageError, match="nearest: augmentation"):
        print_params("train", "augmentatoin", root=stack.root)


def test_a_run_begins_once_though_airflow_answers_500_at_first(stack):
    state = load_running(stack.root)
    # As where its database was locked, before or after it was written to. Not by the number of the
    # request: Airflow itself may answer 500 in between.
    faults = {"POST": ["fail", "spoil"], "PATCH": ["fail"]}

    def befall(request: Request) -> str | None:
        left = [] if "/auth/" in request.path else faults.get(request.method)
        return left.pop(0) if left else None

    with ChaosProxy(state.url("airflow")) as proxy:
        proxy.befall = befall
        client = AirflowClient(proxy.url, state.airflow_user, state.airflow_password)
        before = {run["dag_run_id"] for run in client.runs("tiny")}
        run_id = client.trigger("tiny", {})
    assert [(fault, request.method) for fault, request in proxy.befallen] == [
        ("fail", "POST"),
        ("spoil", "POST"),
        ("fail", "PATCH"),
    ]
    client = connect(stack.root)
    assert {run["dag_run_id"] for run in client.runs("tiny")} - before == {run_id}
    assert watch(client, "tiny", run_id) == "success"


def test_interrupting_leaves_the_run_running(stack):
    command = [sys.executable, "-m", "vidpipe", "run", "tiny", "--param", "shards=10"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=stack.root.parent,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # Whoever starts tests in the background of a script has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout.readline().startswith("tiny: http://")
        assert process.stdout.readline().startswith("  plan: ")
        process.send_signal(signal.SIGINT)
        assert "the run goes on" in process.stdout.read()
    assert process.returncode == 1


def test_without_a_stack_it_says_so(tmp_path):
    with pytest.raises(TemporaryError, match="vidpipe up"):
        run_dag("tiny", root=tmp_path)
