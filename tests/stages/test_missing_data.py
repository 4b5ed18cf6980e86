"""What is missing is left out, kept and shown apart, or stood for by labels of a model."""

from __future__ import annotations

import collections

import pytest

from tests.lake.rows import publish_rows
from tests.stages.test_splitting import TASK, Videos, dataset_of, look, publish, snapshot
from tests.stages.test_splitting import videos as videos
from vidpipe.errors import BadInputError, UsageError
from vidpipe.lake.query import run_query
from vidpipe.lake.tables import Lake


def label(lake: Lake, run_key: str, version: str, labels: dict[str, tuple[str, float]]) -> None:
    """Publishes labels of a model."""
    made = [
        {
            "task": TASK,
            "video_id": video_id,
            "label": label,
            "score": score,
            "model_version": version,
            "work_key": f"{run_key}-{video_id}",
        }
        for video_id, (label, score) in labels.items()
    ]
    publish_rows(lake, run_key, "label", {"labels": made})


@pytest.fixture
def unlabelled(videos) -> Videos:
    """Beside the labelled videos six that nobody labelled; one is near to one of the test."""
    plan = snapshot(videos.lake)
    publish(videos.lake, plan)
    tested = [v.video_id for v in dataset_of(videos.lake, plan).videos if v.split == "test"]
    number = [f"{label}{n}" for label in "ab" for n in range(10)].index(tested[0])
    videos.add({f"u{n}": look(50 + n) for n in range(5)} | {"near": look(number)}, {})
    return videos


def test_labels_of_a_model_that_was_sure_stand_for_missing_ones_in_train_only(unlabelled):
    lake = unlabelled.lake
    said = {f"u{n}": ("ab"[n % 2], score) for n, score in enumerate((0.99, 0.96, 0.9, 0.97))}
    label(lake, "night-1", "3", {**said, "u4": ("other", 0.99), "near": ("a", 0.99)})
    label(lake, "night-2", "3", {"a0": ("b", 1.0), "u3": ("b", 0.5)})  # u3: labelled anew
    label(lake, "night-3", "4", {"u2": ("a", 1.0)})
    before = dataset_of(lake, snapshot(lake))
    plan = snapshot(lake, pseudo_labels_of="3")
    after = dataset_of(lake, plan)
    assert plan.result["counts"]["pseudo_labelled"] == 2
    added = [video for video in after.videos if video.pseudo_label_of]
    assert [(v.video_id, v.labels, v.split, v.pseudo_label_of) for v in added] == [
        ("u0", ("a",), "train", "3"),
        ("u1", ("b",), "train", "3"),
    ]
    # Nothing else has changed: neither places nor what people say.
    assert [video for video in after.videos if not video.pseudo_label_of] == before.videos
    assert after.version != before.version
    after.verify_splits()
    assert plan.result["counts"]["left_out"] == 1
    surer = snapshot(lake, pseudo_labels_of="3", pseudo_label_score=0.98)
    assert surer.result["counts"]["pseudo_labelled"] == 1

    publish(lake, plan)
    (told,) = run_query(
        "select count(*) as videos, any_value(split) as split from splits"
        " where pseudo_label_of = '3'",
        lake.settings,
    ).to_pylist()
    assert told == {"videos": 2, "split": "train"}


def test_no_label_of_a_model_stands_where_people_said_that_there_is_nothing(unlabelled):
    lake = unlabelled.lake
    label(lake, "night-1", "3", {f"u{n}": ("a", 1.0) for n in range(4)})
    told = {"task": TASK, "video_id": "u0", "label": None, "source": "nothing"}
    in_a_frame = {**told, "video_id": "u1", "start_s": 0.0, "end_s": 0.0}
    tied = [{**told, "video_id": "u2", "label": of, "annotator": of} for of in "ab"]
    publish_rows(lake, "told", "annotate", {"annotations": [told, in_a_frame, *tied]})
    learnt = dataset_of(lake, snapshot(lake, pseudo_labels_of="3")).videos
    assert [v.video_id for v in learnt if v.pseudo_label_of] == ["u1", "u3"]
    assert not {"u0", "u2"} & {v.video_id for v in learnt}


def test_what_could_not_stand_for_labels_is_refused(unlabelled):
    lake = unlabelled.lake
    label(lake, "night-1", "3", {"u0": ("a", 1.0)})
    with pytest.raises(BadInputError, match="'7' of task 'kind' gave no labels.*did: 3"):
        snapshot(lake, pseudo_labels_of="7")
    with pytest.raises(UsageError, match="where a video has one label.*kind 'several'"):
        snapshot(lake, pseudo_labels_of="3", kind="several")


def test_incomplete_videos_are_counted_or_left_out(videos):
    lake = videos.lake
    looks = {f"cut{n}": look(70 + n) for n in range(6)}
    videos.add(looks, {name: "ab"[n % 2] for n, name in enumerate(looks)}, lacks=set(looks))
    kept = snapshot(lake)
    assert kept.result["counts"]["incomplete"] == 6
    assert len(dataset_of(lake, kept).videos) == 26
    for said in (None, "keep"):
        assert snapshot(lake, incomplete=said).result["dataset"] == kept.result["dataset"]
    left = snapshot(lake, incomplete="leave_out")
    assert left.result["counts"]["incomplete"] == 6
    assert not looks.keys() & {video.video_id for video in dataset_of(lake, left).videos}
    counts = collections.Counter(video.labels for video in dataset_of(lake, left).videos)
    assert counts == {("a",): 10, ("b",): 10}
