"""What a model says of some videos, looked at before it labels any."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pyiceberg.expressions import In

from vidpipe import tracking
from vidpipe.datasets.clips import cut_by_size, read_clips
from vidpipe.datasets.windows import Segment
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.label import say


def try_model(
    version: tracking.Version,
    lake: Lake,
    snapshots: dict[str, int],
    videos: Mapping[str, Mapping[str, Any]],
    attempt: Attempt,
) -> Iterator[tuple[str, list[Segment], np.ndarray]]:
    """Has a version of a model look at videos; nothing of it is written.

    Args:
        version: Of the model.
        lake: Where the frames are.
        snapshots: Snapshot ids of the tables.
        videos: Of each its row of the table `videos`: work_key, run_key, duration_s.
        attempt: Tells how far it is, and has a local folder for the clips at hand.

    Yields:
        Of each video that has frames its id, what the model says (at least one label, with its time
        and score), and the first clip that it saw, uint8 `(frames, height, width, 3)`, until the
        next is asked for.
    """
    from vidpipe.models.bundle import Bundle  # TensorFlow: not all who might try a model do

    bundle = Bundle.load(version.uri)
    bundle.check_canary()
    path, done = attempt.scratch / "tried.npy", 0
    durations_s = {video: row["duration_s"] for video, row in videos.items()}
    for ids in cut_by_size(durations_s, bundle.sampling):
        rows = {video: videos[video] for video in ids}
        of_runs = {
            "where": In("run_key", {row["run_key"] for row in rows.values()}),
            "snapshots": snapshots,
        }
        frames = lake.dataset("frames", **of_runs)
        audio = lake.dataset("audio", **of_runs) if bundle.sampling.sound else None
        extractions = {video: row["work_key"] for video, row in rows.items()}
        clips = read_clips(frames, extractions, bundle.sampling, path, audio=audio)
        scores = bundle.predict(clips.inputs())
        places = collections.defaultdict(list)
        for place, video in enumerate(clips.video_ids):
            places[video].append(place)
        for video, of in places.items():
            windows = [clips.windows[place] for place in of]
            said = say(bundle, windows, scores[of], rows[video]["duration_s"])
            yield video, said, clips.array[of[0]]
        path.unlink(missing_ok=True)
        done += len(ids)
        attempt.progress(done, len(videos), f"looked at by version {version.version}")
