"""discover: lists buckets, compares with what is known, and plans the extraction of what is new.

An object is known when `sources` has its URI with its version (ETag): one replaced under the same
key is new. One that is gone is marked in `sources`. What failed is new again until it was tried
`max_tries` times; what is quarantined is tried again with other options or another decoder, and
both when someone asks. What is archived is `skipped` once, and left alone until it is restored or
its storage class changes. `listing.py` has the rules.
"""

from __future__ import annotations

import collections
import dataclasses
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from vidpipe.lake import layout
from vidpipe.lake.store_errors import archived_words
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.listing import list_sources
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.sharding import cut_shards
from vidpipe.stages.work import extract_config, extract_work_key

# To open a clip takes as long as to decode this many bytes.
ITEM_BYTES = 500_000
# To start a task costs some seconds, to try it again all it did: small runs are spread over the
# workers there are, large ones are cut into pieces of a few minutes.
SHARDS_WANTED = 4
SHARD_BYTES = (160_000_000, 2_000_000_000)


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Plans shards of `extract`.

    Config: source (null: all configured), prefix, pattern, modified_after, modified_before,
    retry_reasons, retry_videos (video ids or URIs), max_videos, max_hours, and those of
    `ExtractOptions`; what is left out of these is as configured.

    Result: `shards` (URIs of manifests), `base` (snapshot ids read), and counts: listed, known,
    gone, given_up, forgotten, archived, new, retried, selected, backlog.
    """
    config = manifest.config
    stage_config = extract_config(config, lake.settings.extract)
    snapshots = lake.published()
    found = list_sources(lake, snapshots, config)
    _mark_gone(attempt, found.gone)
    for row in found.archived.to_pylist():
        item = {"item": f"{row['source_uri']}@{row['source_version']}", **row}
        attempt.skip("extract", item, "archived", archived_words(row["storage_class"]))
    selected = found.chosen.slice(0, config.get("max_videos"))
    by_size = _published_work(lake, snapshots, selected["size_bytes"], stage_config)
    items = [
        {
            "item": f"{row['source_uri']}@{row['source_version']}",
            **row,
            "modified_at": row["modified_at"].isoformat(),
            "published": by_size.get(row["size_bytes"], []),
        }
        for row in selected.to_pylist()
    ]
    total_bytes = sum(map(_cost, items))
    shards = cut_shards(
        items,
        cost=_cost,
        shard_cost=min(max(total_bytes / SHARDS_WANTED, SHARD_BYTES[0]), SHARD_BYTES[1]),
        # Equal bytes have equal sizes: so they meet in one shard, and one of them is extracted.
        together=lambda item: item["size_bytes"],
    )
    stage_config["deadline"] = _deadline(manifest)
    uris = []
    for number, shard in enumerate(shards):
        name = f"{number:05d}"
        uri = layout.manifest_uri(lake.uri, manifest.run_key, "extract", attempt.name, name)
        dataclasses.replace(
            manifest, stage="extract", shard=name, config=stage_config, items=shard
        ).write(lake.store, uri)
        uris.append(uri)
    backlog = found.chosen.num_rows - len(items)
    counts = found.counts | {"selected": len(items), "backlog": backlog}
    attempt.conclude(", ".join(f"{n} {name}" for name, n in counts.items()))
    attempt.announce("extract", len(items))
    attempt.result |= {"shards": uris, "base": snapshots, "counts": counts}


def _cost(item: dict[str, Any]) -> int:
    return item["size_bytes"] + ITEM_BYTES


def _published_work(
    lake: Lake, snapshots: dict[str, int], sizes: pa.ChunkedArray, stage_config: dict[str, Any]
) -> dict[int, list[str]]:
    """Work keys, by size, of videos that may be the same bytes and were extracted in this way."""
    rows = lake.dataset("videos", snapshots=snapshots).to_table(
        columns=["size_bytes", "video_id", "work_key"],
        filter=ds.field("size_bytes").isin(sizes.unique()),
    )
    found: dict[int, list[str]] = collections.defaultdict(list)
    for row in rows.to_pylist():
        if row["work_key"] == extract_work_key(row["video_id"], stage_config):
            found[row["size_bytes"]].append(row["work_key"])
    return found


def _mark_gone(attempt: Attempt, gone: pa.Table) -> None:
    manifest = attempt.manifest
    rows = []
    for uri, version in zip(*gone.to_pydict().values(), strict=True):
        work_key = layout.make_work_key(uri, version, "gone", manifest.run_key)
        attempt.outcome(f"{uri}@{version}", work_key, source_uri=uri)
        rows.append(
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
        )
    attempt.write("sources", rows)


def _deadline(manifest: Manifest) -> str | None:
    hours = manifest.config.get("max_hours")
    return (manifest.planned_time + timedelta(hours=hours)).isoformat() if hours else None
