"""Who is to be forgotten: a video under all of its names, or a source with all that it ever was."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds

from vidpipe.datasets.splits import TEST
from vidpipe.errors import NotFoundError, UsageError
from vidpipe.lake import layout
from vidpipe.lake.store import split_uri
from vidpipe.lake.tables import Lake
from vidpipe.lake.tombstones import (
    Forgotten,
    belonging_to,
    name_columns,
    naming,
    tombstone,
    tombstones,
)
from vidpipe.schemas import TABLES

_VIDEO = re.compile(r"[0-9a-f]{64}")
_OBJECT_COLUMNS = {"video_id", "source_uri", "source_version"}


@dataclass
class Subject:
    """What is forgotten by one name.

    Attributes:
        name: The video id or URI that was asked for.
        videos: Video ids.
        sources: URIs of which nothing is ever read again.
        objects: `URI@version` of all that held the videos.
        datasets: Task and version of the datasets whose training saw them.
    """

    name: str
    videos: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)
    datasets: set[tuple[str, str]] = field(default_factory=set)

    @property
    def names(self) -> set[str]:
        """All names, as rows hold them."""
        return self.videos | self.sources | self.objects

    @property
    def uris(self) -> set[str]:
        """Where the objects lie."""
        return self.sources | {found.rpartition("@")[0] for found in self.objects}

    def tombstones(self) -> Iterator[tuple[str, str, str]]:
        """Yields kind, name, and the name that it is lifted with."""
        for source in self.sources:
            yield "source", source, self.name
        for video in self.videos:
            yield "video", video, self.name
        for found in self.objects:
            yield "object", found, self.name
        for uri in self.uris - self.sources:
            yield "place", uri, self.name

    def to_json(self) -> dict[str, Any]:
        """As a document, which is kept until all of it is forgotten."""
        return {
            "name": self.name,
            **{n: sorted(getattr(self, n)) for n in ("videos", "sources", "objects", "datasets")},
        }


class _Sighting(NamedTuple):
    """What a row says of an object."""

    video_id: str | None
    uri: str
    object: str | None


def find_subject(lake: Lake, name: str) -> Subject:
    """Finds all that goes with a name, by the tables as they are now.

    What an earlier attempt found that was cut off is known as well: the tables may not have it any
    more.

    Raises:
        UsageError: It is neither a video id nor the URI of an object.
    """
    subject = Subject(name)
    if _VIDEO.fullmatch(name):
        subject.videos.add(name)
    elif name.startswith("s3://") and split_uri(name)[1]:
        subject.sources.add(name)
    else:
        raise UsageError(
            "A video is told by its video_id (64 hexadecimal digits), a source by its URI"
            f" (s3://bucket/key). Received: {name!r}"
        )
    begun = _begun(lake, name)
    subject.videos.update(begun["videos"])
    subject.objects.update(begun["objects"])
    subject.datasets.update(map(tuple, begun["datasets"]))
    subject.videos |= _videos_of(lake, subject.sources)
    held = [*_sightings(lake, _among("video_id", subject.videos))]
    if of_name := belonging_to(tombstones(lake), name):
        # Found under another name since it was forgotten: what tells of it names no video.
        again = Forgotten({row["tombstone"] for row in of_name if row["kind"] == "object"})
        held += _sightings(lake, None, again)
    subject.objects |= {found.object for found in held if found.object}
    _add_other_versions(lake, subject)
    rows = lake.dataset_now("splits").to_table(
        columns=["dataset", "version"],
        filter=_among("video_id", subject.videos) & (ds.field("split") != TEST),
    )
    subject.datasets |= {(row["dataset"], row["version"]) for row in rows.to_pylist()}
    return subject


def begun_uri(lake: Lake, name: str) -> str:
    """Where what is found of a name is kept until all of it is forgotten."""
    return layout.forgetting_uri(lake.uri, tombstone(name))


def _begun(lake: Lake, name: str) -> dict[str, list]:
    try:
        return lake.store.get_json(begun_uri(lake, name))
    except NotFoundError:
        return {"videos": [], "objects": [], "datasets": []}


def _videos_of(lake: Lake, sources: set[str]) -> set[str]:
    seen = _sightings(lake, _among("source_uri", sources)) if sources else ()
    return {found.video_id for found in seen if found.video_id}


def _add_other_versions(lake: Lake, subject: Subject) -> None:
    """Adds what was never read whole at places where nothing but the videos ever was.

    There the name of the object says nothing of anything else, and goes as a whole.
    """
    uris = {found.rpartition("@")[0] for found in subject.objects}
    seen = [*_sightings(lake, _among("source_uri", uris))] if uris else []
    shared = {s.uri for s in seen if s.video_id and s.video_id not in subject.videos}
    subject.objects |= {s.object for s in seen if s.object and s.uri not in shared}


def _sightings(
    lake: Lake, where: ds.Expression | None, named: Forgotten | None = None
) -> Iterator[_Sighting]:
    """What rows of all tables say of objects: those that are chosen, and that name something."""
    for name, spec in TABLES.items():
        if not set(spec.schema.names) >= _OBJECT_COLUMNS:
            continue
        columns = sorted({*name_columns(name), *_OBJECT_COLUMNS})
        for batch in lake.dataset_now(name).to_batches(columns=columns, filter=where):
            rows = pa.Table.from_batches([batch])
            if named is not None:
                rows = rows.filter(naming(name, rows, named))
            for row in rows.to_pylist():
                if row["source_uri"]:
                    yield _Sighting(row["video_id"], row["source_uri"], _object(row))


def _among(column: str, values: set[str]) -> ds.Expression:
    return ds.field(column).isin(pa.array(sorted(values), pa.string()))


def _object(row: dict[str, Any]) -> str | None:
    uri, version = row["source_uri"], row["source_version"]
    if version:
        return f"{uri}@{version}"
    item = row.get("item") or ""
    return item if item.startswith(f"{uri}@") else None
