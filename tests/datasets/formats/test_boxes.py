"""Formats of boxes: COCO, YOLO, CVAT, Label Studio."""

from __future__ import annotations

import pytest

from tests.datasets.formats.reading import boxes, read, read_folder, told, video
from vidpipe.datasets.annotations import Box
from vidpipe.datasets.formats.given import make_zip
from vidpipe.errors import BadInputError


def coco(**members) -> dict:
    return {
        "images": [{"id": 1, "file_name": "one_000025.jpg", "width": 640, "height": 360}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [64, 36, 320, 180]}],
        "categories": [{"id": 3, "name": "car"}],
    } | members


def test_coco_boxes_are_pixels_of_the_picture_that_its_name_tells():
    rows = read("instances.json", coco())
    assert rows.format == "coco"
    assert told(rows) == [(1, 1.0, 1.0, "", "car")]
    assert boxes(rows.annotations) == [(1.0, Box(0.1, 0.1, 0.5, 0.5))]
    assert rows.annotations[0].where == "annotations[0]"


@pytest.mark.parametrize(
    "name",
    [
        "one_000025.jpg",
        "one_frame_000025.PNG",
        "one/000025.jpeg",
        "train/one.mp4/25.jpg",
        "a/one_25",
        "images\\one_25.jpg",
        "images/1a2b3c4d-one_25.jpg",
        "one_25_jpg.rf.1b2c3d4e5f60718293a4b5c6d7e8f901.jpg",
    ],
)
def test_pictures_are_named_by_video_and_frame(name):
    image = {"id": 1, "file_name": name, "width": 640, "height": 360}
    assert told(read("c.json", coco(images=[image]))) == [(1, 1.0, 1.0, "", "car")]


def test_a_picture_of_another_name_is_told_by_the_sidecar():
    image = {"id": 1, "file_name": "img_a7.jpg", "width": 640, "height": 360}
    with pytest.raises(BadInputError, match=r"images\[0\]: 'img_a7.jpg' does not tell which frame"):
        read("c.json", coco(images=[image]))
    pictures = {"pictures": {"img_a7.jpg": {"video": "one.mp4", "frame": 50}}}
    assert told(read("c.json", coco(images=[image]), pictures)) == [(1, 2.0, 2.0, "", "car")]


def test_coco_of_videos_has_frames_tracks_and_empty_frames():
    document = coco(
        videos=[{"id": 9, "name": "sets/one"}],
        images=[
            {"id": "a", "video_id": 9, "frame_id": 5, "file_name": "x.jpg"},
            {"id": "b", "video_id": 9, "frame_index": 10},
            {"id": "c", "video_id": 9, "frame_id": 15},
        ],
        annotations=[
            {
                "image_id": "a",
                "category_id": 3,
                "bbox": [0, 0, 640, 360],
                "instance_id": 12,
                "attributes": {"occluded": True},
            },
            {"image_id": "b", "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            {"image_id": "a", "category_id": 3},
        ],
    )
    rows = read("c.json", document)
    assert told(rows) == [
        (1, 0.2, 0.2, "", "car"),
        (1, 0.2, 0.2, "", "car"),
        (1, 0.6, 0.6, "", None),
    ]
    first, label_of_frame, nothing = (a.said for a in rows.annotations)
    assert (first.track, first.occluded, first.box) == ("12", True, Box(0, 0, 1, 1))
    assert label_of_frame.box is None and nothing.box is None
    assert any("1 × left out: boxes of crowds" in line for line in rows.told)


def test_a_box_that_reaches_beyond_the_picture_is_cut_off_and_told():
    thing = {"image_id": 1, "category_id": 3, "bbox": [-64, 180, 128, 999]}
    rows = read("c.json", coco(annotations=[thing]))
    assert boxes(rows.annotations) == [(1.0, Box(0.0, 0.5, 0.1, 0.5))]
    assert any("reach beyond the picture" in line for line in rows.told)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"images": [{"file_name": "one_1.jpg"}]}, r"images\[0\].id: a number or a text is needed"),
        (
            {"images": [{"id": 1, "file_name": "nope_1.jpg"}]},
            r"images\[0\]: no video is called 'nope'",
        ),
        (
            {"images": [{"id": 1, "file_name": "one_999.jpg"}]},
            r"images\[0\]: frame 999 is outside the video of 10.00 s at 25 frames a second",
        ),
        (
            {"images": [{"id": 1, "file_name": "no-rate_5.jpg"}]},
            r"images\[0\]: the frame rate of 'no-rate' is not known",
        ),
        (
            {"annotations": [{"image_id": 7, "category_id": 3}]},
            r"annotations\[0\].image_id: no image has the id 7",
        ),
        (
            {"annotations": [{"image_id": 1, "category_id": 4}]},
            r"annotations\[0\].category_id: no category has the id 4",
        ),
        (
            {"annotations": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3]}]},
            r"annotations\[0\].bbox: a box is a list of four numbers",
        ),
        (
            {"annotations": [{"image_id": 1, "category_id": 3, "bbox": [700, 0, 5, 5]}]},
            r"annotations\[0\].bbox: nothing of the box is in the picture",
        ),
        ({"annotations": [3]}, r"annotations\[0\]: an object is needed. Received: int"),
        ({"categories": [{"id": 3}]}, r"categories\[0\].name: a text is needed"),
        ({"images": {"id": 1}}, "images: a list is needed. Received: dict"),
    ],
)
def test_faults_of_coco_are_told_by_place(members, words):
    with pytest.raises(BadInputError, match=words):
        read("c.json", coco(**members))


def test_an_unknown_frame_rate_is_one_fault_of_the_whole_video():
    images = [{"id": n, "file_name": f"no-rate_{n}.jpg"} for n in range(20)]
    with pytest.raises(BadInputError, match="1 fault:") as caught:
        read("c.json", coco(images=images))
    assert str(caught.value).count("frame rate") == 1


YOLO = {
    "data.yaml": "train: images/train\nnames: {0: car, 1: 'a: b'}\n",
    "labels/train/one_000025.txt": "0 0.5 0.5 0.5 1\n1 0.125 0.5 0.25 1\n",
    "labels/val/one_000050.txt": "",
    "labels/one_000075.txt": "\n0 .5 .5 1 1\n0 0.1 0.1 0.2 0.1 0.2 0.2\n",
    "images/train/one_000025.jpg": b"\xff\xd8",
    "notes.txt": "not of a picture",
}


def test_yolo():
    rows = read_folder(YOLO)
    assert rows.format == "yolo"
    assert boxes(rows.annotations) == [
        (1.0, Box(0.25, 0.0, 0.5, 1.0)),
        (1.0, Box(0.0, 0.0, 0.25, 1.0)),
        (2.0, None),
        (3.0, Box(0.0, 0.0, 1.0, 1.0)),
    ]
    assert [(a.said.label, a.said.split) for a in rows.annotations] == [
        ("car", "train"),
        ("a: b", "train"),
        (None, "validation"),
        ("car", None),
    ]
    assert any("1 × left out: outlines" in line for line in rows.told)
    zipped = make_zip(
        {f"set/{p}": c if isinstance(c, bytes) else c.encode() for p, c in YOLO.items()}
    )
    assert set(told(read("set.zip", zipped))) == set(told(rows))


def test_yolo_with_classes_txt_and_labels_below_the_split():
    files = {"classes.txt": "car\nbus\n", "valid/labels/one_25.txt": "1 .5 .5 1 1"}
    (row,) = read_folder(files).annotations
    assert (row.said.label, row.said.split) == ("bus", "validation")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("labels/one_1.txt", "2 .5 .5 1 1", "labels/one_1.txt, line 1: there is no class 2"),
        ("labels/one_1.txt", "0 .5 .5 1", "line 1: a line is the number of a class"),
        ("labels/one_1.txt", "0 .5 .5 1 1 0.9", "line 1: a line is the number of a class"),
        ("labels/one_1.txt", "0 .5 .5 1 nan", "Received: 'nan'"),
        ("labels/one_1.txt", "car .5 .5 1 1", "Received: 'car'"),
        ("labels/one.txt", "0 .5 .5 1 1", "labels/one.txt: 'one.txt' does not tell which frame"),
        ("labels/nope_1.txt", "0 .5 .5 1 1", "labels/nope_1.txt: no video is called 'nope'"),
        ("data.yaml", "names: 3", "data.yaml: names must be a list of classes"),
        ("data.yaml", "names: [", "data.yaml: line 1: not YAML"),
        ("data.yaml", "a: &a [1]\nnames: *a", "aliases are not read"),
        ("data.yaml", "names: !!python/object:os.system [x]", "not YAML"),
    ],
)
def test_faults_of_yolo_are_told_by_file_and_line(file, text, words):
    with pytest.raises(BadInputError, match=words):
        read_folder(YOLO | {file: text})


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>5</id><name>task one</name><subset>Train</subset>
    <labels><label><name>car</name></label></labels>
    <original_size><width>1280</width><height>720</height></original_size>
    <source>one.mp4</source></task></meta>
  <track id="0" label="car" source="manual">
    <box frame="0" keyframe="1" outside="0" occluded="1" xtl="0" ytl="0" xbr="128" ybr="72"/>
    <box frame="4" keyframe="1" outside="0" occluded="0" xtl="512" ytl="0" xbr="640" ybr="72">
      <attribute name="colour">red</attribute></box>
    <box frame="6" keyframe="1" outside="1" occluded="0" xtl="512" ytl="0" xbr="640" ybr="72"/>
    <box frame="9" keyframe="1" outside="0" occluded="0" xtl="0" ytl="0" xbr="1280" ybr="720"/>
  </track>
  <track id="1" label="road"><polygon frame="0" points="0,0;1,1;2,0"/></track>
</annotations>
"""


def test_cvat_tracks_move_evenly_between_keyframes_until_they_are_outside():
    rows = read("annotations.xml", CVAT)
    assert rows.format == "cvat"
    seen = {round(a.key.start_s * 25): a.said for a in rows.annotations}
    assert sorted(seen) == [0, 1, 2, 3, 4, 5, 9]
    assert [seen[n].box.x for n in range(6)] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.4]
    assert [seen[n].occluded for n in range(6)] == [True] * 4 + [False] * 2
    assert seen[9].box == Box(0, 0, 1, 1)
    assert {(s.label, s.track, s.split) for s in seen.values()} == {("car", "0", "train")}
    assert [a.where for a in rows.annotations][1] == "line 9, frame 1"
    assert any("1 × left out: shapes that are no boxes (polygon)" in line for line in rows.told)
    assert any("1 × left out: attributes of boxes" in line for line in rows.told)
    assert told(read("job.zip", make_zip({"annotations.xml": CVAT.encode()}))) == told(rows)


def test_cvat_interpolates_only_frames_that_were_looked_at():
    stepped = CVAT.replace("<source>", "<frame_filter>step=2</frame_filter><source>")
    frames = [round(a.key.start_s * 25) for a in read("a.xml", stepped).annotations]
    assert frames == [0, 2, 4, 9]


def test_cvat_project_of_several_tasks():
    xml = """<annotations><meta><project><tasks>
      <task><id>5</id><source>one.mp4</source></task>
      <task><id>6</id><source>v_Archery_g01_c02.avi</source><subset>Testing</subset></task>
    </tasks></project></meta>
    <track id="0" label="bow" task_id="6" subset="Test">
      <box frame="10" outside="0" occluded="0" xtl="0" ytl="0" xbr="32" ybr="24"/></track>
    <track id="1" label="car" task_id="5" subset="default">
      <box frame="25" outside="0" occluded="0" xtl="0" ytl="0" xbr="64" ybr="36"/></track>
    </annotations>"""
    rows = read("project.xml", xml)
    assert told(rows) == [(5, 1.0, 1.0, "", "bow"), (1, 1.0, 1.0, "", "car")]
    assert [a.said.split for a in rows.annotations] == ["test", None]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("</annotations>", "", "line 17: not XML"),
        ("annotations>", "data>", "line 2: CVAT for video 1.1 begins with <annotations>"),
        ('frame="4"', 'frame="four"', "line 10: frame is a number, from 0 on. Received: 'four'"),
        ('frame="4"', 'frame="0"', "line 8: frame 0 is given twice"),
        ('frame="9"', 'frame="999999999"', "line 13: frame 999999999 is outside the video"),
        ('xtl="512"', 'xtl="nan"', "line 10: xtl is a number of pixels. Received: 'nan'"),
        ('xtl="512"', "", "line 10: xtl is a number of pixels. Received: None"),
        ('occluded="1"', 'occluded="?"', "line 9: occluded is 0 or 1"),
        ("one.mp4", "nope.mp4", "line 8: no video is called 'nope.mp4'"),
        ("<track ", '<track task_id="7" ', "not told"),
        ("</task></meta>", "</task> notes </meta> notes", "not told"),
        (
            '<?xml version="1.0" encoding="utf-8"?>',
            "<?xml version='1.0' encoding='x'?>",
            "not told",
        ),
    ],
)
def test_faults_of_cvat_are_told_by_line(before, after, words):
    changed = CVAT.replace(before, after)
    if words == "not told":
        assert read("a.xml", changed).annotations
        return
    with pytest.raises(BadInputError, match=words):
        read("a.xml", changed.encode(errors="surrogateescape"))


def test_cvat_of_images_is_told_as_such():
    with pytest.raises(BadInputError, match="line 1: this is CVAT for images"):
        read("a.xml", "<annotations><image id='0' name='a.jpg'/></annotations>")


def task(*results, **members) -> dict:
    annotation = {"id": 1, "completed_by": {"id": 4, "email": "ann@x.example"}, "result": results}
    return {
        "id": 1,
        "data": {"video": "/data/upload/3/8d2f1a3b-one.mp4"},
        "annotations": [annotation | members],
        "predictions": [],
    }


def choices(*labels: str) -> dict:
    return {"type": "choices", "from_name": "c", "to_name": "v", "value": {"choices": labels}}


def rectangle(*sequence: tuple, **value) -> dict:
    shape = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    frames = [
        shape | {"frame": frame, "enabled": enabled, "x": x} for frame, enabled, x in sequence
    ]
    value = {"labels": ["car"], "sequence": frames} | value
    return {"id": "r1", "type": "videorectangle", "value": value}


def test_label_studio_choices_timelines_and_annotators():
    timeline = {
        "id": "t1",
        "type": "timelinelabels",
        "value": {"ranges": [{"start": 26, "end": 50}], "timelinelabels": ["run"]},
    }
    heard = {"type": "labels", "value": {"start": 0.5, "end": 2.25, "labels": ["music"]}}
    other = task(completed_by=7)["annotations"][0] | {"result": [choices("right")]}
    skipped = {"was_cancelled": True, "result": [choices("up")]}
    document = [task(choices("left"), timeline, heard)]
    document[0]["annotations"] += [other, skipped, {"result": []}]
    document[0]["predictions"] = [{"result": [choices("down")]}]
    rows = read("project.json", document)
    assert rows.format == "label-studio"
    assert told(rows) == [
        (1, None, None, "ann@x.example", "left"),
        (1, 1.0, 2.0, "ann@x.example", "run"),
        (1, 0.5, 2.25, "ann@x.example", "music"),
        (1, None, None, "7", "right"),
        (1, None, None, "", None),
    ]
    assert any("skipped" in line for line in rows.told)
    assert any("predictions, which are not annotations" in line for line in rows.told)


def test_the_short_json_of_label_studio_is_told_as_such():
    rows = [{"id": 1, "video": "one.mp4", "label": "left", "annotation_id": 3, "lead_time": 1.5}]
    with pytest.raises(
        BadInputError, match="looks like Label Studio's JSON-MIN.* Export JSON there"
    ):
        read("p.json", rows)


def test_label_studio_boxes_go_on_while_they_are_enabled():
    moving = rectangle((1, True, 10), (5, False, 30), (8, True, 0), framesCount=10, duration=0.4)
    rows = read("p.json", [task(moving)])
    seen = {round(a.key.start_s * 25) + 1: a.said.box.x for a in rows.annotations}
    # At a frame that ends it a box is still seen; the last one stays until the end.
    assert seen == {1: 0.1, 2: 0.15, 3: 0.2, 4: 0.25, 5: 0.3, 8: 0.0, 9: 0.0, 10: 0.0}
    assert {a.said.track for a in rows.annotations} == {"r1"}
    assert rows.annotations[0].where == ("[0].annotations[0].result[0].value.sequence[0], frame 1")


def test_label_studio_counts_frames_by_a_rate_of_its_own():
    # Of the video's 250 frames it saw 240, as it plays 24 a second unless it is told otherwise.
    half = rectangle((121, False, 10), framesCount=240, duration=10.0)
    (row,) = read("p.json", [task(half)]).annotations
    assert row.key.start_s == 5.0


def test_several_choices_need_to_be_allowed():
    with pytest.raises(BadInputError) as error:
        read("p.json", [task(choices("a", "b"))])
    assert str(error.value).endswith(
        "[0].annotations[0].result[0].value: of the same video, range and annotator it gives both"
        " 'a' and 'b'; where several labels are meant, say so (--several)"
    )
    rows = read("p.json", [task(choices("a", "b"))], several=True)
    assert [a.said.label for a in rows.annotations] == ["a", "b"]


@pytest.mark.parametrize(
    ("result", "place", "words"),
    [
        ({"type": 3}, ".type", "a text is needed"),
        ({"type": "choices"}, ".value", "an object is needed"),
        ({"type": "choices", "value": {"choices": [1]}}, ".value.choices", "a list of texts"),
        (rectangle((0.5, True, 1)), r".value.sequence\[0\].frame", "from 1 on"),
        (rectangle((1, "yes", 1)), r".value.sequence\[0\].enabled", "true or false"),
        (rectangle((1, True, "left")), r".value.sequence\[0\].x", "in percent"),
        (rectangle((1, False, 200)), r".value.sequence\[0\]", "nothing of the box"),
        (rectangle((9999, True, 1)), "", "frame 9999 is outside the video of 10.00 s"),
        (rectangle(), ".sequence", "a list of boxes is needed"),
    ],
)
def test_faults_of_label_studio_are_told_by_place(result, place, words):
    with pytest.raises(
        BadInputError, match=rf"\[0\].annotations\[0\].result\[0\]{place}: .*{words}"
    ):
        read("p.json", [task(result)])


@pytest.mark.parametrize(
    "address",
    [
        "s3://videos/a/one.mp4",
        "https://host.example/videos/one.mp4?X-Amz-Signature=abc",
        "/data/local-files/?d=clips/one.mp4",
        "/data/upload/3/8d2f1a3b-one.mp4",
    ],
)
def test_label_studio_finds_videos_by_the_addresses_that_it_has(address):
    of = task(choices("x"))
    of["data"] = {"video": address, "note": "x"}
    assert read("p.json", [of]).annotations[0].key.video_id == video(1)
