"""What all importers read into: annotations that are checked, faults, and what is left out."""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from vidpipe.datasets.annotations import (
    BOX_DECIMALS,
    RANGE_TOLERANCE_S,
    Annotation,
    Box,
    Key,
    Statement,
)
from vidpipe.datasets.formats.budget import Budget, TooMuchError
from vidpipe.datasets.video_names import UnknownVideoError, VideoFacts, VideoNames
from vidpipe.text import printable

FAULTS_SHOWN = 20
NEAR_NAMES_SHOWN = 5  # to find them takes a while
MAX_ROWS = 1_000_000
MAX_TEXT = 1000  # characters of a label, and of other texts of an annotation
_FAULT_SHOWN = 3000  # characters of one
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_SLACK = 1.5 * 10.0**-BOX_DECIMALS
CUT_OFF = "boxes that reach beyond the picture, and were cut off there"


class WrongError(ValueError):
    """A value is wrong.

    Args:
        message: Says so in words.
        field: Where below the place at hand, such as `.bbox`.
    """

    def __init__(self, message: str, field: str = ""):
        super().__init__(message)
        self.field = field


class UnreadableError(ValueError):
    """What is wrong concerns the whole file, so that none of it can be imported."""


class ToldError(ValueError):
    """What is wrong was told before."""


class Reader:
    """Takes what an importer finds in a file.

    Args:
        videos: The videos that may be named.
        only_video: Name and id of the video that the whole file is about, whatever it calls it;
            None: the file names its videos.
        first_frame: The number that the file gives to the first frame of a video, where its format
            does not fix it.
        budget: What reading may take; None: the usual.

    Attributes:
        budget: What reading may still take.
        annotations: What was read.
        faults: The first of them, in words.
        fault_count: How many there are.
        is_unreadable: Whether a fault concerns the whole file.
        has_unknown_videos: Whether a fault is a name that no video has.
        frame_numbers: Which of the frame numbers 0 and 1 the file has, as it counts.
        left_out: What the file tells and is not kept: in words, and how often.
        missing: Videos of an official list that are not here.
        pictures: Video and frame of pictures that the sidecar tells of.
        several: Whether the sidecar says that a video may have several labels at once.
    """

    def __init__(
        self,
        videos: VideoNames,
        *,
        only_video: tuple[str, str] | None = None,
        first_frame: int = 0,
        budget: Budget | None = None,
    ):
        self.budget = budget or Budget()
        self.videos = videos
        self.only_video = only_video
        self.annotations: list[Annotation] = []
        self.faults: list[str] = []
        self.fault_count = 0
        self.is_unreadable = False
        self.has_unknown_videos = False
        self.frame_numbers: set[int] = set()
        self.left_out: collections.Counter[str] = collections.Counter()
        self.missing: set[str] = set()
        self.pictures: dict[str, tuple[str, int]] = {}
        self.several = False
        self.first_frame = first_frame
        self._found: dict[tuple[Callable, str], str | None] = {}
        self._without_rate: set[str] = set()
        self._name_of_only = ""
        self._near_names = 0

    @contextlib.contextmanager
    def at(self, where: str) -> Iterator[None]:
        """What is wrong in here is a fault at that place of the file."""
        self.budget.check()
        try:
            yield
        except ToldError:
            pass
        except UnreadableError as error:
            self.is_unreadable = True
            self.fault(f"{where}: {error}")
        except WrongError as error:
            self.fault(f"{where}{error.field}: {error}")
        except UnknownVideoError as error:
            self.fault(f"{where}: {error}{self._near(error.name)}")
        except ValueError as error:
            self.fault(f"{where}: {error}")

    def fault(self, message: str) -> None:
        """Tells of a fault."""
        self.budget.check()
        self.fault_count += 1
        if len(self.faults) < FAULTS_SHOWN:
            more = "…" * (len(message) > _FAULT_SHOWN)
            self.faults.append(printable(message[:_FAULT_SHOWN]) + more)

    def _near(self, name: str) -> str:
        if not name:
            return ""
        self.has_unknown_videos = True
        if self._near_names == NEAR_NAMES_SHOWN:
            return ""
        self._near_names += 1
        near = self.videos.near(name)
        return f"; near names: {', '.join(map(repr, near))}" if near else ""

    def find_any(self, name: str, finds: Callable[[str], str]) -> str:
        """Returns the id of the video that the file calls `name`.

        Where the whole file is about one video, it is that one.

        Raises:
            ValueError: It is not found, or the file names a second video beside the only one.
        """
        if self.only_video is None:
            return finds(name)
        called, video_id = self.only_video
        self.claim_only(name)
        with contextlib.suppress(UnknownVideoError):
            if finds(name) != video_id:
                raise UnreadableError(
                    f"it names {name!r:.200}, which is another video than {called!r}; leave out"
                    " --video, or give the right one"
                )
        return video_id

    def claim_only(self, name: str) -> None:
        """Notes a name of the only video.

        Raises:
            ValueError: The file names a second one.
        """
        first = self._name_of_only = self._name_of_only or name
        if name != first:
            if self.is_unreadable:
                raise ToldError
            raise UnreadableError(
                f"the file is about several videos, {first!r:.200} and {name!r:.200}; --video is"
                " for a file of one video"
            )

    def find(self, name: str, finds: Callable[[str], str]) -> str:
        """Does the same; a video that is not found is told once.

        Raises:
            ValueError: It is not found.
        """
        key = (finds, name)
        if key not in self._found:
            self._found[key] = None
            self._found[key] = self.find_any(name, finds)
        found = self._found[key]
        if found is None:
            raise ToldError
        return found

    def find_listed(self, name: str, finds: Callable[[str], str]) -> str:
        """Does the same for an official list: it tells of more videos than anybody has.

        Raises:
            ValueError: It is not here, which is counted, and is no fault.
        """
        try:
            return self.find(name, finds)
        except (UnknownVideoError, ToldError) as error:
            self.missing.add(name)
            raise ToldError from error

    def facts(self, video_id: str) -> VideoFacts:
        """What is known of a video."""
        return self.videos.videos[video_id]

    def clock(self, video: str, video_id: str) -> VideoFacts:
        """What is known of a video whose frames are counted.

        Raises:
            ValueError: Its frame rate is not known, which is told once.
        """
        facts = self.facts(video_id)
        if facts.fps is None:
            if video_id in self._without_rate:
                raise ToldError
            self._without_rate.add(video_id)
            raise ValueError(
                f"the frame rate of {video!r} is not known, so its frames have no times; give"
                " times in seconds (CSV, JSON Lines)"
            )
        return facts

    def time_of(self, video: str, video_id: str, frame: int) -> float:
        """When a frame of a video is shown, in seconds.

        Raises:
            ValueError: The video has no such frame, or its frame rate is not known.
        """
        facts = self.clock(video, video_id)
        if not 0 <= frame <= facts.last_frame:
            raise ValueError(
                f"frame {frame} is outside the video of {facts.duration_s:.2f} s at"
                f" {facts.fps:g} frames a second, whose frames are 0 to {facts.last_frame}"
            )
        return facts.time_of(frame)

    def time_of_number(self, video: str, video_id: str, number: int) -> float:
        """Does the same for a frame number that counts from the file's first frame number on.

        Raises:
            ValueError: The video has no such frame, or its frame rate is not known.
        """
        if number <= 1:
            self.frame_numbers.add(number)
        first, facts = self.first_frame, self.clock(video, video_id)
        last = facts.last_frame + first
        if first <= number <= last:
            return facts.time_of(number - first)
        hint = ""
        if first == 0 and number == last + 1 and 0 not in self.frame_numbers:
            hint = ". If the file counts frames from 1, say so: --first-frame 1"
        raise ValueError(
            f"frame {number} is outside the video of {facts.duration_s:.2f} s at {facts.fps:g}"
            f" frames a second, whose frames are {first} to {last}{hint}"
        )

    def box(self, x: float, y: float, width: float, height: float) -> Box:
        """A box in shares of the picture; what reaches beyond the picture is cut off.

        Raises:
            ValueError: Nothing of it is in the picture.
        """
        if min(x, y) < -_SLACK or max(x + width, y + height) > 1 + _SLACK:
            self.left_out[CUT_OFF] += 1
        right, bottom = min(x + width, 1.0), min(y + height, 1.0)
        x, y = max(x, 0.0), max(y, 0.0)
        return make_box(x, y, right - x, bottom - y)

    def add(
        self,
        where: str,
        video: str,
        video_id: str,
        said: Statement | None,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        annotator: str = "",
        frame_wise: bool = False,
    ) -> None:
        """Adds an annotation.

        Args:
            where: Its place in the file.
            video: As the file calls it.
            video_id: The video.
            said: None withdraws what was said.
            start_s: From when; None: the whole video.
            end_s: Until when.
            annotator: Who says so.
            frame_wise: Whether a range may be one frame, whatever is said of it.

        Raises:
            ValueError: It is wrong; says so in words.
        """
        self.budget.check()
        if said is not None:
            said = _checked(said)
        if (start_s is None) != (end_s is None):
            raise ValueError("start_s and end_s go together: give both or none")
        if start_s is not None and end_s is not None:
            start_s, end_s = start_s + 0.0, end_s + 0.0  # there is no time -0
            of_frame = frame_wise or said is None or said.label is None or said.box is not None
            self._check_range(video_id, start_s, end_s, of_frame)
        key = Key(video_id, start_s, end_s, text(annotator, "annotator"))
        self.require_room(1)
        self.annotations.append(Annotation(where, video, key, said))

    def require_room(self, count: int) -> None:
        """Refuses a file that has more annotations than are imported at once.

        Raises:
            TooMuchError: With so many more it has.
        """
        if len(self.annotations) + count > MAX_ROWS:
            raise TooMuchError(
                f"more than {MAX_ROWS} rows are not imported at once; cut it by videos."
            )

    def _check_range(self, video_id: str, start_s: float, end_s: float, of_frame: bool) -> None:
        duration_s = self.facts(video_id).duration_s
        shown = f"the range {start_s:g} to {end_s:g} s"
        if start_s > end_s or (start_s == end_s and not of_frame):
            raise ValueError(f"{shown} is empty")
        # A time that is rounded may be beyond by that.
        if start_s < 0 or end_s > duration_s + RANGE_TOLERANCE_S + 1e-6:
            raise ValueError(
                f"{shown} is outside the video of {duration_s:.2f} s; give seconds from its start"
            )


def _checked(said: Statement) -> Statement:
    if said.label is None:
        if said.box is not None:
            raise ValueError("a box needs a label")
    elif not said.label.strip():
        raise ValueError("the label is empty")
    return said._replace(
        label=None if said.label is None else text(said.label, "label"),
        track=text(said.track or "", "track") or None,
        group=text(said.group or "", "group") or None,
        split=split_of(said.split or ""),
    )


def make_box(x: float, y: float, width: float, height: float) -> Box:
    """A box within the picture, to a millionth of it.

    Raises:
        ValueError: It is empty, or reaches beyond the picture.
    """
    x, y = round(x, BOX_DECIMALS) + 0.0, round(y, BOX_DECIMALS) + 0.0
    box = Box(x, y, _size(x, width), _size(y, height))
    far = max(box.x + box.width, box.y + box.height)
    if min(box.x, box.y) < 0 or far > 1 + _SLACK:
        raise ValueError(
            "a box is given by its top left corner and size in shares of the picture, 0 to 1."
            f" Received: {_numbers(x, y, width, height)}"
        )
    if box.width <= 0 or box.height <= 0:
        raise ValueError(
            "nothing of the box is in the picture, or its size is 0. Received, in shares of the"
            f" picture: {_numbers(x, y, width, height)}"
        )
    return box


def _size(start: float, size: float) -> float:
    """A width or height; by rounding alone it does not reach beyond the picture."""
    size = round(size, BOX_DECIMALS)
    left = round(1 - start, BOX_DECIMALS)
    return left if left < size <= left + _SLACK else size


def text(value: str, name: str) -> str:
    """A text without the spaces around it.

    Raises:
        ValueError: It is no valid Unicode, or too long.
    """
    if len(value) > MAX_TEXT:
        raise ValueError(
            f"{name} is longer than {MAX_TEXT} characters. Received: {value[:50]!r}…; shorten it"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is no valid Unicode. Received: {value!r}") from error
    return value.strip()


def split_of(word: str) -> str | None:
    """A split by one of its names; None where it is empty.

    Raises:
        ValueError: There is no such split.
    """
    word = word.strip().lower()
    if word and word not in SPLIT_WORDS:
        raise ValueError(f"split must be train, validation or test. Received: {word!r}")
    return SPLIT_WORDS.get(word)


def number(value: Any, name: str) -> float:
    """A finite number, also one that is written as text.

    Raises:
        ValueError: It is none.
    """
    try:
        if isinstance(value, bool):
            raise ValueError
        found = float(value)
        if not math.isfinite(found):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}. Received: {_short(value)}") from None
    return found


def whole(value: Any) -> Any:
    """The value, and a whole number that was written as 1.0 as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def integer(value: Any, name: str) -> int:
    """A number of a frame, from 0 on, also one that is written as text.

    Raises:
        ValueError: It is none.
    """
    found = number(value, name)
    if found != int(found) or not 0 <= found < 2**53:
        raise ValueError(f"{name}. Received: {_short(value)}")
    return int(found)


def _short(value: Any) -> str:
    large = isinstance(value, int) and value.bit_length() > 64  # too many digits to be written
    shown = "a number of many digits" if large else repr(value)
    return shown if len(shown) <= 100 else f"{shown[:100]}…"


def _numbers(*values: float) -> str:
    return ", ".join(f"{value:g}" for value in values)
