"""review: what is picked, how people get it, and what their answers tell and teach."""

from __future__ import annotations

import collections
import colorsys
import json
import re
import secrets
import tracemalloc
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
import requests
from mlflow import MlflowClient

from tests.lake.rows import DAY, publish_rows
from tests.media_files import run_ffmpeg
from tests.mlflow_server import register
from tests.runs import audit_and_publish, ingest, rows, shards, stage
from tests.servers import config_file
from vidpipe import tracking
from vidpipe.cli import cli
from vidpipe.config import load_settings
from vidpipe.datasets.clips import read_clips
from vidpipe.datasets.formats import asking
from vidpipe.errors import BadInputError, NothingToDoError, UsageError
from vidpipe.evaluation.reviews import least_sure
from vidpipe.lake.query import run_query
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import Sampling
from vidpipe.models.bundle import Bundle
from vidpipe.stages.manifest import Report
from vidpipe.stages.reviewable import read_reviewable

ANN = {"email": "ann@example.org"}


@pytest.fixture
def task(mlflow) -> str:
    return f"t{secrets.token_hex(4)}"


def video_id(number: int) -> str:
    return f"{number:064x}"


def labelled(lake: Lake, task: str, version: tracking.Version, scores: list[float]) -> None:
    """Videos with made-up labels of a version: those with even numbers are `even`, others `odd`."""
    ids = [video_id(number) for number in range(len(scores))]
    model = {"task": task, "model": version.name, "model_version": version.version}
    labels = [
        {**model, "video_id": v, "end_s": 1.0, "label": ["even", "odd"][n % 2], "score": score}
        for n, (v, score) in enumerate(zip(ids, scores, strict=True))
    ]
    videos, sources = [], []
    for number, video in enumerate(ids):
        row = {"video_id": video, "source_uri": f"{lake.uri}/made/{number}.mp4"}
        lake.store.put(row["source_uri"], bytes([number]))
        version_there = lake.store.head(row["source_uri"]).version
        videos.append({**row, "duration_s": 1.0})
        sources.append({**row, "source_version": version_there})
    tables = {"videos": videos, "sources": sources, "labels": labels}
    publish_rows(lake, f"made-{secrets.token_hex(4)}", "label", tables)


def review(lake: Lake, task: str, **config) -> Report:
    """A whole run of the DAG `review`."""
    asked = {"max_videos": 8, "random_share": 0.5, "disagreeing_share": 0.0, "link_hours": 1}
    run_key = f"review-{secrets.token_hex(4)}"
    plan = stage(lake, run_key, "review", task=task, **{**asked, **config})
    audit_and_publish(lake, run_key, plan)
    return plan


def picked(lake: Lake, plan: Report) -> dict[str, str]:
    """What each video was picked for."""
    of_run = [row for row in rows(lake, "reviews") if row["run_key"] == plan.run_key]
    assert len({row["video_id"] for row in of_run}) == len(of_run)
    return {row["video_id"]: row["picked_for"] for row in of_run}


def tasks_of(lake: Lake, plan: Report) -> list[dict]:
    return lake.store.get_json(f"{plan.result['files']}{asking.LABEL_STUDIO}")


def answered(tasks: list[dict], answers: dict[str, str], by: dict = ANN) -> list[dict]:
    """The tasks as Label Studio exports them, once somebody answered some."""
    result = {"from_name": "label", "to_name": "video", "type": "choices"}
    return [
        {
            "id": number,
            **task,
            "annotations": [
                {"completed_by": by, "result": [{**result, "value": {"choices": [answer]}}]}
                for answer in [answers.get(task["data"]["vidpipe_video_id"])]
                if answer
            ],
        }
        for number, task in enumerate(tasks, 1)
    ]


def annotate(lake: Lake, task: str, name: str, content: bytes, **config) -> Report:
    run_key = f"annotate-{secrets.token_hex(4)}"
    uri = f"{lake.uri}/annotations/{run_key}/{name}"
    lake.store.put(uri, content)
    plan = stage(lake, run_key, "annotate", task=task, file=uri, **config)
    if not config.get("diff"):
        audit_and_publish(lake, run_key, plan)
    return plan


def answer(lake: Lake, task: str, plan: Report, answers: dict[str, str], **config) -> Report:
    tasks = answered(tasks_of(lake, plan), answers)
    return annotate(lake, task, "project-1.json", json.dumps(tasks).encode(), **config)


# === Picking ===


def test_each_part_has_its_share_and_no_video_is_picked_twice(lake, task):
    champion = register(task, "champion")
    labelled(lake, task, champion, [0.5 + n / 100 for n in range(40)])
    plan = review(lake, task, max_videos=10, seed=3)
    found = picked(lake, plan)
    assert collections.Counter(found.values()) == {"random": 5, "uncertain": 5}
    left = [video_id(n) for n in range(40) if found.get(video_id(n)) != "random"]
    assert [v for v in left if v in found] == left[:5], "the least sure of the others"
    for row in rows(lake, "reviews"):
        assert row["model_version"] == champion.version and row["challenger_version"] is None
        assert row["links_until"] - row["picked_at"] == timedelta(hours=1)
        assert row["files_uri"] == plan.result["files"]
    assert plan.result["counts"] == {"random": 5, "uncertain": 5}
    assert "there is no challenger" in plan.result["summary"]


def test_the_even_draw_is_by_seed_and_whatever_else_is_picked(lake, task):
    labelled(lake, task, register(task, "champion"), [0.5 + n / 100 for n in range(40)])

    def drawn(**config) -> set[str]:
        found = picked(lake, review(lake, task, **config))
        return {video for video, of in found.items() if of == "random"}

    first = drawn(seed=1, max_videos=10)
    # Those that wait for an answer are drawn again: the sample would not be even without them.
    assert drawn(seed=1, max_videos=5, random_share=1.0) == first
    assert drawn(seed=2, max_videos=10) != first
    assert drawn(max_videos=10) != first, "another one for each run"
    assert drawn(max_videos=1000, random_share=1.0) == {video_id(n) for n in range(40)}


def test_what_people_looked_at_or_the_model_learnt_or_is_gone_is_not_picked(lake, task):
    champion = register(task, "champion")
    labelled(lake, task, champion, [0.9] * 12)
    told = {"task": task, "label": "odd", "annotated_at": DAY}
    box = {"box_x": 0.1, "box_y": 0.1, "box_width": 0.1, "box_height": 0.1}
    split = {"dataset": task, "version": "1", "label": "odd"}
    tables = {
        "annotations": [
            {**told, "video_id": video_id(0)},
            {**told, "video_id": video_id(1), "start_s": 0.0, "end_s": 0.5},
            {**told, "video_id": video_id(2), "task": "other"},
            {**told, "video_id": video_id(3), **box, "start_s": 0.0, "end_s": 0.0},
            {**told, "video_id": video_id(3), "label": None, "start_s": 0.5, "end_s": 0.5},
        ],
        "splits": [
            {**split, "video_id": video_id(4), "split": "train"},
            {**split, "video_id": video_id(5), "split": "validation"},
            {**split, "video_id": video_id(6), "split": "test"},
            {**split, "video_id": video_id(8), "split": "train", "pseudo_label_of": "1"},
        ],
        "sources": [
            {
                "source_uri": f"{lake.uri}/made/{n}.mp4",
                "source_version": lake.store.head(f"{lake.uri}/made/{n}.mp4").version,
                "video_id": video_id(n),
                "deleted": n == 7,
                "seen_at": DAY + timedelta(hours=1),
            }
            for n in (7, 8)
        ],
    }
    publish_rows(lake, "told", "annotate", tables)
    found = picked(lake, review(lake, task, max_videos=100))
    assert set(found) == {video_id(n) for n in (2, 3, 6, 8, 9, 10, 11)}


def test_what_is_replaced_or_gone_since_it_was_listed_is_left_out(lake, task, capsys):
    labelled(lake, task, register(task, "champion"), [0.9] * 4)
    lake.store.put(f"{lake.uri}/made/0.mp4", b"another")
    lake.store.delete(f"{lake.uri}/made/1.mp4")
    assert set(picked(lake, review(lake, task))) == {video_id(2), video_id(3)}
    assert "object is gone, replaced, archived or denied: 2" in capsys.readouterr().out
    for number in (2, 3):
        lake.store.delete(f"{lake.uri}/made/{number}.mp4")
    with pytest.raises(NothingToDoError, match="run ingest"):
        review(lake, task)


def test_only_labels_of_the_champion_are_looked_at(lake, task):
    old, new = register(task, "champion"), register(task, "challenger")
    labelled(lake, task, old, [0.9] * 4)
    tracking.set_alias(new, "champion")
    with pytest.raises(NothingToDoError, match="version 2 of .* labelled"):
        review(lake, task)
    with pytest.raises(NothingToDoError, match="no champion"):
        review(lake, "nothing")


def test_those_on_which_two_models_disagree_are_the_surest_first(lake, task):
    champion, challenger = register(task, "champion"), register(task, "challenger")
    labelled(lake, task, champion, [0.9] * 20)
    model = {"task": task, "model": challenger.name, "model_version": challenger.version}
    others = [
        {**model, "video_id": video_id(n), "label": "even", "score": 0.5 + n / 100}
        for n in range(20)
    ]
    publish_rows(lake, "challenger", "label", {"labels": others})
    found = picked(lake, review(lake, task, max_videos=4, random_share=0.0, disagreeing_share=0.75))
    disagreeing = {video for video, of in found.items() if of == "disagreeing"}
    assert disagreeing == {video_id(n) for n in (19, 17, 15)}
    told = {row["video_id"]: row["challenger_label"] for row in rows(lake, "reviews")}
    assert told[video_id(19)] == "even"


def test_of_many_labels_no_python_objects_are_made(lake, task):
    ids = [video_id(number) for number in range(5_000)]
    said = {"task": task, "model": "m", "model_version": "1", "end_s": 1.0, "label": "even"}
    tables = {
        "videos": [{"video_id": v, "duration_s": 1.0} for v in ids],
        "sources": [{"video_id": v, "source_uri": f"{lake.uri}/{v}.mp4"} for v in ids],
        "labels": [{**said, "video_id": v, "score": n / 5_000} for n, v in enumerate(ids)],
    }
    publish_rows(lake, "many", "label", tables)
    snapshots = lake.published()
    read_reviewable(lake, snapshots, task, "2", None)  # what is loaded once is no part of it
    tracemalloc.start()
    found = read_reviewable(lake, snapshots, task, "1", None)
    picked = least_sure(found.said, 3)
    (candidate, *_) = found.look_up(picked).values()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert picked == ids[:3] and candidate.labels == {"even": 0.0}
    assert found.said.num_rows == 5_000
    assert peak < 500_000, "less than a Python object for each label"


def test_nobody_is_asked_twice_while_links_hold(lake, task):
    labelled(lake, task, register(task, "champion"), [0.5 + n / 100 for n in range(20)])
    first = picked(lake, review(lake, task, random_share=0.0))
    second = picked(lake, review(lake, task, random_share=0.0))
    assert set(first) == {video_id(n) for n in range(8)}
    assert set(second) == {video_id(n) for n in range(8, 16)}
    ended = {"task": task, "video_id": video_id(19), "links_until": DAY}
    publish_rows(lake, "long ago", "review", {"reviews": [ended]})
    assert video_id(19) in picked(lake, review(lake, task, random_share=0.0))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"random_share": 0.8, "disagreeing_share": 0.4}, "together are 1 at most"),
        ({"max_videos": 0}, "needs max_videos"),
        ({"link_hours": 169}, "168 hours at most"),
        ({"link_hours": 0}, "168 hours at most"),
    ],
)
def test_what_cannot_be_is_one_line(lake, task, config, words):
    with pytest.raises(UsageError, match=words):
        review(lake, task, **config)


# === What people get, and what they give back ===


@pytest.fixture
def real(lake, bucket, media, task) -> tuple[Lake, tracking.Version, dict[str, str]]:
    """Two real videos with made-up labels; the id of each by its name."""
    for number in range(2):
        bucket.put(f"{number} & <{number}>.mp4", media.videos[number])
    ingest(lake, "ingest", fps=1.0, short_side=32)
    named = {Path(r["source_uri"]).name[0]: r["video_id"] for r in rows(lake, "videos")}
    champion = register(task, "champion")
    model = {"task": task, "model": champion.name, "model_version": champion.version}
    said = [
        {**model, "video_id": r["video_id"], "label": 'a & "b"', "score": 0.75}
        | {"end_s": r["duration_s"]}
        for r in rows(lake, "videos")
    ]
    publish_rows(lake, "labels", "label", {"labels": said})
    return lake, champion, named


def test_tasks_for_label_studio_hold_what_the_model_says_and_links(real, task, media, capsys):
    lake, champion, named = real
    plan = review(lake, task)
    tasks = tasks_of(lake, plan)
    assert {t["data"]["vidpipe_video_id"] for t in tasks} == set(named.values())
    for asked in tasks:
        (prediction,) = asked["predictions"]
        assert prediction["model_version"] == f"{champion.name} version {champion.version}"
        assert prediction["score"] == 0.75
        (result,) = prediction["result"]
        assert result["value"] == {"choices": ['a & "b"']}
        number = int(asked["data"]["name"][0])
        link = asked["data"]["video"]
        assert requests.get(link, timeout=60).content == media.videos[number].read_bytes()
        spoilt = re.sub("X-Amz-Signature=.", "X-Amz-Signature=g", link)
        assert requests.get(spoilt, timeout=60).status_code == 403
    config = lake.store.get(f"{plan.result['files']}{asking.LABEL_STUDIO_CONFIG}")
    tree = ElementTree.fromstring(config)
    assert tree.find("Video").get("value") == "$video"
    choices = tree.find("Choices")
    assert (choices.get("name"), choices.get("toName")) == (result["from_name"], "video")
    assert [choice.get("value") for choice in choices] == ['a & "b"']
    # Whoever has a link sees the video: it stands in the files alone.
    elsewhere = capsys.readouterr().out + json.dumps(plan.result)
    for stored in lake.store.list(f"{lake.uri}/runs/{plan.run_key}/"):
        if not stored.uri.startswith(plan.result["files"]):
            elsewhere += lake.store.get(stored.uri).decode()
    elsewhere += str(rows(lake, "reviews")) + str(rows(lake, "outcomes"))
    assert plan.result["files"] in elsewhere and "X-Amz" not in elsewhere


def test_labels_with_times_are_ranges_of_frames(real, task):
    lake, champion, named = real
    (fps,) = (r["fps"] for r in rows(lake, "videos") if r["video_id"] == named["0"])
    ranges = [(0.0, 4 / fps, "left", 0.9), (2 / fps, 6 / fps, "up", 0.6)]
    work = {"work_key": "ranges", "labelled_at": DAY + timedelta(hours=1)}
    model = {"task": task, "model": champion.name, "model_version": champion.version}
    for number, (start_s, end_s, label, score) in enumerate(ranges):
        row = {**model, **work, "video_id": named["0"], "label": label, "score": score}
        row |= {"start_s": start_s, "end_s": end_s}
        publish_rows(lake, f"range-{number}", f"label{number}", {"labels": [row]})
    plan = review(lake, task)
    of_video = {asked["data"]["vidpipe_video_id"]: asked for asked in tasks_of(lake, plan)}
    (prediction,) = of_video[named["0"]]["predictions"]
    assert prediction["score"] == 0.6 and of_video[named["0"]]["data"]["fps"] == fps
    assert [(r["type"], r["value"]) for r in prediction["result"]] == [
        ("timelinelabels", {"ranges": [{"start": 1, "end": 4}], "timelinelabels": ["left"]}),
        ("timelinelabels", {"ranges": [{"start": 3, "end": 6}], "timelinelabels": ["up"]}),
    ]
    config = lake.store.get(f"{plan.result['files']}{asking.LABEL_STUDIO_CONFIG}")
    tree = ElementTree.fromstring(config)
    assert tree.find("Video").get("frameRate") == "$fps"
    assert [label.get("value") for label in tree.find("TimelineLabels")] == [
        'a & "b"',
        "left",
        "up",
    ]
    # Somebody agrees with the first, and sees nothing of the second.
    of_video[named["0"]]["annotations"] = [
        {"completed_by": ANN, "result": prediction["result"][:1]}
    ]
    of_video[named["1"]]["annotations"] = []
    imported = annotate(lake, task, "a.json", json.dumps(list(of_video.values())).encode())
    (said,) = rows(lake, "annotations")
    assert (said["label"], said["start_s"]) == ("left", 0.0)
    assert said["end_s"] == pytest.approx(4 / fps)
    assert "precision 0.500 (0.095 to 0.905), 2 of 3 judged" in imported.result["summary"]


def test_links_lead_to_where_browsers_reach_the_store(real, s3_server, task):
    lake, _, named = real
    settings = lake.settings
    public = settings.s3.__class__(
        **{**vars(settings.s3), "public_endpoint_url": "https://s3.example:9000"}
    )
    lake = Lake(settings.__class__(**{**vars(settings), "s3": public}))
    for asked in tasks_of(lake, review(lake, task)):
        assert asked["data"]["video"].startswith("https://s3.example:9000/videos/")
        assert "X-Amz-Expires=3600" in asked["data"]["video"]


def test_answers_find_their_video_whatever_its_link_says(real, task):
    lake, _, named = real
    plan = review(lake, task)
    tasks = answered(tasks_of(lake, plan), {named["0"]: "left", named["1"]: "right"})
    links = [t["data"]["video"] for t in tasks]
    for asked, link in zip(tasks, reversed(links), strict=True):
        asked["data"]["video"] = link
    annotate(lake, task, "a.json", json.dumps(tasks).encode())
    said = {r["video_id"]: (r["label"], r["annotator"]) for r in rows(lake, "annotations")}
    ann = ANN["email"]
    assert said == {named["0"]: ("left", ann), named["1"]: ("right", ann)}
    tasks[0]["data"]["vidpipe_video_id"] = "0.mp4"
    with pytest.raises(BadInputError, match=r"\[0\]: no video is called '0.mp4'"):
        annotate(lake, task, "b.json", json.dumps(tasks).encode())


def test_answers_of_cvat_come_back_as_tags_of_the_first_frame(real, task):
    lake, _, named = real
    plan = review(lake, task)
    folder = f"{plan.result['files']}cvat/"
    listed = lake.store.get_json(f"{folder}tasks.json")
    assert {of["name"] for of in listed} == set(named.values())
    labels = lake.store.get_json(f"{folder}labels.json")
    assert labels == [{"name": 'a & "b"', "type": "tag", "attributes": []}]
    for of in listed:
        given = lake.store.get(f"{folder}{of['annotations']}")
        # Precision is measured on both: people set all tags.
        tag = b'<tag label=\'a &amp; "b"\' source="manual"></tag></image>'
        given = given.replace(b"</image>", tag)
        assert given.count(b"<tag") == 1
        annotate(lake, task, of["annotations"], given)
    assert {(r["video_id"], r["label"], r["start_s"]) for r in rows(lake, "annotations")} == {
        (video, 'a & "b"', None) for video in named.values()
    }
    # As CVAT exports it: all frames, and where it got the video from.
    later = '<image id="1" name="f"><tag label="b"/><box xtl="0"/></image></annotations>'
    changed = given.replace(b"</name><mode>", b"</name><source>1 and 2.mp4</source><mode>")
    changed = changed.replace(b"</annotations>", later.encode())
    again = annotate(lake, task, "again.xml", changed)
    assert again.result["changes"]["unchanged"] == 1


def test_what_is_forgotten_is_in_no_file_of_a_review(real, task, monkeypatch):
    lake, _, named = real
    plan = review(lake, task)
    assert list(lake.store.list(plan.result["files"]))
    stage(lake, "forget", "forget", video=named["0"], idle_hours=0)
    left = [lake.store.get(found.uri).decode() for found in lake.store.list(plan.result["files"])]
    assert left and not any(named["0"] in content for content in left)
    assert {row["video_id"] for row in rows(lake, "reviews")} == {named["1"]}


# === What the answers tell ===


def test_precision_is_measured_on_the_even_draw(lake, task, tmp_path, monkeypatch, capsys):
    champion = register(task, "champion")
    labelled(lake, task, champion, [0.5 + n / 100 for n in range(40)])
    plan = review(lake, task, max_videos=20)
    found = picked(lake, plan)
    drawn = sorted(video for video, of in found.items() if of == "random")
    truth = {v: ["even", "odd"][int(v, 16) % 2] for v in found}
    # All wrong where it is unsure; of those that tell, nine are judged, and two are wrong.
    told = {v: truth[v] if of == "random" else "other" for v, of in found.items()}
    told |= dict.fromkeys(drawn[:2], "other")
    del told[drawn[9]]
    # Of a video in one picture of which there is nothing, nobody told.
    empty = {"task": task, "video_id": drawn[3], "start_s": 1.0, "end_s": 1.0, "annotator": "boxes"}
    publish_rows(lake, "boxes", "annotate", {"annotations": [{**empty, "label": None}]})
    shown = answer(lake, task, plan, told, diff=True)
    expected = "labels of version 1: precision 0.778 (0.453 to 0.937), 9 of 10 judged;"
    assert expected in shown.result["summary"]
    run = MlflowClient(tracking.connect().tracking_uri).get_run
    assert "review_precision" not in run(champion.run_id).data.metrics, "only shown"
    assert expected in answer(lake, task, plan, told).result["summary"]
    metrics = run(champion.run_id).data.metrics
    assert metrics["review_precision"] == pytest.approx(7 / 9)
    assert metrics["review_precision_low"] == pytest.approx(0.4526, abs=1e-4)
    assert metrics["review_precision_high"] == pytest.approx(0.9368, abs=1e-4)
    assert metrics["review_judged"] == 9

    (asked,) = run_query(
        "select count(*) filter (agreeing * 2 > people) as right,"
        " count(*) filter (agreeing * 2 <> people) as judged"
        f" from current_reviews where picked_for = 'random' and task = '{task}'",
        lake.settings,
    ).to_pylist()
    assert asked == {"right": 7, "judged": 9}

    monkeypatch.setenv("VIDPIPE_CONFIG", str(config_file(lake, tmp_path / "vidpipe.toml")))
    load_settings.cache_clear()
    capsys.readouterr()
    cli.main(["reviews", task], standalone_mode=False)
    line = capsys.readouterr().out.splitlines()[1].split()
    assert line[2:] == ["1", "10", "0", "10", "19", "0.778", "0.453", "0.937", "9"]
    folder = tmp_path / "review"
    cli.main(["reviews", task, "--save", str(folder)], standalone_mode=False)
    assert json.loads((folder / asking.LABEL_STUDIO).read_text()) == tasks_of(lake, plan)
    assert len(list((folder / "cvat").glob("*.xml"))) == 20
    assert folder.stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="cannot be written"):
        cli.main(["reviews", task, "--save", str(folder)], standalone_mode=False)
    capsys.readouterr()
    cli.main(["reviews", "nothing"], standalone_mode=False)
    assert "no review yet" in capsys.readouterr().out
    with pytest.raises(NothingToDoError, match="no review yet"):
        cli.main(["reviews", "nothing", "--save", str(tmp_path / "none")], standalone_mode=False)
    load_settings.cache_clear()


# === The whole round ===

ROUND = {
    **{"architectures": ["cnn"], "frames": 2, "height": 48, "width": 48, "near_duplicate_bits": 0},
    **{"seed": 0, "test_share": 0.3, "epochs": 15, "batch_size": 8, "learning_rate": 0.01},
}
HUES = {"red": 0, "blue": 240, "green": 120}
KNOWN, VIDEOS, FIXED = 6, 36, 12  # labelled at first, that may be picked, only measured on


@pytest.fixture
def colours(lake, bucket, tmp_path) -> dict[str, str]:
    """Videos of one colour each, by their names: which. The first ones are red and blue."""
    draw = np.random.default_rng(0)
    truth = {}
    for number in range(KNOWN + VIDEOS + FIXED):
        name = list(HUES)[number % (2 if number < KNOWN else 3)]
        hue = (HUES[name] + draw.uniform(-25, 25)) % 360 / 360
        shades = colorsys.hsv_to_rgb(hue, draw.uniform(0.7, 1), draw.uniform(0.6, 1))
        colour = "0x" + "".join(f"{round(shade * 255):02x}" for shade in shades)
        path = tmp_path / f"{number:02d}.mp4"
        run_ffmpeg("-f", "lavfi", "-i", f"color={colour}:s=32x32:r=4:d=0.5", path)
        bucket.put(path.name, path)
        truth[path.name] = name
    ingest(lake, "ingest", fps=4.0, short_side=32)
    return truth


def always(task: str, label: str) -> tracking.Version:
    """A version of a model that sees nothing, and says one thing."""
    bias = keras.initializers.Constant([5.0 if name == label else 0.0 for name in HUES])
    model = keras.Sequential(
        [
            keras.Input((2, 16, 16, 3)),
            keras.layers.GlobalAveragePooling3D(),
            keras.layers.Dense(
                len(HUES), "softmax", kernel_initializer="zeros", bias_initializer=bias
            ),
        ]
    )
    bundle = Bundle.pack(
        model, task=task, architecture="cnn", labels=list(HUES), sampling=Sampling(2, 16, 16)
    )
    with tracking.training_run(task, "always", secrets.token_hex(8), {}) as run:
        bundle.log(run.id)
    return tracking.version_of_run(task, run.id)


@pytest.mark.long
def test_a_round_of_label_review_import_retrain_makes_it_better(lake, colours, task, tmp_path):
    """The test is the person: it knows the truth, and that there is a class that nobody told of."""
    extracted = {Path(r["source_uri"]).name: r for r in rows(lake, "videos")}
    name_of = {r["video_id"]: name for name, r in extracted.items()}
    ordered = sorted(extracted)
    known, fixed = ordered[:KNOWN], ordered[-FIXED:]

    def teach() -> Report:
        run_key = f"train-{secrets.token_hex(4)}"
        plan = stage(lake, run_key, "snapshot", task=task, **ROUND)
        *_, promoted = shards(lake, plan)
        audit_and_publish(lake, run_key, plan)
        return promoted

    def accuracy(version: str) -> float:
        bundle = Bundle.load(f"models:/{tracking.model_name(task)}/{version}")
        works = {extracted[n]["video_id"]: extracted[n]["work_key"] for n in fixed}
        clips = read_clips(
            lake.dataset("frames"), works, bundle.sampling, tmp_path / f"{version}.npy"
        )
        told = [bundle.labels[best] for best in bundle.predict(clips.array).argmax(axis=1)]
        right = [colours[name_of[v]] == said for v, said in zip(clips.video_ids, told, strict=True)]
        assert len(right) == FIXED
        return float(np.mean(right))

    lines = ["video,label", *(f"{name},{colours[name]}" for name in known)]
    annotate(lake, task, "first.csv", "\n".join(lines).encode())
    champion = teach().result
    assert not champion["promoted"] and "may be guessing" in champion["why"]
    by_hand = stage(lake, "by hand", "promote", task=task, version=champion["model_version"])
    audit_and_publish(lake, "by hand", by_hand)
    tracking.set_alias(always(task, "green"), "challenger")
    night = stage(lake, "night", "label", task=task)
    shards(lake, night)
    audit_and_publish(lake, "night", night)

    plan = review(lake, task, max_videos=32, random_share=0.5, disagreeing_share=0.25, seed=1)
    assert plan.result["counts"] == {"random": 16, "disagreeing": 8, "uncertain": 8}
    for row in rows(lake, "reviews"):
        assert name_of[row["video_id"]] not in known
        if row["picked_for"] != "uncertain":
            assert (row["challenger_version"], row["challenger_label"]) == ("2", "green")

    answers = {v: colours[name_of[v]] for v in picked(lake, plan) if name_of[v] not in fixed}
    imported = answer(lake, task, plan, answers)
    assert "labels of version 1: precision 0." in imported.result["summary"]

    learnt = teach().result
    assert learnt["promoted"], learnt["why"]
    before, after = accuracy(champion["model_version"]), accuracy(learnt["model_version"])
    assert before < 0.8 < after, (before, after)

    def relabel(**config) -> Report:
        run_key = f"relabel-{secrets.token_hex(4)}"
        plan = stage(lake, run_key, "relabel", task=task, **config)
        shards(lake, plan)
        audit_and_publish(lake, run_key, plan)
        return plan

    def current() -> collections.Counter:
        found = run_query("select model_version from current_labels", lake.settings)
        return collections.Counter(found["model_version"].to_pylist())

    told = relabel(dry_run=True).result["counts"]
    assert told["stale"] == len(extracted) and told["cpu_hours"] > 0
    assert current() == {champion["model_version"]: len(extracted)}
    relabel(max_videos=20)
    half = {learnt["model_version"]: 20, champion["model_version"]: len(extracted) - 20}
    assert current() == half, "one label a video, the new champion's where there is one"
    assert relabel().result["counts"]["selected"] == len(extracted) - 20
    assert current() == {learnt["model_version"]: len(extracted)}
    assert relabel().result["counts"]["stale"] == 0
