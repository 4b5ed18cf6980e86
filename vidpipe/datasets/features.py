"""What a frozen backbone makes of clips: computed once for each video, and kept in the lake.

    features/KEY/VIDEO_ID/EXTRACTION.npz
        features: float16 `(clips, frames, rows, columns, features)`
        windows: of each clip, `(clips, 4)`
    features/KEY/used                       by the training that began last

KEY stands for the backbone with its weights and for what it is given of a video, so that every
training that sees frames alike finds them. Removing any of them is always safe; those that were not
used for long are removed by the stage maintain.
"""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from vidpipe.arrays import load_arrays
from vidpipe.datasets.clips import Clips, cut_by_size
from vidpipe.datasets.labelled import Dataset, LabelledVideo
from vidpipe.datasets.windows import Window
from vidpipe.errors import BadInputError, TemporaryError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import Sampling
from vidpipe.models.prediction import Predictor

LOOK_EVERY_S = 2.0
WITHOUT_NEWS_S = 1_800.0
_LARGEST = np.finfo(np.float16).max


class FeatureCache:
    """The features of videos by one backbone.

    Args:
        lake: Where they are kept, and the frames that they are made of.
        key: Of the backbone and what it is given.
    """

    def __init__(self, lake: Lake, key: str):
        self._lake = lake
        self._folder_uri = layout.features_uri(lake.uri, key)

    def note_use(self) -> None:
        """Says that they are used now."""
        self._lake.store.put(f"{self._folder_uri}used", b"")

    def missing(self, videos: Iterable[LabelledVideo]) -> list[LabelledVideo]:
        """Those videos of which there are none."""
        known = {found.uri for found in self._lake.store.list(self._folder_uri)}
        return [video for video in videos if self._uri(video) not in known]

    def put(self, video: LabelledVideo, features: np.ndarray, windows: Sequence[Window]) -> None:
        """Keeps the features of a video: of each of its clips."""
        file = io.BytesIO()
        features = np.clip(features, -_LARGEST, _LARGEST).astype(np.float16)
        np.savez(file, features=features, windows=np.array(windows))
        self._lake.store.put(self._uri(video), file.getvalue())

    def get(self, video: LabelledVideo) -> tuple[np.ndarray, list[Window]]:
        """The features of a video, and the window of each clip.

        Raises:
            TemporaryError: They were damaged, and are removed: the next attempt makes them.
        """
        uri = self._uri(video)
        try:
            content = self._lake.store.get(uri)
            # `put` compresses nothing: unpacked, they are no larger than their file.
            kept = load_arrays(io.BytesIO(content), len(content))
            windows = [Window(*row[:3], int(row[3])) for row in kept["windows"].tolist()]
            return kept["features"], windows
        except (
            *(ValueError, KeyError, TypeError, IndexError, OverflowError),
            BadInputError,
        ) as error:
            self._lake.store.delete(uri)
            raise TemporaryError(f"{uri} was damaged and is removed: try again.") from error

    def _uri(self, video: LabelledVideo) -> str:
        return f"{self._folder_uri}{video.video_id}/{video.extraction}.npz"


def read_features(
    cache: FeatureCache,
    dataset: Dataset,
    lake: Lake,
    videos: Sequence[LabelledVideo],
    encoder: keras.Model,
    sampling: Sampling,
    scratch: Path,
    *,
    progress: Callable[[int, int], None],
    worker: int = 0,
    workers: int = 1,
) -> Clips:
    """Returns the features of videos; those that are not kept yet are computed, and kept.

    Args:
        cache: Where they are kept.
        dataset: What the videos are of.
        lake: Where the frames are.
        videos: The videos.
        encoder: Clips to features.
        sampling: What it is given of a video.
        scratch: A local folder for the clips at hand and the array.
        progress: Called with how many videos have features, and of how many.
        worker: Which of several workers this is; each computes its share, and waits for the others.
        workers: How many there are.

    Returns:
        Features in place of pictures: float16 `(clips, frames, rows, columns, features)`,
        memory-mapped.

    Raises:
        OutOfMemoryError: The backbone does not fit in the memory, not even for one frame.
        TemporaryError: The other workers bring nothing.
    """
    cache.note_use()
    missing = cache.missing(videos)
    own, done = missing[worker::workers], len(videos) - len(missing)
    predictor = Predictor(encoder) if own else None
    own_by_id = {video.video_id: video for video in own}
    durations_s = {video_id: video.duration_s for video_id, video in own_by_id.items()}
    for video_ids in cut_by_size(durations_s, sampling):
        batch = [own_by_id[video_id] for video_id in video_ids]
        clips = dataset.read_clips(lake, batch, sampling, scratch / "batch.npy")
        for video, features, windows in _encode(predictor, batch, clips):
            cache.put(video, features, windows)
            done += 1
            progress(done, len(videos))
        (scratch / "batch.npy").unlink()
    if workers > 1:
        _wait(cache, videos, progress)
    return _gather(cache, videos, encoder.output_shape[1:], scratch / "features")


def _encode(
    predictor: Predictor, videos: Sequence[LabelledVideo], clips: Clips
) -> Iterator[tuple[LabelledVideo, np.ndarray, list[Window]]]:
    """Yields the features of each video with its windows."""
    video_of = {video.video_id: video for video in videos}
    found: list[np.ndarray] = []
    for row, features in enumerate(itertools.chain.from_iterable(predictor.stream((clips.array,)))):
        found.append(features)
        if clips.video_ids[row + 1 : row + 2] != clips.video_ids[row : row + 1]:
            windows = clips.windows[row + 1 - len(found) : row + 1]
            yield video_of[clips.video_ids[row]], np.stack(found), windows
            found = []


def _gather(
    cache: FeatureCache, videos: Sequence[LabelledVideo], shape: tuple[int, ...], path: Path
) -> Clips:
    """What is kept of videos, as one array in a file, which it grows clip by clip."""
    video_ids: list[str] = []
    windows: list[Window] = []
    with path.open("wb") as file:
        for video in videos:
            features, of_video = cache.get(video)
            if features.shape != (len(of_video), *shape):
                raise BadInputError(
                    f"The features kept of video {video.video_id} have the shape {features.shape},"
                    f" not {(len(of_video), *shape)}. Remove the folder of its key below features/."
                )
            file.write(features.tobytes())
            video_ids += [video.video_id] * len(of_video)
            windows += of_video
    array = np.memmap(path, np.float16, "r", shape=(len(windows), *shape))
    return Clips(array, video_ids, windows)


def _wait(
    cache: FeatureCache, videos: Sequence[LabelledVideo], progress: Callable[[int, int], None]
) -> None:
    """Waits until the other workers have brought their shares."""
    left, since_s = len(videos) + 1, time.monotonic()
    while missing := cache.missing(videos):
        if len(missing) < left:
            left, since_s = len(missing), time.monotonic()
            progress(len(videos) - left, len(videos))
        elif time.monotonic() - since_s > WITHOUT_NEWS_S:
            raise TemporaryError(
                f"Of {left} videos no other worker brought the features within"
                f" {WITHOUT_NEWS_S:g} s: all have to start anew."
            )
        time.sleep(LOOK_EVERY_S)
