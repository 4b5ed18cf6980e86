"""Files as other tools write them, with their oddities."""

from __future__ import annotations

import base64
import json

import pytest

from tests.datasets.formats.reading import boxes, read, read_folder, told, video
from tests.datasets.formats.test_boxes import CVAT, choices, coco, rectangle, task
from tests.datasets.formats.test_lists import activitynet
from vidpipe.datasets.annotations import Box
from vidpipe.datasets.video_names import VideoFacts, VideoNames
from vidpipe.errors import BadInputError, UsageError

JOB = CVAT.replace("<task><id>5</id><name>task one</name>", "<job><id>5</id>").replace(
    "<source>one.mp4</source></task>", "</job>"
)
OF_A_TASK = "frame_000010.PNG"  # as CVAT names frames, whatever the video is called


def frames(*names: str) -> dict:
    images = [
        {"id": n, "file_name": name, "width": 64, "height": 36} for n, name in enumerate(names)
    ]
    things = [{"image_id": n, "category_id": 3, "bbox": [0, 0, 32, 36]} for n in range(len(images))]
    return coco(images=images, annotations=things)


YOLO_OF_CVAT = {
    "obj.names": "car\n",
    "obj.data": "classes = 1\n",
    "train.txt": "data/obj_train_data/frame_000010.png\n",
    "obj_train_data/frame_000010.txt": "0 .5 .5 1 1\n",
}


@pytest.mark.parametrize("name", ["one.mp4", "s3://videos/a/one.mp4", video(1)])
def test_of_what_video_a_file_is_may_be_said(name):
    rows = read("job.xml", JOB, video=name)
    assert {a.key.video_id for a in rows.annotations} == {video(1)}
    assert told(read("c.json", frames(OF_A_TASK), video=name)) == [(1, 0.4, 0.4, "", "car")]
    assert told(read_folder(YOLO_OF_CVAT, video=name)) == [(1, 0.4, 0.4, "", "car")]
    assert read("one.csv", "label\nx\n", video=name).annotations[0].key.video_id == video(1)
    nameless = [task(choices("x")) | {"data": {"clip": 3}}]
    assert read("p.json", nameless, video=name).annotations[0].key.video_id == video(1)


@pytest.mark.parametrize(
    ("name", "content"),
    [("job.xml", JOB), ("c.json", frames(OF_A_TASK)), ("c.json", frames("000010.jpg"))],
)
def test_a_file_that_does_not_tell_its_video_says_what_to_do(name, content):
    with pytest.raises(BadInputError, match="does not tell|nothing tells.*--video"):
        read(name, content)
    with pytest.raises(BadInputError, match="say of which video all of them are: --video"):
        read_folder(YOLO_OF_CVAT)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "video,label\nx1,a\nx2,a\n"),
        ("c.json", frames("a/frame_000001.png", "b/frame_000001.png")),
        ("c.json", frames("left_1.png", "right_1.png")),
        ("p.json", [task(choices("x")), task(choices("y")) | {"data": {"video": "other.mp4"}}]),
    ],
)
def test_a_file_of_several_videos_is_not_that_of_one(name, content):
    with pytest.raises(BadInputError, match="about several videos.*--video is for a file of one"):
        read(name, content, video="one", skip_faulty=True)


def test_frames_of_one_video_may_lie_in_folders_of_splits():
    rows = read("c.json", frames("train/frame_000001.png", "val/frame_000002.png"), video="one")
    assert [a.key.start_s for a in rows.annotations] == [0.04, 0.08]


def test_a_video_that_is_not_known_is_told_with_near_names():
    with pytest.raises(
        UsageError, match="--video: no video is called 'onee'. Near names: 'one.mp4'"
    ):
        read("a.xml", CVAT, video="onee")


def test_frames_that_count_from_1_are_told_and_may_be_said():
    last = frames("one_1.jpg", "one_250.jpg")
    with pytest.raises(BadInputError, match="frames are 0 to 249. If the .* --first-frame 1"):
        read("c.json", last)
    rows = read("c.json", last, first_frame=1)
    assert [a.key.start_s for a in rows.annotations] == [0.0, 9.96]
    assert not any("--first-frame" in line for line in rows.told)
    assert any("--first-frame 1" in line for line in read("c.json", frames("one_1.jpg")).told)
    assert not any("--first" in x for x in read("c.json", frames("one_0.jpg", "one_1.jpg")).told)
    with pytest.raises(BadInputError, match="frame 0 is outside .* frames are 1 to 250"):
        read("c.json", frames("one_0.jpg"), first_frame=1)
    with pytest.raises(UsageError, match="--first-frame is not for CVAT XML"):
        read("a.xml", CVAT, first_frame=1)


def test_a_frame_beyond_the_last_is_refused():
    with pytest.raises(BadInputError, match=r"frame 250 is outside .* 0 to 249\n"):
        read("c.json", frames("one_0.jpg", "one_250.jpg"))
    with pytest.raises(BadInputError, match="frame 250 is outside"):
        read("a.xml", CVAT.replace('frame="9"', 'frame="250"'))
    # Label Studio derives the last frame from the duration, and may be one beyond.
    assert read("p.json", [task(rectangle((251, False, 10)))]).annotations


def test_whole_numbers_may_be_written_as_fractions():
    document = coco()
    document["annotations"][0] |= {"image_id": 1.0, "category_id": 3.0, "track_id": 7.0}
    (row,) = read("c.json", document).annotations
    assert (row.said.label, row.said.track) == ("car", "7")
    files = {"data.yaml": "names: {0.0: car, 1: bus}", "labels/one_1.txt": "1.0 .5 .5 1 1\n"}
    assert read_folder(files).annotations[0].said.label == "bus"
    (row,) = read("p.json", [task(choices("x"), completed_by=7.0)]).annotations
    assert row.key.annotator == "7"
    line = '{"video": "one", "label": "x", "track": 7.0}'
    assert read("a.jsonl", line).annotations[0].said.track == "7"
    with pytest.raises(BadInputError, match="image_id: a number or a text is needed"):
        read("c.json", coco(annotations=[{"image_id": 1.5, "category_id": 3}]))


def test_an_empty_box_names_what_to_do():
    with pytest.raises(BadInputError, match="Received: a list of 0. Give all four, or remove bbox"):
        read("c.json", coco(annotations=[{"image_id": 1, "category_id": 3, "bbox": []}]))


def test_frames_that_were_deleted_in_cvat_have_no_boxes():
    deleted = "<deleted_frames><frame>2</frame><frame>3</frame><frame>9</frame></deleted_frames>"
    rows = read("a.xml", CVAT.replace("</task>", f"{deleted}</task>"))
    assert [round(a.key.start_s * 25) for a in rows.annotations] == [0, 1, 4, 5]
    assert any("1 × left out: boxes in frames that were deleted" in line for line in rows.told)


def test_a_track_with_a_faulty_box_is_left_out_whole():
    faulty = CVAT.replace('xtl="512"', 'xtl="?"', 1)
    with pytest.raises(BadInputError, match="line 10: xtl is a number"):
        read("a.xml", faulty, skip_faulty=True)  # there is no other track
    other = '<track id="7" label="bus"><box frame="1" xtl="0" ytl="0" xbr="9" ybr="9"/></track>'
    rows = read(
        "a.xml", faulty.replace("</annotations>", f"{other}</annotations>"), skip_faulty=True
    )
    assert [a.said.label for a in rows.annotations] == ["bus"]
    moving = rectangle((1, True, 10), (5, True, "x"), (9, False, 30))
    rows = read("p.json", [task(moving, choices("left"))], skip_faulty=True)
    assert [a.said.label for a in rows.annotations] == ["left"]


def test_two_labels_of_one_person_are_to_be_settled_in_label_studio():
    document = [task(choices("serve"))]
    document[0]["annotations"].append(task(choices("smash"))["annotations"][0])
    with pytest.raises(BadInputError, match="'serve' and 'smash'; delete one of the two .*several"):
        read("p.json", document)
    document[0]["annotations"][1] = document[0]["annotations"][0]
    rows = read("p.json", document)
    assert [a.said.label for a in rows.annotations] == ["serve"]
    assert any("1 × repeated" in line for line in rows.told)


CLIPS = VideoNames(
    {
        "s3://videos/ls/my clip (1).mp4": "1",
        "s3://videos/ls/rally.mp4": "2",
        "s3://videos/a b.mp4": "3",
        "s3://videos/a_b.mp4": "4",
        "s3://videos/clip.mp4": "5",
    },
    {name: VideoFacts(1.0) for name in "12345"},
)
RALLY = base64.b64encode(b"s3://videos/ls/rally.mp4").decode()


@pytest.mark.parametrize(
    ("address", "number"),
    [
        ("/data/upload/3/1a2b3c4d-my_clip_1.mp4", "1"),
        ("/data/upload/3/1a2b3c4d-my_clip_1_Xy3Zab9.mp4", "1"),
        ("images/0a1b2c__my_clip_1.mp4", "1"),
        (f"/tasks/12/resolve/?fileuri={RALLY}", "2"),
        (f"/projects/3/presign/?fileuri={RALLY.rstrip('=')}", "2"),
        ("/tasks/12/resolve/?fileuri=s3%3A%2F%2Fvideos%2Fls%2Frally.mp4", "2"),
        (
            "https://s3.example/videos/ls/my%20clip%20%281%29.mp4?X-Amz-Signature=a&X-Amz-Expires=9",
            "1",
        ),
        ("/data/upload/3/1a2b3c4d-a_b.mp4", "4"),
    ],
)
def test_addresses_that_label_studio_makes_of_names(address, number):
    document = json.dumps([task(choices("x")) | {"data": {"video": address}}]).encode()
    (row,) = _parse(document).annotations
    assert row.key.video_id == number


@pytest.mark.parametrize(
    "name",
    ["1a2b3c4d-other.mp4", "clip_Xy3Zab9.mp4", "1a2b3c4d-clip_running.mp4", "clip_camera1.mp4"],
)
def test_an_address_of_no_video_names_where_to_say_which(name):
    document = json.dumps([task(choices("x")) | {"data": {"video": f"/data/upload/3/{name}"}}])
    with pytest.raises(BadInputError, match="vidpipe_video_id in the data of the task"):
        _parse(document.encode())


def _parse(document: bytes):
    from vidpipe.datasets.formats.given import of_file
    from vidpipe.datasets.formats.importing import parse_annotations

    return parse_annotations(of_file("p.json", document), CLIPS)


NAMES_OF_CLASSES = {"classes.txt": "car\ntruck\n"}


@pytest.mark.parametrize(
    "files",
    [
        {**NAMES_OF_CLASSES, "one_25.txt": "1 .5 .5 1 1", "one_50.txt": ""},
        {**NAMES_OF_CLASSES, "labels/one_25.txt": "1 .5 .5 1 1", "one_50.txt": ""},
        {"set/classes.txt": "car\ntruck", "set/one/25.txt": "1 .5 .5 1 1", "set/one/50.txt": ""},
        {
            "data.yaml": "train: ../train/images\nnc: 2\nnames: ['car', 'truck']\n",
            "README.roboflow.txt": "exported on 1 2 3 4 5",
            "train/labels/one_25_jpg.rf.1b2c3d4e5f60718293a4b5c6d7e8f901.txt": "1 .5 .5 1 1",
            "valid/labels/one_50_png.rf.1b2c3d4e5f60718293a4b5c6d7e8f902.txt": "",
        },
        {
            "obj.names": "car\ntruck\n",
            "train.txt": "data/obj_train_data/one_25.png\n",
            "obj_train_data/one_25.txt": "1 .5 .5 1 1",
            "obj_Test_data/one_50.txt": "",
        },
    ],
)
def test_layouts_of_yolo(files):
    rows = read_folder(files)
    assert {(a.key.start_s, a.said.label) for a in rows.annotations} == {
        (1.0, "truck"),
        (2.0, None),
    }
    unread = {name for name in files if name.startswith(("README", "train.txt"))}
    listed = [line for line in rows.told if "file that holds no boxes" in line]
    assert len(listed) == len(unread)


def test_the_only_subset_of_cvat_is_no_split():
    one = {"obj.names": "car", "obj_train_data/one_1.txt": "0 .5 .5 1 1"}
    assert read_folder(one).annotations[0].said.split is None
    two = one | {"obj_Validation_data/one_2.txt": "0 .5 .5 1 1"}
    assert [a.said.split for a in read_folder(two).annotations] == ["train", "validation"]


def test_classes_that_differ_from_folder_to_folder_are_refused():
    files = {"a/classes.txt": "car", "b/classes.txt": "bus", "a/one_1.txt": "0 .5 .5 1 1"}
    with pytest.raises(BadInputError, match="a/classes.txt and b/classes.txt differ"):
        read_folder(files)


def test_pictures_of_the_sidecar_have_their_ending_for_yolo_too():
    name = "one_mp4-10_jpg.rf.1b2c3d4e5f60718293a4b5c6d7e8f901"
    files = {
        "data.yaml": "names: [car]",
        f"train/labels/{name}.txt": "0 .5 .5 1 1",
        "vidpipe.json": {"pictures": {f"{name}.jpg": {"video": "one.mp4", "frame": 10}}},
    }
    assert boxes(read_folder(files).annotations) == [(0.4, Box(0, 0, 1, 1))]
    both = {n: {"video": "one", "frame": f} for f, n in enumerate([f"{name}.jpg", f"{name}.png"])}
    with pytest.raises(BadInputError, match="does not tell which frame"):
        read_folder(files | {"vidpipe.json": {"pictures": both}})


@pytest.mark.parametrize("shape", ["[4, 2]", "[2, 3]", "[3, 3]"])
def test_boxes_of_poses_keep_their_box(shape):
    points, numbers = json.loads(shape)
    line = "0 .5 .5 1 1" + " 0.25" * (points * numbers)
    files = {"data.yaml": f"kpt_shape: {shape}\nnames: [car]", "labels/one_1.txt": line}
    rows = read_folder(files)
    assert boxes(rows.annotations) == [(0.04, Box(0, 0, 1, 1))]
    assert any("1 × left out: points of boxes" in line for line in rows.told)
    with pytest.raises(BadInputError, match="6 numbers; a sixth is the confidence"):
        read_folder(files | {"labels/one_1.txt": "0 .5 .5 1 1 .9"})


def test_zero_length_segments_of_activitynet_need_not_refuse_the_list():
    segments = [{"segment": [0, 0], "label": "a"}, {"segment": [2, 5], "label": "b"}]
    document = activitynet(one={"subset": "training", "annotations": segments})
    with pytest.raises(BadInputError, match="0 to 0 s is empty\nCorrect .*--skip-faulty"):
        read("a.json", document)
    rows = read("a.json", document, skip_faulty=True)
    assert told(rows) == [(1, 2.0, 5.0, "", "b")] and rows.skipped == 1
    alone = activitynet(one={"annotations": segments[:1]}, clip={"annotations": segments[1:]})
    # That its only segment is faulty does not say that there is nothing in it.
    assert told(read("a.json", alone, skip_faulty=True)) == [(9, 2.0, 5.0, "", "b")]


def test_kinetics_is_read_as_json_too():
    def clip(label: str, *segment: float) -> dict:
        return {"annotations": {"label": label, "segment": segment}, "subset": "train"}

    document = {
        "dQw4w9WgXcQ": clip("dancing", 10.0, 20.0),
        "one": clip("x", 2.5, 5),
        "elsewhere": clip("y", 0, 1),
    }
    rows = read("train.json", document)
    assert rows.format == "kinetics"
    assert told(rows) == [(6, None, None, "", "dancing"), (1, 2.5, 5.0, "", "x")]
    assert {a.said.split for a in rows.annotations} == {"train"}
    with pytest.raises(BadInputError, match='"one": time_start must be seconds'):
        read("train.json", {"one": clip("x", "a", 5)})


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", {"videos": [], "annotations": [], "categories": []}, "YouTube-VIS JSON.*COCO"),
        ("a.json", [{"id": 1, "video": "x", "annotation_id": 3, "lead_time": 1}], "JSON-MIN"),
        ("a.csv", "annotation_id,label,lead_time,video\n1,x,2,one\n", "Label Studio's CSV.*JSON"),
        ("a.json", [{"data": {"video": "one.mp4"}}], "tasks without annotations. .*Export JSON"),
        ("a.json", {"info": {}, "categories": {}, "items": []}, "Datumaro JSON"),
        ("a.json", {"_via_settings": {}}, r"\(VIA\), which is not read. Export COCO"),
        ("a.csv", "filename,file_size,region_shape_attributes\n", r"\(VIA\)"),
        ("a.json", {"version": "5", "shapes": [], "imagePath": "a.jpg"}, "LabelMe"),
        ("a.json", {"framesCount": 3, "frames": []}, "Supervisely"),
        ("a.json", [{"name": "b1", "labels": []}], "BDD100K"),
        ("a.json", {"version": "2.0", "item": {}, "annotations": []}, "V7 Darwin"),
        ("a.json", [{"id": "7", "label": "x", "template": "y"}], "Something-Something"),
        ("a.ndjson", '{"data_row": {"id": "x"}}\n', "Labelbox"),
        ("a.xml", "<annotation><object/></annotation>", "Pascal VOC XML.*Export YOLO or COCO"),
        ("gt.txt", "1,1,794.27,247.59,71.245,174.88,-1,-1,-1,-1\n", "MOT.*--first-frame 1"),
        ("one_25.txt", "0 0.5 0.5 0.2 0.2\n", "one text of a YOLO folder.*Give the folder"),
        ("ava.csv", "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n", "AVA CSV"),
        ("a.csv", "ImageID,Source,LabelName\n", "Open Images"),
        ("a.csv", "id,subject,scene,actions\n", "Charades"),
        ("a.csv", "narration_id,participant_id,verb\n", "EPIC-KITCHENS"),
    ],
)
def test_formats_that_are_not_read_are_named_with_what_to_do(name, content, words):
    with pytest.raises(BadInputError, match=f"this looks like .*{words}"):
        read(name, content)


def test_folders_that_are_not_read_are_named_with_what_to_do():
    for files, words in (
        ({"task.json": "{}", "annotations.json": "[]"}, "backup of CVAT"),
        ({"gt/gt.txt": "1,1,2,3,4,5,1\n", "notes.txt": ""}, "MOT Challenge"),
        (
            {"train/_annotations.coco.json": coco(), "valid/_annotations.coco.json": coco()},
            "2 files of labels .*one by one",
        ),
        ({"one_25.txt": "0 .5 .5 1 1"}, "none of data.yaml, .*classes.txt, obj.names beside"),
    ):
        with pytest.raises(BadInputError, match=words):
            read_folder(files)
