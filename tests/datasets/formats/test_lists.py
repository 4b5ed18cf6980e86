"""Lists of videos with labels: Kinetics, UCF101, ActivityNet."""

from __future__ import annotations

import pytest

from tests.datasets.formats.labelled import VIDEOS
from tests.datasets.formats.reading import read, read_folder, told, video
from vidpipe.datasets.annotations import Key, Statement
from vidpipe.datasets.formats.exporting import export_annotations
from vidpipe.datasets.formats.given import make_zip
from vidpipe.datasets.formats.table import FORMATS
from vidpipe.errors import BadInputError

KINETICS = "label,youtube_id,time_start,time_end,split\n"
CLASSES = "1 Archery\n2 Bowling\n"


def test_kinetics_finds_the_clip_that_was_cut_out_or_the_range_of_the_whole():
    rows = read(
        "train.csv",
        f"{KINETICS}dancing,dQw4w9WgXcQ,10,20,train\nsinging,dQw4w9WgXcQ,30,40,validate\n"
        '"a, b",one,0,10,test\n',
    )
    assert rows.format == "kinetics"
    assert told(rows) == [
        (6, None, None, "", "dancing"),
        (7, 30.0, 40.0, "", "singing"),
        (1, None, None, "", "a, b"),
    ]
    assert [a.said.split for a in rows.annotations] == ["train", "validation", "test"]


def test_a_list_tells_of_videos_that_nobody_has():
    rows = read("k.csv", f"{KINETICS}x,one,0,5,train\nx,unknown1,0,5,train\nx,unknown2,0,5,\n")
    assert told(rows) == [(1, 0.0, 5.0, "", "x")]
    assert any("2 videos of the list are not here" in line for line in rows.told)
    with pytest.raises(BadInputError, match="none of its 1 videos is known, such as 'unknown'"):
        read("k.csv", f"{KINETICS}x,unknown,0,5,train\n")


def test_rows_without_a_label_say_nothing():
    rows = read("k.csv", f"{KINETICS},one,0,5,test\nx,one,5,10,test\n")
    assert told(rows) == [(1, 5.0, 10.0, "", "x")]
    assert any("1 × left out: rows without a label" in line for line in rows.told)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x,two,0,1,train", "2 videos are called 'two'"),
        ("x,one,0,x,train", "time_end must be seconds. Received: 'x'"),
        ("x,one,0,,train", "time_end must be seconds"),
        ("x,one,0,99,train", "outside the video of 10.00 s"),
        ("x,one,0,5,dev", "split must be"),
        ("x,,0,5,train", "no video is named"),
        ("x,one,0,5,train,more", "more values than columns"),
    ],
)
def test_faults_of_a_kinetics_list_are_told_by_line(row, words):
    with pytest.raises(BadInputError, match=f"line 3: .*{words}"):
        read("k.csv", f"{KINETICS}x,one,5,6,train\n{row}\n")


def test_ucf101_is_read_from_a_folder_an_archive_or_one_list():
    files = {
        "classInd.txt": CLASSES,
        "trainlist01.txt": "Archery/v_Archery_g01_c02.avi 1\r\nBowling/one.avi 2\r\n",
        "testlist01.txt": "Bowling/a/../Bowling/clip_000123.avi\n",
        "README.txt": "notes",
    }
    rows = read_folder(files)
    assert rows.format == "ucf101"
    assert told(rows) == [
        (5, None, None, "", "Archery"),
        (1, None, None, "", "Bowling"),
        (8, None, None, "", "Bowling"),
    ]
    assert [(a.said.split, a.said.group) for a in rows.annotations] == [
        ("train", "Archery_g01"),
        ("train", None),
        ("test", None),
    ]
    inside = {f"ucfTrainTestlist/{name}": text.encode() for name, text in files.items()}
    assert set(told(read("ucf.zip", make_zip(inside)))) == set(told(rows))
    (one,) = read("testlist01.txt", files["testlist01.txt"]).annotations
    assert (one.said.label, one.said.split, one.where) == ("Bowling", "test", "line 1")


@pytest.mark.parametrize(
    "lists",
    [
        {"trainlist01.txt": "a/one.avi\nb/one.avi\n"},
        {"trainlist01.txt": "a/one.avi\n", "testlist01.txt": "data\\b\\one.avi\n"},
        {"classInd.txt": "1 a\n2 b\n", "trainlist01.txt": "one.avi 1\none.avi 2\n"},
    ],
)
def test_of_one_name_in_several_classes_the_one_that_is_here_is_labelled(lists):
    rows = read_folder(lists)
    assert told(rows) == [(1, None, None, "", "a")]
    assert any(line.startswith("1 videos of the list are not here") for line in rows.told)


def test_a_video_of_another_class_is_not_the_one_that_is_listed():
    lists = {"classInd.txt": "1 a\n2 b\n", "trainlist01.txt": "b/one.avi 2\n"}
    with pytest.raises(BadInputError, match="none of its 1 videos is known, such as 'b/one.avi'"):
        read_folder(lists)


def test_who_labels_a_video_of_another_class_folder_finds_it_again():
    said = {
        Key(video(1), None, None, ""): frozenset([Statement("b", split="train")]),
        Key(video(2), None, None, ""): frozenset([Statement("a", split="train")]),
    }
    files = export_annotations(said, FORMATS["ucf101"], VIDEOS).content
    assert told(read_folder(files)) == [(1, None, None, "", "b"), (2, None, None, "", "a")]


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"trainlist01.txt": "one.avi 1\n"}, "trainlist01.txt, line 1: nothing tells the class"),
        (
            {"classInd.txt": CLASSES, "trainlist01.txt": "Archery/one.avi 2\n"},
            "trainlist01.txt, line 1: class 2 is Bowling, but the folder is 'Archery'",
        ),
        (
            {"classInd.txt": CLASSES, "trainlist01.txt": "Archery/one.avi 3\n"},
            "there is no class 3 in classInd.txt",
        ),
        (
            {"classInd.txt": "Archery\n", "trainlist01.txt": "Archery/one.avi\n"},
            "classInd.txt, line 1: a line is a number and a class",
        ),
        (
            {"trainlist01.txt": "A/one.avi\n", "testlist02.txt": "A/one.avi\n"},
            r"lists of 2 splits \(01, 02\)",
        ),
        ({"trainlist01.txt": "A/two.avi\n"}, "2 videos are called 'A/two.avi'"),
        (
            {"trainlist01.txt": "A/one.avi\n", "testlist01.txt": "A/one.mp4\n"},
            "line 1: the same video, range",
        ),
    ],
)
def test_faults_of_ucf101_lists(lists, words):
    with pytest.raises(BadInputError, match=words):
        read_folder(lists)


def activitynet(**videos) -> dict:
    return {"version": "1.3", "taxonomy": [], "database": videos}


def test_activitynet():
    document = activitynet(
        abcdefghijk={
            "subset": "training",
            "duration": 20.0,
            "annotations": [
                {"segment": [2, 7.5], "label": "Surfing"},
                {"segment": [0.0, 19.95], "label": "Beach"},
            ],
        },
        clip={"subset": "validation", "annotations": []},
        one={"subset": "testing", "annotations": []},
        unknown={"subset": "training", "annotations": [{"segment": [0, 1], "label": "x"}]},
    )
    rows = read("activity_net.json", document)
    assert rows.format == "activitynet"
    assert told(rows) == [
        (10, 2.0, 7.5, "", "Surfing"),
        (10, None, None, "", "Beach"),
        (9, None, None, "", None),  # it was looked at, and there is nothing
    ]
    assert [a.said.split for a in rows.annotations] == ["train", "train", "validation"]
    assert any("test videos whose segments are not given" in line for line in rows.told)


@pytest.mark.parametrize(
    ("video", "place", "words"),
    [
        ({"annotations": [{"segment": [1], "label": "x"}]}, r".annotations\[0\].segment", "a list"),
        (
            {"annotations": [{"segment": [1, "a"], "label": "x"}]},
            r".annotations\[0\].segment",
            "'a'",
        ),
        ({"annotations": [{"segment": [1, 2]}]}, r".annotations\[0\].label", "Received: nothing"),
        ({"annotations": [{"segment": [2, 1], "label": "x"}]}, r".annotations\[0\]", "is empty"),
        ({"annotations": {"a": 1}}, ".annotations", "a list is needed. Received: dict"),
        ({"subset": "dev", "annotations": []}, "", "split must be"),
        ({"subset": 3, "annotations": []}, ".subset", "Received: int"),
    ],
)
def test_faults_of_activitynet_are_told_by_place(video, place, words):
    with pytest.raises(BadInputError, match=rf'database\["one"\]{place}: .*{words}'):
        read("a.json", activitynet(one=video))
