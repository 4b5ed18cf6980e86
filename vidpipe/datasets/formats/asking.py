"""Videos that people are to look at, as Label Studio and CVAT take them, with what a model says.

The answers come back through `label_studio.py` and `cvat.py`. What leads an answer to its video is
the `video_id`, in a place of its own: links end, and names may be those of other videos by then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from vidpipe.datasets.formats.cvat import holds_xml
from vidpipe.datasets.formats.label_studio import CHOICES, TIMELINE, VIDEO, VIDEO_ID, timeline
from vidpipe.datasets.video_names import VideoFacts
from vidpipe.datasets.windows import Segment

LABEL_STUDIO = "label-studio.json"
LABEL_STUDIO_CONFIG = "label-studio.xml"
CVAT_TASKS = "cvat/tasks.json"
CVAT_LABELS = "cvat/labels.json"
UNKNOWN_FPS = 24.0  # Label Studio's own


@dataclass(frozen=True)
class Question:
    """A video that people are to look at.

    Attributes:
        name: Its file name, for people.
        link: Where a browser gets it; as secret as a password.
        facts: What else is known of it.
        said: What the model says of it.
        measures: Whether precision is measured on it.
    """

    video_id: str
    name: str
    link: str
    facts: VideoFacts
    said: Sequence[Segment]
    measures: bool = False

    @property
    def labels(self) -> list[str]:
        """What the model says, whenever it is."""
        return sorted({segment.label for segment in self.said})

    @property
    def has_times(self) -> bool:
        """Whether something that the model says is not of the whole video."""
        return not all(self.facts.is_whole(s.start_s, s.end_s) for s in self.said)


def write_questions(
    questions: Sequence[Question], labels: Iterable[str], model: str, *, several: bool
) -> dict[str, bytes]:
    """The files to import into either tool.

    Args:
        questions: The videos.
        labels: All that people may answer; of the whole video, or of ranges, where the model says
            something of ranges.
        model: Name and version of the model, as people are told.
        several: Whether a video may have several labels at once.

    Returns:
        Content by path: tasks and labelling configuration for Label Studio; for CVAT tasks, labels
        and the tags of each video.
    """
    offered = sorted(filter(holds_xml, labels))
    timed = any(question.has_times for question in questions)
    tasks = [_label_studio_task(question, model, timed) for question in questions]
    config = _timeline_config(offered) if timed else _choices_config(offered, several)
    files = {
        LABEL_STUDIO: _json(tasks),
        LABEL_STUDIO_CONFIG: config.encode(),
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


def _label_studio_task(question: Question, model: str, timed: bool) -> dict:
    facts = question.facts
    if not timed:
        choices = {"type": "choices", "value": {"choices": question.labels}}
        results = [{"from_name": CHOICES, "to_name": VIDEO, **choices}]
    elif facts.fps:
        results = [timeline(s.label, s.start_s, s.end_s, facts) for s in question.said]
    else:
        results = []  # its frames have no times
    return {
        "data": {
            VIDEO: question.link,
            "name": question.name,
            "fps": facts.fps or UNKNOWN_FPS,
            VIDEO_ID: question.video_id,
        },
        "predictions": [
            {
                "model_version": model,
                "score": min(segment.score for segment in question.said),
                "result": [{"id": f"said-{n}", **of} for n, of in enumerate(results)],
            }
        ],
    }


def _choices_config(labels: Sequence[str], several: bool) -> str:
    choices = "".join(f"    <Choice value={quoteattr(label)}/>\n" for label in labels)
    how = "multiple" if several else "single"
    return _config(
        f'  <Choices name="{CHOICES}" toName="{VIDEO}" choice="{how}" showInline="true">\n'
        f"{choices}"
        "  </Choices>\n"
    )


def _timeline_config(labels: Sequence[str]) -> str:
    each = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    return _config(
        f'  <TimelineLabels name="{TIMELINE}" toName="{VIDEO}">\n{each}  </TimelineLabels>\n'
    )


def _config(asks: str) -> str:
    video = f'  <Video name="{VIDEO}" value="${VIDEO}" frameRate="$fps"/>\n'
    return f'<View>\n  <Header value="$name"/>\n{video}{asks}</View>\n'


def _cvat_tags(question: Question, offered: Sequence[str]) -> str:
    """Tags on the first frame, in the form that CVAT calls CVAT for images: that for video has no
    tags.

    What precision is measured on begins without: CVAT does not tell that somebody agreed with a tag
    and left it, so that only those would count which are wrong.
    """
    each = (f"<label><name>{escape(name)}</name><type>tag</type></label>" for name in offered)
    facts = question.facts
    size = f' width="{facts.width}" height="{facts.height}"' if facts.width else ""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "<version>1.1</version>",
        f"<meta><task><name>{question.video_id}</name><mode>interpolation</mode>"
        f"<labels>{''.join(each)}</labels></task></meta>",
        f'<image id="0" name="frame_000000"{size}>',
        *(
            f'<tag label={quoteattr(label)} source="auto"></tag>'
            for label in question.labels
            if holds_xml(label) and not question.measures
        ),
        "</image>",
        "</annotations>",
    ]
    return "".join(f"{line}\n" for line in lines)


def _json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode()
