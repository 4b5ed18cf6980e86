"""Formats of other tools that are not read: what they are called, and what to do instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from vidpipe.datasets.formats.delimited import read_table
from vidpipe.datasets.formats.given import Given

_HEAD_BYTES = 4096
_TO_CVAT = "Import it into CVAT, and export CVAT for video 1.1"
_TO_COCO = "Convert it to COCO JSON with a video_id and a frame_id for each image"
_TO_CSV = "Convert it to CSV with the columns video, label, start_s and end_s"
_BOXES_TO_CSV = "Convert it to CSV with a box in each row (docs/annotations.md)"
_EXPORT_JSON = "Export JSON there"
_MOT_LINE = re.compile(r"\s*[0-9]+(\s*,\s*[0-9.eE+-]+){6,9}\s*")
_YOLO_LINE = re.compile(r"[0-9]+(\.0+)?([ \t]+[0-9.eE-]+){4,}\s*")
_AVA_LINE = re.compile(r"[^,]+,[0-9.]+(,[0-9.]*){4},[0-9]+(,[0-9]*)?\s*")


class _Foreign(NamedTuple):
    """A format that is not read.

    Attributes:
        name: What people call it.
        remedy: What to do instead.
        recognises: Whether the file has it.
    """

    name: str
    remedy: str
    recognises: Callable[[_Head], bool]


class _Head:
    """What a file tells about its format: members of a JSON document, columns, first line.

    Args:
        given: The file or folder.

    Attributes:
        names: File names in it.
        text: The beginning of a single file; "" for a folder.
    """

    def __init__(self, given: Given):
        self.names = {path.rpartition("/")[2].lower() for path in given.files}
        self.text = ""
        if not given.is_folder:
            self.text = given.content[:_HEAD_BYTES].decode("utf-8-sig", "replace")
        self.document: Any = given.document if given.ends_in(".json") else None

    @property
    def line(self) -> str:
        """The first line."""
        return self.text.partition("\n")[0]

    @property
    def columns(self) -> set[str]:
        """Columns of a table."""
        try:
            return set(read_table(self.text).columns)
        except ValueError:
            return set()

    def has_members(self, *names: str) -> bool:
        """Whether a document is an object with these members."""
        return isinstance(self.document, dict) and set(names) <= self.document.keys()

    def lists(self, *names: str) -> bool:
        """Whether a document is a list of objects with these members."""
        first = self.document[:1] if isinstance(self.document, list) else []
        return bool(first) and isinstance(first[0], dict) and set(names) <= first[0].keys()


_FOREIGN = (
    _Foreign(
        "Label Studio's JSON-MIN",
        f"It says too little of what was labelled. {_EXPORT_JSON}",
        lambda head: head.lists("id", "annotation_id", "lead_time"),
    ),
    _Foreign(
        "Label Studio's CSV",
        f"It says too little of what was labelled. {_EXPORT_JSON}",
        lambda head: {"annotation_id", "lead_time"} <= head.columns,
    ),
    _Foreign(
        "a list of Label Studio's tasks without annotations",
        _EXPORT_JSON,
        lambda head: head.lists("data") and not head.lists("annotations"),
    ),
    _Foreign(
        "YouTube-VIS JSON",
        f"Its boxes are lists by video. {_TO_COCO}",
        lambda head: head.has_members("videos", "annotations") and not head.has_members("images"),
    ),
    _Foreign(
        "Datumaro JSON",
        "Export COCO, YOLO or CVAT for video 1.1 from the same tool",
        lambda head: head.has_members("categories", "items"),
    ),
    _Foreign(
        "a project of the VGG Image Annotator (VIA)",
        "Export COCO there",
        lambda head: (
            head.has_members("_via_settings")
            or head.has_members("project", "metadata", "attribute")
            or {"region_shape_attributes", "filename"} <= head.columns
        ),
    ),
    _Foreign("LabelMe JSON", _BOXES_TO_CSV, lambda head: head.has_members("shapes", "imagePath")),
    _Foreign(
        "Supervisely JSON",
        "Export COCO there",
        lambda head: (
            head.has_members("framesCount", "frames") or head.has_members("objects", "tags", "size")
        ),
    ),
    _Foreign(
        "Scalabel or BDD100K JSON",
        _TO_COCO,
        lambda head: head.lists("name", "labels") or head.has_members("frames", "groups"),
    ),
    _Foreign(
        "V7 Darwin JSON", "Export COCO there", lambda head: head.has_members("item", "annotations")
    ),
    _Foreign(
        "Something-Something JSON",
        _TO_CSV,
        lambda head: head.lists("id", "template") or head.lists("id", "label", "placeholders"),
    ),
    _Foreign("a Labelbox export", _TO_CSV, lambda head: '"data_row"' in head.text),
    _Foreign(
        "Pascal VOC XML",
        "Export YOLO or COCO from the same tool",
        lambda head: "<annotation>" in head.text or "<annotation " in head.text,
    ),
    _Foreign(
        "MOT Challenge text",
        f"{_TO_CVAT}; or convert it to COCO JSON, and import that with --first-frame 1",
        lambda head: "gt.txt" in head.names or bool(_MOT_LINE.fullmatch(head.line)),
    ),
    _Foreign(
        "one text of a YOLO folder",
        "Give the folder, with data.yaml, classes.txt or obj.names in it",
        lambda head: bool(_YOLO_LINE.fullmatch(head.line)),
    ),
    _Foreign("AVA CSV", _BOXES_TO_CSV, lambda head: bool(_AVA_LINE.fullmatch(head.line))),
    _Foreign(
        "Open Images CSV",
        _BOXES_TO_CSV,
        lambda head: {"imageid", "labelname"} <= head.columns,
    ),
    _Foreign("Charades CSV", _TO_CSV, lambda head: {"id", "subject", "actions"} <= head.columns),
    _Foreign("EPIC-KITCHENS CSV", _TO_CSV, lambda head: {"narration_id", "verb"} <= head.columns),
    _Foreign(
        "a backup of CVAT",
        "Export CVAT for video 1.1 there",
        lambda head: {"task.json", "annotations.json"} <= head.names,
    ),
)


def recognise_foreign(given: Given) -> str | None:
    """Says what a file of another tool is, and what to do; None where it is of none of these."""
    head = _Head(given)
    for foreign in _FOREIGN:
        if foreign.recognises(head):
            return f"this looks like {foreign.name}, which is not read. {foreign.remedy}."
    return None
