"""Annotation files: JSON Lines or CSV (commas, semicolons or tabs) of videos and their labels.

| column | meaning |
| --- | --- |
| `video` | the video: its URI, its key in the bucket, or its file name where that is unique |
| `label` | what it shows; may be empty only where `delete` is set |
| `start_s`, `end_s` | the range that the label holds for, in seconds; both empty: the whole video |
| `annotator` | who said so; rows of several annotators stand beside each other |
| `delete` | `true`, `yes` or `1` withdraws the row of the same video, range and annotator |

Every fault of a file is found before anything is done with it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vidpipe.errors import BadInputError

COLUMNS = ("video", "label", "start_s", "end_s", "annotator", "delete")
FAULTS_SHOWN = 50
RANGE_TOLERANCE_S = 0.1  # people and players round
_YES = {"true", "yes", "1"}
_NO = {"false", "no", "0", ""}


@dataclass(frozen=True)
class Annotation:
    """One row of an annotation file, matched with its video.

    Attributes:
        video: As the file calls it.
    """

    line: int
    video: str
    video_id: str
    label: str
    start_s: float | None
    end_s: float | None
    annotator: str
    delete: bool

    @property
    def key(self) -> tuple[str, float | None, float | None, str]:
        """What it replaces: the row of the same video, range and annotator."""
        return self.video_id, self.start_s, self.end_s, self.annotator


class VideoNames:
    """Finds videos by what people call them.

    Args:
        sources: `video_id` of each source URI.
        durations_s: Duration of each video that can be labelled.
    """

    def __init__(self, sources: Mapping[str, str], durations_s: Mapping[str, float]):
        self.durations_s = durations_s
        self._by_uri: dict[str, set[str]] = {}
        self._by_key: dict[str, set[str]] = {}
        self._by_name: dict[str, set[str]] = {}
        for uri, video_id in sources.items():
            # The same name may be written in two ways: macOS takes letters and accents apart.
            uri = _composed(uri)
            self._by_uri.setdefault(uri, set()).add(video_id)
            key = uri.removeprefix("s3://").partition("/")[2]
            self._by_key.setdefault(key, set()).add(video_id)
            self._by_name.setdefault(key.rpartition("/")[2], set()).add(video_id)

    def find(self, name: str) -> str:
        """Returns the id of the video that is called `name`.

        Raises:
            ValueError: There is none, or more than one; says so in words.
        """
        names = (self._by_uri, self._by_key, self._by_name)
        # A name may begin or end with a space; more often the space is a slip.
        called = (_composed(name), _composed(name.strip()))
        found = next(filter(None, (known.get(c) for c in called for known in names)), set())
        if not found:
            raise ValueError(f"no video is called {name!r}")
        if len(found) > 1:
            raise ValueError(f"{len(found)} videos are called {name!r}: give the key or the URI")
        (video_id,) = found
        if video_id not in self.durations_s:
            raise ValueError(f"{name!r} could not be extracted, so it cannot be labelled")
        return video_id


def current_labels(annotations: pa.Table) -> dict[tuple, str]:
    """The annotations of a task that hold: the newest of each key, unless it withdraws.

    Args:
        annotations: Rows of the table `annotations`, all of one task.

    Returns:
        The label by `Annotation.key`.
    """
    current: dict[tuple, str] = {}
    for row in annotations.sort_by("annotated_at").to_pylist():
        key = (row["video_id"], row["start_s"], row["end_s"], row["annotator"])
        if row["withdrawn"]:
            current.pop(key, None)
        else:
            current[key] = row["label"]
    return current


def parse_annotations(name: str, content: bytes, videos: VideoNames) -> list[Annotation]:
    """Reads an annotation file whole.

    Args:
        name: Its name; `.jsonl`, `.ndjson` and `.json` are JSON Lines, all others CSV.
        content: Its bytes, UTF-8.
        videos: The videos that may be named.

    Returns:
        Its rows, in order.

    Raises:
        BadInputError: It has faults; the message lists them with line numbers.
    """
    faults: list[str] = []
    annotations: list[Annotation] = []
    first: dict[tuple, Annotation] = {}
    try:
        for line, row in _rows(name, content):
            try:
                annotation = _annotation(line, row, videos)
            except ValueError as error:
                faults.append(f"line {line}: {error}")
                continue
            earlier = first.setdefault(annotation.key, annotation)
            if earlier is not annotation:
                same = "the same video, range and annotator"
                if earlier.video != annotation.video:
                    same += f" ({annotation.video!r} is the video of {earlier.video!r})"
                faults.append(f"line {line}: {same} as line {earlier.line}")
            annotations.append(annotation)
    except (ValueError, csv.Error) as error:
        faults.append(str(error))
    if not faults and not annotations:
        faults.append("there is no row in it")
    if faults:
        more = len(faults) - FAULTS_SHOWN
        listed = faults[:FAULTS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise BadInputError(
            f"{name}: nothing was imported, {len(faults)} fault{'s' * (len(faults) > 1)}:\n  "
            + "\n  ".join(listed)
        )
    return annotations


def _rows(name: str, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: not UTF-8; save the file as UTF-8") from error
    rows = _json_rows if name.lower().endswith((".jsonl", ".ndjson", ".json")) else _csv_rows
    yield from rows(text)


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    header = text.partition("\n")[0]
    # Spreadsheets write what is usual in their country.
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    names = [n.strip().lower() for n in reader.fieldnames or ()]
    reader.fieldnames = names
    if unknown := [n for n in names if n not in COLUMNS]:
        raise ValueError(
            f"line 1: there is no column {unknown[0]!r}; there are: {', '.join(COLUMNS)}"
        )
    if twice := [n for n in COLUMNS if names.count(n) > 1]:
        raise ValueError(f"line 1: the column {twice[0]} is there twice")
    if not {"video", "label"} <= set(names):
        received = ", ".join(names)
        raise ValueError(f"line 1: columns video and label are needed. Received: {received}")
    while True:
        begins = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"line {begins}: {error}; look for a quote too many") from error
        if None in row:
            row = {"video": "", "fault": "more fields than columns"}
        yield reader.line_num, row


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines(): a label may hold any of the other separators that Unicode knows.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            row = None
        yield number, row if isinstance(row, dict) else {"fault": "not a JSON object"}


def _annotation(line: int, row: dict[str, Any], videos: VideoNames) -> Annotation:
    if "fault" in row:
        raise ValueError(row["fault"])
    if unknown := [n for n in row if n not in COLUMNS]:
        raise ValueError(f"there is no {unknown[0]!r}; there are: {', '.join(COLUMNS)}")
    values = {n: row.get(n) for n in COLUMNS}
    delete_word = str(values["delete"] if values["delete"] is not None else "").strip().lower()
    if delete_word not in _YES | _NO:
        raise ValueError(f"delete must be true or false. Received: {values['delete']!r}")
    delete = delete_word in _YES
    for column in ("video", "label", "annotator"):
        if not isinstance(values[column], str | None):
            raise ValueError(f"{column} must be text. Received: {values[column]!r}")
    label = (values["label"] or "").strip()
    if not label and not delete:
        raise ValueError("the label is empty")
    if not (values["video"] or "").strip():
        raise ValueError("no video is named")
    video = values["video"]
    video_id = videos.find(video)
    start_s, end_s = _seconds(values, "start_s"), _seconds(values, "end_s")
    if (start_s is None) != (end_s is None):
        raise ValueError("start_s and end_s go together: give both or none")
    if start_s is not None and end_s is not None:
        duration_s = videos.durations_s[video_id]
        if start_s >= end_s:
            raise ValueError(f"the range {start_s:g} to {end_s:g} s is empty")
        if start_s < 0 or end_s > duration_s + RANGE_TOLERANCE_S:
            raise ValueError(
                f"the range {start_s:g} to {end_s:g} s is outside the video of {duration_s:.2f} s"
            )
    annotator = (values["annotator"] or "").strip()
    return Annotation(line, video, video_id, label, start_s, end_s, annotator, delete)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _seconds(values: dict[str, Any], column: str) -> float | None:
    value = values[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        seconds = float(value)
        if not math.isfinite(seconds):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"{column} must be seconds. Received: {value!r}") from None
    return seconds
