"""The views: what holds now."""

from __future__ import annotations

from datetime import timedelta

from tests.lake.rows import DAY, publish_rows
from vidpipe.lake import layout
from vidpipe.lake.query import run_query

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
