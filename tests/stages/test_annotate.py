"""annotate: labels of people become rows; corrections and withdrawals are newer rows."""

from __future__ import annotations

import dataclasses
import json
import random

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from tests.lake.rows import publish_rows
from tests.runs import audit_and_publish, ingest, rows, stage
from tests.servers import config_file
from vidpipe.cli import cli
from vidpipe.config import load_settings
from vidpipe.datasets.annotations import Key, Statement, current_labels
from vidpipe.datasets.formats import NAMES
from vidpipe.datasets.formats.given import SIDECAR, make_zip
from vidpipe.errors import BadInputError, NothingToDoError, UsageError
from vidpipe.lake import layout
from vidpipe.lake.query import run_query
from vidpipe.schemas import TABLES
from vidpipe.stages import by_hand
from vidpipe.stages.manifest import Report
from vidpipe.stages.staged import staged_objects
from vidpipe.stages.subject import Subject


@pytest.fixture
def ingested(lake, bucket, media):
    for number in range(3):
        bucket.put(f"{number}.mp4", media.videos[number])
    ingest(lake, "ingest", fps=1.0, short_side=32)
    return lake


def annotate(lake, run_key: str, text: str, name: str = "labels.csv", **config) -> Report:
    uri = f"{lake.uri}/annotations/{run_key}/{name}"
    lake.store.put(uri, text.encode())
    plan = stage(lake, run_key, "annotate", task="motion", file=uri, **config)
    if not config.get("diff"):
        audit_and_publish(lake, run_key, plan)
    return plan


def current(lake) -> dict[tuple[str, float | None, str], str]:
    found = run_query(
        "select v.source_uri, a.start_s, a.annotator, a.label"
        " from current_annotations a join current_videos v using (video_id)",
        lake.settings,
    )
    return {
        (row["source_uri"].rpartition("/")[2], row["start_s"], row["annotator"]): row["label"]
        for row in found.to_pylist()
    }


def test_rows_replace_rows_of_the_same_video_range_and_annotator(ingested):
    annotate(
        ingested,
        "one",
        "video,label,start_s,end_s,annotator\n0.mp4,left,,,\n1.mp4,up,0,1,ann\n2.mp4,down,,,\n",
    )
    plan = annotate(
        ingested,
        "two",
        "video,label,start_s,end_s,annotator\n0.mp4,right,,,\n1.mp4,up,0,1,ann\n1.mp4,up,0,1,bob\n",
    )
    assert plan.result["changes"] == {"added": 1, "replaced": 1, "unchanged": 1, "withdrawn": 0}
    assert current(ingested) == {
        ("0.mp4", None, ""): "right",
        ("1.mp4", 0.0, "ann"): "up",
        ("1.mp4", 0.0, "bob"): "up",
        ("2.mp4", None, ""): "down",
    }
    history = [row["label"] for row in rows(ingested, "annotations")]
    assert sorted(history) == ["down", "left", "right", "up", "up"]


def test_before_anything_is_ingested_it_says_so(lake):
    with pytest.raises(BadInputError, match="No video is known yet.*: run ingest first"):
        annotate(lake, "one", "video,label\n0.mp4,left\n")


def test_faults_are_told_by_line_in_whatever_order_they_are_found(ingested):
    text = "video,label\n0.mp4,left\n0.mp4,right\n" + "\n" * 7 + "nope.mp4,up\n"
    with pytest.raises(BadInputError) as error:
        annotate(ingested, "one", text)
    first, second = str(error.value).splitlines()[1:3]
    assert first.startswith("  line 3: the same video") and second.startswith("  line 11: ")


def test_delete_withdraws_and_what_was_there_stays_in_the_history(ingested):
    annotate(ingested, "one", "video,label\n0.mp4,left\n1.mp4,up\n")
    annotate(ingested, "two", "video,label,delete\n0.mp4,,yes\n")
    assert current(ingested) == {("1.mp4", None, ""): "up"}
    assert len(rows(ingested, "annotations")) == 3
    annotate(ingested, "three", "video,label\n0.mp4,down\n")
    assert current(ingested)[("0.mp4", None, "")] == "down"


def test_diff_shows_what_would_change_and_changes_nothing(ingested, capsys):
    annotate(ingested, "one", "video,label\n0.mp4,left\n")
    plan = annotate(ingested, "two", "video,label\n0.mp4,right\n1.mp4,up\n", diff=True)
    assert plan.files == []
    shown = capsys.readouterr().out
    assert "left → right" in shown and ": up" in shown
    assert (
        "annotate: motion: nothing was imported; it would be 1 added, 1 replaced, 0 unchanged,"
        " 0 withdrawn"
    ) in shown
    assert current(ingested) == {("0.mp4", None, ""): "left"}


def test_labels_that_are_new_to_a_task_are_told(ingested, capsys):
    annotate(ingested, "one", "video,label\n0.mp4,left\n1.mp4,up\n")
    assert "new labels" not in capsys.readouterr().out
    annotate(ingested, "two", "video,label\n0.mp4,lefft\n1.mp4,zoom\n2.mp4,up\n", diff=True)
    assert "new labels: lefft (1, near: left), zoom (1)" in capsys.readouterr().out
    annotate(ingested, "three", "video,label\n2.mp4,up\n")
    assert "new labels" not in capsys.readouterr().out


def test_a_file_with_a_fault_imports_nothing(ingested):
    with pytest.raises(BadInputError, match="line 3: no video is called 'nope.mp4'"):
        annotate(ingested, "one", "video,label\n0.mp4,left\nnope.mp4,left\n")
    assert rows(ingested, "annotations") == []


def test_a_range_is_checked_against_the_video(ingested):
    with pytest.raises(BadInputError, match="outside the video"):
        annotate(ingested, "one", "video,label,start_s,end_s\n0.mp4,left,1,500\n")


@pytest.mark.parametrize("task", ["", "Motion", "two words", "../up", "motion\n"])
def test_a_task_is_a_word(ingested, task):
    with pytest.raises(UsageError, match="A task is a word"):
        stage(ingested, "one", "annotate", task=task, file="s3://lake/x.csv")


BOXES = "video,label,start_s,end_s,annotator,box_x,box_y,box_width,box_height,track\n"


def shown(lake, task: str = "motion") -> dict[Key, frozenset[Statement]]:
    """What the view shows, as `current_labels` gives it."""
    found = run_query(f"select * from current_annotations where task = '{task}'", lake.settings)
    return current_labels(found)


def test_what_is_said_of_a_frame_is_replaced_as_a_whole(ingested):
    first = "0,car,0,0,,0,0,1,1,a\n0,car,0,0,,0,0,.5,1,b\n0,bus,0.2,0.2,,0,0,1,1,\n"
    annotate(ingested, "one", BOXES + first)
    second = "0,car,0,0,,0,0,.5,1,b\n0,bus,0.2,0.2,,0,0,1,1,\n"
    plan = annotate(ingested, "two", BOXES + second)
    assert plan.result["changes"] == {"added": 0, "replaced": 1, "unchanged": 1, "withdrawn": 0}
    said = {key.start_s: {s.track for s in of} for key, of in shown(ingested).items()}
    assert said == {0.0: {"b"}, 0.2: {None}}
    assert len(rows(ingested, "annotations")) == 4
    assert annotate(ingested, "three", BOXES + second).files == []


def test_one_outcome_tells_of_all_that_is_said_of_a_video(ingested):
    text = "0,car,0,0,,0,0,1,1,\n0,car,0.2,0.2,,0,0,1,1,\n1,car,0,0,,0,0,1,1,\n"
    annotate(ingested, "one", BOXES + text)
    outcomes = [row for row in rows(ingested, "outcomes") if row["stage"] == "annotate"]
    videos = {row["video_id"] for row in rows(ingested, "annotations")}
    assert {row["item"] for row in outcomes} == {f"labels.csv:{video}" for video in videos}
    assert [row["source"] for row in rows(ingested, "annotations")].count("labels.csv:2") == 1


def test_a_frame_is_withdrawn_with_all_of_its_boxes(ingested):
    annotate(ingested, "one", BOXES + "0,car,0,0,,0,0,1,1,a\n0,car,0,0,,0,0,.5,1,b\n")
    plan = annotate(ingested, "two", "video,label,start_s,end_s,delete\n0,,0,0,yes\n")
    assert plan.result["changes"]["withdrawn"] == 1
    assert shown(ingested) == {}


def test_several_labels_at_once_are_a_set(ingested, capsys):
    annotate(ingested, "one", "video,label\n0.mp4,left\n0.mp4,up\n", several=True)
    plan = annotate(ingested, "two", "video,label\n0.mp4,up\n0.mp4,left\n", several=True)
    assert plan.result["changes"]["unchanged"] == 1
    annotate(ingested, "three", "video,label\n0.mp4,up\n")
    assert "left, up → up" in capsys.readouterr().out
    (said,) = shown(ingested).values()
    assert {s.label for s in said} == {"up"}


def test_the_view_and_python_show_the_same_whatever_was_imported(lake):
    """Imports of few keys, so that they meet; two at the same moment, too."""
    draw = random.Random(5)
    for run in range(12):
        given = []
        for key in draw.sample(
            [(v, t, a) for v in "uv" for t in (None, 0.0, 1.0) for a in "ab"], 5
        ):
            video, start_s, annotator = key
            for _ in range(draw.choice([1, 1, 3])):
                given.append(
                    {
                        "task": "motion",
                        "video_id": video,
                        "start_s": start_s,
                        "end_s": start_s,
                        "annotator": annotator,
                        "label": draw.choice(["x", "y", None]),
                        "track": draw.choice([None, "1", "2"]),
                        "withdrawn": draw.random() < 0.2,
                        "annotated_at": pa.scalar(run // 2, pa.timestamp("us", "UTC")).as_py(),
                    }
                )
            if draw.random() < 0.5:  # withdrawn as a whole
                given[-1:] = [given[-1] | {"withdrawn": True}]
        publish_rows(lake, f"run-{run:02d}", "annotate", {"annotations": given})
    table = lake.dataset("annotations").to_table(filter=ds.field("task") == "motion")
    expected = current_labels(table)
    assert shown(lake) == expected and len(expected) > 5


def test_a_table_of_an_older_version_takes_boxes_and_nothing(lake, bucket, media, monkeypatch):
    """Its columns are fewer, and label is required."""
    spec = TABLES["annotations"]
    new = ("box_x", "box_y", "box_width", "box_height", "track", "occluded", "group", "split")
    older = [f for f in spec.schema if f.name not in new]
    older = pa.schema([f.with_nullable(False) if f.name == "label" else f for f in older])
    name = bucket.put("0.mp4", media.videos[0])
    with monkeypatch.context() as patch:
        patch.setitem(TABLES, "annotations", dataclasses.replace(spec, schema=older))
        ingest(lake, "ingest", fps=1.0, short_side=32)
        (video,) = rows(lake, "videos")
        before = {"task": "motion", "video_id": video["video_id"], "label": "left"}
        publish_rows(lake, "old", "annotate", {"annotations": [before]})
        assert "box_x" not in lake.iceberg("annotations").schema().column_names
    assert [s.label for of in shown(lake).values() for s in of] == ["left"]
    lines = [{"video": name, "label": None, "start_s": 0, "end_s": 0, "annotator": "ann"}]
    annotate(lake, "new", "".join(f"{json.dumps(line)}\n" for line in lines), "a.jsonl")
    assert not lake.iceberg("annotations").schema().find_field("label").required
    said = [s for of in shown(lake).values() for s in of]
    assert {s.label for s in said} == {"left", None}
    asked = run_query(
        'select label, box_x, "group" from current_annotations order by label', lake.settings
    )
    assert asked.to_pylist()[0] == {"label": "left", "box_x": None, "group": None}


def test_how_far_annotators_agree_is_told_at_the_end(ingested, capsys):
    text = "video,label,annotator\n0,left,ann\n0,left,bob\n1,up,ann\n"
    plan = annotate(ingested, "one", text)
    assert "agreement" in plan.result["summary"]
    plan = annotate(ingested, "two", "video,label,annotator\n1,left,bob\n")
    assert plan.result["summary"] == (
        "motion: 1 added, 0 replaced, 0 unchanged, 0 withdrawn;"
        " agreement of 2 annotators: alpha 0.00 over 2 judged by several"
    )
    alone = annotate(ingested, "three", "video,label,annotator\n1,,bob\n".replace(",,", ",x,"))
    assert "alpha" in alone.result["summary"]


YOLO = {"data.yaml": b"names: [car]", "labels/0_000001.txt": b"0 .5 .5 1 1\n"}


def test_a_folder_is_a_prefix_or_an_archive(ingested):
    folder = f"{ingested.uri}/annotations/given/yolo/"
    for path, content in {**YOLO, "images/0_000001.jpg": b"\xff\xd8"}.items():
        ingested.store.put(f"{folder}{path}", content)
    plan = stage(ingested, "one", "annotate", task="cars", file=folder)
    audit_and_publish(ingested, "one", plan)
    assert plan.result["format"] == "yolo"
    archive = f"{ingested.uri}/annotations/given/yolo.zip"
    ingested.store.put(archive, make_zip(YOLO))
    plan = stage(ingested, "two", "annotate", task="cars", file=archive)
    assert plan.result["changes"] == {"added": 0, "replaced": 0, "unchanged": 1, "withdrawn": 0}
    (key,) = shown(ingested, "cars")
    assert key.is_instant and key.start_s > 0


def test_a_format_may_be_said(ingested):
    with pytest.raises(BadInputError, match="no COCO JSON|not JSON"):
        annotate(ingested, "one", "video,label\n0,left\n", format="coco")
    with pytest.raises(UsageError, match="A format is one of: csv, jsonl"):
        annotate(ingested, "two", "video,label\n0,left\n", format="word")


def test_what_is_too_large_is_not_read(ingested, monkeypatch):
    monkeypatch.setattr("vidpipe.stages.annotate.MAX_BYTES", 10)
    with pytest.raises(BadInputError, match="are not read at once"):
        annotate(ingested, "one", "video,label\n0,left\n")


@pytest.fixture
def configured(ingested, tmp_path, monkeypatch):
    """The same, for commands that are typed."""
    config = config_file(ingested, tmp_path / "vidpipe.toml")
    monkeypatch.setenv("VIDPIPE_CONFIG", str(config))
    load_settings.cache_clear()
    yield ingested
    load_settings.cache_clear()


def command(*arguments: str) -> None:
    cli.main([str(a) for a in arguments], standalone_mode=False)


SAID = [
    {"video": "0", "label": "left", "annotator": "ann", "group": "g1", "split": "test"},
    {"video": "0", "label": "up", "annotator": "bob"},
    {"video": "1", "label": "car", "start_s": 0.2, "end_s": 0.2, "track": "t", "occluded": True}
    | {"box_x": 0.1, "box_y": 0.2, "box_width": 0.3, "box_height": 0.4},
    {"video": "1", "label": None, "start_s": 0.1, "end_s": 0.5, "annotator": "ann"},
]


NAMELESS = {
    "images": [{"id": 1, "file_name": "frame_000001.PNG", "width": 64, "height": 36}],
    "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 32, 36]}],
    "categories": [{"id": 1, "name": "car"}],
}


def test_a_file_about_one_video_is_imported_and_forgotten_with_it(configured, tmp_path, bucket):
    file = tmp_path / "frames.json"
    file.write_text(json.dumps(NAMELESS))
    with pytest.raises(BadInputError, match="say of which video all of them are: --video"):
        command("annotate", file, "--task", "cars")
    with pytest.raises(UsageError, match="--video: no video is called 'nope.mp4'"):
        command("annotate", file, "--task", "cars", "--video", "nope.mp4")
    command("annotate", file, "--task", "cars", "--video", "0.mp4")
    (key,) = shown(configured, "cars")
    assert key.is_instant and key.start_s > 0
    command("annotate", file, "--task", "other", "--video", "1.mp4", "--first-frame", "1")
    (other,) = shown(configured, "other")
    assert other.start_s == 0.0 and other.video_id != key.video_id
    stored = [found.uri for found in configured.store.list(layout.annotations_uri(configured.uri))]
    about = [uri for uri in stored if key.video_id in uri]
    assert len(about) == 1
    subject = Subject(key.video_id, {key.video_id}, {f"{bucket.uri}/0.mp4"})
    staged = staged_objects(configured, subject, lambda _: None)
    assert [uri for uri in staged if uri in stored] == about


def test_what_is_faulty_is_left_out_and_counted_where_that_is_said(configured, tmp_path, capsys):
    file = tmp_path / "labels.csv"
    file.write_text("video,label\n0,left\nnope,up\n1,\n")
    with pytest.raises(BadInputError, match="import the rest: --skip-faulty"):
        command("annotate", file, "--task", "motion")
    assert shown(configured) == {}
    command("annotate", file, "--task", "motion", "--skip-faulty")
    out = capsys.readouterr().out
    assert "line 3: no video is called 'nope'" in out and "line 4: the label is empty" in out
    assert "1 added, 0 replaced, 0 unchanged, 0 withdrawn, 2 faulty left out" in out
    (said,) = shown(configured).values()
    assert {s.label for s in said} == {"left"}


@pytest.mark.parametrize(
    ("name", "begins"), [("a.csv", b"video,label"), ("a.JSONL", b'{"video"'), ("a.xml", b"<?xml")]
)
def test_an_export_takes_its_format_from_the_ending(configured, tmp_path, name, begins):
    file = tmp_path / "said.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in SAID))
    command("annotate", file, "--task", "motion")
    command("export", "motion", tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)
    for other in ("a.json", "a", "a.zip"):
        with pytest.raises(
            UsageError, match=r"ending does not tell .* Add --format, .*\.csv \(csv\)"
        ):
            command("export", "motion", tmp_path / other)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_exported_is_imported_as_it_was(configured, tmp_path, capsys, name):
    file = tmp_path / "said.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in SAID))
    command("annotate", file, "--task", "motion")
    target = tmp_path / "out" / {"coco": "x.json", "cvat": "x.xml", "yolo": "x.zip"}.get(name, "x")
    target.parent.mkdir()
    command("export", "motion", target, "--format", name)
    command("annotate", target, "--task", "again", "--format", name)
    assert shown(configured, "again") == shown(configured)
    told = capsys.readouterr().out
    assert f"{target}: 4 annotations of 2 videos, as " in told
    has_sidecar = name == "yolo" or any(
        path.name.endswith(SIDECAR) for path in target.parent.rglob("*")
    )
    assert ("cannot hold, so that it is kept in" in told) == has_sidecar
    assert has_sidecar == (name != "jsonl")


def test_only_one_annotator_may_be_exported(configured, tmp_path):
    file = tmp_path / "said.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in SAID))
    command("annotate", file, "--task", "motion")
    command("export", "motion", tmp_path / "bob.csv", "--format", "csv", "--annotator", "bob")
    (row,) = (tmp_path / "bob.csv").read_text().splitlines()[1:]
    assert row == "0,up,bob"
    for arguments, words in (
        (("motion", tmp_path / "x.csv", "--annotator", "cid"), "Those who do: '', 'ann', 'bob'"),
        (("motion", tmp_path / "bob.csv"), "is there already"),
        (("motion", tmp_path / "no" / "x.csv"), "cannot be written"),
    ):
        with pytest.raises(UsageError, match=words):
            command("export", *arguments, "--format", "csv")
    with pytest.raises(NothingToDoError, match="Task 'mood' has no annotation"):
        command("export", "mood", tmp_path / "y.csv", "--format", "csv")


def test_agreement_is_told_by_class_pair_and_video(configured, tmp_path, capsys):
    file = tmp_path / "labels.csv"
    file.write_text(
        "video,label,annotator\n0,left,ann\n0,left,bob\n1,up,ann\n1,left,bob\n2,up,ann\n2,up,bob\n"
    )
    command("annotate", file, "--task", "motion")
    capsys.readouterr()
    command("agreement", "motion")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert "alpha 0.44 over 3 judged by several" in " ".join(lines[0])
    assert ["left", "up", "1"] in lines
    assert any(line[1:] == ["1", "1"] and line[0].endswith("/1.mp4") for line in lines)
    command("agreement", "mood")
    told = capsys.readouterr().out
    assert told.startswith("Nothing of task 'mood' was judged by two annotators")


def test_a_folder_is_uploaded_as_the_same_archive_and_without_pictures(lake, tmp_path):
    folder = tmp_path / "set"
    for path, content in {**YOLO, "images/0_000001.jpg": b"\xff\xd8", SIDECAR: b"{}"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    uri = by_hand.upload_annotations(lake, folder)
    (folder / "data.yaml").touch()
    assert by_hand.upload_annotations(lake, folder) == uri and uri.endswith("/set.zip")
    assert lake.store.get(uri) == make_zip({**YOLO, SIDECAR: b"{}"})
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="holds no labels"):
        by_hand.upload_annotations(lake, empty)


def test_a_sidecar_is_uploaded_with_its_file(lake, tmp_path):
    file = tmp_path / "a.xml"
    file.write_text("<annotations/>")
    alone = by_hand.upload_annotations(lake, file)
    file.with_name(f"a.xml.{SIDECAR}").write_text("{}")
    uri = by_hand.upload_annotations(lake, file)
    assert uri != alone
    assert lake.store.get(f"{uri}.{SIDECAR}") == b"{}"
