"""forget: nothing of a video is found any more, nothing else is touched, it does not come back."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from mlflow import MlflowClient

from tests.lake.rows import publish_rows
from tests.lake.traces import traces
from tests.runs import audit_and_publish, ingest, label_rows, rows, shards, stage
from tests.servers import config_file
from vidpipe import tracking
from vidpipe.config import Settings
from vidpipe.datasets.formats.given import make_zip
from vidpipe.errors import BadInputError, TemporaryError, UsageError
from vidpipe.lake import forgetting, layout, publication
from vidpipe.lake.query import run_query
from vidpipe.lake.store import ObjectStore
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES, Table
from vidpipe.stages.manifest import Manifest, Report, give_up
from vidpipe.stages.runner import run_stage

OPTIONS = {"fps": 4.0, "short_side": 64}


def forget(lake: Lake, name: str, **config: Any) -> Report:
    return stage(lake, f"forget-{secrets.token_hex(4)}", "forget", video=name, **config)


def video_of(lake: Lake, uri: str) -> str:
    return next(r["video_id"] for r in rows(lake, "sources") if r["source_uri"] == uri)


def annotate(lake: Lake, run_key: str, text: str) -> None:
    uri = f"{lake.uri}/annotations/{run_key}/labels.csv"
    lake.store.put(uri, text.encode())
    audit_and_publish(lake, run_key, stage(lake, run_key, "annotate", task="motion", file=uri))


def all_rows(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    return {name: rows(lake, name) for name in TABLES if name != "forgotten"}


def rows_without(tables: dict[str, list[dict[str, Any]]], video_id: str, uri: str):
    return {
        name: [
            row for row in of_table if video_id not in row.values() and row.get("source_uri") != uri
        ]
        for name, of_table in tables.items()
    }


def without_forgetting(tables: dict[str, list[dict[str, Any]]]):
    of_others = [row for row in tables["outcomes"] if row["stage"] != "forget"]
    return {**tables, "outcomes": of_others}


def holds(of_table: list[dict[str, Any]], video_id: str) -> bool:
    return any(video_id in row.values() for row in of_table)


def tables_with(lake: Lake, video_id: str) -> set[str]:
    return {name for name, of_table in all_rows(lake).items() if holds(of_table, video_id)}


def marks(lake: Lake, video_id: str) -> list[bytes]:
    """Bytes that only the pictures and the sound of one video hold."""
    found = []
    for table, column in (("frames", "jpeg"), ("audio", "samples")):
        of_all = rows(lake, table)
        own = next((r[column] for r in of_all if r["video_id"] == video_id), None)
        others = b"".join(r[column] for r in of_all if r["video_id"] != video_id)
        if own is not None:
            middle = len(own) // 2
            mark = own[middle : middle + 200]
            assert len(set(mark)) > 8 and mark not in others
            found.append(mark)
    return found


@pytest.fixture
def two(lake, bucket, media) -> tuple[Lake, str, str]:
    """A lake with two videos, one of them with labels, one attempt too many, and two names."""
    for name, path in (("anna.mp4", media.videos[0]), ("berta.mp4", media.videos[1])):
        bucket.put(name, path)
    bucket.put("copy of anna.mp4", media.videos[0])
    plan = stage(lake, "ingest", "discover", **OPTIONS)
    for uri in plan.result["shards"]:
        manifest = Manifest.read(lake.store, uri)
        # An attempt that nobody waited for.
        lost = run_stage(manifest, lake)
        lake.store.delete(lost.uri)
        why = f"extract ended at {bucket.uri}/anna.mp4, by signal 9"
        give_up(lake.store, lake.uri, manifest, "stage_failed", why)
    shards(lake, plan)
    audit_and_publish(lake, "ingest", plan)
    annotate(lake, "annotate", "video,label\nanna.mp4,left\nberta.mp4,right\n")
    videos = [video_of(lake, f"{bucket.uri}/{name}") for name in ("anna.mp4", "berta.mp4")]
    publication.publish(lake, label_rows(lake, "label", videos))
    stage(lake, "label", "publish", publication=label_rows(lake, "label", videos))
    return lake, f"{bucket.uri}/anna.mp4", videos[0]


def test_each_table_says_which_columns_name_a_video():
    for name, table in TABLES.items():
        columns = {column for named in table.names for column in named.split("@")}
        assert columns <= set(table.schema.names), name
        told = {c for c in table.schema.names if c.endswith(("video_id", "source_uri"))}
        assert told <= columns, name


def test_nothing_of_it_is_found_and_all_else_is_as_it_was(two):
    lake, uri, video_id = two
    before = all_rows(lake)
    needles = [video_id, video_id[:16], uri, *marks(lake, video_id)]
    assert len(needles) > 4 and all(traces(lake, *needles).values())

    planned = lake.published()

    dry = forget(lake, video_id, dry_run=True)
    assert all_rows(lake) == before
    done = forget(lake, video_id)

    assert dry.result | {"summary": ""} == done.result | {"summary": ""}
    assert done.result["rows"]["frames"] > 0 and done.result["rows"]["labels"] == 1
    assert traces(lake, *needles) == {str(needle): [] for needle in needles}
    copy = uri.replace("anna", "copy of anna")
    after = without_forgetting(all_rows(lake))
    assert after == rows_without(rows_without(before, video_id, uri), video_id, copy)
    assert all(len(after[name]) for name in ("frames", "videos", "annotations", "labels"))
    assert len(list(lake.publications())) == 1, "the states before are gone"
    # A run that was planned on one of them goes on with what is left.
    frames = lake.dataset("frames", snapshots=planned)
    assert frames.to_table().num_rows == len(after["frames"])


LABEL_FILES = {
    "without-ending.csv": b"video,label\nanna,left\n",
    "kinetics.csv": b"label,youtube_id,time_start,time_end,split\nleft,anna,0,1,train\n",
    "coco.json": b'{"images": [{"id": 1, "file_name": "anna_000001.jpg"}], "annotations": []}',
    "track.xml": b"<annotations><meta><task><source>anna.mp4</source></task></meta>"
    b"<track id='0' label='x'><box frame='0' xtl='0' ytl='0' xbr='9' ybr='9'/></track>"
    b"</annotations>",
    "yolo.zip": make_zip({"classes.txt": b"car", "labels/anna_000001.txt": b""}),
    "table.zip": make_zip({"labels.csv": b"video,label\nanna.mp4,left\n"}),
    "x.xml.vidpipe.json": b'{"pictures": {"img_1.jpg": {"video": "anna", "frame": 1}}}',
}
OTHERS = {
    "kinetics.csv": b"label,youtube_id,time_start,time_end,split\nanna,berta,0,1,train\n",
    "yolo.zip": make_zip({"classes.txt": b"anna", "labels/berta_000001.txt": b""}),
    "x.csv": b"video,label\nberta,annabel\n",
}


def test_label_files_of_every_format_that_name_it_go_and_others_stay(two):
    lake, uri, _ = two
    folder = f"{lake.uri}/annotations"
    for kept, files in (("gone", LABEL_FILES), ("kept", OTHERS)):
        for name, content in files.items():
            lake.store.put(f"{folder}/{kept}/{name}", content)
    forget(lake, uri, idle_hours=0)
    left = {found.uri.removeprefix(f"{folder}/") for found in lake.store.list(f"{folder}/")}
    assert left == {f"kept/{name}" for name in OTHERS}


def test_of_a_large_file_the_other_rows_stay_as_they_are(lake):
    gone, kept = "e" * 64, "f" * 64
    given = [
        {"video_id": video_id, "frame_index": n, "time_s": n / 2, "jpeg": os.urandom(40)}
        for video_id in (gone, kept)
        for n in range(700)  # more than two row groups each
    ]
    publish_rows(lake, "ingest", "extract", {"frames": given})
    before = [row for row in rows(lake, "frames") if row["video_id"] == kept]
    assert forget(lake, gone, idle_hours=0).result["rows"]["frames"] == 700
    assert rows(lake, "frames") == before


def test_a_table_that_is_registered_forgets(two, monkeypatch):
    lake, _, video_id = two
    columns = ["work_key", "run_key", "video_id", "recommended_video_id"]
    monkeypatch.setitem(
        TABLES,
        "recommendations",
        Table(
            pa.schema([pa.field(column, pa.string(), nullable=False) for column in columns]),
            key=("work_key",),
            sort=("video_id",),
            names=("video_id", "recommended_video_id"),
        ),
    )
    pairs = [(video_id, "a"), ("a", video_id), ("a", "b")]
    given = [dict(zip(columns[2:], pair, strict=True)) for pair in pairs]
    publish_rows(lake, "recommend", "recommend", {"recommendations": given})
    assert forget(lake, video_id, idle_hours=0).result["rows"]["recommendations"] == 2
    (left,) = rows(lake, "recommendations")
    assert (left["video_id"], left["recommended_video_id"]) == ("a", "b")
    assert traces(lake, video_id) == {video_id: []}


def test_what_readers_ask_of_the_time_before_is_told_as_gone(two):
    lake, _, video_id = two
    (newest, *_) = lake.publications()
    forget(lake, video_id)
    with pytest.raises(UsageError, match="the history begins at"):
        run_query("select count(*) from videos", lake.settings, at=newest.published_at)
    assert run_query("select count(*) as n from videos", lake.settings).to_pylist() == [{"n": 1}]


def test_it_is_never_ingested_again_until_that_is_lifted(two, bucket, media):
    lake, uri, video_id = two
    forget(lake, uri)
    plan = ingest(lake, "again", **OPTIONS)
    assert plan.result["counts"]["forgotten"] == 2
    assert plan.result["counts"]["new"] == 0

    # The same bytes by another name are known once they are read, and are read once.
    other = bucket.put("other.mp4", media.videos[0])
    ingest(lake, "third", **OPTIONS)
    (outcome,) = [row for row in rows(lake, "outcomes") if row["source_uri"] == other]
    assert (outcome["status"], outcome["reason"]) == ("skipped", "forgotten")
    assert traces(lake, video_id) == {video_id: []}
    counts = ingest(lake, "fourth", **OPTIONS).result["counts"]
    assert (counts["new"], counts["forgotten"]) == (0, 3)

    # Of a source that is forgotten nothing is read, whatever is put there.
    bucket.put("anna.mp4", media.videos[2])
    assert ingest(lake, "fifth", **OPTIONS).result["counts"]["new"] == 0

    forget(lake, uri, lift=True)
    bucket.put("anna.mp4", media.videos[0])
    ingest(lake, "sixth", **OPTIONS)
    assert {row["video_id"] for row in rows(lake, "frames")} >= {video_id}
    assert len([row for row in rows(lake, "sources") if row["video_id"] == video_id]) == 3
    with pytest.raises(UsageError, match="not forgotten"):
        forget(lake, uri, lift=True)


@pytest.mark.long
def test_what_was_forgotten_by_two_names_is_lifted_by_both(two, bucket):
    lake, uri, video_id = two
    forget(lake, uri)
    forget(lake, video_id)
    forget(lake, uri, lift=True)
    assert ingest(lake, "again", **OPTIONS).result["counts"]["forgotten"] == 0
    assert [row["video_id"] for row in rows(lake, "videos")] != [video_id]
    assert traces(lake, video_id) == {video_id: []}
    forget(lake, video_id, lift=True)
    assert ingest(lake, "third", **OPTIONS).result["counts"]["selected"] == 2


@pytest.mark.parametrize(
    "place",
    [
        "new copy.mp4",
        *(pytest.param(at, marks=pytest.mark.slow) for at in ("anna.mp4", "copy of anna.mp4")),
    ],
)
@pytest.mark.long
def test_what_was_forgotten_by_its_id_is_lifted_by_any_place_where_it_lay(
    two, bucket, media, place
):
    lake, _, video_id = two
    forget(lake, video_id)
    bucket.put("new copy.mp4", media.videos[0])
    ingest(lake, "forgotten", **OPTIONS)
    assert not holds(rows(lake, "videos"), video_id)
    # A place is no name of the video: what else comes there is taken in.
    bucket.put("copy of anna.mp4", media.videos[2])
    assert ingest(lake, "replaced", **OPTIONS).result["counts"]["new"] == 1
    forget(lake, f"{bucket.uri}/{place}", lift=True)
    assert ingest(lake, "lifted", **OPTIONS).result["counts"]["forgotten"] == 0
    assert holds(rows(lake, "videos"), video_id)


def test_a_name_that_holds_another_video_now_stays_with_that(two, bucket, media):
    lake, uri, video_id = two
    bucket.put("anna.mp4", media.videos[2])
    ingest(lake, "replaced", **OPTIONS)
    new = next(row for row in rows(lake, "sources") if row["run_key"] == "replaced")
    forget(lake, video_id)
    assert traces(lake, video_id) == {video_id: []}
    assert [r for r in rows(lake, "sources") if r["source_uri"] == uri] == [new]
    assert ingest(lake, "again", **OPTIONS).result["counts"]["known"] == 2


def test_a_run_that_has_it_publishes_without_it(lake, bucket, media):
    uri = bucket.put("anna.mp4", media.videos[0])
    bucket.put("berta.mp4", media.videos[1])
    plan = stage(lake, "ingest", "discover", **OPTIONS)
    shards(lake, plan)
    # Nobody knows yet which video it is.
    with pytest.raises(TemporaryError, match="1 runs that have not ended, such as ingest"):
        forget(lake, uri)
    audit_and_publish(lake, "ingest", plan)
    assert len(rows(lake, "videos")) == 1
    assert {row["source_uri"] for row in rows(lake, "outcomes") if row["source_uri"]} == {
        f"{bucket.uri}/berta.mp4"
    }
    forget(lake, uri)
    assert traces(lake, uri) == {uri: []}


def forget_it(settings: Settings, name: str) -> None:
    with contextlib.suppress(TemporaryError):  # runs that have not ended hold it still
        forget(Lake(settings), name)


def publish(settings: Settings, uri: str) -> None:
    publication.publish(Lake(settings), uri)


@pytest.mark.long
def test_forgotten_while_others_publish(lake):
    gone = "f" * 64
    runs = [label_rows(lake, f"run-{n}", [gone, "same", f"own-{n}"]) for n in range(4)]
    publication.publish(lake, label_rows(lake, "first", [gone, "first"]))
    with multiprocessing.get_context("spawn").Pool(5) as workers:
        done = [workers.apply_async(publish, (lake.settings, uri)) for uri in runs[:2]]
        done.append(workers.apply_async(forget_it, (lake.settings, gone)))
        done += [workers.apply_async(publish, (lake.settings, uri)) for uri in runs[2:]]
        for each in done:
            each.get()
    forget(lake, gone, idle_hours=0)  # what runs left that were still at work
    labelled = sorted(row["video_id"] for row in rows(lake, "labels"))
    assert labelled == ["first", *(f"own-{n}" for n in range(4)), "same"]
    assert traces(lake, gone) == {gone: []}
    for uri in runs:
        publication.publish(lake, uri)
    assert len(rows(lake, "labels")) == 6


def test_a_run_of_which_nothing_is_left_stays_published(lake, bucket, media, monkeypatch):
    uri = bucket.put("anna.mp4", media.videos[0])
    plan = stage(lake, "ingest", "discover", **OPTIONS)
    shards(lake, plan)
    published = stage(lake, "ingest", "audit", plan=plan.uri).result["publication"]
    stage(lake, "ingest", "publish", publication=published)
    video_id = video_of(lake, uri)
    kept = {f.uri: lake.store.get(f.uri) for f in lake.store.list(f"{lake.uri}/tables/")}
    forget(lake, video_id)
    for name in ("videos", "frames"):
        assert rows(lake, name) == []
    before = lake.published()
    publication.publish(lake, published)
    assert lake.published() == before
    # Nor does it come back by one who lagged behind while he published it.
    for found, content in kept.items():
        if "/data/" in found:
            lake.store.put(found, content)
    publication._roll_forward(lake, published)
    assert lake.iceberg("frames").scan().to_arrow().num_rows == 0


def test_a_run_whose_files_are_gone_is_told_so_and_holds_nobody_up(lake):
    late = label_rows(lake, "late", ["f" * 64, "a"])
    forget(lake, "f" * 64, idle_hours=0)
    with pytest.raises(BadInputError, match="Files of late are gone"):
        publication.publish(lake, late)
    publication.publish(lake, label_rows(lake, "next", ["a"]))
    assert [row["run_key"] for row in rows(lake, "labels")] == ["next"]


def test_work_that_others_published_is_left_out_also_where_history_is_cut_off(lake):
    uris = [label_rows(lake, "one", ["a", "b"]), label_rows(lake, "two", ["b", "c"])]
    publication.publish(lake, uris[0])
    publication.publish(lake, label_rows(lake, "gone", ["f" * 64]))
    forget(lake, "f" * 64, idle_hours=0)
    publication.publish(lake, uris[1])
    assert [row["video_id"] for row in rows(lake, "labels")] == ["a", "b", "c"]


@pytest.fixture
def trained(two, mlflow) -> tuple[Lake, str, str, dict[str, tracking.Run]]:
    """Two tasks with a model each, of which one learnt from the first video and shows it.

    Made up as far as MLflow goes: what is trained is looked at elsewhere.
    """
    lake, uri, video_id = two
    runs = {}
    for task, learnt in (("learnt", video_id), ("other", "0" * 64)):
        task = f"{task}_{secrets.token_hex(4)}"
        split = {"dataset": task, "version": "v1", "video_id": learnt, "split": "train"}
        publish_rows(lake, f"train {task}", "snapshot", {"splits": [split]})
        with tracking.training_run(task, "a run", task, {}) as run:
            run.log_params({"dataset_version": "v1"})
            run.log_pictures({tracking.MISCLASSIFIED: Figure()}, [learnt])
        client = MlflowClient(mlflow.uri)
        name = tracking.model_name(task)
        client.create_registered_model(name)
        client.create_model_version(name, f"runs:/{run.id}/model", run.id)
        tracking.set_alias(tracking.version_of_run(task, run.id), tracking.CHAMPION)
        runs[task] = run
    return lake, uri, video_id, runs


def test_pictures_in_mlflow_go_and_models_that_learnt_are_listed(trained, mlflow, capsys):
    lake, uri, video_id, runs = trained
    (learnt, shows), (_, other) = runs.items()
    # Runs of other tests may show the same clip.
    showing = {run.id for run in tracking.runs_showing([video_id])}
    assert shows.id in showing and other.id not in showing
    dry = forget(lake, video_id, dry_run=True)
    done = forget(lake, uri, idle_hours=0)
    for report in (dry, done):
        assert report.result["pictures"] == len(showing)
        assert report.result["models"] == [
            {"model": f"vidpipe-{learnt}", "version": "1", "aliases": ["champion"]}
        ]
    assert f"stays: vidpipe-{learnt} version 1 (champion)" in capsys.readouterr().out
    assert tracking.champion(learnt) is not None, "listed, not deleted"
    kept = {path.parts[-3] for path in mlflow.folder.rglob("misclassified.png")}
    assert other.id in kept and shows.id not in kept
    for path in mlflow.folder.rglob("artifacts/**/*"):
        assert path.is_dir() or video_id.encode() not in path.read_bytes()


def test_what_a_backbone_made_of_it_goes(two):
    lake, uri, video_id = two
    of_it, of_another = (
        f"{layout.features_uri(lake.uri, 'key')}{name}/extraction.npz"
        for name in (video_id, "b" * 64)
    )
    for name in (of_it, of_another):
        lake.store.put(name, b"features")
    forget(lake, uri, idle_hours=0)
    assert [found.uri for found in lake.store.list(layout.features_uri(lake.uri))] == [of_another]


def test_what_runs_were_asked_about_it_goes_and_holds_nobody_up(two):
    lake, uri, video_id = two
    plans = [
        Manifest("running", "annotate", config={"video": name})
        for name in (video_id, uri, uri.rpartition("/")[2], f"other-{uri.rpartition('/')[2]}")
    ]
    uris = [layout.plan_uri(lake.uri, p.run_key, p.stage, p.hash) for p in plans]
    for plan, plan_uri in zip(plans, uris, strict=True):
        plan.write(lake.store, plan_uri)
    forget(lake, uri)  # though that run has not ended
    left = [stored.uri for stored in lake.store.list(layout.plans_uri(lake.uri, "running"))]
    assert left == uris[3:]


def test_what_is_no_name_is_refused_in_one_line(lake):
    for name in ("anna.mp4", "", "s3://videos", "F" * 64):
        with pytest.raises(UsageError, match="A video is told by its video_id"):
            forget(lake, name)


def test_a_name_of_which_nothing_is_known_is_refused_and_costs_nothing(two, bucket, media):
    lake, uri, _ = two
    before = lake.published()
    for name in (f"{uri}.typo", "s3://nowhere/x.mp4", "a" * 64):
        for dry_run in (True, False):
            with pytest.raises(UsageError, match="Nothing is known of"):
                forget(lake, name, dry_run=dry_run)
    assert lake.published() == before and rows(lake, "forgotten") == []
    # An object that came just now is barred before it is read.
    forget(lake, bucket.put("new.mp4", media.videos[2]))
    assert ingest(lake, "again", **OPTIONS).result["counts"]["forgotten"] == 1


def forget_and_die(settings: Settings, name: str, after: str, times: int) -> None:
    """Forgets, and kills itself right after so many commits or deletions."""
    left = [times]

    def dying(action):
        def counted(*arguments):
            result = action(*arguments)
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted

    if after == "commit":
        publication.commits = dying(publication.commits)
        forgetting.commits = dying(forgetting.commits)
    else:
        ObjectStore.delete = dying(ObjectStore.delete)
    forget(Lake(settings), name)


@pytest.mark.parametrize(
    ("after", "times"),
    [
        ("commit", 14),
        ("delete", 9),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (*(("commit", n) for n in (1, 2, 3, 5, 20)), ("delete", 1), ("delete", 30))
        ),
    ],
)
@pytest.mark.long
def test_killed_and_run_again_it_ends_the_same(two, after, times, monkeypatch):
    monkeypatch.setattr(publication, "_PATIENCE_S", 1.0)
    lake, uri, video_id = two
    before = all_rows(lake)
    needles = [video_id, uri, *marks(lake, video_id)]
    process = multiprocessing.get_context("spawn").Process(
        target=forget_and_die, args=(lake.settings, video_id, after, times)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    # Readers see all of it or nothing.
    assert tables_with(lake, video_id) in (set(), {n for n in before if holds(before[n], video_id)})
    # Another publication gets through, and brings nothing back.
    publication.publish(lake, label_rows(lake, "other", [video_id, "b"]))
    forget(lake, video_id, idle_hours=0)
    assert traces(lake, *needles) == {str(needle): [] for needle in needles}
    copy = uri.replace("anna", "copy of anna")
    expected = rows_without(rows_without(before, video_id, uri), video_id, copy)
    after_it = without_forgetting(all_rows(lake))
    after_it = {n: [r for r in t if r.get("run_key") != "other"] for n, t in after_it.items()}
    assert after_it == expected
    assert [row["video_id"] for row in rows(lake, "labels") if row["run_key"] == "other"] == ["b"]


def test_the_command_shows_first_and_asks(two, tmp_path):
    lake, uri, video_id = two
    config = config_file(lake, tmp_path / "vidpipe.toml")

    def vidpipe(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "vidpipe", "forget", *arguments],
            env=os.environ
            | {"VIDPIPE_CONFIG": str(config), "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    asked = vidpipe(uri)
    assert asked.returncode == 2 and "add --yes" in asked.stderr
    assert "1 of labels" in asked.stdout and "would remove" in asked.stdout
    assert video_of(lake, uri) == video_id
    done = vidpipe(uri, "--yes", "--why", "asked for")
    assert done.returncode == 0, done.stderr
    assert traces(lake, video_id, uri) == {video_id: [], uri: []}
    assert {row["why"] for row in rows(lake, "forgotten")} == {"asked for"}
    assert vidpipe(uri, "--lift", "--yes").returncode == 0
