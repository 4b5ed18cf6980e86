"""The table of formats, and what docs/annotations.md says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.datasets.formats.labelled import FACTS, VIDEOS
from tests.datasets.formats.reading import read, read_folder, video
from vidpipe.datasets.annotations import Box, Key, Statement
from vidpipe.datasets.formats import NAMES
from vidpipe.datasets.formats.exporting import export_annotations
from vidpipe.datasets.formats.rows import COLUMNS
from vidpipe.datasets.formats.table import FORMATS
from vidpipe.datasets.video_names import VideoFacts, VideoNames
from vidpipe.errors import BadInputError

PAGE = (Path(__file__).parents[3] / "docs" / "annotations.md").read_text("utf-8")
BOX = Box(0.1, 0.2, 0.3, 0.4)
ONE = video(1)
KEY, RANGE, FRAME = Key(ONE, None, None, ""), Key(ONE, 1.0, 2.0, ""), Key(ONE, 1.0, 1.0, "")
ROW = {"video": "one", "label": "x", "start_s": 1, "end_s": 2, "split": "train"}
# One thing that is said of each, and of which formats it comes back without their sidecar.
SAID = {
    "whole video": (KEY, Statement("x"), "csv jsonl kinetics activitynet label-studio"),
    "training": (KEY, Statement("x", split="train"), "csv jsonl kinetics ucf101 activitynet"),
    "validation": (KEY, Statement("x", split="validation"), "csv jsonl kinetics activitynet"),
    "range": (RANGE, Statement("x"), "csv jsonl kinetics activitynet label-studio"),
    "annotator": (KEY._replace(annotator="ann"), Statement("x"), "csv jsonl label-studio"),
    "group": (KEY, Statement("x", group="g"), "csv jsonl"),
    "nothing in a video": (KEY, Statement(None), "jsonl activitynet label-studio"),
    "nothing in a range": (RANGE, Statement(None), "jsonl"),
    "nothing in a frame": (FRAME, Statement(None), "jsonl coco yolo"),
    "label of a frame": (FRAME, Statement("x"), "coco"),
    "box": (FRAME, Statement("x", BOX), "csv jsonl coco yolo"),
    "box that is not occluded": (FRAME, Statement("x", BOX, None, False), "csv jsonl coco cvat"),
    "occluded box": (FRAME, Statement("x", BOX, None, True), "csv jsonl coco cvat"),
    "numbered track": (FRAME, Statement("x", BOX, "7"), "csv jsonl coco label-studio"),
    "named track": (FRAME, Statement("x", BOX, "van"), "csv jsonl label-studio"),
    "box of training": (FRAME, Statement("x", BOX, split="train"), "csv jsonl yolo"),
    "box over a range": (RANGE, Statement("x", BOX), "csv jsonl"),
    "time between frames": (Key(ONE, 1.01, 1.01, ""), Statement("x", BOX), "csv jsonl"),
    "range between frames": (
        Key(ONE, 1.01, 2.0, ""),
        Statement("x"),
        "csv jsonl kinetics activitynet",
    ),
    "words": (KEY, Statement("a/b c", split="train"), "csv jsonl kinetics activitynet"),
}


def test_the_table_lists_all_formats():
    assert tuple(FORMATS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_page_tells_what_each_format_is_and_loses(name):
    of = FORMATS[name]
    row = f"| {of.title} | `{name}` | {of.files} | {of.told_by} | {of.loses} |"
    assert row in PAGE


def test_the_page_tells_every_column_and_shows_a_sidecar_that_is_read():
    for column in COLUMNS:
        if column != "video":
            assert re.search(rf"^\| .*`{column}`.* \|", PAGE, re.MULTILINE), column
    (sidecar,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    image = {"id": 1, "file_name": "img_0007.jpg", "width": 64, "height": 36}
    thing = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}
    names = {"categories": [{"id": 1, "name": "car"}]}
    (row,) = read(
        "c.json", {"images": [image], "annotations": [thing], **names}, sidecar
    ).annotations
    assert (row.key.video_id, row.said.label) == (video(9), "car")


@pytest.mark.parametrize("what", SAID)
@pytest.mark.parametrize("name", NAMES)
def test_what_comes_back_without_a_sidecar_is_as_documented(name, what):
    key, said, kept = SAID[what]
    exported = export_annotations({key: [said]}, FORMATS[name], VIDEOS)
    assert (exported.sidecar is None) == (name in kept.split())
    assert bool(exported.lost) == (name not in kept.split())
    if name in kept.split():
        assert exported.kept == 1


def test_losses_are_told_in_words():
    current = {
        KEY._replace(annotator="ann"): [Statement("x", group="g")],
        FRAME: [Statement("x", BOX), Statement("y", BOX)],
        RANGE: [Statement("a"), Statement("b")],
    }
    exported = export_annotations(current, FORMATS["kinetics"], VIDEOS)
    assert exported.lost == [
        "annotator (1 of 5)",
        "group (1 of 5)",
        "boxes (2 of 5)",
        "that a video may have several labels at once (--several, when it is imported)",
    ]


def test_an_import_tells_as_what_it_is_read_and_that_there_is_no_sidecar():
    current = {FRAME: [Statement("x", BOX, "van")]}
    exported = export_annotations(current, FORMATS["cvat"], VIDEOS)
    without = read("a.xml", exported.content)
    assert without.told == [
        "read as CVAT XML for video 1.1, without a sidecar, which only vidpipe export writes"
    ]
    assert read("a.xml", exported.content, exported.sidecar).told == []


def test_a_file_that_was_changed_since_holds_against_its_sidecar():
    ann, bob = (KEY._replace(annotator=name) for name in ("ann", "bob"))
    one, two = Key(ONE, 1.0, 2.0, "ann"), Key(ONE, 3.0, 4.0, "ann")
    current = {one: [Statement("run")], two: [Statement("jump")], bob: [Statement(None)]}
    exported = export_annotations(current, FORMATS["kinetics"], VIDEOS)
    changed = exported.content.replace(b"jump", b"fall")
    again = read("k.csv", changed, exported.sidecar)
    assert {(a.key, a.said.label) for a in again.annotations} == {
        (one, "run"),
        (two._replace(annotator=""), "fall"),
        (bob, None),
    }
    assert again.told == [
        "1 × left out: entries of the sidecar that fit nothing in the file, which was changed since"
    ]
    assert ann not in {a.key for a in again.annotations}


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ("{", "k.csv.vidpipe.json: line 1: not JSON"),
        ([], "k.csv.vidpipe.json: it is an object with: also, format"),
        ({"frames": 1}, "it is an object with"),
        ({"format": "word"}, "k.csv.vidpipe.json.format: there is no format 'word'"),
        ({"also": [{"video": "nope", "label": "x"}]}, r"also\[0\]: no video is called 'nope'"),
        ({"rows": [{"as": ROW, "is": []}]}, r"rows\[0\].is: one row or more is needed"),
        ({"rows": [{"as": ROW}]}, r"rows\[0\].is: one row or more is needed"),
        ({"rows": [{"as": 1, "is": [ROW]}]}, r"rows\[0\].as\[0\]: an object is needed"),
        ({"pictures": {"a": {"video": "one"}}}, r'pictures\["a"\]: frame is a number'),
        ({"pictures": []}, None),
        ({"pictures": [1]}, "pictures: an object is needed"),
    ],
)
def test_faults_of_a_sidecar_are_told_by_place(sidecar, words):
    rows = "label,youtube_id,time_start,time_end,split\nx,one,1,2,train\n"
    if words is None:
        assert read("k.csv", rows, sidecar).annotations
        return
    with pytest.raises(BadInputError, match=words):
        read("k.csv", rows, sidecar)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1,\n', "line 2: not JSON"),
        ("[]", "of no format that is known"),
        ('[{"video": "one", "choice": "left"}]', "of no format that is known"),
    ],
)
def test_a_document_of_no_format_is_told_as_such(content, words):
    with pytest.raises(BadInputError, match=words):
        read("labels.json", content)


def test_json_lines_may_be_called_json():
    lines = [{"video": "one", "label": "x"}, {"video": "clip", "label": "y"}]
    rows = read("labels.json", "\n".join(map(json.dumps, lines)))
    assert (rows.format, len(rows.annotations)) == ("jsonl", 2)


def test_of_a_folder_the_one_file_of_labels_is_read():
    rows = read_folder({"annotations/labels.csv": "video,label\none,x\n", "README.txt": "notes"})
    assert (rows.format, rows.annotations[0].where) == ("csv", "line 2")
    with pytest.raises(BadInputError, match=r"2 files of labels \(a.csv, b.csv\). Import them one"):
        read_folder({"a.csv": "video,label\none,x\n", "b.csv": "video,label\none,x\n"})


def test_videos_of_a_data_set_are_found_by_the_folders_above_them():
    sources = {f"s3://b/ucf/{name}/clip1.mp4": name for name in ("Archery", "Bowling")}
    facts = {name: VideoFacts(1.0) for name in ("Archery", "Bowling")}
    names = VideoNames(sources | {"s3://b/gone.mp4": "gone"}, facts)
    assert names.find_path("data/Archery/clip1.avi") == "Archery"
    assert names.find_path("C:\\data\\Bowling\\clip1.avi") == "Bowling"
    for path, words in (
        ("x/clip1.avi", "2 videos are called 'x/clip1.avi'"),
        ("x/clip2.avi", "no video is called"),
        ("x/gone.avi", "could not be extracted"),
    ):
        with pytest.raises(ValueError, match=words):
            names.find_path(path)


def test_every_video_is_found_again_by_the_name_that_it_is_given():
    for video_id in FACTS:
        assert VIDEOS.find(VIDEOS.name_of(video_id, VIDEOS.find)) == video_id


@pytest.mark.parametrize("label", ["0\x850", "a\u2028b", "caf\u00e9"])
def test_a_line_break_of_unicode_in_a_label_survives_yolo(label):
    exported = export_annotations({FRAME: [Statement(label, BOX)]}, FORMATS["yolo"], VIDEOS)
    assert read_folder(exported.content).annotations[0].said.label == label
