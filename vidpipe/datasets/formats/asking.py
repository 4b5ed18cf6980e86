"""Videos that people are to look at, as Label Studio and CVAT take them, with what a model says.

The answers come back through `label_studio.py` and `cvat.py`. What leads an answer to its video is
the `video_id`, in a place of its own: links end, and names may be those of other videos by then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from vidpipe.datasets.formats.cvat import holds_xml
from vidpipe.datasets.formats.label_studio import CHOICES, VIDEO, VIDEO_ID

LABEL_STUDIO = "label-studio.json"
LABEL_STUDIO_CONFIG = "label-studio.xml"
CVAT_TASKS = "cvat/tasks.json"
CVAT_LABELS = "cvat/labels.json"


@dataclass(frozen=True)
class Question:
    """A video that people are to look at.

    Attributes:
        name: Its file name, for people.
        link: Where a browser gets it; as secret as a password.
        labels: What the model says of it, with the scores.
        width: Of the picture as shown, in pixels; 0 where that is not known.
    """

    video_id: str
    name: str
    link: str
    labels: Mapping[str, float]
    width: int = 0
    height: int = 0


def write_questions(
    questions: Sequence[Question], labels: Iterable[str], model: str, *, several: bool
) -> dict[str, bytes]:
    """The files to import into either tool.

    Args:
        questions: The videos.
        labels: All that people may answer.
        model: Name and version of the model, as people are told.
        several: Whether a video may have several labels at once.

    Returns:
        Content by path: tasks and labelling configuration for Label Studio; for CVAT tasks, labels
        and the tags of each video.
    """
    offered = sorted(filter(holds_xml, labels))
    tasks = [_label_studio_task(question, model) for question in questions]
    files = {
        LABEL_STUDIO: _json(tasks),
        LABEL_STUDIO_CONFIG: _label_studio_config(offered, several).encode(),
        CVAT_LABELS: _json([{"name": n, "type": "tag", "attributes": []} for n in offered]),
    }
    cvat_tasks = []
    for question in questions:
        annotations = f"{question.video_id}.xml"
        files[f"cvat/{annotations}"] = _cvat_tags(question, offered).encode()
        cvat_tasks.append(
            {
                "name": question.video_id,
                "file": question.name,
                "link": question.link,
                "annotations": annotations,
            }
        )
    return files | {CVAT_TASKS: _json(cvat_tasks)}


def _label_studio_task(question: Question, model: str) -> dict:
    prediction = {
        "model_version": model,
        "score": min(question.labels.values()),
        "result": [
            {
                "id": "label",
                "from_name": CHOICES,
                "to_name": VIDEO,
                "type": "choices",
                "value": {"choices": sorted(question.labels)},
            }
        ],
    }
    return {
        "data": {VIDEO: question.link, "name": question.name, VIDEO_ID: question.video_id},
        "predictions": [prediction],
    }


def _label_studio_config(labels: Sequence[str], several: bool) -> str:
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return (
        "<View>\n"
        '  <Header value="$name"/>\n'
        f'  <Video name="{VIDEO}" value="${VIDEO}"/>\n'
        f'  <Choices name="{CHOICES}" toName="{VIDEO}"'
        f' choice="{"multiple" if several else "single"}" showInline="true">\n'
        f"{choices}\n"
        "  </Choices>\n"
        "</View>\n"
    )


def _cvat_tags(question: Question, offered: Sequence[str]) -> str:
    """Tags on the first frame, in the form that CVAT calls CVAT for images: that for video has no
    tags."""
    each = (f"<label><name>{escape(name)}</name><type>tag</type></label>" for name in offered)
    size = f' width="{question.width}" height="{question.height}"' if question.width else ""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "<version>1.1</version>",
        f"<meta><task><name>{question.video_id}</name><mode>interpolation</mode>"
        f"<labels>{''.join(each)}</labels></task></meta>",
        f'<image id="0" name="frame_000000"{size}>',
        *(
            f'<tag label={quoteattr(label)} source="auto"></tag>'
            for label in sorted(question.labels)
            if holds_xml(label)
        ),
        "</image>",
        "</annotations>",
    ]
    return "".join(f"{line}\n" for line in lines)


def _json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode()
