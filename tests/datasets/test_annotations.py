"""Annotation files: every fault is named by its line, and nothing is half imported."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.annotations import VideoNames, parse_annotations
from vidpipe.errors import BadInputError

VIDEOS = VideoNames(
    {
        "s3://videos/a/one.mp4": "1" * 64,
        "s3://videos/same.mp4": "1" * 64,
        "s3://videos/cafe\u0301.mp4": "6" * 64,  # as macOS writes it
        "s3://videos/a/two.mp4": "2" * 64,
        "s3://videos/b/two.mp4": "3" * 64,
        "s3://videos/b/broken.mp4": "4" * 64,
        's3://videos/odd, "name"\n.mp4': "5" * 64,
    },
    {"1" * 64: 10.0, "2" * 64: 5.0, "3" * 64: 5.0, "5" * 64: 1.0, "6" * 64: 1.0},
)


def parse(text: str, name: str = "labels.csv"):
    return parse_annotations(name, text.encode(), VIDEOS)


@pytest.mark.parametrize("name", ["s3://videos/a/one.mp4", "a/one.mp4", "one.mp4"])
def test_a_video_is_named_by_uri_key_or_file_name(name):
    (row,) = parse(f"video,label\n{name},wave\n")
    assert (row.video_id, row.label, row.line, row.start_s) == ("1" * 64, "wave", 2, None)


def test_json_lines_say_the_same_as_csv():
    as_csv = parse("video,label,start_s,end_s,annotator,delete\none.mp4,wave,1,2.5,ann,no\n")
    row = {"video": "one.mp4", "label": "wave", "start_s": 1, "end_s": 2.5, "annotator": "ann"}
    (as_json,) = parse(json.dumps(row), "labels.jsonl")
    assert (as_json.key, as_json.label) == (as_csv[0].key, as_csv[0].label)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("video,label\none.mp4,\n", 2, "the label is empty"),
        ("video,label\none.mp4,  \n", 2, "the label is empty"),
        ("video,label\n,wave\n", 2, "no video is named"),
        ("video,label\nthree.mp4,wave\n", 2, "no video is called 'three.mp4'"),
        ("video,label\ntwo.mp4,wave\n", 2, "2 videos are called 'two.mp4'"),
        ("video,label\nbroken.mp4,wave\n", 2, "could not be extracted"),
        ("video,label,start_s,end_s\none.mp4,wave,9,11\n", 2, "outside the video of 10.00 s"),
        ("video,label,start_s,end_s\none.mp4,wave,-1,2\n", 2, "outside the video"),
        ("video,label,start_s,end_s\none.mp4,wave,3,3\n", 2, "is empty"),
        ("video,label,start_s,end_s\none.mp4,wave,3,\n", 2, "go together"),
        ("video,label,start_s,end_s\none.mp4,wave,x,4\n", 2, "start_s must be seconds"),
        ("video,label,start_s,end_s\none.mp4,wave,nan,4\n", 2, "start_s must be seconds"),
        ("video,label,delete\none.mp4,wave,perhaps\n", 2, "delete must be true or false"),
        ("video,label\none.mp4,wave\none.mp4,nod\n", 3, "annotator as line 2"),
        ("video,label\none.mp4,wave\nsame.mp4,nod\n", 3, "'same.mp4' is the video of 'one.mp4'"),
        ("video,label\none.mp4,wave,more\n", 2, "more fields than columns"),
        ("video,name\none.mp4,wave\n", 1, "there is no column 'name'"),
        ("video\none.mp4\n", 1, "columns video and label are needed"),
        ("video,label,Label\none.mp4,wave,nod\n", 1, "the column label is there twice"),
        ('video,label\none.mp4,wave\nsix.mp4,"nod\nand on\n', 3, "look for a quote too many"),
    ],
)
def test_each_fault_is_listed_with_its_line(text, line, words):
    with pytest.raises(BadInputError, match=f"line {line}: .*{words}"):
        parse(text)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_spreadsheets_write_separators_and_capitals_of_their_own(separator):
    header, row = ("Video", " label", "START_S", "end_s"), ("one.mp4", "a, b", "1", "2")
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([header, row])
    (read,) = parse(text.getvalue())
    assert (read.video, read.label, read.start_s) == ("one.mp4", "a, b", 1.0)


@pytest.mark.parametrize("name", ["caf\u00e9.mp4", "cafe\u0301.mp4", "s3://videos/caf\u00e9.mp4"])
def test_an_accent_may_be_written_in_either_way(name):
    assert parse(f"video,label\n{name},wave\n")[0].video_id == "6" * 64


def test_spaces_around_a_name_are_a_slip_unless_they_are_the_name():
    assert parse("video,label\n one.mp4 ,wave\n")[0].video_id == "1" * 64
    videos = VideoNames({"s3://b/a.mp4": "1", "s3://b/ a.mp4": "2"}, {"1": 1.0, "2": 1.0})
    assert [videos.find(name) for name in ("a.mp4", " a.mp4", "a.mp4 ")] == ["1", "2", "1"]


def test_all_faults_are_listed_at_once_and_the_good_rows_are_not_imported():
    with pytest.raises(BadInputError) as caught:
        parse("video,label\none.mp4,wave\nx.mp4,wave\na/two.mp4,\n")
    assert "2 faults" in str(caught.value)
    assert "line 3" in str(caught.value) and "line 4" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"video,label\n", b"\n\n"])
def test_an_empty_file_is_a_fault(content):
    with pytest.raises(BadInputError):
        parse_annotations("labels.csv", content, VIDEOS)


def test_bytes_that_are_not_utf8_are_a_fault_of_their_line():
    with pytest.raises(BadInputError, match="line 2: not UTF-8"):
        parse_annotations("labels.csv", b"video,label\none.mp4,caf\xe9\n", VIDEOS)


@pytest.mark.parametrize("line", ["[1]", "{", "7", '{"video": 3, "label": "a"}', '{"vidoe": "a"}'])
def test_json_that_is_no_annotation_is_a_fault(line):
    with pytest.raises(BadInputError, match="line 1"):
        parse(line, "labels.jsonl")


def test_a_quoted_name_may_hold_commas_quotes_and_newlines():
    text = io.StringIO()
    csv.writer(text).writerows([["video", "label"], ['odd, "name"\n.mp4', "wave"]])
    (row,) = parse(text.getvalue())
    assert row.video_id == "5" * 64


@given(st.binary(max_size=300), st.sampled_from(["labels.csv", "labels.jsonl"]))
def test_any_bytes_end_in_rows_or_in_one_error(content, name):
    try:
        rows = parse_annotations(name, content, VIDEOS)
    except BadInputError as error:
        assert name in str(error)
    else:
        assert rows
