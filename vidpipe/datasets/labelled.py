"""A pinned dataset: which videos, with which label, in which split, by which extraction."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
from pyiceberg.expressions import In

from vidpipe.datasets.clips import Clips, read_clips
from vidpipe.datasets.consensus import Span
from vidpipe.datasets.kinds import SINGLE, TIMED
from vidpipe.datasets.proof import Proof, verify
from vidpipe.datasets.spectrogram import read_sound
from vidpipe.datasets.streaming import StreamedClips
from vidpipe.datasets.windows import Window
from vidpipe.errors import BadInputError
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import Sampling


@dataclass(frozen=True)
class LabelledVideo:
    """One video of a dataset.

    Attributes:
        labels: Sorted. One; where a video may have several, any number.
        extraction: Work key of the extraction whose frames are meant.
        extraction_run: The run that published them.
        group: The unit that it is in; empty where nobody has looked.
        spans: When it shows what, if labels are told of moments.
        duration_s: Its length; 0 where it does not matter.
        pseudo_label_of: The version of a model whose label it is; empty: people gave it.
    """

    video_id: str
    labels: tuple[str, ...]
    split: str
    extraction: str
    extraction_run: str
    group: str = ""
    spans: tuple[Span, ...] = ()
    duration_s: float = 0.0
    pseudo_label_of: str = ""

    def labels_at(self, moments_s: np.ndarray) -> list[frozenset[str]]:
        """What is true at some moments."""
        return [
            frozenset(span.label for span in self.spans if span.start_s <= at <= span.end_s)
            for at in moments_s
        ]

    def labels_within(self, window: Window) -> frozenset[str]:
        """What a window shows for half of its length, or half of what is told of."""
        shown: dict[str, float] = collections.defaultdict(float)
        enough: dict[str, float] = collections.defaultdict(lambda: math.inf)
        for start_s, end_s, label in self.spans:
            shared_s = min(end_s, window.end_s) - max(start_s, window.start_s)
            if shared_s >= 0:
                shown[label] += shared_s
                length_s = min(end_s - start_s, window.end_s - window.start_s)
                enough[label] = min(enough[label], length_s / 2)
        return frozenset(label for label in shown if shown[label] >= enough[label])


@dataclass(frozen=True)
class Dataset:
    """Videos with their labels, and the state of the tables that they come from.

    Attributes:
        task: What the labels tell.
        videos: Sorted by `video_id`.
        snapshots: Snapshot id of each table.
        proof: That nothing which belongs together is in two splits; older ones have none.
        kind: A key of `vidpipe.datasets.kinds.KINDS`.
    """

    task: str
    videos: list[LabelledVideo]
    snapshots: dict[str, int]
    proof: Proof | None = None
    kind: str = SINGLE

    @property
    def version(self) -> str:
        """Hash of what is in it: the same videos, labels, splits, extractions and proof have the
        same."""
        lines = []
        for video in self.videos:
            *facts, group, spans, _, pseudo_label_of = dataclasses.astuple(video)
            # As it was written before there were groups, several labels, and times of them.
            facts[1] = video.labels if self.kind != SINGLE else video.labels[0]
            facts += [group] if group else []
            facts += [tuple(map(tuple, spans))] if spans else []
            facts += [pseudo_label_of] if pseudo_label_of else []
            lines.append(repr(tuple(facts)))
        lines.sort()
        lines += [self.proof.summary] if self.proof else []
        return hashlib.sha256("\n".join([self.task, *lines]).encode()).hexdigest()[:16]

    @property
    def labels(self) -> list[str]:
        """The classes, sorted."""
        return sorted({label for video in self.videos for label in video.labels})

    @property
    def several(self) -> bool:
        """Whether a clip may have several labels at once, or none."""
        return self.kind != SINGLE

    @property
    def timed(self) -> bool:
        """Whether labels are told of moments, and not of whole videos."""
        return self.kind == TIMED

    def truth(self, video: LabelledVideo, window: Window) -> Collection[str]:
        """What a clip of a video shows."""
        return video.labels_within(window) if self.timed else video.labels

    def to_json(self) -> dict[str, Any]:
        """As a document; `from_json` reads it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Dataset:
        """What `to_json` wrote."""
        if "kind" not in document:
            raise BadInputError(
                "This dataset is of an older version of vidpipe. Run train again from its task"
                " snapshot."
            )
        videos = [
            LabelledVideo(
                **{
                    **video,
                    "labels": tuple(video["labels"]),
                    "spans": tuple(Span(*span) for span in video["spans"]),
                }
            )
            for video in document["videos"]
        ]
        proof = Proof.from_json(document.get("proof"))
        return cls(document["task"], videos, document["snapshots"], proof, document["kind"])

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
        finer: int = 1,
    ) -> Clips:
        """Reads the clips of some videos.

        Args:
            lake: Where the frames are.
            videos: The videos.
            sampling: Which windows of a video, how many frames, how large, and whether it is heard.
            path: A file that does not exist yet, for the array.
            progress: Called with the number of frames done and of all.
            finer: See `vidpipe.datasets.clips.read_clips`.

        Returns:
            Their clips, in the same order.

        Raises:
            BadInputError: A video has no frames any more.
        """
        clips = read_clips(
            self._rows(lake, "frames", videos),
            _extractions(videos),
            sampling,
            path,
            audio=self._rows(lake, "audio", videos) if sampling.sound else None,
            finer=finer,
            progress=progress,
        )
        _require_frames(videos, clips.video_ids)
        return clips

    def stream_clips(
        self, lake: Lake, videos: Sequence[LabelledVideo], sampling: Sampling, finer: int = 1
    ) -> StreamedClips:
        """The same clips, decoded when they are asked for; as `read_clips`."""
        frames = self._rows(lake, "frames", videos)
        clips = StreamedClips(frames, _extractions(videos), sampling, finer=finer)
        _require_frames(videos, clips.video_ids)
        return clips

    def hear(
        self, lake: Lake, videos: Sequence[LabelledVideo], clips: Clips, folder: Path
    ) -> Clips:
        """Adds to clips of videos what is heard in them; the folder is on the disk for that."""
        audio = self._rows(lake, "audio", videos)
        sound = read_sound(audio, _extractions(videos), clips.video_ids, clips.windows, folder)
        return clips._replace(sound=sound)

    def _rows(self, lake: Lake, table: str, videos: Sequence[LabelledVideo]) -> ds.Dataset:
        return lake.dataset(
            table,
            # Every file holds the rows of one run: files of other runs are not opened.
            where=In("run_key", {video.extraction_run for video in videos}),
            snapshots=self.snapshots,
        )


def _extractions(videos: Sequence[LabelledVideo]) -> dict[str, str]:
    return {video.video_id: video.extraction for video in videos}


def _require_frames(videos: Sequence[LabelledVideo], video_ids: Sequence[str]) -> None:
    if missing := {video.video_id for video in videos} - set(video_ids):
        raise BadInputError(
            f"{len(missing)} videos of the dataset have no frames in the table frames,"
            f" such as {min(missing)}. Ingest them again."
        )
