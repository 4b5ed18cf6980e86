"""Clips that are decoded when they are asked for, straight from the row groups of the frames.

For datasets whose decoded clips do not fit the local disk. A row group holds the frames of some
videos, one after the other, and is read as a whole: rows that are asked for in the order of
`vidpipe.datasets.pipeline.Order` let each be read once or twice an epoch.
"""

from __future__ import annotations

import collections
import itertools
import math
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from vidpipe.datasets.clips import choose_frames, decode
from vidpipe.datasets.windows import Window
from vidpipe.models.architectures import Sampling

BUFFER_BYTES = 256 << 20
READERS = 8  # row groups that are fetched at a time
# Pictures are handed to a decoder by so many parts a decoder: one at a time they cost a third more.
PARTS = 4
_COLUMNS = ["video_id", "work_key", "time_s", "frame_index"]


class _Frames(NamedTuple):
    """Where the frames of a video are, by time; an array each."""

    times_s: np.ndarray
    indexes: np.ndarray
    groups: np.ndarray
    rows: np.ndarray


class StreamedClips:
    """Clips like those of `vidpipe.datasets.clips.read_clips`, to the last pixel, but not stored.

    It is indexed as their array is: by rows, or by rows and moments.

    Args:
        frames: The table `frames`.
        extractions: For each video the work key of the extraction whose frames are meant.
        sampling: Which windows of a video, how many frames, how large.
        finer: So many times as many frames.
        buffer_bytes: About so much of what was read last is kept in memory, as JPEG.

    Attributes:
        shape: `(clips, frames read, height, width, 3)`.
        nbytes: That all of them decoded would take.
        dtype: Of pixels.
        video_ids: The video of each clip, of those that have frames.
        windows: What of it each shows.
        groups: The row group that each clip begins in.
        groups_at_once: So many of them are half of the buffer.
        failure: What a read failed by; TensorFlow tells only half of it.
    """

    def __init__(
        self,
        frames: ds.Dataset,
        extractions: Mapping[str, str],
        sampling: Sampling,
        *,
        finer: int = 1,
        buffer_bytes: int = BUFFER_BYTES,
    ):
        self._sampling = sampling
        self._fragments: list[ds.ParquetFileFragment] = []  # of one row group each
        self.video_ids: list[str] = []
        self.windows: list[Window] = []
        found = self._find(frames, extractions)
        places: list[np.ndarray] = []
        for video_id in extractions:
            if (of := found.get(video_id)) is None:
                continue
            for window, nearest in choose_frames(of.times_s, sampling, finer):
                self.video_ids.append(video_id)
                self.windows.append(window)
                places.append(np.stack([of.groups, of.rows, of.indexes])[:, nearest])
        shape = (len(places), 3, sampling.frames * finer)
        places = np.array(places, np.int32).reshape(shape).transpose(1, 0, 2)
        self._group_of, self._row_of, self._index_of = places
        self.shape = (len(self.windows), sampling.frames * finer, *sampling.shape[1:])
        self.nbytes = math.prod(self.shape)
        self.dtype = np.dtype(np.uint8)
        self.groups = self._group_of[:, 0]
        self._wanted = _by_group(self._group_of, self._row_of)
        sizes = [self._fragments[group].row_groups[0].total_byte_size for group in self._wanted]
        self.groups_at_once = max(1, int(buffer_bytes / 2 / max(1.0, np.mean(sizes or [1]))))
        self.failure: Exception | None = None
        self._kept: collections.OrderedDict[int, dict[int, bytes]] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(READERS)
        self._decoders = ThreadPoolExecutor(os.cpu_count())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index) -> np.ndarray:
        """Decodes clips, `(rows, moments, height, width, 3)`.

        Args:
            index: Rows; or rows of the shape `(rows, 1)` and moments that go with them.

        Raises:
            BadInputError: A frame is no JPEG.
        """
        try:
            rows, moments = index if isinstance(index, tuple) else (np.asarray(index)[:, None], ...)
            return self._read(np.asarray(rows), moments)
        except Exception as error:
            self.failure = error
            raise

    def _read(self, rows: np.ndarray, moments) -> np.ndarray:
        at = rows[:, 0] if moments is ... else (rows, moments)
        groups, file_rows, indexes = (
            of[at] for of in (self._group_of, self._row_of, self._index_of)
        )
        kept, shape = self._fetch(np.unique(groups)), groups.shape
        groups, file_rows, indexes = (of.ravel() for of in (groups, file_rows, indexes))
        video_of = np.broadcast_to(rows, shape).ravel()
        clips = np.empty((groups.size, *self.shape[2:]), np.uint8)

        def fill(frames: list[np.ndarray]) -> None:
            for places in frames:
                one = places[0]
                jpeg = kept[groups[one]][file_rows[one]]
                video_id = self.video_ids[video_of[one]]
                pictures = decode(jpeg, self._sampling, video_id, int(indexes[one]))
                for place in places:
                    clips[place] = pictures[self.windows[video_of[place]].crop]

        frames = _places(groups, file_rows)
        parts = PARTS * os.cpu_count()
        list(self._decoders.map(fill, (frames[part::parts] for part in range(parts))))
        return clips.reshape(*shape, *self.shape[2:])

    def _fetch(self, groups: np.ndarray) -> dict[int, dict[int, bytes]]:
        """The wanted frames of row groups, read or kept."""
        with self._lock:
            found = {group: self._kept[group] for group in groups if group in self._kept}
        missing = [group for group in groups if group not in found]
        found.update(zip(missing, self._readers.map(self._load, missing), strict=True))
        with self._lock:
            for group in groups:
                self._kept[group] = found[group]
                self._kept.move_to_end(group)
            while len(self._kept) > max(2 * self.groups_at_once, len(groups)):
                self._kept.popitem(last=False)
        return found

    def _load(self, group: int) -> dict[int, bytes]:
        table = self._fragments[group].to_table(columns=["jpeg"], use_threads=False)
        rows = self._wanted[group]
        return dict(zip(rows.tolist(), table["jpeg"].take(rows).to_pylist(), strict=True))

    def _find(self, frames: ds.Dataset, extractions: Mapping[str, str]) -> dict[str, _Frames]:
        """Where the frames of each video are; of each file only the small columns are read."""
        videos, works = pa.array(list(extractions)), pa.array(list(extractions.values()))
        found: list[tuple[np.ndarray, ...]] = []
        # Files that hold none of the videos are not opened.
        for fragment in frames.get_fragments(filter=ds.field("video_id").isin(videos)):
            first = len(self._fragments)
            self._fragments += fragment.split_by_row_group()
            counts = [of.row_groups[0].num_rows for of in self._fragments[first:]]
            groups = np.repeat(np.arange(first, len(self._fragments)), counts)
            rows = np.concatenate([np.arange(count) for count in counts] or [groups])
            table = fragment.to_table(columns=_COLUMNS)
            which = pc.fill_null(pc.index_in(table["video_id"], videos), -1).to_numpy()
            at = np.flatnonzero((which >= 0) & pc.is_in(table["work_key"], works).to_numpy())
            times_s, indexes = (table[name].to_numpy()[at] for name in ("time_s", "frame_index"))
            if at.size:
                found.append((which[at], times_s, indexes, groups[at], rows[at]))
        if not found:
            return {}
        which, *columns = map(np.concatenate, zip(*found, strict=True))
        order = np.lexsort((columns[1], columns[0], which))
        numbers, starts = np.unique(which[order], return_index=True)
        pieces = (np.split(column[order], starts[1:]) for column in columns)
        return {
            videos[int(number)].as_py(): _Frames(*of)
            for number, *of in zip(numbers, *pieces, strict=True)
        }


def _places(groups: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Where each frame is wanted; videos with few frames repeat some, which are decoded once."""
    order = np.lexsort((rows, groups))
    changes = (np.diff(of[order], prepend=-1) != 0 for of in (groups, rows))
    return np.split(order, np.flatnonzero(np.logical_or(*changes)))[1:]


def _by_group(groups: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    """The wanted rows of each row group, rising."""
    pairs: Iterator = map(tuple, np.unique([groups.ravel(), rows.ravel()], axis=1).T.tolist())
    return {
        group: np.array([row for _, row in of])
        for group, of in itertools.groupby(pairs, key=lambda pair: pair[0])
    }
