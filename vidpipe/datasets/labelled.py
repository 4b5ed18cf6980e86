"""A pinned dataset: which videos, with which label, in which split, by which extraction."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyiceberg.expressions import In

from vidpipe.datasets.clips import read_clips
from vidpipe.datasets.proof import Proof, verify
from vidpipe.errors import BadInputError
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import Sampling


@dataclass(frozen=True)
class LabelledVideo:
    """One video of a dataset.

    Attributes:
        extraction: Work key of the extraction whose frames are meant.
        extraction_run: The run that published them.
        group: The unit that it is in; empty where nobody has looked.
    """

    video_id: str
    label: str
    split: str
    extraction: str
    extraction_run: str
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """Videos with their labels, and the state of the tables that they come from.

    Attributes:
        task: What the labels tell.
        videos: Sorted by `video_id`.
        snapshots: Snapshot id of each table.
        proof: That nothing which belongs together is in two splits; older ones have none.
    """

    task: str
    videos: list[LabelledVideo]
    snapshots: dict[str, int]
    proof: Proof | None = None

    @property
    def version(self) -> str:
        """Hash of what is in it: the same videos, labels, splits, extractions and proof have the
        same."""
        # Without the group where there is none, as before there were any.
        lines = sorted(
            repr(dataclasses.astuple(video)[: None if video.group else -1]) for video in self.videos
        )
        lines += [self.proof.summary] if self.proof else []
        return hashlib.sha256("\n".join([self.task, *lines]).encode()).hexdigest()[:16]

    @property
    def labels(self) -> list[str]:
        """The classes, sorted."""
        return sorted({video.label for video in self.videos})

    def to_json(self) -> dict[str, Any]:
        """As a document; `from_json` reads it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Dataset:
        """What `to_json` wrote."""
        videos = [LabelledVideo(**video) for video in document["videos"]]
        proof = Proof.from_json(document.get("proof"))
        return cls(document["task"], videos, document["snapshots"], proof)

    def verify_splits(self) -> None:
        """Proves once more that nothing which belongs together is in two splits.

        Raises:
            BadInputError: There is no proof, or it does not hold.
        """
        if self.proof is None:
            raise BadInputError(
                f"Dataset {self.version} of {self.task} has no proof of its splits, as those of"
                " older versions: what is measured on it may leak. Run train again from its task"
                " snapshot."
            )
        verify(self.proof, {video.video_id: video.split for video in self.videos})

    def of(self, *splits: str) -> list[LabelledVideo]:
        """The videos of some splits."""
        return [video for video in self.videos if video.split in splits]

    def read_clips(
        self,
        lake: Lake,
        videos: Sequence[LabelledVideo],
        sampling: Sampling,
        path: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Reads the clips of some videos.

        Args:
            lake: Where the frames are.
            videos: The videos.
            sampling: How many frames, how large.
            path: A file that does not exist yet, for the array.
            progress: Called with the number of frames done and of all.

        Returns:
            Their clips, in the same order.

        Raises:
            BadInputError: A video has no frames any more.
        """
        frames = lake.dataset(
            "frames",
            # Every file holds the rows of one run: files of other runs are not opened.
            where=In("run_key", {video.extraction_run for video in videos}),
            snapshots=self.snapshots,
        )
        extractions = {video.video_id: video.extraction for video in videos}
        clips = read_clips(frames, extractions, sampling, path, progress=progress)
        if missing := set(extractions) - set(clips.video_ids):
            raise BadInputError(
                f"{len(missing)} videos of the dataset have no frames in the table frames,"
                f" such as {min(missing)}. Ingest them again."
            )
        return clips.array


def agree(votes: Iterable[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    """Settles what several annotations say of one video, by majority.

    Args:
        votes: Video and label of each annotation.

    Returns:
        The label of each video, and the videos without a majority.
    """
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for video_id, label in votes:
        counts[video_id][label] += 1
    agreed, tied = {}, []
    for video_id, of_video in counts.items():
        (label, most), *others = of_video.most_common(2)
        if others and others[0][1] == most:
            tied.append(video_id)
        else:
            agreed[video_id] = label
    return agreed, tied
