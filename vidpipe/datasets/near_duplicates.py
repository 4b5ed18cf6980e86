"""Near duplicates: videos that show the same, whatever was done to the file.

A frame is told by 64 bits, the DCT hash of C. Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions" (2010): of the picture as 32 × 32 shades of grey the lowest 8 × 8
coefficients of the discrete cosine transform, each above or below their median. Two further bytes
hold its colour, mean Cb and Cr, which neither coding nor size nor light change much: what moves
alike before plain backgrounds differs in nothing else. Black bars, beside all frames of a video,
are cut off. Frames that show next to nothing (black, fades, one colour) have no hash.

A video is in another when more than half of its frames with a hash are alike to frames of the
other, in the same order; two videos are near when one is in the other. So a part that is cut off
is no matter, nor is another number of frames a second. Mirrored, turned and grey copies are not
found, nor what was cropped by a tenth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
from PIL import Image

from vidpipe.datasets.clips import read_clips
from vidpipe.errors import BadInputError
from vidpipe.models.architectures import Sampling

METHOD = "dct-64 and colour of 8 frames, 1"  # another one when fingerprints come out otherwise
SAMPLING = Sampling(frames=8, height=64, width=64)
HASHED, BLOCK = 32, 8  # pixels of the side that is transformed; coefficients of it that count
BLACK = 24  # of 255: bars are not lighter, the noise of their coding included
# Of the middle coefficient's distance from the median; it adds this / 32 shades of 255 to a pixel.
FLAT = 1.0
# Of Cb and Cr, of 255. 19 of 20 copies (coded anew, small, cut, lighter, cropped) differ by 3 or
# less; of different clips that 8 bits cannot tell apart, most by 5 and more.
COLOUR = 4
NOTHING = "-"  # a frame without a hash

BATCH_VIDEOS = 1024  # read at a time: 100 MB of scratch
# Frames in a block of the comparison: 4 MB of intermediate values stay in the processor's cache.
BLOCK_ROWS, BLOCK_COLUMNS = 64, 8192
CHECKED = 16_384  # pairs of videos compared at a time

_FRAME = re.compile(r"[0-9a-f]{20}|-")
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as JPEG


def _transform() -> np.ndarray:
    """The first rows of the orthonormal DCT-II: `(BLOCK, HASHED)`."""
    moments = np.pi * (2 * np.arange(HASHED) + 1) / (2 * HASHED)
    rows = np.cos(np.arange(BLOCK)[:, None] * moments) * np.sqrt(2 / HASHED)
    rows[0] /= np.sqrt(2)
    return rows.astype(np.float32)


_DCT = _transform()


# === Fingerprints ===


def fingerprint(clip: np.ndarray) -> str:
    """What a video is told by: for each frame 16 hexadecimal digits of hash, 4 of colour, or `-`.

    Args:
        clip: uint8 `(frames, height, width, 3)`, frames spread evenly over the video.
    """
    grey = clip @ _GREY
    lightest = grey.max(axis=0)
    top, bottom = _lit(lightest, 1)
    left, right = _lit(lightest, 0)
    shown = np.s_[round(top) : round(bottom), round(left) : round(right)]
    words = []
    for frame, shades in zip(clip, grey, strict=True):
        picture = Image.fromarray(shades).resize(
            (HASHED, HASHED), Image.Resampling.BOX, box=(left, top, right, bottom)
        )
        coefficients = (_DCT @ np.asarray(picture) @ _DCT.T).ravel()
        # The first is the mean of the picture, and larger than all others together.
        median = np.median(coefficients[1:])
        if np.median(np.abs(coefficients[1:] - median)) < FLAT:
            words.append(NOTHING)
            continue
        red, _, blue = mean = frame[shown].mean(axis=(0, 1))
        light = mean @ _GREY
        colour = np.rint([128 + 0.564 * (blue - light), 128 + 0.713 * (red - light)])
        bits = np.packbits(coefficients > median).tobytes()
        words.append((bits + colour.clip(0, 255).astype(np.uint8).tobytes()).hex())
    return " ".join(words)


def _lit(lightest: np.ndarray, axis: int) -> tuple[float, float]:
    """The stretch of rows (axis 1) or columns (0) between black bars; all where all is black.

    A line in which a bar ends is as light as the share of it that is picture.
    """
    lines = np.quantile(lightest, 0.95, axis=axis)
    lit = np.flatnonzero(lines > BLACK)
    if lit.size < 2:
        return 0.0, float(len(lines))
    first, last = int(lit[0]), int(lit[-1])
    start = first + 1 - min(1.0, lines[first] / lines[first + 1]) if first else 0
    end = last + min(1.0, lines[last] / lines[last - 1]) if last < len(lines) - 1 else last + 1
    return float(start), float(end)


def read_fingerprints(
    frames: ds.Dataset,
    extractions: Mapping[str, str],
    folder: Path,
    progress: Callable[[int, int], None],
) -> dict[str, str]:
    """Fingerprints of videos, from the table `frames`, in bounded memory.

    Args:
        frames: The table `frames`.
        extractions: For each video the work key of the extraction whose frames are meant.
        folder: Where a temporary file may be.
        progress: Called with the number of videos done and of all.

    Returns:
        The fingerprint of each video that has frames.

    Raises:
        BadInputError: A frame is no JPEG.
    """
    found = {}
    # By their id, as the rows lie: each batch reads files' row groups of its own.
    video_ids = sorted(extractions)
    for start in range(0, len(video_ids), BATCH_VIDEOS):
        batch = video_ids[start : start + BATCH_VIDEOS]
        path = folder / f"looks-{start}.npy"
        clips = read_clips(frames, {v: extractions[v] for v in batch}, SAMPLING, path)
        for video_id, clip in zip(clips.video_ids, clips.array, strict=True):
            found[video_id] = fingerprint(clip)
        path.unlink(missing_ok=True)
        progress(start + len(batch), len(video_ids))
    return found


def is_blank(of_video: str) -> bool:
    """Whether no frame of a video has a hash, so that it is near to nothing."""
    return set(of_video.split()) <= {NOTHING}


def differing_bits(one: str, other: str) -> int:
    """By how many bits two videos differ: the fewest for which `find_near_pairs` may find them.

    Args:
        one: The fingerprint of a video that has a hash.
        other: That of the other.
    """
    hashes, _, (count, _) = _parse([one, other])
    differences = np.bitwise_count(hashes[:count, None] ^ hashes[None, count:])
    # Of more than half of the frames of one, each with the frame of the other that is nearest.
    return min(int(np.sort(of.min(axis=1))[len(of) // 2]) for of in (differences, differences.T))


# === Near pairs ===


@dataclass(frozen=True)
class NearPairs:
    """Videos that are near to each other; iterating yields pairs of ids, each once, in order.

    Attributes:
        video_ids: Videos with a hash, sorted.
        indexes: int32 `(pairs, 2)` into them.
    """

    video_ids: list[str]
    indexes: np.ndarray

    def __len__(self) -> int:
        return len(self.indexes)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for first, second in self.indexes.tolist():
            yield self.video_ids[first], self.video_ids[second]

    def among(self, videos: Container[str]) -> NearPairs:
        """The pairs of which both are among some videos."""
        chosen = np.array([video_id in videos for video_id in self.video_ids], bool)
        return NearPairs(self.video_ids, self.indexes[chosen[self.indexes].all(axis=1)])


def find_near_pairs(
    fingerprints: Mapping[str, str],
    bits: int,
    progress: Callable[[int, int], None] | None = None,
) -> NearPairs:
    """Finds all pairs of videos that are near; exact.

    Every frame is compared with every other: for f frames f² / 2 times XOR and population count, a
    block at a time, and 8 bytes of memory a pair that is found.

    Args:
        fingerprints: What `fingerprint` returned for each video.
        bits: Of 64 that may differ between two frames that are alike.
        progress: Called with the number of frames compared and of all.

    Raises:
        BadInputError: A fingerprint is none.
    """
    video_ids = sorted(v for v in fingerprints if not is_blank(fingerprints[v]))
    hashes, colours, counts = _parse([fingerprints[video_id] for video_id in video_ids])
    starts = np.concatenate([[0], np.cumsum(counts)])
    found = [np.empty((0, 2), np.int32)]
    waiting: list[np.ndarray] = []

    def check() -> None:
        pairs = np.concatenate(waiting)
        waiting.clear()
        for start in range(0, len(pairs), CHECKED):
            part = pairs[start : start + CHECKED]
            found.append(part[_are_near(part, hashes, colours, starts, bits)])

    for first, after in _blocks(starts, BLOCK_ROWS):
        rows = hashes[starts[first] : starts[after], None]
        for column, beyond in _blocks(starts, BLOCK_COLUMNS, first):
            columns = hashes[None, starts[column] : starts[beyond]]
            alike = np.bitwise_count(rows ^ columns) <= bits
            # All videos of a block, and no frames, where something is alike: as every frame is to
            # itself, always in the first.
            if not alike.any():
                continue
            near = np.logical_or.reduceat(alike, starts[first:after] - starts[first], axis=0)
            near = np.logical_or.reduceat(near, starts[column:beyond] - starts[column], axis=1)
            pairs = np.argwhere(near).astype(np.int32) + np.array([first, column], np.int32)
            waiting.append(pairs[pairs[:, 0] < pairs[:, 1]])
        if sum(map(len, waiting)) >= CHECKED:
            check()
        if progress:
            progress(int(starts[after]), len(hashes))
    if waiting:
        check()
    pairs = np.concatenate(found)
    return NearPairs(video_ids, pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))])


def _parse(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hash uint64 `(frames,)` and colour int16 `(frames, 2)` of all frames that have them, and how
    many of them each video has."""
    content, counts = [], []
    for text in texts:
        words = text.split()
        if not all(map(_FRAME.fullmatch, words)) or len(words) > SAMPLING.frames:
            raise BadInputError(f"This is no fingerprint of a video: {text[:200]!r}.")
        words = [word for word in words if word != NOTHING]
        content += words
        counts.append(len(words))
    whole = np.frombuffer(bytes.fromhex("".join(content)), np.uint8).reshape(-1, 10)
    hashes = np.ascontiguousarray(whole[:, :8]).view(np.uint64).ravel()
    return hashes, whole[:, 8:].astype(np.int16), np.array(counts, np.int64)


def _blocks(starts: np.ndarray, frames: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """Cuts videos, from the first on, into stretches of about so many frames."""
    videos = len(starts) - 1
    while first < videos:
        after = int(np.searchsorted(starts, starts[first] + frames, side="right")) - 1
        after = min(max(after, first + 1), videos)
        yield first, after
        first = after


def _are_near(
    pairs: np.ndarray, hashes: np.ndarray, colours: np.ndarray, starts: np.ndarray, bits: int
) -> np.ndarray:
    """Which of the pairs of videos, `(pairs, 2)`, are near: bool `(pairs,)`."""
    counts = np.diff(starts)
    longest = int(counts.max())
    # (pairs, 2, frames): videos with fewer frames repeat their last, which does not count.
    places = np.minimum(np.arange(longest), counts[pairs][..., None] - 1) + starts[pairs][..., None]
    counted = np.arange(longest) < counts[pairs][..., None]
    words, tints = hashes[places], colours[places]
    # (pairs, frames of the first, frames of the second).
    alike = np.bitwise_count(words[:, 0, :, None] ^ words[:, 1, None, :]) <= bits
    for channel in range(2):
        difference = tints[:, 0, :, None, channel] - tints[:, 1, None, :, channel]
        alike &= np.abs(difference) <= COLOUR
    alike &= counted[:, 0, :, None] & counted[:, 1, None, :]
    return (2 * _in_order(alike) > counts[pairs[:, 0]]) | (
        2 * _in_order(alike.transpose(0, 2, 1)) > counts[pairs[:, 1]]
    )


def _in_order(alike: np.ndarray) -> np.ndarray:
    """How many frames of the first, each once, are alike to frames of the second that do not go
    backwards.

    Args:
        alike: bool `(pairs, frames of the first, frames of the second)`.
    """
    # The most frames so far of which the last is alike to this frame of the second.
    most = np.zeros((len(alike), alike.shape[2]), np.int8)
    for frame in range(alike.shape[1]):
        before = np.maximum.accumulate(most, axis=1)
        most = np.where(alike[:, frame], before + 1, before)
    return most.max(axis=1)
