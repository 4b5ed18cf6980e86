"""What people are asked, as other tools take it, and as it comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.datasets.formats import asking
from vidpipe.datasets.formats.cvat import holds_xml
from vidpipe.datasets.formats.given import of_file
from vidpipe.datasets.formats.importing import parse_annotations
from vidpipe.datasets.video_names import VideoFacts, VideoNames
from vidpipe.datasets.windows import Segment
from vidpipe.errors import BadInputError

PAGE = Path(__file__).parents[3] / "docs" / "review.md"
VIDEO, OTHER, UNKNOWN = "a" * 64, "b" * 64, "c" * 64
FACTS = VideoFacts(2.0, 10.0, 64, 48)
# Somebody calls a file as another video's id.
VIDEOS = VideoNames({f"s3://b/{VIDEO}.mp4": OTHER}, {VIDEO: FACTS, OTHER: FACTS})
LABELS = st.sets(
    st.text(max_size=8).map(str.strip).filter(bool).filter(lambda t: t.isprintable()), min_size=1
)


def ask(
    labels,
    *,
    several: bool = True,
    facts: VideoFacts = FACTS,
    end_s: float = 2.0,
    measures: bool = False,
):
    said = [Segment(0.0, end_s, label, 0.5) for label in sorted(labels)]
    link = "https://s3/a?X-Amz-Signature=1"
    question = asking.Question(VIDEO, "<a>.mp4", link, facts, said, measures)
    return asking.write_questions([question], labels, "m version 1", several=several)


def confirmed(tags: bytes) -> bytes:
    """Tags as CVAT exports them once a person set them anew."""
    return tags.replace(b'source="auto"', b'source="manual"')


def said(name: str, content: bytes) -> set[tuple]:
    found = parse_annotations(of_file(name, content), VIDEOS, several=True).annotations
    assert {a.key.video_id for a in found} == {VIDEO}
    return {(a.said.label, a.key.start_s, a.key.end_s) for a in found}


@given(LABELS)
def test_whatever_labels_are_called_they_come_back(labels):
    files = ask(labels)
    (task,) = json.loads(files[asking.LABEL_STUDIO])
    task["annotations"] = [{"result": task["predictions"][0]["result"]}]
    answer = json.dumps([task]).encode()
    assert said("a.json", answer) == {(label, None, None) for label in labels}
    in_xml = set(filter(holds_xml, labels))
    config = ElementTree.fromstring(files[asking.LABEL_STUDIO_CONFIG])
    assert {choice.get("value") for choice in config.iter("Choice")} == in_xml
    assert {of["name"] for of in json.loads(files[asking.CVAT_LABELS])} == in_xml
    if in_xml:
        tags = said("a.xml", confirmed(files[f"cvat/{VIDEO}.xml"]))
        assert tags == {(label, None, None) for label in in_xml}


@pytest.mark.parametrize(("several", "choice"), [(True, "multiple"), (False, "single")])
def test_people_may_choose_as_many_as_there_may_be(several, choice):
    config = ElementTree.fromstring(ask({"a", "b"}, several=several)[asking.LABEL_STUDIO_CONFIG])
    assert config.find("Choices").get("choice") == choice


def test_what_xml_cannot_hold_is_not_offered():
    files = ask({"a", "b\x01"})
    config = ElementTree.fromstring(files[asking.LABEL_STUDIO_CONFIG])
    assert [choice.get("value") for choice in config.iter("Choice")] == ["a"]
    assert said("a.xml", confirmed(files[f"cvat/{VIDEO}.xml"])) == {("a", None, None)}


def test_tags_of_a_model_that_nobody_touched_are_no_answer():
    tags = ask({"a", "b"})[f"cvat/{VIDEO}.xml"]
    with pytest.raises(BadInputError, match="no row in it but what is not kept: 2 tags as a model"):
        said("a.xml", tags)
    # Of a project one task is answered: a tag was set anew, and the other one left beside it.
    image = tags[tags.index(b"<image") : tags.index(b"</annotations>")]
    tasks = {1: VIDEO, 2: OTHER}
    described = "".join(f"<task><id>{n}</id><name>{v}</name></task>" for n, v in tasks.items())
    of_tasks = [image.replace(b"<image", b'<image task_id="%d"' % number) for number in tasks]
    of_tasks[0] = of_tasks[0].replace(b'"auto"', b'"manual"', 1)
    project = (
        f"<annotations><meta><project><tasks>{described}</tasks></project></meta>"
        f"{b''.join(of_tasks).decode()}</annotations>"
    ).encode()
    assert said("a.xml", project) == {("a", None, None), ("b", None, None)}
    told = parse_annotations(of_file("a.xml", project), VIDEOS, several=True).told
    assert any(line.startswith("2 × left out: tags as a model set them") for line in told)


def test_precision_is_measured_on_videos_whose_tags_people_set():
    assert b"<tag" in ask({"a"})[f"cvat/{VIDEO}.xml"]
    files = ask({"a"}, measures=True)
    assert b"<image" in files[f"cvat/{VIDEO}.xml"] and b"<tag" not in files[f"cvat/{VIDEO}.xml"]
    assert {of["name"] for of in json.loads(files[asking.CVAT_LABELS])} == {"a"}


def test_of_unknown_frame_rate_there_are_no_ranges_to_begin_with():
    (task,) = json.loads(ask({"a"}, facts=VideoFacts(2.0), end_s=1.0)[asking.LABEL_STUDIO])
    assert task["predictions"][0]["result"] == [] and task["data"]["fps"] == asking.UNKNOWN_FPS


def test_the_answer_that_the_page_on_reviews_shows_is_read():
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    tasks = json.loads(shown)
    tasks[0]["data"]["vidpipe_video_id"] = VIDEO
    assert said("answers.json", json.dumps(tasks).encode()) == {("left", None, None)}


@pytest.mark.parametrize("name", [OTHER[:-1], OTHER.upper(), f"{VIDEO}.mp4", UNKNOWN])
def test_no_name_stands_for_a_video_id(name):
    (task,) = json.loads(ask({"a"})[asking.LABEL_STUDIO])
    task["data"]["vidpipe_video_id"] = name
    task["annotations"] = [{"result": task["predictions"][0]["result"]}]
    with pytest.raises(BadInputError, match=r"\[0\]: no video is called"):
        said("a.json", json.dumps([task]).encode())
    unknown = ask({"a"})[f"cvat/{VIDEO}.xml"].replace(VIDEO.encode(), UNKNOWN.encode())
    unknown = unknown.replace(b"</name><mode>", b"</name><source>a.mp4</source><mode>")
    with pytest.raises(BadInputError, match="line 6: no video is called"):
        said("a.xml", unknown)
