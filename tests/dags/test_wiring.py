"""What follows what in each DAG, and when a run has failed: stages do what they are told."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.airflow_runs import PretendStages, run_dag
from vidpipe.config import load_settings
from vidpipe.lake.layout import approval_uri, make_run_key
from vidpipe.lake.tables import Lake

AUDITED = {"result": {"publication": "s3://lake/publish.json"}}


@pytest.fixture(autouse=True)
def _audit(stages: PretendStages) -> None:
    stages.tell(audit=AUDITED)


def names(stages: PretendStages) -> list[str]:
    """The stages that ran, in their order, the shards of a stage taken together."""
    return list(dict.fromkeys(call["name"].partition("/")[0] for call in stages.calls))


def test_ingest_hands_on_what_was_planned_and_audited(airflow_home: Path, stages: PretendStages):
    stages.tell(discover={"shards": ["extract", "extract"]})

    run = run_dag(
        airflow_home,
        "ingest",
        prefix="2026/",
        retry_reasons=["truncated"],
        max_videos=3,
        max_failed_share=0.5,
    )

    assert run.state == "success"
    assert names(stages) == ["discover", "extract", "audit", "publish"]
    discover, audit, publish = (stages.calls[i]["config"] for i in (0, -2, -1))
    assert discover == {
        "source": None,
        "prefix": "2026/",
        "pattern": None,
        "modified_after": None,
        "modified_before": None,
        "retry_reasons": ["truncated"],
        "retry_videos": None,
        "max_videos": 3,
        "max_hours": 1,
        "sampling": "fps",
        "fps": 2.0,
        "detector": "content",
        "frames_per_shot": 1,
        "short_side": 224,
        "width": 0,
        "height": 0,
        "fit": "crop",
        "jpeg_quality": 90,
        "missing_frames": "drop",
        "missing_audio": "silence",
        "max_missing_share": 0.2,
        "video_track": 0,
        "audio_track": 0,
        "audio_language": "",
    }
    assert audit["plan"].endswith("/reports/discover/plan/A.json")
    assert audit["max_failed_share"] == 0.5
    assert publish == {"publication": "s3://lake/publish.json"}


def test_ingest_publishes_what_the_audit_lets_pass(airflow_home: Path, stages: PretendStages):
    stages.tell(
        **{"discover": {"shards": ["extract", "extract"]}, "extract/00000": {"exits": [65]}}
    )

    run = run_dag(airflow_home, "ingest")

    assert run.tasks["extract[0]"] == "failed"
    assert run.tasks["publish"] == "success"
    assert run.state == "success"


def test_ingest_is_audited_when_every_shard_failed(airflow_home: Path, stages: PretendStages):
    stages.tell(discover={"shards": ["extract"]}, extract={"exits": [65]}, publish={"exits": [65]})

    run = run_dag(airflow_home, "ingest")

    assert names(stages) == ["discover", "extract", "audit", "publish"]
    assert run.state == "failed"


def test_ingest_publishes_what_vanished_where_nothing_is_new(
    airflow_home: Path, stages: PretendStages
):
    stages.tell(discover={"shards": []})

    run = run_dag(airflow_home, "ingest")

    assert names(stages) == ["discover", "audit", "publish"]
    assert run.state == "success"


@pytest.mark.parametrize("fails", ["discover", "audit", "publish"])
def test_ingest_fails_with_each_of_its_own_tasks(
    airflow_home: Path, stages: PretendStages, fails: str
):
    stages.tell(**{"discover": {"shards": []}, fails: {"exits": [65]}})

    run = run_dag(airflow_home, "ingest")

    assert run.state == "failed"
    assert names(stages)[-1] == fails


def test_annotate_imports(airflow_home: Path, stages: PretendStages):
    run = run_dag(airflow_home, "annotate", task="motion", file="s3://videos/labels.csv")

    assert run.state == "success"
    assert names(stages) == ["annotate", "audit", "publish"]
    assert stages.calls[0]["config"] == {
        "task": "motion",
        "file": "s3://videos/labels.csv",
        "format": "auto",
        "several": False,
        "video": None,
        "first_frame": 0,
        "skip_faulty": False,
        "diff": False,
    }


def test_annotate_only_shows(airflow_home: Path, stages: PretendStages):
    run = run_dag(airflow_home, "annotate", task="motion", file="s3://videos/labels.csv", diff=True)

    assert run.state == "success"
    assert names(stages) == ["annotate"]
    assert run.tasks["publish"] == "skipped"


ONE_FAMILY = {
    "shards": ["train", "evaluate", "promote"],
    "mapped": [{"train": 0, "evaluate": 1}],
}
TWO_FAMILIES = {
    "shards": ["train", "evaluate", "train", "evaluate", "promote"],
    "mapped": [{"train": 0, "evaluate": 1}, {"train": 2, "evaluate": 3}],
}
PROMOTED = {"result": {"promoted": True, "why": "It is the first."}}


def test_train_gives_each_stage_its_shard(airflow_home: Path, stages: PretendStages):
    stages.tell(snapshot=ONE_FAMILY, promote=PROMOTED)

    run = run_dag(airflow_home, "train", task="motion", epochs=3)

    assert run.state == "success"
    assert [call["name"] for call in stages.calls] == [
        "snapshot",
        "train/00000",
        "evaluate/00001",
        "promote/00002",
        "audit",
        "publish",
    ]
    config = stages.calls[0]["config"]
    assert (config["epochs"], config["architectures"]) == (3, ["attention"])
    assert stages.calls[-2]["config"]["needed"] == "promote"
    assert run.xcoms["promote"]["promoted"] is True


def test_train_goes_on_without_a_family_that_failed(airflow_home: Path, stages: PretendStages):
    stages.tell(snapshot=TWO_FAMILIES, promote=PROMOTED, **{"train/00000": {"exits": [65]}})

    run = run_dag(airflow_home, "train", task="motion", architectures=["cnn", "attention"])

    assert run.state == "success"
    assert stages.calls[0]["config"]["architectures"] == ["cnn", "attention"]
    assert (run.tasks["train[0]"], run.tasks["evaluate[0]"]) == ("failed", "upstream_failed")
    assert (run.tasks["train[1]"], run.tasks["evaluate[1]"]) == ("success", "success")
    assert [call["name"] for call in stages.calls[-4:]] == [
        "evaluate/00003",
        "promote/00004",
        "audit",
        "publish",
    ]


PREVIEWED = {
    "shards": ["train", "evaluate", "preview", "promote"],
    "mapped": [{"train": 0, "evaluate": 1}],
    "preview": 2,
}


def test_train_asks_nobody_where_there_is_nothing_to_approve(
    airflow_home: Path, stages: PretendStages
):
    stages.tell(snapshot=PREVIEWED, preview={"result": {"ask": False, "body": ""}})

    run = run_dag(airflow_home, "train", task="motion", approve=True)

    assert run.state == "success"
    assert names(stages) == [
        "snapshot",
        "train",
        "evaluate",
        "preview",
        "promote",
        "audit",
        "publish",
    ]
    assert (run.tasks["preview"], run.tasks["approval"]) == ("success", "skipped")
    assert stages.calls[0]["config"]["approve"] is True


def test_train_shows_nothing_where_nobody_is_to_be_asked(airflow_home: Path, stages: PretendStages):
    stages.tell(snapshot=ONE_FAMILY, promote=PROMOTED)

    run = run_dag(airflow_home, "train", task="motion")

    assert (run.tasks["preview"], run.tasks["approval"]) == ("skipped", "skipped")
    assert run.tasks["promote"] == "success"


@pytest.mark.parametrize(
    ("option", "user", "approved", "told"),
    [
        ("Approve", {"id": "1", "name": "ann"}, True, "approved by ann"),
        ("Reject", {"id": "1", "name": "ann"}, False, "not approved by ann"),
        ("Reject", None, False, "not approved by nobody, in the time that there was"),
    ],
)
def test_what_people_answer_is_where_promote_looks_for_it(
    airflow_home: Path, configured: Lake, option, user, approved, told
):
    from airflow.sdk.exceptions import AirflowSkipException

    from vidpipe.orchestration.offer import ApprovePromotionOperator

    asks = ApprovePromotionOperator(task_id="approval", preview="preview")
    event = {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": datetime(2026, 1, 31, 6, tzinfo=UTC),
        "responded_by_user": user,
    }
    run, xcoms = SimpleNamespace(dag_id="train", run_id="manual__1"), {}
    ti = SimpleNamespace(xcom_push=lambda key, value: xcoms.update({key: value}))
    # What is not approved is not green; `promote` runs all the same, and keeps the champion.
    ends = contextlib.nullcontext() if approved else pytest.raises(AirflowSkipException, match=told)
    with ends:
        asks.execute_complete({"dag_run": run, "task": asks, "ti": ti}, event)
    assert xcoms == {"summary": told}
    run_key = make_run_key(configured.settings.deployment, run.dag_id, run.run_id)
    answer = configured.store.get_json(approval_uri(configured.uri, run_key))
    assert (answer["approved"], answer["by"]) == (approved, user and "ann")


@pytest.mark.parametrize("tagged", [True, False])
def test_a_run_says_what_it_was_about_and_what_came_of_it(
    airflow_home: Path, stages: PretendStages, tagged: bool
):
    why = "It is the first." + " So it is." * 100
    stages.tell(
        snapshot={**ONE_FAMILY, "result": {"summary": "dataset 1 of motion\nand more"}},
        promote={"result": {"summary": why}},
    )
    conf = {"task": "motion", "architectures": ["cnn", "attention"], "epochs": 3, "clips": 1}
    run = run_dag(airflow_home, "train" if tagged else "probe", **(conf if tagged else {}))
    if not tagged:
        assert run.note is None, "of DAGs that are not vidpipe's nothing is written"
        return
    about, *results = run.note.splitlines()
    assert about.startswith("**train** task=motion, architectures=cnn,attention, epochs=3 (started")
    assert [line for line in results if line] == [
        "✓ snapshot: dataset 1 of motion",
        f"✓ promote: {why[:299]}…",
    ]
    assert len(run.note) <= 1000


def test_a_failed_run_says_why(airflow_home: Path, stages: PretendStages):
    stages.tell(snapshot={"exits": [65], "say": "vidpipe: Task 'x' has no annotation."})
    run = run_dag(airflow_home, "train", task="x")
    assert run.state == "failed"
    assert run.note.endswith("✗ snapshot: snapshot ended with 65: Task 'x' has no annotation.")


@pytest.mark.parametrize("fails", ["train", "evaluate"])
def test_train_of_which_nothing_came_is_audited(
    airflow_home: Path, stages: PretendStages, fails: str
):
    stages.tell(snapshot=ONE_FAMILY, publish={"exits": [65]}, **{fails: {"exits": [65]}})

    run = run_dag(airflow_home, "train", task="motion")

    assert run.state == "failed"
    assert run.tasks["promote"] == "upstream_failed"
    assert names(stages)[-3:] == [fails, "audit", "publish"]


TUNING = {"shards": ["trial", "trial", "trial", "best"], "mapped": [0, 1, 2]}
FOUND = {"result": {"train": {"task": "motion", "architectures": ["cnn"]}, "body": "Found."}}


def test_tune_goes_on_without_a_trial_that_failed(airflow_home: Path, stages: PretendStages):
    stages.tell(tune=TUNING, best=FOUND, **{"trial/00001": {"exits": [65]}})

    run = run_dag(airflow_home, "tune", task="motion", trials=3, ask_hours=0, gpus=1)

    assert run.state == "success"
    assert {call["name"] for call in stages.calls} >= {f"trial/{number:05d}" for number in range(3)}
    assert names(stages) == ["tune", "trial", "best", "audit", "publish"]
    config = stages.calls[0]["config"]
    assert (config["trials"], config["max_hours"], config["architectures"]) == (
        3,
        None,
        ["attention"],
    )
    assert "ask_hours" not in config
    assert stages.calls[-2]["config"]["needed"] == "best"
    assert [run.tasks[f"trial[{number}]"] for number in range(3)] == [
        "success",
        "failed",
        "success",
    ]
    assert (run.tasks["offer"], run.tasks["start_train"]) == ("skipped", "skipped")


def test_tune_of_which_nothing_came_fails(airflow_home: Path, stages: PretendStages):
    stages.tell(tune=TUNING, trial={"exits": [65]}, publish={"exits": [65]})

    run = run_dag(airflow_home, "tune", task="motion")

    assert run.state == "failed"
    assert run.tasks["best"] == run.tasks["offer"] == "upstream_failed"
    assert names(stages) == ["tune", "trial", "audit", "publish"]


def test_label_nightly_labels_shards(airflow_home: Path, stages: PretendStages):
    stages.tell(label={"shards": ["label"]}, **{"label/00000": {"result": {"rows": 1}}})

    run = run_dag(airflow_home, "label_nightly", task="motion", threshold=0.5)

    assert run.state == "success"
    assert [call["name"] for call in stages.calls] == ["label", "label/00000", "audit", "publish"]
    assert stages.calls[0]["config"]["threshold"] == 0.5


def test_label_nightly_without_champion_is_skipped(airflow_home: Path, stages: PretendStages):
    stages.tell(label={"exits": [99]})

    run = run_dag(airflow_home, "label_nightly")

    assert run.state == "success"
    assert set(run.tasks.values()) == {"skipped"}
    assert names(stages) == ["label"]


def test_review_picks_and_publishes(airflow_home: Path, stages: PretendStages):
    run = run_dag(airflow_home, "review", task="motion", max_videos=20, seed=1)

    assert run.state == "success"
    assert names(stages) == ["review", "audit", "publish"]
    assert stages.calls[0]["config"] == {
        "task": "motion",
        "max_videos": 20,
        "random_share": 0.5,
        "disagreeing_share": 0.25,
        "link_hours": 72,
        "seed": 1,
    }


def test_review_without_champion_is_skipped(airflow_home: Path, stages: PretendStages):
    stages.tell(review={"exits": [99]})

    run = run_dag(airflow_home, "review", task="motion")

    assert run.state == "success"
    assert set(run.tasks.values()) == {"skipped"}


def test_relabel_only_tells_unless_asked(airflow_home: Path, stages: PretendStages):
    stages.tell(relabel={"shards": []})

    run = run_dag(airflow_home, "relabel", task="motion", max_videos=7)

    assert run.state == "success"
    assert names(stages) == ["relabel", "audit", "publish"]
    assert stages.calls[0]["config"] == {
        "task": "motion",
        "dry_run": True,
        "max_videos": 7,
        "max_hours": 6,
    }


def test_relabel_labels_shards(airflow_home: Path, stages: PretendStages):
    stages.tell(relabel={"shards": ["label"]}, **{"label/00000": {"result": {"rows": 1}}})

    run = run_dag(airflow_home, "relabel", task="motion", dry_run=False)

    assert run.state == "success"
    assert [call["name"] for call in stages.calls] == ["relabel", "label/00000", "audit", "publish"]
    assert stages.calls[0]["config"]["dry_run"] is False


def test_forget_only_tells_unless_asked(airflow_home: Path, stages: PretendStages):
    video = "s3://videos/anna.mp4"
    assert run_dag(airflow_home, "forget", video=video).state == "success"
    assert run_dag(airflow_home, "forget", video=video, dry_run=False, why="asked").state
    assert names(stages) == ["forget"]
    tell, do = (call["config"] for call in stages.calls)
    assert tell == {"video": video, "dry_run": True, "lift": False, "why": None, "idle_hours": 24}
    assert do == {**tell, "dry_run": False, "why": "asked"}


def test_maintain_sweeps_no_cluster_where_there_is_none(airflow_home: Path, stages: PretendStages):
    run = run_dag(airflow_home, "maintain", checkpoint_days=3)

    assert run.state == "success"
    assert run.tasks == {"sweep": "skipped", "maintain": "success"}
    assert [(call["name"], call["config"]) for call in stages.calls] == [
        ("maintain", {"checkpoint_days": 3, "feature_days": 30})
    ]


@pytest.mark.parametrize("runtime", ["local", "kubernetes"])
def test_trainings_share_a_cluster_and_follow_each_other_on_one_machine(
    airflow_home: Path,
    stages: PretendStages,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str,
):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("VIDPIPE_RUNTIME", runtime)
    load_settings.cache_clear()
    dags = DagBag(airflow_home / "dags").dags
    assert {dags[name].max_active_runs for name in ("ingest", "label_nightly")} == {1}
    assert {dags[name].max_active_runs for name in ("train", "tune")} == {16}
    for dag_id, task_id in (("train", "train"), ("tune", "trial")):
        task = dags[dag_id].get_task(task_id)
        given = task.partial_kwargs if task.is_mapped else vars(task)
        limits = [given.get(f"max_active_tis_per_{of}") for of in ("dag", "dagrun")]
        assert limits == ([1, None] if runtime == "local" else [None, 16])
