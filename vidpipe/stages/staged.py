"""What runs left in the lake beside the tables, and which of it names something."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from vidpipe.config import AnnotateSettings
from vidpipe.datasets.formats.budget import Budget
from vidpipe.datasets.formats.given import MAX_BYTES, of_file
from vidpipe.datasets.formats.importing import mentions
from vidpipe.datasets.labelled import Dataset
from vidpipe.datasets.splits import TEST
from vidpipe.errors import BadInputError, NotFoundError
from vidpipe.lake import layout
from vidpipe.lake.forgetting import stray_files
from vidpipe.lake.store import StoredObject
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES
from vidpipe.stages.subject import Subject

READERS = 16  # objects read at the same time: they are small and many
# Files of labels may be large, or unpack to much: only small ones are fetched at the same time, and
# one at a time is read.
_SMALL_BYTES = 1024 * 1024


def staged_objects(lake: Lake, subject: Subject, tell: Callable[[str], None]) -> list[str]:
    """Objects that name a subject and are no part of a table.

    Manifests, pinned datasets, label files that were uploaded, features, and data files of
    attempts. Datasets of trainings that were never published are added to the subject.
    """
    if not subject.names:
        return []
    found = []
    one_at_a_time = threading.Lock()
    for prefix, names_it in (
        (layout.run_uri(lake.uri, ""), lambda stored: _in_run(lake, stored.uri, subject)),
        (
            layout.annotations_uri(lake.uri),
            lambda stored: _in_labels(lake, stored, subject, one_at_a_time),
        ),
    ):
        # What a training learnt so far is large, and names nobody.
        objects = [o for o in lake.store.list(prefix) if not o.uri.endswith(".npz")]
        with ThreadPoolExecutor(READERS) as pool:
            hits = pool.map(names_it, objects)
            for number, (stored, hit) in enumerate(zip(objects, hits, strict=True), 1):
                if hit:
                    found.append(stored.uri)
                if number % 1000 == 0:
                    tell(f"{number} of {len(objects)} objects below {prefix} are searched")
    for kept in lake.store.list(layout.features_uri(lake.uri)):
        if kept.uri.rpartition("/")[0].rpartition("/")[2] in subject.videos:
            found.append(kept.uri)
    for name in TABLES:
        found += stray_files(lake, name, subject.names)
    return found


def unfinished(lake: Lake, uris: list[str], idle_since: datetime) -> dict[str, list[str]]:
    """Those of the objects that belong to runs which have not ended, by run key.

    A run has ended when it is published, or has left nothing new since `idle_since`.
    """
    of_run: dict[str, list[str]] = {}
    for uri in uris:
        # A plan only says what was asked for, such as to forget this; a next try writes it anew.
        if not _is_plan(lake, uri) and (run_key := _run_of(lake, uri)):
            of_run.setdefault(run_key, []).append(uri)
    return {
        run_key: of_run[run_key] for run_key in of_run if not _has_ended(lake, run_key, idle_since)
    }


def _has_ended(lake: Lake, run_key: str, idle_since: datetime) -> bool:
    folder = f"{layout.run_uri(lake.uri, run_key)}/"
    left = list(lake.store.list(folder))
    if any(found.uri.startswith(f"{folder}reports/publish/") for found in left):
        return True
    return all(found.modified_at < idle_since for found in left)


def _run_of(lake: Lake, uri: str) -> str | None:
    folders = [layout.run_uri(lake.uri, "")]
    folders += [f"{layout.table_uri(lake.uri, name)}/data/" for name in TABLES]
    for folder in folders:
        if uri.startswith(folder):
            return uri.removeprefix(folder).partition("/")[0]
    return None


def _text(lake: Lake, uri: str) -> str:
    return _content(lake, uri).decode("utf-8", "replace")


def _content(lake: Lake, uri: str) -> bytes:
    try:
        return lake.store.get(uri)
    except NotFoundError:
        return b""  # gone since it was listed


def _in_run(lake: Lake, uri: str, subject: Subject) -> bool:
    content = _text(lake, uri)
    if _is_plan(lake, uri):
        # People named it there, as they would to `annotate`.
        texts = list(_texts(_parsed(content)))
        return any(_holds_word(text, name) for name in _names_by_people(subject) for text in texts)
    return _in_document(content, subject)


def _is_plan(lake: Lake, uri: str) -> bool:
    run_key = uri.removeprefix(layout.run_uri(lake.uri, "")).partition("/")[0]
    return uri.startswith(layout.plans_uri(lake.uri, run_key))


def _names_by_people(subject: Subject) -> set[str]:
    """Whatever a person may call the subject: ids, URIs, keys, file names."""
    names = set(subject.videos)
    for source in subject.uris:
        names |= {source, source.split("/", 3)[3], source.rpartition("/")[2]}
    return names


def _in_document(content: str, subject: Subject) -> bool:
    if any(video_id in content for video_id in subject.videos):
        _note_dataset(content, subject)
        return True
    # Quickly: most documents hold nothing of the kind.
    if not any(json.dumps(uri, ensure_ascii=False)[1:-1] in content for uri in subject.uris):
        return False
    document = _parsed(content)
    if document is None:
        return True  # nobody can prove that it names nothing
    # Of what was given up a message tells: it may name it among other words.
    return "message" in document or not subject.names.isdisjoint(_texts(document))


def _note_dataset(content: str, subject: Subject) -> None:
    document = _parsed(content)
    if isinstance(document, dict) and {"task", "videos", "snapshots"} <= set(document):
        dataset = Dataset.from_json(document)
        if any(v.video_id in subject.videos and v.split != TEST for v in dataset.videos):
            subject.datasets.add((dataset.task, dataset.version))


def _parsed(content: str) -> Any:
    """The JSON document; None of what is for other tools."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def _in_labels(
    lake: Lake, labels: StoredObject, subject: Subject, one_at_a_time: threading.Lock
) -> bool:
    """Whether a file of labels tells of it: by id, or by any name by which it would be found.

    So does one that cannot be read, or not within the time and memory that an import has: nobody
    can prove that it names nothing. It was never imported, and whoever uploaded it has it.
    """
    if not subject.videos.isdisjoint(labels.uri.split("/")):
        return True  # it was uploaded as one about this video
    if labels.size_bytes > MAX_BYTES:
        return True
    content = _content(lake, labels.uri) if labels.size_bytes <= _SMALL_BYTES else None
    with one_at_a_time:
        content = _content(lake, labels.uri) if content is None else content
        return _names_subject(
            labels.uri.rpartition("/")[2], content, subject, lake.settings.annotate
        )


def _names_subject(name: str, content: bytes, subject: Subject, limits: AnnotateSettings) -> bool:
    budget = Budget(limits)
    try:
        given = of_file(name, content)
    except BadInputError:
        return True
    contents = [*given.files.values(), *([] if given.sidecar is None else [given.sidecar])]
    texts = itertools.chain(given.files, (part.decode("utf-8", "replace") for part in contents))
    names = _names_by_people(subject)
    if any(_holds_word(text, called) for text in texts for called in names):
        return True
    # By a part of its name an import finds only what is known to be a video.
    return bool(subject.videos) and mentions(given, subject.uris, budget)


def _holds_word(text: str, word: str) -> bool:
    """Whether a text has a word that is not part of a longer one."""
    return word in text and bool(re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])", text))


def _texts(tree: Any) -> Iterator[str]:
    match tree:
        case str():
            yield tree
        case dict():
            for value in tree.values():
                yield from _texts(value)
        case list():
            for value in tree:
                yield from _texts(value)
