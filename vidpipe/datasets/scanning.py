"""Rows of some extractions, out of tables that are sorted by video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow.dataset as ds

BATCH_ROWS = 64


def scan_rows(
    table: ds.Dataset, extractions: Mapping[str, str], columns: list[str]
) -> Iterator[tuple]:
    """Yields `video_id` and some columns of each row of videos, a few rows at a time.

    Args:
        table: What an extraction writes: `frames` or `audio`. Rows come in its order: those of a
            video follow each other, by time.
        extractions: For each video the work key of the extraction that is meant.
        columns: Their names.
    """
    if not extractions:
        return
    batches = table.to_batches(
        columns=["video_id", *columns],
        # The first prunes row groups, sorted by video as they are; the second says which rows.
        filter=ds.field("video_id").isin(list(extractions))
        & ds.field("work_key").isin(list(extractions.values())),
        batch_size=BATCH_ROWS,
        batch_readahead=2,
        fragment_readahead=1,
    )
    for batch in batches:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
