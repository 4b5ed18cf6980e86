"""The fingerprints of videos: made once for each extraction, kept in the table `fingerprints`."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow.dataset as ds
from pyiceberg.expressions import In

from vidpipe.datasets.near_duplicates import METHOD, read_fingerprints
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt


def fingerprints_of(
    attempt: Attempt,
    lake: Lake,
    snapshots: dict[str, int],
    extractions: Mapping[str, tuple[str, str]],
) -> dict[str, str]:
    """The fingerprint of each video; those that are not known yet are made, and written.

    Args:
        attempt: The attempt that writes them.
        lake: Where they and the frames are.
        snapshots: Snapshot ids of the tables.
        extractions: Work key and run key of the extraction of each video.
    """
    rows = lake.dataset("fingerprints", snapshots=snapshots).to_table(
        columns=["video_id", "extraction", "fingerprint"],
        filter=(ds.field("method") == METHOD) & ds.field("video_id").isin(list(extractions)),
    )
    known = {
        row["video_id"]: row["fingerprint"]
        for row in rows.to_pylist()
        if row["extraction"] == extractions[row["video_id"]][0]
    }
    missing = {v: extractions[v] for v in extractions if v not in known}
    if not missing:
        return known
    frames = lake.dataset(
        "frames",
        # Every file holds the rows of one run: files of other runs are not opened.
        where=In("run_key", {run_key for _, run_key in missing.values()}),
        snapshots=snapshots,
    )
    made = read_fingerprints(
        frames,
        {v: work_key for v, (work_key, _) in missing.items()},
        attempt.scratch,
        lambda done, of: attempt.progress(done, of, "videos looked at for near duplicates"),
    )
    if made:
        work_key = layout.make_work_key(attempt.manifest.run_key, "fingerprints")
        attempt.outcome("fingerprints", work_key)
        attempt.write(
            "fingerprints",
            (
                {
                    "video_id": video_id,
                    "extraction": extractions[video_id][0],
                    "method": METHOD,
                    "fingerprint": made[video_id],
                    "work_key": work_key,
                    "run_key": attempt.manifest.run_key,
                }
                for video_id in sorted(made)
            ),
        )
    # A video without frames shows nothing; that it cannot be learned from, the training tells.
    return {**dict.fromkeys(missing, ""), **known, **made}
