"""Files from strangers end in rows or in one error, whatever is in them."""

from __future__ import annotations

import copy
import json
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.datasets.formats.labelled import VIDEOS
from tests.datasets.formats.test_boxes import CVAT, YOLO, choices, coco, rectangle, task
from tests.datasets.formats.test_lists import CLASSES, KINETICS, activitynet
from vidpipe.datasets.formats import AUTO, NAMES
from vidpipe.datasets.formats import given as givens
from vidpipe.datasets.formats.given import make_zip, of_file
from vidpipe.datasets.formats.importing import mentions, parse_annotations
from vidpipe.errors import BadInputError

SEGMENT = {"segment": [2, 7.5], "label": "Surfing"}
DOCUMENTS: dict[str, Any] = {
    "activitynet.json": activitynet(one={"subset": "training", "annotations": [SEGMENT]}),
    "coco.json": coco(videos=[{"id": 9, "name": "one"}]),
    "studio.json": [task(choices("left"), rectangle((1, True, 10), (5, False, 30)))],
    "row.jsonl": {"video": "one", "label": "x", "start_s": 1, "end_s": 2, "track": "7"},
    "labels.csv.vidpipe.json": {
        "format": "csv",
        "rows": [{"as": {"video": "one", "label": "x"}, "is": [{"video": "one", "label": "y"}]}],
        "also": [{"video": "one", "label": None, "start_s": 1, "end_s": 1}],
        "pictures": {"a.jpg": {"video": "one", "frame": 3}},
    },
}
FILES: dict[str, bytes] = {
    **{name: json.dumps(document).encode() for name, document in DOCUMENTS.items()},
    "labels.csv": b"video,label,start_s,end_s,box_x\none,x,1,2,\none,y,,,\n",
    "kinetics.csv": f"{KINETICS}x,one,2,9,train\n".encode(),
    "trainlist01.txt": b"Archery/one.avi 1\n",
    "annotations.xml": CVAT.encode(),
    "yolo.zip": make_zip({p: c if isinstance(c, bytes) else c.encode() for p, c in YOLO.items()}),
    "ucf.zip": make_zip({"classInd.txt": CLASSES.encode(), "testlist01.txt": b"Archery/one.avi\n"}),
}
QUIET = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([10**400, "", "one", "1e999", "\ud800", "0", "testing", "../../etc/passwd"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def ends_well(
    name: str, content: bytes, sidecar: bytes | None = None, format: str = AUTO, **options: Any
) -> None:
    try:
        given_ = of_file(name, content, sidecar)
        mentions(given_, ["s3://videos/a/one.mp4"])
        read = parse_annotations(given_, VIDEOS, format=format, **options)
    except BadInputError as error:
        # It can be printed, and names the file.
        assert str(error).encode()
        assert name.partition(".")[0] in str(error) or ".txt" in str(error)
    else:
        assert read.annotations


@given(st.sampled_from(sorted(FILES)), st.binary(max_size=300), st.sampled_from([AUTO, *NAMES]))
@QUIET
def test_any_bytes(name, content, format):
    ends_well(name, content, format=format)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        until = min(len(content), at + draw(st.integers(0, 20)))
        kind = draw(st.sampled_from(["cut", "insert", "repeat", "digits"]))
        piece = {
            "cut": b"",
            "insert": content[at:until] + draw(st.binary(max_size=6)),
            "repeat": content[at:until] * 3,
            "digits": draw(
                st.sampled_from([b"9" * 30, b"-1", b"1e999", b"nan", b"\x00", b"<", b"{"])
            ),
        }[kind]
        content = content[:at] + piece + content[until:]
    return content


@pytest.mark.parametrize("name", sorted(FILES))
@given(st.data())
@QUIET
def test_files_that_were_spoilt(name, data):
    options = data.draw(st.sampled_from([{}, {"skip_faulty": True}, {"video": "one"}]))
    ends_well(name, data.draw(mutated(FILES[name])), **options)


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
@given(st.data())
@QUIET
def test_documents_of_other_values(name, data):
    document = copy.deepcopy(DOCUMENTS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        of, key = data.draw(st.sampled_from(places))
        of[key] = data.draw(_json)
    content = json.dumps(document).encode()
    if name.endswith(givens.SIDECAR):
        ends_well("labels.csv", FILES["labels.csv"], content)
    else:
        ends_well(name, content)


def _places(tree: Any):
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


_words = st.sampled_from(["", "0", "1", "-1", "1e999", "x", "9" * 20, "one.mp4", "Train"])
_names = st.sampled_from(
    ["frame", "outside", "occluded", "xtl", "id", "task_id", "label", "subset"]
)


@given(st.data())
@settings(QUIET, max_examples=1000)
def test_xml_of_other_parts(data):
    root = ElementTree.fromstring(CVAT)
    for _ in range(data.draw(st.integers(1, 4))):
        of, other = (data.draw(st.sampled_from(list(root.iter()))) for _ in range(2))
        kind = data.draw(st.sampled_from(["text", "tail", "tag", "attribute", "without", "inside"]))
        match kind:
            case "text" | "tail":
                setattr(of, kind, data.draw(_words))
            case "tag":
                of.tag = other.tag
            case "attribute":
                of.set(data.draw(_names), data.draw(_words))
            case "without":
                of.attrib.pop(data.draw(_names), None)
            case "inside":
                of.append(copy.deepcopy(other))
    ends_well("a.xml", ElementTree.tostring(root))
