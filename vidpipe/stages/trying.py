"""What a model says of some videos, looked at before it labels any."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pyiceberg.expressions import In

from vidpipe import tracking
from vidpipe.datasets.clips import read_clips
from vidpipe.evaluation.timeline import Segment
from vidpipe.lake.tables import Lake
from vidpipe.stages.label import say


class Tried(NamedTuple):
    """What a model says of a video.

    Attributes:
        said: At least one label, with its time and score.
        clip: Of what it saw the first clip, uint8 `(frames, height, width, 3)`.
    """

    said: list[Segment]
    clip: np.ndarray


def try_model(
    version: tracking.Version,
    lake: Lake,
    snapshots: dict[str, int],
    videos: Mapping[str, Mapping[str, Any]],
    scratch: Path,
    progress: Callable[[int, int], None],
) -> dict[str, Tried]:
    """Has a version of a model look at videos; nothing of it is written.

    Args:
        version: Of the model.
        lake: Where the frames are.
        snapshots: Snapshot ids of the tables.
        videos: Of each its row of the table `videos`: work_key, run_key, duration_s.
        scratch: A local folder for the clips.
        progress: Called with the number of frames done and of all.

    Returns:
        What it says of those videos that have frames.
    """
    from vidpipe.models.bundle import Bundle  # TensorFlow: not all who might try a model do

    bundle = Bundle.load(version.uri)
    bundle.check_canary()
    clips = read_clips(
        lake.dataset(
            "frames",
            where=In("run_key", {row["run_key"] for row in videos.values()}),
            snapshots=snapshots,
        ),
        {video: row["work_key"] for video, row in videos.items()},
        bundle.sampling,
        scratch / f"tried-{version.version}.npy",
        progress=progress,
    )
    scores = bundle.predict(clips.array)
    places = collections.defaultdict(list)
    for place, video in enumerate(clips.video_ids):
        places[video].append(place)
    return {
        video: Tried(
            say(
                bundle,
                [clips.windows[place] for place in of_video],
                scores[of_video],
                videos[video]["duration_s"],
            ),
            clips.array[of_video[0]],
        )
        for video, of_video in places.items()
    }
