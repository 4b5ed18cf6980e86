"""Annotation files: every fault is named by its line, and nothing is half imported."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.annotations import Annotation, Box
from vidpipe.datasets.formats.given import of_file
from vidpipe.datasets.formats.importing import parse_annotations
from vidpipe.datasets.video_names import VideoFacts, VideoNames
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
    {
        "1" * 64: VideoFacts(10.0),
        "2" * 64: VideoFacts(5.0),
        "3" * 64: VideoFacts(5.0),
        "5" * 64: VideoFacts(1.0),
        "6" * 64: VideoFacts(1.0),
    },
)


def parse_bytes(content: bytes, name: str = "labels.csv", **options) -> list[Annotation]:
    return parse_annotations(of_file(name, content), VIDEOS, **options).annotations


def parse(text: str, name: str = "labels.csv", **options) -> list[Annotation]:
    return parse_bytes(text.encode(), name, **options)


@pytest.mark.parametrize(
    "name", ["s3://videos/a/one.mp4", "a/one.mp4", "one.mp4", "a/one", "one", "1" * 64]
)
def test_a_video_is_named_by_uri_key_file_name_without_ending_or_id(name):
    (row,) = parse(f"video,label\n{name},wave\n")
    assert (row.key, row.said.label, row.where) == (
        ("1" * 64, None, None, ""),
        "wave",
        "line 2",
    )


def test_a_name_with_its_ending_is_not_that_of_another_file():
    videos = VideoNames(
        {"s3://b/a": "1", "s3://b/a.mp4": "2", "s3://b/c.mp4": "3"},
        {name: VideoFacts(1.0) for name in "123"},
    )
    assert [videos.find(name) for name in ("a", "a.mp4", "c")] == ["1", "2", "3"]
    with pytest.raises(ValueError, match="no video is called 'c.avi'"):
        videos.find("c.avi")


def test_json_lines_say_the_same_as_csv():
    as_csv = parse("video,label,start_s,end_s,annotator,delete\none.mp4,wave,1,2.5,ann,no\n")
    row = {"video": "one.mp4", "label": "wave", "start_s": 1, "end_s": 2.5, "annotator": "ann"}
    (as_json,) = parse(json.dumps(row), "labels.jsonl")
    assert (as_json.key, as_json.said) == (as_csv[0].key, as_csv[0].said)


def test_a_row_may_tell_of_a_box_in_a_frame_and_of_what_the_video_belongs_to():
    row = {
        "video": "one.mp4",
        "label": "car",
        "start_s": 3,
        "end_s": 3,
        "box_x": 0.25,
        "box_y": 0,
        "box_width": 0.75,
        "box_height": 0.12345678,
        "track": 7,
        "occluded": True,
        "group": "flight-3",
        "split": "val",
    }
    (as_json,) = parse(json.dumps(row), "labels.jsonl")
    text = io.StringIO()
    csv.writer(text).writerows([row, row.values()])
    (as_csv,) = parse(text.getvalue())
    assert as_csv.key == as_json.key == ("1" * 64, 3.0, 3.0, "")
    assert as_csv.said == as_json.said
    assert as_json.said == (
        "car",
        Box(0.25, 0.0, 0.75, 0.123457),
        "7",
        True,
        "flight-3",
        "validation",
    )


def test_that_there_is_nothing_is_null_in_json_and_a_slip_in_csv():
    (row,) = parse('{"video": "one", "label": null}', "labels.jsonl")
    assert row.said == (None, None, None, None, None, None)
    with pytest.raises(BadInputError, match="line 1: the label is empty"):
        parse('{"video": "one"}', "labels.jsonl")


BOX = "box_x,box_y,box_width,box_height"


def test_several_boxes_in_a_frame_are_a_set():
    rows = parse(
        f"video,label,start_s,end_s,{BOX}\none,car,1,1,0,0,1,1\none,car,1,1,0,0,.5,1\n"
        "one,car,1,1,0,0,1,1\n"
    )
    assert len(rows) == 2 and len({row.key for row in rows}) == 1


def test_several_labels_are_allowed_only_where_that_is_said():
    text = "video,label\none.mp4,wave\none.mp4,nod\none.mp4,wave\n"
    assert [row.said.label for row in parse(text, several=True)] == ["wave", "nod"]
    with pytest.raises(
        BadInputError, match="as line 2: 'wave' and 'nod'; keep .*; where several labels are meant"
    ):
        parse(text)


@pytest.mark.parametrize(
    ("first", "second"), [("nothing", "label"), ("label", "nothing"), ("delete", "label")]
)
def test_nothing_and_something_contradict(first, second):
    rows = {"nothing": {"label": None}, "label": {"label": "x"}, "delete": {"delete": True}}
    lines = "\n".join(json.dumps({"video": "one", **rows[kind]}) for kind in (first, second))
    with pytest.raises(BadInputError, match="line 2: the same video, range and annotator"):
        parse(lines, "labels.jsonl", several=True)


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
        (f"video,label,{BOX}\none,car,0,0,1,\n", 2, "go together"),
        (f"video,label,{BOX}\none,car,0,0,1,120\n", 2, "in shares of the picture"),
        (f"video,label,{BOX}\none,car,0.6,0,0.5,1\n", 2, "in shares of the picture"),
        (f"video,label,{BOX}\none,car,-0.1,0,0.5,1\n", 2, "in shares of the picture"),
        (f"video,label,{BOX}\none,car,0,0,0,1\n", 2, "its size is 0"),
        (f"video,label,{BOX}\none,car,0,0,x,1\n", 2, "box_width must be a share"),
        ("video,label,split\none,car,holdout\n", 2, "split must be train, validation or test"),
        ("video,label,occluded\none,car,2\n", 2, "occluded must be true or false"),
        ("video,label,start_s,end_s\none.mp4,wave,3,\n", 2, "go together"),
        ("video,label,start_s,end_s\none.mp4,wave,x,4\n", 2, "start_s must be seconds"),
        ("video,label,start_s,end_s\none.mp4,wave,nan,4\n", 2, "start_s must be seconds"),
        ("video,label,delete\none.mp4,wave,perhaps\n", 2, "delete must be true or false"),
        ("video,label\none.mp4,wave\none.mp4,nod\n", 3, "annotator as line 2"),
        ("video,label\none.mp4,wave\nsame.mp4,nod\n", 3, "'same.mp4' is the video of 'one.mp4'"),
        ("video,label\none.mp4,wave,more\n", 2, "more values than columns"),
        ("video,name\none.mp4,wave\n", 1, "unknown columns: 'name'. Allowed: video, label,"),
        ("video\none.mp4\n", 1, "columns video and label are needed"),
        ("video,label,Label\none.mp4,wave,nod\n", 1, "there twice: 'label'; drop one of each"),
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
    assert (read.video, read.said.label, read.key.start_s) == ("one.mp4", "a, b", 1.0)


@pytest.mark.parametrize("name", ["caf\u00e9.mp4", "cafe\u0301.mp4", "s3://videos/caf\u00e9.mp4"])
def test_an_accent_may_be_written_in_either_way(name):
    assert parse(f"video,label\n{name},wave\n")[0].key.video_id == "6" * 64


def test_spaces_around_a_name_are_a_slip_unless_they_are_the_name():
    assert parse("video,label\n one.mp4 ,wave\n")[0].key.video_id == "1" * 64
    facts = {"1": VideoFacts(1.0), "2": VideoFacts(1.0)}
    videos = VideoNames({"s3://b/a.mp4": "1", "s3://b/ a.mp4": "2"}, facts)
    assert [videos.find(name) for name in ("a.mp4", " a.mp4", "a.mp4 ")] == ["1", "2", "1"]


def test_all_faults_are_listed_at_once_and_the_good_rows_are_not_imported():
    with pytest.raises(BadInputError) as caught:
        parse("video,label\none.mp4,wave\nx.mp4,wave\na/two.mp4,\n")
    assert "2 faults" in str(caught.value)
    assert "line 3" in str(caught.value) and "line 4" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"video,label\n", b"\n\n"])
def test_an_empty_file_is_a_fault(content):
    with pytest.raises(BadInputError):
        parse_bytes(content)


def test_bytes_that_are_not_utf8_are_a_fault_of_their_line():
    with pytest.raises(BadInputError, match="line 2: not UTF-8"):
        parse_bytes(b"video,label\none.mp4,caf\xe9\n")


@pytest.mark.parametrize("line", ["[1]", "{", "7", '{"video": 3, "label": "a"}', '{"vidoe": "a"}'])
def test_json_that_is_no_annotation_is_a_fault(line):
    with pytest.raises(BadInputError, match="line 1"):
        parse(line, "labels.jsonl")


def test_a_quoted_name_may_hold_commas_quotes_and_newlines():
    text = io.StringIO()
    csv.writer(text).writerows([["video", "label"], ['odd, "name"\n.mp4', "wave"]])
    (row,) = parse(text.getvalue())
    assert row.key.video_id == "5" * 64


@pytest.mark.parametrize(
    "values",
    [
        {"label": "\ud800"},
        {"annotator": "\ud800"},
        {"start_s": 10**400, "end_s": 1},
        {"start_s": "1e999", "end_s": 1},
        {"track": 10**400},
        {"group": [1]},
        {"delete": {}},
    ],
)
def test_values_that_no_table_can_hold_are_faults_of_their_line(values):
    with pytest.raises(BadInputError, match="line 1: "):
        parse(json.dumps({"video": "one", "label": "x", **values}), "labels.jsonl")


@given(st.binary(max_size=300), st.sampled_from(["labels.csv", "labels.jsonl"]))
def test_any_bytes_end_in_rows_or_in_one_error(content, name):
    try:
        rows = parse_bytes(content, name)
    except BadInputError as error:
        assert name in str(error)
    else:
        assert rows


def test_all_unknown_columns_and_all_faults_are_listed_at_once():
    text = "video,label,sensor,start,start_s,end_s\none,wave,a,b,1,2\nnope,wave,,,,\none,,,,,\n"
    with pytest.raises(BadInputError) as caught:
        parse(text, skip_faulty=True)  # a misspelt column would change what every row says
    first, *faults = str(caught.value).splitlines()[:4]
    assert first == "labels.csv: nothing was imported, 3 faults:"
    assert faults[0].startswith(
        "  line 1: unknown columns: 'sensor', 'start'. Allowed: video, label"
    )
    assert faults[1].startswith("  line 3: no video is called 'nope'")
    assert faults[2] == "  line 4: the label is empty"


def test_faults_are_listed_up_to_a_number():
    with pytest.raises(BadInputError) as caught:
        parse("video,label\n" + "one,\n" * 30)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("30 faults:") and len(lines) == 22
    assert lines[-1] == "  and 10 more"


def test_what_is_not_ingested_yet_has_a_remedy_and_near_names():
    with pytest.raises(BadInputError) as caught:
        parse("video,label\nbrokne.mp4,wave\nzzz.mp4,wave\n")
    _, near, far, remedy = str(caught.value).splitlines()
    assert near == "  line 2: no video is called 'brokne.mp4'; near names: 'broken.mp4'"
    assert far == "  line 3: no video is called 'zzz.mp4'"
    assert "watched bucket" in remedy and "vidpipe run ingest" in remedy


def test_the_rest_of_a_file_with_faults_is_imported_where_that_is_said():
    text = "video,label\none,wave\na/two,\nb/two,up\nb/two,down\nsame,nod\nodd,x\n"
    text = text.replace("same,nod", "nope,nod").replace("odd,x", "cafe\u0301,x")
    with pytest.raises(BadInputError, match="import the rest: --skip-faulty$"):
        parse(text)
    read = parse_annotations(of_file("labels.csv", text.encode()), VIDEOS, skip_faulty=True)
    # Of two that contradict each other neither is right for certain.
    assert [a.where for a in read.annotations] == ["line 2", "line 7"]
    assert read.skipped == 3
    assert read.told[0] == "3 × left out, faulty:"
    assert [line.partition(":")[0].strip() for line in read.told[1:]] == [
        "line 3",
        "line 5",
        "line 6",
    ]
    with pytest.raises(BadInputError, match="nothing was imported"):
        parse("video,label\none,\n", skip_faulty=True)


@pytest.mark.parametrize(
    "rows",
    ["one,wave\none,wave\n", "one,wave\ns3://videos/same.mp4,wave\n", "one,wave\n one , wave\n"],
)
def test_the_same_fact_twice_is_once_enough(rows):
    read = parse_annotations(of_file("labels.csv", f"video,label\n{rows}".encode()), VIDEOS)
    assert [a.where for a in read.annotations] == ["line 2"]
    assert read.told == ["1 × repeated: the same was said before in the file, and counts once"]
    lines = '{"video": "one", "delete": true}\n' * 3
    assert len(parse(lines, "labels.jsonl")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "video,label,,\none,wave,,\n",
        "sep=;\r\nvideo;label\r\none;wave\r\n",
        "\ufeffvideo,label,start_s,end_s\none,wave,,\n,,,\n , ,,\n",
        "video,label\none,wave,,\n",
        "label\nwave\n",
    ],
)
def test_tables_as_spreadsheets_leave_them(text):
    options = {} if "video" in text else {"video": "one"}
    (row,) = parse(text, **options)
    assert (row.key, row.said.label) == (("1" * 64, None, None, ""), "wave")


def test_lines_are_counted_with_the_one_that_names_the_separator():
    with pytest.raises(BadInputError, match="line 4: the label is empty"):
        parse('sep=;\nvideo;label\none;"two\n";\none;;\n'.replace('"two\n"', "wave"))
    with pytest.raises(BadInputError, match="line 3: there are more values than columns"):
        parse("video,label,\none,wave,\none,wave,left\n")


def test_utf16_is_told_as_such():
    with pytest.raises(BadInputError, match="it is UTF-16; save the file as UTF-8"):
        parse_bytes("video,label\none,wave\n".encode("utf-16"))


def test_a_uri_and_a_key_are_exact_where_names_differ_in_their_unicode_form_only():
    composed, apart = "s3://b/caf\u00e9.mp4", "s3://b/cafe\u0301.mp4"
    names = VideoNames({composed: "1", apart: "2"}, {n: VideoFacts(1.0) for n in "12"})
    assert [names.find(uri) for uri in (composed, apart)] == ["1", "2"]
    assert names.find_path(apart) == "2"
    assert [names.find(uri.removeprefix("s3://b/")) for uri in (composed, apart)] == ["1", "2"]
    with pytest.raises(ValueError, match="2 videos are called 'caf\u00e9'"):
        names.find("caf\u00e9")


def test_the_last_frame_is_counted_where_the_count_fits_the_duration():
    assert VideoFacts(4.0, 25.0, frame_count=100).last_frame == 99
    assert VideoFacts(4.0, 25.0, frame_count=100).end_frame == 100
    # Containers state counts that cannot be.
    assert VideoFacts(4.0, 25.0, frame_count=20).last_frame == 102
    assert VideoFacts(4.0, 25.0).last_frame == 102
