"""Reading annotations in tests, from text."""

from __future__ import annotations

import json
from typing import Any

from tests.datasets.formats.labelled import VIDEOS
from vidpipe.datasets.annotations import Annotation, Box
from vidpipe.datasets.formats.given import of_file, of_folder
from vidpipe.datasets.formats.importing import Imported, parse_annotations


def read(name: str, content: Any, sidecar: Any = None, **options: Any) -> Imported:
    """Reads a file; what is no text or bytes is written as JSON."""
    as_bytes = [_bytes(given) if given is not None else None for given in (content, sidecar)]
    return parse_annotations(of_file(name, *as_bytes), VIDEOS, **options)


def read_folder(files: dict[str, Any], **options: Any) -> Imported:
    """Reads a folder."""
    given = of_folder("folder", ((path, _bytes(of)) for path, of in files.items()))
    return parse_annotations(given, VIDEOS, **options)


def _bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def video(number: int) -> str:
    """The id of a video of `labelled.py`."""
    return f"{number:x}" * 64


def told(imported: Imported) -> list[tuple]:
    """Number of the video, range, annotator and label of each."""
    return [
        (int(a.key.video_id[:1], 16), a.key.start_s, a.key.end_s, a.key.annotator, a.said.label)
        for a in imported.annotations
    ]


def boxes(annotations: list[Annotation]) -> list[tuple[float, Box | None]]:
    """When, and where."""
    return [(a.key.start_s, a.said.box) for a in annotations]
