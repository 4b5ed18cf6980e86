"""Snapshots split by what belongs together, prove it, and keep what was split before."""

from __future__ import annotations

import collections
import io
import json
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from PIL import Image

from tests.lake.rows import DAY, publish_rows
from tests.media_files import run_ffmpeg
from tests.runs import audit_and_publish, ingest, rows, stage
from vidpipe.datasets.labelled import Dataset
from vidpipe.datasets.near_duplicates import METHOD
from vidpipe.errors import BadInputError
from vidpipe.lake.query import run_query
from vidpipe.lake.tables import Lake
from vidpipe.local.demo_data import DemoData
from vidpipe.stages.manifest import Manifest, Report
from vidpipe.stages.runner import run_stage
from vidpipe.stages.staged import staged_objects
from vidpipe.stages.subject import Subject

TASK = "kind"
CONFIG = {"task": TASK, "architectures": ["cnn"], "seed": 0, "test_share": 0.3}


def snapshot(lake: Lake, **config: Any) -> Report:
    return stage(lake, f"train-{secrets.token_hex(4)}", "snapshot", **{**CONFIG, **config})


def publish(lake: Lake, plan: Report) -> None:
    """Publishes a snapshot as if its training had gone well."""
    audit_and_publish(lake, plan.run_key, plan, max_failed_share=1.0)


def dataset_of(lake: Lake, plan: Report) -> Dataset:
    config = Manifest.read(lake.store, plan.result["shards"][0]).config
    return Dataset.from_json(lake.store.get_json(config["dataset"]))


def splits_of(lake: Lake, plan: Report) -> dict[str, str]:
    return {video.video_id: video.split for video in dataset_of(lake, plan).videos}


def look(number: int) -> str:
    """A fingerprint that is near to that of no other number."""
    frame = f"{int.from_bytes(bytes([number * 37 % 251, number]) * 4):016x}8080"
    return " ".join([frame] * 8)


class Videos:
    """Videos that are known to a lake by their rows alone: nothing is decoded."""

    def __init__(self, lake: Lake):
        self.lake = lake

    def add(
        self,
        looks: dict[str, str],
        labels: dict[str, str],
        *,
        lacks: Collection[str] = (),
        frames: Mapping[str, bytes] = MappingProxyType({}),
        **said: dict[str, str],
    ) -> None:
        """Publishes videos with their fingerprints and labels; `said`: further columns of these.

        Frames of those of `lacks` are missing; `frames` has a JPEG of each video that has one.
        """
        number = secrets.token_hex(4)
        videos = [
            {
                "video_id": name,
                "source_uri": f"s3://videos/{name}.mp4",
                "work_key": f"x-{name}",
                "missing_frames": int(name in lacks),
            }
            for name in looks
        ]
        fingerprints = [
            {"video_id": v, "extraction": f"x-{v}", "method": METHOD, "fingerprint": words}
            for v, words in looks.items()
        ]
        annotations = [
            {"task": TASK, "video_id": v, "label": label, "source": f"{number}:{v}"}
            | {column: values[v] for column, values in said.items() if v in values}
            for v, label in labels.items()
        ]
        pictures = [
            {"video_id": v, "work_key": f"x-{v}", "jpeg": jpeg} for v, jpeg in frames.items()
        ]
        made = {
            "videos": videos,
            "fingerprints": fingerprints,
            "annotations": annotations,
            "frames": pictures,
        }
        publish_rows(self.lake, f"made-{number}", "extract", {t: r for t, r in made.items() if r})


@pytest.fixture
def videos(lake) -> Videos:
    """A lake with ten videos of each of two classes; all look different."""
    videos = Videos(lake)
    names = {f"{label}{n}": label for label in "ab" for n in range(10)}
    videos.add({name: look(number) for number, name in enumerate(names)}, names)
    return videos


def test_pictures_alone_are_nothing_to_learn_from(lake):
    told = {"task": TASK, "video_id": "v"}
    box = {"box_x": 0.1, "box_y": 0.1, "box_width": 0.1, "box_height": 0.1}
    annotations = [
        told | {"label": "car", "start_s": 0.0, "end_s": 0.0} | box,
        told | {"label": None, "start_s": 1.0, "end_s": 1.0},
    ]
    publish_rows(lake, "told", "annotate", {"annotations": annotations})
    with pytest.raises(BadInputError, match="boxes and empty pictures only"):
        snapshot(lake, kind="several")


def test_copies_go_where_the_original_goes_and_are_looked_at_once(
    lake, bucket, media: DemoData, tmp_path, capsys
):
    labels = ["video,label"]
    for number, path in enumerate(media.videos[:6]):
        for name, writing in (
            (path.name, None),
            (f"small-{path.name}", ["-vf", "scale=iw*0.75:ih*0.75"]),
            (f"late-{path.name}", ["-ss", "0.4", "-crf", "25"]),
        ):
            copy = path
            if writing:
                copy = tmp_path / name
                run_ffmpeg("-i", path, "-pix_fmt", "yuv420p", *writing, copy)
            bucket.put(name, copy)
            labels.append(f"{name},{'ab'[number % 2]}")
    ingest(lake, "ingest", fps=8.0, short_side=128)
    file = f"{lake.uri}/annotations/x/labels.csv"
    lake.store.put(file, "\n".join(labels).encode())
    audit_and_publish(lake, "annotate", stage(lake, "annotate", "annotate", task=TASK, file=file))
    capsys.readouterr()
    plan = snapshot(lake)
    told = capsys.readouterr().out

    named = {row["video_id"]: Path(row["source_uri"]).name for row in rows(lake, "videos")}
    where = collections.defaultdict(set)
    for video_id, split in splits_of(lake, plan).items():
        where[named[video_id].rpartition("-")[2]].add(split)
    assert len(where) == 6 and all(len(found) == 1 for found in where.values())
    assert set().union(*where.values()) == {"train", "validation", "test"}
    counts = plan.result["counts"]
    assert counts["units"] == 6 and counts["near_pairs"] >= 12 and counts["left_out"] == 0
    assert f"6 units, {counts['near_pairs']} near pairs" in plan.result["summary"]
    assert f"near duplicates: {bucket.uri}/" in told and "looked at" in told

    publish(lake, plan)
    found = rows(lake, "fingerprints")
    assert {row["video_id"] for row in found} == set(named) and len(found) == 18
    again = snapshot(lake)
    assert "looked at" not in capsys.readouterr().out
    assert again.result["dataset"] == plan.result["dataset"]
    publish(lake, again)
    assert len(rows(lake, "fingerprints")) == 18 and len(rows(lake, "splits")) == 18


def test_near_duplicates_that_cannot_be_split_are_named_and_shown(videos):
    lake = videos.lake
    names = ["copy-one", "copy-two", "copy-three"]
    jpeg = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(jpeg, "jpeg")
    frame = look(99).split()[0]
    looks = [frame, f"{int(frame[:16], 16) ^ 0b111:016x}8080", f"{int(frame, 16) ^ (1 << 16):020x}"]
    videos.add(
        {name: " ".join([words] * 8) for name, words in zip(names, looks, strict=True)},
        dict.fromkeys(names, "c"),
        frames={name: jpeg.getvalue() for name in names},
    )
    with pytest.raises(BadInputError) as caught:
        snapshot(lake)
    message = str(caught.value)
    assert "Class 'c' has 3 videos in 1 unit, as they are near duplicates" in message
    assert "show something else" in message and "near_duplicate_bits" not in message
    told = (
        "Near duplicates: s3://videos/copy-one.mp4 and s3://videos/copy-three.mp4 (1 of 64 bits),"
        " s3://videos/copy-three.mp4 and s3://videos/copy-two.mp4 (2 of 64 bits),"
        " s3://videos/copy-one.mp4 and s3://videos/copy-two.mp4 (3 of 64 bits)."
    )
    assert told in message and "\n" not in message
    uri = message.partition("A picture shows them: ")[2]
    content = lake.store.get(uri)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG" and picture.width > 500
    # So that a video that is forgotten goes from it, too.
    subject = Subject("copy-two", videos={"copy-two"})
    assert uri in staged_objects(lake, subject, lambda line: None)


def test_near_duplicates_without_frames_are_named(videos):
    videos.add({"one": look(99), "other": look(99)}, {"one": "c", "other": "c"})
    with pytest.raises(BadInputError, match=r"s3://videos/other.mp4 \(0 of 64 bits\)\.$"):
        snapshot(videos.lake)


def test_the_table_holds_what_proves_it(videos):
    lake = videos.lake
    videos.add({"copy": look(0)}, {"copy": "a"})
    plan = snapshot(lake)
    publish(lake, plan)
    (version,) = run_query(
        """
        select version, proof, count(*) as videos, count(distinct "group") as units
        from splits group by all
        """,
        lake.settings,
    ).to_pylist()
    proof = json.loads(version["proof"])
    assert version["version"] == plan.result["dataset"]
    assert version["videos"] == proof["videos"] == 21
    assert version["units"] == proof["units"] == plan.result["counts"]["units"] == 20
    assert (proof["near_pairs"], proof["near_duplicate_bits"]) == (1, 8)
    page = (Path(__file__).parents[2] / "docs/datasets.md").read_text("utf-8")
    newest, by_class, units, torn = (
        run_query(statement, lake.settings).to_pylist()
        for statement in page.split("```sql\n")[1].split("```")[0].strip()[:-1].split(";\n")
    )
    (found,) = newest
    assert found.items() >= {"videos": 21, "units": 20, "proof": version["proof"]}.items()
    assert sum(row["videos"] for row in by_class) == 21 and torn == []
    assert [row["videos"] for row in units] == [2]
    names = {row["video_id"] for row in rows(lake, "splits")}
    assert not names & {row["group"] for row in rows(lake, "splits")}


def test_new_videos_join_and_none_of_the_old_moves(videos):
    lake = videos.lake
    plan = snapshot(lake)
    publish(lake, plan)
    before = splits_of(lake, plan)
    names = {f"new-{label}{n}": label for label in "ab" for n in range(20)}
    videos.add({name: look(100 + number) for number, name in enumerate(names)}, names)
    after = splits_of(lake, snapshot(lake))
    assert {v: after[v] for v in before} == before
    assert collections.Counter(after.values())["test"] == 18
    # Another seed, and another share, draw anew.
    for other in ({"seed": 1}, {"test_share": 0.4}):
        drawn = splits_of(lake, snapshot(lake, **other))
        assert any(drawn[v] != split for v, split in before.items())
    publish(lake, snapshot(lake, seed=1))
    assert splits_of(lake, snapshot(lake)) == after


def test_the_same_split_by_another_seed_is_remembered_as_well(videos):
    lake = videos.lake
    names = {f"{label}{n}": label for label in "ab" for n in range(10)}
    split_of = ["train"] * 6 + ["validation"] + ["test"] * 3
    listed = {name: split_of[int(name[1])] for name in names}
    videos.add({}, names, split=listed)
    plans = [snapshot(lake, seed=seed) for seed in (0, 5)]
    assert plans[0].result["dataset"] == plans[1].result["dataset"]
    for plan in plans:
        publish(lake, plan)
    assert collections.Counter(row["seed"] for row in rows(lake, "splits")) == {0: 20, 5: 20}


def test_a_video_that_ties_train_and_test_is_left_out_and_named(videos, capsys):
    lake = videos.lake
    plan = snapshot(lake)
    publish(lake, plan)
    before = splits_of(lake, plan)
    taught, tested = (
        next(v for v in sorted(before) if before[v] == split) for split in ("train", "test")
    )
    frames = [look(int(v[1]) + 10 * (v[0] == "b")).split()[0] for v in (taught, tested)]
    # Each of the two is in it as a whole.
    videos.add({"bridge": " ".join([frames[0]] * 4 + [frames[1]] * 4)}, {"bridge": "a"})
    capsys.readouterr()
    again = snapshot(lake)
    told = capsys.readouterr().out
    assert splits_of(lake, again) == before
    assert again.result["counts"]["left_out"] == 1
    assert "1 left out" in again.result["summary"]
    line = f"left out: s3://videos/bridge.mp4, as it belongs to s3://videos/{tested}.mp4 (test)"
    assert f"{line} and to s3://videos/{taught}.mp4 (train)" in told


def test_what_looks_alike_later_leaves_the_training_not_the_test(videos, capsys):
    lake = videos.lake
    plan = snapshot(lake, near_duplicate_bits=0)
    assert "near duplicates were not looked for" in plan.result["summary"]
    assert dataset_of(lake, plan).proof.near_duplicate_bits == 0
    publish(lake, plan)
    before = splits_of(lake, plan)
    taught, tested = (
        next(v for v in sorted(before) if before[v] == split) for split in ("train", "test")
    )
    publish_rows(
        lake,
        "newer",
        "extract",
        {
            "videos": [
                {"video_id": taught, "work_key": "newer", "ingested_at": DAY.replace(month=4)}
            ],
            "fingerprints": [
                {
                    "video_id": taught,
                    "extraction": "newer",
                    "method": METHOD,
                    "fingerprint": look(int(tested[1]) + 10 * (tested[0] == "b")),
                }
            ],
        },
    )
    after = splits_of(lake, snapshot(lake))
    assert after == {v: split for v, split in before.items() if v != taught}
    assert "as it belongs to" in capsys.readouterr().out


def test_what_owners_say_counts_the_newest_first(videos, capsys):
    lake = videos.lake
    names = {f"{label}{n}": label for label in "ab" for n in range(10)}
    listed = {"a0": "test", "b0": "train"}
    videos.add({}, names, group={"a0": "roof", "a1": "roof", "b1": "roof"}, split=listed)
    plan = snapshot(lake)
    found = splits_of(lake, plan)
    assert (found["a0"], found["a1"], found["b1"], found["b0"]) == ("test",) * 3 + ("train",)
    assert dataset_of(lake, plan).proof.owner_groups == {"a0": "roof", "a1": "roof", "b1": "roof"}
    assert plan.result["counts"]["units"] == 18
    publish(lake, plan)

    # A later row without a value takes nothing back; one with a value does.
    later = {"annotated_at": {"a0": DAY.replace(month=5), "b0": DAY.replace(month=5)}}
    videos.add({}, {"a0": "a", "b0": "b"}, split={"a0": "", "b0": "test"}, **later)
    capsys.readouterr()
    after = splits_of(lake, snapshot(lake))
    assert after == {**found, "b0": "test"}
    assert "moved, as its split is given: s3://videos/b0.mp4 from train" in capsys.readouterr().out

    videos.add({}, {"a1": "a"}, split={"a1": "validation"})
    with pytest.raises(BadInputError, match="s3://videos/a1.mp4, validation"):
        snapshot(lake)


def test_what_cannot_be_split_is_told_before_any_frame_is_read(videos, capsys):
    lake = videos.lake
    # None of these has a fingerprint, or a frame to make it from.
    publish_rows(lake, "more", "extract", {"videos": [{"video_id": f"c{n}"} for n in range(3)]})
    videos.add({}, {"nowhere": "z"})
    with pytest.raises(BadInputError, match="'z' has 1 labelled videos, and none of them has fr"):
        snapshot(lake)
    publish_rows(lake, "found", "extract", {"videos": [{"video_id": "nowhere"}]})
    with pytest.raises(BadInputError, match="'z' has one example"):
        snapshot(lake)
    videos.add({}, {f"c{n}": "z" for n in range(3)} | {"nowhere": "z"}, group={"nowhere": "g"})
    groups = {f"c{n}": "g" for n in range(3)}
    videos.add({}, dict.fromkeys(groups, "z"), group=groups)
    with pytest.raises(BadInputError, match="'z' has 4 videos in 1 unit, as they are of one group"):
        snapshot(lake)
    assert "looked at" not in capsys.readouterr().out
    videos.add({}, {"c0": "z"}, split={"c0": "dev"})
    with pytest.raises(BadInputError, match="A given split is train, validation or test"):
        snapshot(lake)


def test_nothing_is_measured_without_a_proof_that_holds(videos):
    lake = videos.lake
    plan = snapshot(lake)
    evaluate = Manifest.read(lake.store, plan.result["shards"][1])
    uri = evaluate.config["dataset"]
    document = lake.store.get_json(uri)
    with pytest.raises(BadInputError, match="has no report"):
        run_stage(evaluate, lake)  # the proof holds; it is the training that is missing
    moved = [{**document["videos"][0], "split": "test"}, *document["videos"][1:]]
    near = {**document["proof"]["fingerprints"], "a1": look(0)}
    for wrong, why in (
        ({**document, "proof": None}, "has no proof"),
        ({key: value for key, value in document.items() if key != "proof"}, "has no proof"),
        ({**document, "videos": moved}, "proof of the split does not hold"),
        ({**document, "videos": document["videos"][1:]}, "proof of the split does not hold"),
        ({**document, "proof": {**document["proof"], "fingerprints": near}}, "leaks|not hold"),
    ):
        lake.store.put_json(uri, wrong)
        with pytest.raises(BadInputError, match=why) as caught:
            run_stage(evaluate, lake)
        assert "\n" not in str(caught.value)


def test_what_is_forgotten_leaves_no_fingerprint_and_the_others_stay(videos):
    lake = videos.lake
    anna = "a" * 64
    videos.add({anna: look(0)}, {anna: "a"})
    plan = snapshot(lake)
    publish(lake, plan)
    before = splits_of(lake, plan)
    done = stage(lake, "forget", "forget", video=anna, idle_hours=0)
    assert done.result["rows"]["fingerprints"] == 1 and done.result["rows"]["splits"] == 1
    assert anna not in {row["video_id"] for row in rows(lake, "fingerprints")}
    after = splits_of(lake, snapshot(lake))
    assert after == {v: split for v, split in before.items() if v != anna}
