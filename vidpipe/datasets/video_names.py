"""Finding videos by what people and data sets call them."""

from __future__ import annotations

import itertools
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from vidpipe.datasets.annotations import RANGE_TOLERANCE_S
from vidpipe.lake.tables import Lake
from vidpipe.text import near_texts

_TIME_DECIMALS = 6
_MAX_NAME = 2048  # characters; a key in S3 has at most 1024 bytes


class UnknownVideoError(ValueError):
    """There is no such video, or none that can be labelled.

    Args:
        message: Says so in words.
        name: The name that no video has; "" where there is a video, but none that can be labelled.
    """

    def __init__(self, message: str = "", name: str = ""):
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video that can be labelled.

    Attributes:
        fps: Average frame rate; None where the container does not tell.
        width: Of the picture as shown, in pixels.
        frame_count: Number of frames; None where it is not known.
    """

    duration_s: float
    fps: float | None = None
    width: int = 0
    height: int = 0
    frame_count: int | None = None

    def time_of(self, frame: int) -> float:
        """When a frame is shown, in seconds; the first is 0. The rate must be known."""
        return round(frame / self.fps, _TIME_DECIMALS)

    def frame_of(self, time_s: float) -> int:
        """The frame nearest to a time; the rate must be known."""
        return min(round(time_s * self.fps), self.last_frame)

    def last_frame_before(self, end_s: float) -> int:
        """The last frame of a range that ends at a time; the rate must be known."""
        return min(round(end_s * self.fps), self.end_frame) - 1

    @property
    def last_frame(self) -> int:
        """The last frame that can be annotated; the rate must be known."""
        return self.end_frame - 1 if self._is_count_plausible else self.end_frame

    @property
    def end_frame(self) -> int:
        """The frame at which a range may end at the latest; the rate must be known."""
        return self.frame_count if self._is_count_plausible else self.tolerated_frame

    @property
    def tolerated_frame(self) -> int:
        """The last frame for players that derive it from the duration; the rate must be known."""
        return math.floor((self.duration_s + RANGE_TOLERANCE_S) * self.fps)

    @property
    def _is_count_plausible(self) -> bool:
        """Whether the frame count fits the duration: containers state wrong ones."""
        if not self.frame_count:
            return False
        slack = RANGE_TOLERANCE_S * self.fps + 1
        return abs(self.frame_count - self.duration_s * self.fps) <= slack

    def is_whole(self, start_s: float, end_s: float) -> bool:
        """Whether a range is the whole video."""
        from_begin = 0 <= start_s <= RANGE_TOLERANCE_S
        return from_begin and abs(end_s - self.duration_s) <= RANGE_TOLERANCE_S


class VideoNames:
    """Finds videos by URI, key, file name, `video_id`, and key or file name without ending.

    Args:
        sources: `video_id` of each source URI.
        videos: The videos that can be labelled.
    """

    def __init__(self, sources: Mapping[str, str], videos: Mapping[str, VideoFacts]):
        self.videos = videos
        # As they are written, and in one Unicode form. Only the former tells two names apart that
        # look the same, which a URI and a key must do.
        self._as_written: tuple[dict[str, set[str]], ...] = ({}, {})
        self._exact: tuple[dict[str, set[str]], ...] = ({}, {}, {})
        self._by_stem: dict[str, set[str]] = {}
        self._uris_by_name: dict[str, list[tuple[str, str]]] = {}
        self._uri_of: dict[str, str] = {}
        self._renamed: dict[Callable[[str], str], dict[str, set[str]]] = {}
        # Of those with one file name: by the folders above them, and those in no folder apart.
        self._by_folders: dict[str, dict[str, set[str]]] = {}
        self._elsewhere: dict[tuple[str, frozenset[str]], set[str]] = {}
        self._folded: dict[str, str] | None = None
        for uri, video_id in sources.items():
            self._uri_of[video_id] = uri
            for known, called in zip(self._as_written, (uri, _key_of(uri)), strict=True):
                known.setdefault(called, set()).add(video_id)
            # The same name may be written in two ways: macOS takes letters and accents apart.
            uri = composed(uri)
            key = _key_of(uri)
            name = key.rpartition("/")[2]
            for known, called in zip(self._exact, (uri, key, name), strict=True):
                known.setdefault(called, set()).add(video_id)
            for called in {stem_of(key), stem_of(name)}:
                self._by_stem.setdefault(called, set()).add(video_id)
            for called in {name, stem_of(name)}:
                self._uris_by_name.setdefault(called, []).append((uri, video_id))

    def find(self, name: str) -> str:
        """Returns the id of the video that is called `name`.

        Raises:
            UnknownVideoError: There is none.
            ValueError: There is more than one; says so in words.
        """
        # A name may begin or end with a space; more often the space is a slip.
        written = (name, name.strip())
        called = tuple(map(composed, written))
        names = (*self._exact, self._by_stem)
        lookups = itertools.chain(
            (known.get(w) for w in written for known in self._as_written),
            (known.get(c) for c in called for known in names),
        )
        found = next(filter(None, lookups), set())
        if not found and name.strip() in self.videos:
            found = {name.strip()}
        return self._only(name, found)

    def find_id(self, video_id: str) -> str:
        """Returns the id itself, where there is such a video: no name of any other one finds it.

        Raises:
            UnknownVideoError: There is none.
        """
        return self._only(video_id, {video_id} & self.videos.keys())

    def find_path(self, path: str, apart: frozenset[str] = frozenset()) -> str:
        """Returns the id of the video that a data set has at `path`.

        The folders above it and its ending may be others here: of those with its file name, it is
        the one that has most of the folders right above it.

        Args:
            path: Where the data set has it.
            apart: Folders that tell files of one name apart, such as classes, each as `composed`
                returns it: what lies right in one of them is not found in another.

        Raises:
            UnknownVideoError: There is none.
            ValueError: There is more than one; says so in words.
        """
        try:
            return self.find(path)
        except UnknownVideoError:
            folders = composed(path.strip()).replace("\\", "/").split("/")
        name = folders.pop()
        if name in self.videos:
            return name
        called = next((n for n in (name, stem_of(name)) if n in self._uris_by_name), None)
        if called is None:
            return self._only(path, set())
        return self._only(
            path, self._with_most_folders(called, folders) or self._outside_of(called, apart)
        )

    def _with_most_folders(self, called: str, folders: list[str]) -> set[str]:
        """The videos of a file name that have most of the folders right above them, if any has."""
        if called not in self._by_folders:
            by_folders = self._by_folders[called] = {}
            for uri, video_id in self._uris_by_name[called]:
                above = ""
                for folder in reversed(uri.split("/")[:-1]):
                    above = f"{folder}/{above}"
                    by_folders.setdefault(above, set()).add(video_id)
        videos: set[str] = set()
        above = ""
        for folder in reversed(folders):
            above = f"{folder}/{above}"
            if above not in self._by_folders[called]:
                break
            videos = self._by_folders[called][above]
        return videos

    def _outside_of(self, called: str, apart: frozenset[str]) -> set[str]:
        """The videos of a file name, but for those that lie right in some folders."""
        if (called, apart) not in self._elsewhere:
            named = self._uris_by_name[called]
            self._elsewhere[called, apart] = {video_id for _, video_id in named} - {
                video_id for uri, video_id in named if _folder_of(uri) in apart
            }
        return self._elsewhere[called, apart]

    def find_renamed(self, name: str, rename: Callable[[str], str]) -> str:
        """Returns the id of the video whose file name becomes `name` in another tool.

        Args:
            name: The file name that the tool gave it.
            rename: How the tool changes file names.

        Raises:
            UnknownVideoError: There is none.
            ValueError: There is more than one.
        """
        if rename not in self._renamed:
            renamed: dict[str, set[str]] = {}
            for original, video_ids in self._exact[-1].items():
                renamed.setdefault(rename(original), set()).update(video_ids)
            self._renamed[rename] = renamed
        return self._only(name, self._renamed[rename].get(composed(name), set()))

    def near(self, name: str) -> list[str]:
        """File names that are much like a name that no video has; best first, at most three."""
        if self._folded is None:
            self._folded = {stem_of(n).casefold(): n for n in sorted(self._exact[-1])}
        sought = stem_of(name.replace("\\", "/").rpartition("/")[2])
        near = near_texts(composed(sought).casefold(), self._folded, 3, cutoff=0.75)
        return [self._folded[of] for of in near]

    def name_of(self, video_id: str, finds: Callable[[str], str]) -> str:
        """The most readable name of a video by which it is found again.

        Args:
            video_id: The video.
            finds: What finds it, such as `find`; may refuse a name by a ValueError.

        Returns:
            Its file name without ending, its file name, its key, or its id.
        """
        for name in self._names_of(video_id):
            try:
                if finds(name) == video_id:
                    return name
            except ValueError:
                continue
        return video_id

    def uri_of(self, video_id: str) -> str:
        """Where a video lies; its id where that is not known."""
        return self._uri_of.get(video_id, video_id)

    def _names_of(self, video_id: str) -> Iterator[str]:
        if video_id in self._uri_of:
            key = _key_of(self._uri_of[video_id])
            name = key.rpartition("/")[2]
            yield from (stem_of(name), name, key)

    def _only(self, name: str, videos: Set[str]) -> str:
        if not videos:
            raise UnknownVideoError(f"no video is called {_shown(name)}", name)
        if len(videos) > 1:
            raise ValueError(
                f"{len(videos)} videos are called {_shown(name)}: give the key or the URI"
            )
        (video_id,) = videos
        if video_id not in self.videos:
            raise UnknownVideoError(
                f"{_shown(name)} could not be extracted, so it cannot be labelled"
            )
        return video_id


class SoughtNames(VideoNames):
    """Finds nothing, and notes whether one of some sources was asked for.

    Attributes:
        met: Whether it was, by any name that would find it.
    """

    def __init__(self, sources: Iterable[str]):
        super().__init__(dict.fromkeys(sources, ""), {})
        self.met = False

    def _only(self, name: str, videos: Set[str]) -> str:
        self.met |= bool(videos)
        raise UnknownVideoError


def read_video_names(lake: Lake, snapshots: dict[str, int]) -> VideoNames:
    """The names of all videos of a lake."""
    sources = lake.dataset("sources", snapshots=snapshots).to_table(
        columns=["source_uri", "video_id", "deleted", "seen_at"]
    )
    by_uri: dict[str, str] = {}
    for row in sources.sort_by("seen_at").to_pylist():
        # The video of a source that is gone can still be named.
        if row["video_id"]:
            by_uri[row["source_uri"]] = row["video_id"]
    columns = ["video_id", "duration_s", "fps", "width", "height", "frame_count", "ingested_at"]
    videos = lake.dataset("videos", snapshots=snapshots).to_table(columns=columns)
    return VideoNames(
        by_uri,
        {
            row["video_id"]: VideoFacts(
                row["duration_s"],
                row["fps"] or None,
                row["width"],
                row["height"],
                row["frame_count"],
            )
            for row in videos.sort_by("ingested_at").to_pylist()
        },
    )


def stem_of(path: str) -> str:
    """A path without the ending of its file name."""
    folder, slash, name = path.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    return folder + slash + (stem if stem and dot and " " not in ending else name)


def _key_of(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[2]


def composed(name: str) -> str:
    """A name in the Unicode form in which names are compared.

    That takes the square of the number of its accents, and no video has a longer name.
    """
    return unicodedata.normalize("NFC", name) if len(name) <= _MAX_NAME else name


def _folder_of(uri: str) -> str:
    """The folder right above a file."""
    return uri.rpartition("/")[0].rpartition("/")[2]


def _shown(name: str) -> str:
    return repr(name if len(name) <= 200 else f"{name[:200]}…")
