"""discover: lists buckets, compares with what is known, and plans the extraction of what is new.

An object is known when `sources` has its URI with its version (ETag): one replaced under the same
key is new. One that is gone is marked in `sources`. What failed is new again until it was tried
`max_tries` times.
"""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from vidpipe.config import ExtractSettings
from vidpipe.errors import UsageError
from vidpipe.lake import layout
from vidpipe.lake.store import StoredObject, split_uri
from vidpipe.lake.tables import Lake
from vidpipe.lake.times import parse_iso_time
from vidpipe.lake.tombstones import read_forgotten
from vidpipe.media import ExtractOptions, decoder_version
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.sharding import cut_shards

# A short clip costs about as much to open as this many bytes cost to decode.
ITEM_BYTES = 2_000_000
SHARD_BYTES = 160_000_000


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Plans shards of `extract`.

    Config: source (null: all configured), prefix, pattern, modified_after, modified_before,
    max_videos, max_hours, fps, short_side, jpeg_quality.

    Result: `shards` (URIs of manifests), `base` (snapshot ids read), and counts: listed, known,
    new, gone, selected, backlog, given_up, forgotten.
    """
    config = manifest.config
    snapshots = lake.published()
    found = compare(lake, snapshots, config)
    for uri, version in found.gone.items():
        _mark_gone(attempt, uri, version)
    counts = found.counts
    fresh = found.fresh
    fresh.sort(key=lambda o: (o.modified_at, o.uri), reverse=True)
    selected = fresh[: config.get("max_videos") or len(fresh)]
    by_size = _published_work(lake, snapshots, {o.size_bytes for o in selected})
    items = [
        {
            "item": _item(found),
            "source_uri": found.uri,
            "source_version": found.version,
            "size_bytes": found.size_bytes,
            "modified_at": found.modified_at.isoformat(),
            "published": by_size.get(found.size_bytes, []),
        }
        for found in selected
    ]
    shards = cut_shards(
        items,
        cost=lambda item: item["size_bytes"] + ITEM_BYTES,
        shard_cost=SHARD_BYTES,
        # Equal bytes have equal sizes: so they meet in one shard, and one of them is extracted.
        together=lambda item: item["size_bytes"],
    )
    stage_config = _extract_config(manifest, lake.settings.extract)
    uris = []
    for number, shard in enumerate(shards):
        name = f"{number:05d}"
        uri = layout.manifest_uri(lake.uri, manifest.run_key, "extract", attempt.name, name)
        dataclasses.replace(
            manifest, stage="extract", shard=name, config=stage_config, items=shard
        ).write(lake.store, uri)
        uris.append(uri)
    counts |= {"new": len(fresh), "selected": len(items), "backlog": len(fresh) - len(items)}
    attempt.conclude(", ".join(f"{n} {name}" for name, n in counts.items()))
    attempt.announce("extract", len(items))
    attempt.result |= {"shards": uris, "base": snapshots, "counts": counts}


@dataclass(frozen=True)
class Comparison:
    """A bucket's objects beside what is known of them.

    Attributes:
        fresh: New and replaced objects, and those that failed and may be tried again.
        gone: Version of each known source that is no longer there.
        counts: How many were listed, known, gone, given_up, forgotten.
    """

    fresh: list[StoredObject]
    gone: dict[str, str]
    counts: dict[str, int]


def compare(lake: Lake, snapshots: dict[str, int], config: dict[str, Any]) -> Comparison:
    """Lists the sources that `config` chooses (all: `{}`) and compares them with the tables."""
    known = _known_sources(lake, snapshots)
    tries = _failed_tries(lake, snapshots)
    forgotten = read_forgotten(lake)
    listed: set[str] = set()
    fresh: list[StoredObject] = []
    counts = dict.fromkeys(("listed", "known", "gone", "given_up", "forgotten"), 0)
    scopes = [_scope(uri, config.get("prefix") or "") for uri in _sources(lake, config)]
    for scope in scopes:
        for found in lake.store.list(scope):
            # Sources may overlap, and a listing may name an object twice that is being replaced.
            if found.uri in listed:
                continue
            listed.add(found.uri)
            if found.uri.endswith("/") or not _wanted(found, config):
                continue
            counts["listed"] += 1
            if found.uri in forgotten or _item(found) in forgotten:
                counts["forgotten"] += 1
            elif known.get(found.uri) == found.version:
                counts["known"] += 1
            elif tries[_item(found)] >= lake.settings.extract.max_tries:
                counts["given_up"] += 1
            else:
                fresh.append(found)
    gone = {
        uri: version
        for uri, version in known.items()
        if uri not in listed and any(uri.startswith(scope) for scope in scopes)
    }
    counts["gone"] = len(gone)
    return Comparison(fresh, gone, counts)


def _sources(lake: Lake, config: dict[str, Any]) -> list[str]:
    configured = lake.settings.sources.uris
    source = config.get("source")
    if not configured:
        raise UsageError("No bucket is configured to be watched: set [sources] uris.")
    if source and source not in configured:
        raise UsageError(
            f"{source!r} is not among the configured sources: {', '.join(configured)}."
        )
    return [source] if source else list(configured)


def _scope(source_uri: str, prefix: str) -> str:
    bucket, key = split_uri(source_uri)
    folder = f"{key.rstrip('/')}/" if key else ""
    return f"s3://{bucket}/{folder}{prefix}"


def _wanted(found: StoredObject, config: dict[str, Any]) -> bool:
    key = split_uri(found.uri)[1]
    after, before = config.get("modified_after"), config.get("modified_before")
    return (
        fnmatch.fnmatchcase(key, config.get("pattern") or "*")
        and (not after or found.modified_at >= parse_iso_time(after))
        and (not before or found.modified_at < parse_iso_time(before))
    )


def _item(found: StoredObject) -> str:
    return f"{found.uri}@{found.version}"


def _known_sources(lake: Lake, snapshots: dict[str, int]) -> dict[str, str]:
    """Version of each source that was seen and is not gone."""
    columns = ["source_uri", "source_version", "deleted", "seen_at"]
    rows = lake.dataset("sources", snapshots=snapshots).to_table(columns=columns)
    known: dict[str, str] = {}
    for batch in rows.sort_by("seen_at").to_batches():
        values = (batch.column(c).to_pylist() for c in columns[:3])
        for uri, version, deleted in zip(*values, strict=True):
            if deleted:
                known.pop(uri, None)
            else:
                known[uri] = version
    return known


def _failed_tries(lake: Lake, snapshots: dict[str, int]) -> collections.Counter[str]:
    failed = (ds.field("stage") == "extract") & (ds.field("status") == "failed")
    rows = lake.dataset("outcomes", snapshots=snapshots).to_table(columns=["item"], filter=failed)
    return collections.Counter(rows["item"].to_pylist())


def _published_work(lake: Lake, snapshots: dict[str, int], sizes: set[int]) -> dict[int, list[str]]:
    """Work keys of the videos whose size is one of `sizes`: they may be the same bytes."""
    rows = lake.dataset("videos", snapshots=snapshots).to_table(columns=["size_bytes", "work_key"])
    rows = rows.filter(pc.is_in(rows["size_bytes"], value_set=pa.array(sorted(sizes), pa.int64())))
    found: dict[int, list[str]] = collections.defaultdict(list)
    for row in rows.to_pylist():
        found[row["size_bytes"]].append(row["work_key"])
    return found


def _mark_gone(attempt: Attempt, uri: str, version: str) -> None:
    manifest = attempt.manifest
    work_key = layout.make_work_key(uri, version, "gone", manifest.run_key)
    attempt.outcome(f"{uri}@{version}", work_key, source_uri=uri)
    attempt.write(
        "sources",
        [
            {
                "source_uri": uri,
                "source_version": version,
                "size_bytes": 0,
                "modified_at": manifest.planned_time,
                "seen_at": manifest.planned_time,
                "video_id": None,
                "deleted": True,
                "work_key": work_key,
                "run_key": manifest.run_key,
            }
        ],
    )


def _extract_config(manifest: Manifest, defaults: ExtractSettings) -> dict[str, Any]:
    config = manifest.config
    short_side = config.get("short_side")  # 0 is a choice
    options = ExtractOptions(
        fps=config.get("fps") or defaults.fps,
        short_side=defaults.short_side if short_side is None else short_side,
        jpeg_quality=config.get("jpeg_quality") or defaults.jpeg_quality,
    )
    max_hours = config.get("max_hours")
    deadline = manifest.planned_time + timedelta(hours=max_hours) if max_hours else None
    return {
        "options": dataclasses.asdict(options),
        "decoder": decoder_version(),
        "deadline": deadline.isoformat() if deadline else None,
    }
