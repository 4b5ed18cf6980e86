"""The views: what holds now."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from tests.lake.rows import DAY, publish_rows
from vidpipe.lake import layout
from vidpipe.lake.query import run_query
from vidpipe.lake.views import VIEWS

LATER = DAY + timedelta(hours=1)


def _ask(lake, sql):
    return [tuple(row.values()) for row in run_query(sql, lake.settings).to_pylist()]


def _label(video, version, label, **values):
    return {
        "task": "motion",
        "video_id": video,
        "model": "m",
        "model_version": version,
        "label": label,
        "labelled_at": DAY,
    } | values


def _promotion(version, at, task="motion"):
    return {"task": task, "model": "m", "model_version": version, "promoted_at": at}


def test_sources_and_videos(lake):
    rows = [
        {"source_uri": "s3://b/gone", "seen_at": DAY, "deleted": False},
        {"source_uri": "s3://b/gone", "seen_at": LATER, "deleted": True},
        {"source_uri": "s3://b/new", "seen_at": DAY, "source_version": "1", "deleted": False},
        {"source_uri": "s3://b/new", "seen_at": LATER, "source_version": "2", "deleted": False},
    ]
    videos = [
        {"video_id": "v", "fps": 1.0, "ingested_at": DAY},
        {"video_id": "v", "fps": 2.0, "ingested_at": LATER},
    ]
    publish_rows(lake, "r1", "extract", {"sources": rows, "videos": videos})
    sources = _ask(lake, "select source_uri, source_version from current_sources")
    assert sources == [("s3://b/new", "2")]
    assert _ask(lake, "select video_id, fps from current_videos") == [("v", 2.0)]


def test_of_an_object_the_newest_version_tells_what_became_of_it(lake):
    publish_rows(lake, "r1", "extract", {}, not_done={"a@1": "truncated", "b@1": "empty"})
    publish_rows(lake, "r2", "extract", {}, not_done={"a@1": "truncated"})
    publish_rows(lake, "r3", "extract", {}, not_done={"a@2": "no_video"})
    publish_rows(lake, "r4", "label", {}, not_done={"motion/a": "internal", "mood/a": "internal"})
    publish_rows(lake, "r5", "label", {}, not_done={"mood/a": "denied"})
    shown = _ask(lake, "select stage, item, reason from current_outcomes order by 1, 2")
    assert shown == [
        ("extract", "a@2", "no_video"),
        ("extract", "b@1", "empty"),
        ("label", "mood/a", "denied"),
        ("label", "motion/a", "internal"),
    ]


def test_annotations_replace_withdraw_and_stay_apart(lake):
    def row(label, at, **values):
        return {"task": "motion", "video_id": "v", "label": label, "annotated_at": at} | values

    rows = [
        row("old", DAY),
        row("new", LATER),
        row("withdrawn", DAY, annotator="ann"),
        row("", LATER, annotator="ann", withdrawn=True),
        row("range", DAY, start_s=0.0, end_s=1.0),
        row("mood", DAY, task="mood"),
    ]
    publish_rows(lake, "r1", "annotate", {"annotations": rows})
    labels = _ask(lake, "select label from current_annotations order by 1")
    assert labels == [("mood",), ("new",), ("range",)]


def test_answers_are_what_people_say_of_a_video_and_not_of_a_picture(lake):
    told = {"task": "motion", "video_id": "v", "annotated_at": DAY}
    box = {"box_x": 0.1, "box_y": 0.1, "box_width": 0.1, "box_height": 0.1}
    annotations = [
        told | {"annotator": "whole", "label": "up"},
        told | {"annotator": "range", "label": None, "start_s": 0.0, "end_s": 1.0},
        told | {"annotator": "frame", "label": "up", "start_s": 1.0, "end_s": 1.0},
        told | {"annotator": "box", "label": "up", "start_s": 1.0, "end_s": 1.0} | box,
        told | {"annotator": "empty", "label": None, "start_s": 1.0, "end_s": 1.0},
        told | {"annotator": "nothing", "label": None},
    ]
    asked = {"task": "motion", "video_id": "v", "label": "up"}
    publish_rows(lake, "r1", "annotate", {"annotations": annotations, "reviews": [asked]})
    assert _ask(lake, "select people, agreeing from current_reviews") == [(4, 2)]


def test_champions(lake):
    rows = [_promotion("1", DAY), _promotion("2", LATER), _promotion("7", DAY, task="mood")]
    publish_rows(lake, "r1", "promote", {"promotions": rows})
    champions = _ask(lake, "select task, model_version from champions order by 1")
    assert champions == [("mood", "7"), ("motion", "2")]


def test_labels_are_those_of_the_newest_champion_that_labelled_the_video(lake):
    labels = [
        _label("a", "1", "old"),
        _label("a", "2", "new"),
        _label("a", "2", "second range", start_s=5.0),
        _label("b", "1", "only old"),
        _label("b", "9", "never promoted"),
        _label("c", "1", "before"),
        _label("c", "1", "after", labelled_at=LATER),
    ]
    labels[2]["work_key"] = labels[1]["work_key"] = layout.make_work_key("r1", "labels", 1)
    labels.append(_label("d", "2", "of no outcome", work_key="lost"))
    promotions = [_promotion("1", DAY), _promotion("2", LATER)]
    publish_rows(lake, "r1", "label", {"labels": labels, "promotions": promotions})
    shown = _ask(lake, "select video_id, label from current_labels order by 1, 2")
    assert shown == [("a", "new"), ("a", "second range"), ("b", "only old"), ("c", "after")]


def test_a_champion_promoted_again_holds_again(lake):
    labels = [_label("a", "1", "one"), _label("a", "2", "two")]
    promotions = [
        _promotion("1", DAY),
        _promotion("2", LATER),
        _promotion("1", LATER + timedelta(hours=1)),
    ]
    publish_rows(lake, "r1", "label", {"labels": labels, "promotions": promotions})
    assert _ask(lake, "select label from current_labels") == [("one",)]


def _source(uri, video, **values):
    return {"source_uri": uri, "source_version": "1", "video_id": video, "seen_at": DAY} | values


def _sources():
    """Sources of the videos moved, replaced, copied and gone."""
    return [
        _source("s3://b/before", "moved"),
        _source("s3://b/before", None, seen_at=LATER, deleted=True),
        _source("s3://b/moved", "moved", seen_at=LATER, source_version="2"),
        _source("s3://b/again", "replaced"),
        _source("s3://b/again", "other", seen_at=LATER, source_version="2"),
        _source("s3://b/copy-2", "copied"),
        _source("s3://b/copy-1", "copied", seen_at=LATER),
        _source("s3://b/copy-0", "copied"),
        _source("s3://b/copy-0", None, seen_at=LATER, deleted=True),
        _source("s3://b/gone", "gone"),
        _source("s3://b/gone", None, seen_at=LATER, deleted=True),
    ]


def test_each_video_has_the_object_that_is_in_the_bucket(lake):
    publish_rows(lake, "r1", "extract", {"sources": _sources()})
    found = _ask(lake, "select * from video_sources order by video_id")
    assert found == [
        ("copied", "s3://b/copy-1", "1", True),
        ("gone", "s3://b/gone", "1", False),
        ("moved", "s3://b/moved", "2", True),
        ("other", "s3://b/again", "2", True),
        ("replaced", "s3://b/again", "1", False),
    ]


@pytest.mark.parametrize("view", [v for v in VIEWS if v.startswith("current_")] + ["best_labels"])
def test_views_of_videos_begin_with_the_source(lake, view):
    columns = run_query(f"from {view}", lake.settings).column_names
    assert columns[:2] == ["source_uri", "in_bucket"] and columns.count("source_uri") == 1
    assert "video_id" in columns


def test_views_name_the_source_of_each_video(lake):
    videos = [{"video_id": v, "source_uri": "s3://b/before"} for v in ("moved", "gone")]
    labels = [_label("moved", "1", "up"), _label("gone", "1", "up")]
    told = {"task": "motion", "label": "up"}
    rows = {
        "sources": _sources(),
        "videos": videos,
        "labels": labels,
        "promotions": [_promotion("1", DAY)],
        "annotations": [told | {"video_id": "moved"}],
        "reviews": [told | {"video_id": "gone"}],
    }
    publish_rows(lake, "r1", "label", rows)
    publish_rows(lake, "r2", "extract", {}, not_done={"again@2": "truncated", "never@1": "denied"})
    ask = "select source_uri, in_bucket from {} order by source_uri"
    gone, moved = ("s3://b/gone", False), ("s3://b/moved", True)
    assert _ask(lake, ask.format("current_videos")) == [gone, moved]
    assert _ask(lake, ask.format("current_labels")) == [gone, moved]
    assert _ask(lake, ask.format("current_annotations")) == [moved]
    assert _ask(lake, ask.format("current_reviews")) == [gone]
    assert ("s3://b/copy-1", True) in _ask(lake, ask.format("current_sources"))
    outcomes = _ask(lake, ask.format("current_outcomes where stage = 'extract'"))
    assert outcomes == [("s3://b/again", True), ("s3://b/never", None)]
    outcomes = _ask(lake, ask.format("current_outcomes where item like 'labels/%'"))
    assert outcomes == [gone, moved]


def _people(video, *labels, **values):
    """What annotators a, b, … say of a video, in this order."""
    told = {"task": "motion", "video_id": video, "annotated_at": DAY} | values
    return [
        told | {"label": label, "annotator": chr(ord("a") + n)} for n, label in enumerate(labels)
    ]


def test_labels_of_people_win(lake):
    box = {"box_x": 0.1, "box_y": 0.1, "box_width": 0.1, "box_height": 0.1}
    annotations = [
        *_people("sure", "up"),
        *_people("most", "up", "up", "left"),
        *_people("tied", "up", "left"),
        *_people("plural", "up", "up", "left", "right", "down"),
        *_people("nothing", None, None, "up"),
        *_people("boxed", "up", start_s=1.0, end_s=1.0, **box),
        *_people("ranges", "up", start_s=0.0, end_s=1.0),
        *_people("ranges", "up", start_s=2.0, end_s=3.0),
        *_people("withdrawn", "up"),
        *_people("withdrawn", "up", annotated_at=LATER, withdrawn=True),
        *_people("other task", "up", task="mood"),
    ]
    seen = ("sure", "boxed", "ranges", "withdrawn", "other task", "nothing")
    rows = {
        "annotations": annotations,
        "labels": [_label(video, "1", "down", score=0.5) for video in seen],
        "promotions": [_promotion("1", DAY)],
    }
    publish_rows(lake, "r1", "label", rows)
    columns = "video_id, label, labelled_by, people, agreeing, score"
    order = "order by video_id, label, start_s"
    assert _ask(lake, f"select {columns} from best_labels where task = 'motion' {order}") == [
        ("boxed", "down", "model", 0, 0, 0.5),
        ("most", "up", "people", 3, 2, None),
        ("nothing", None, "people", 3, 2, None),
        ("other task", "down", "model", 0, 0, 0.5),
        ("plural", "up", "people", 5, 2, None),
        ("ranges", "up", "people", 1, 1, None),
        ("ranges", "up", "people", 1, 1, None),
        ("sure", "up", "people", 1, 1, None),
        ("tied", "left", "people", 2, 1, None),
        ("tied", "up", "people", 2, 1, None),
        ("withdrawn", "down", "model", 0, 0, 0.5),
    ]
    ranges = _ask(
        lake, "select start_s, end_s from best_labels where video_id = 'ranges' order by 1"
    )
    assert ranges == [(0.0, 1.0), (2.0, 3.0)]
    kinds = run_query("from best_labels", lake.settings).schema
    assert kinds.field("score").type == pa.float64() and kinds.field("people").type == pa.int64()
    assert kinds.field("model_version").type == pa.string()
