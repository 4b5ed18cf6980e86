"""What the nightly DAGs have not come to yet."""

from __future__ import annotations

import pyarrow as pa

from vidpipe.lake.tables import Lake
from vidpipe.stages import discover, label


def ingest_backlog(lake: Lake) -> int:
    """Objects in the watched buckets that are to be extracted."""
    return len(discover.compare(lake, lake.published(), {}).fresh)


def label_backlog(lake: Lake) -> dict[str, int]:
    """Videos without a label, for each task that has a champion."""
    snapshots = lake.published()
    promotions: pa.Table = lake.dataset("promotions", snapshots=snapshots).to_table()
    champions = {p["task"]: p["model_version"] for p in promotions.sort_by("promoted_at").to_pylist()}
    return {
        task: len(label.videos_without_labels(lake, snapshots, task, version, {}))
        for task, version in sorted(champions.items())
    }
