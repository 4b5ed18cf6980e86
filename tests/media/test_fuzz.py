"""Good files, damaged at random: whatever comes of one, it is an outcome, and it is consistent."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.corpus import make_corpus
from tests.media_files import decoders
from vidpipe.errors import MediaError
from vidpipe.media import AudioChunk, Decoder, ExtractOptions, Frame, Summary, VideoInfo
from vidpipe.media.options import DETECTORS, MISSING_AUDIO, MISSING_FRAMES, SAMPLINGS
from vidpipe.reasons import REASONS

SOURCES = (
    *("h264.mp4", "fragmented.mp4", "hevc.mp4", "av1.mp4", "prores.mov", "animation_alpha.mov"),
    *("turned_90.mp4", "edited.mp4", "h264.mkv", "vp9.webm", "h264_10_bit.mkv", "ffv1.nut"),
    *("xvid.avi", "h264_reordered.avi", "mjpeg.avi", "h264.flv", "mpeg2.mpg", "dvd.vob"),
    *("h264.ts", "hevc.ts", "clock_jumps_ahead.ts", "wmv2.wmv", "theora.ogv", "mpeg2.mxf"),
    *("rv20.rm", "vp8.ivf", "animation.gif", "h264.264", "mpeg2.m2v", "animation.avif"),
)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)
HEADER_BYTES = 2048
# Of what is 96 pixels wide as long as no header is damaged, on a machine that does other things.
RESIDENT_BYTES = 1 << 30


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """The good files."""
    folder = tmp_path_factory.mktemp("sources")
    make_corpus(folder, SOURCES)
    return folder


class Memory(threading.Thread):
    """Watches how much memory the programs that decode hold.

    Attributes:
        peak_bytes: The most of one of them.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._ended = threading.Event()

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_exc_info) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Looks again and again."""
        while not self._ended.wait(0.02):
            for child in _children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.peak_bytes = max(self.peak_bytes, child.memory_info().rss)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content with one to four wounds."""
    content = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content) + 1)
        run = slice(start, start + chance.randint(1, max(1, len(content) // 8)))
        match chance.randrange(9):
            case 0:
                for at in (
                    chance.randrange(len(content) * 8) for _ in range(chance.randint(1, 40))
                ):
                    content[at // 8] ^= 1 << at % 8
            case 1:
                content[run] = bytes(len(content[run]))
            case 2:
                content[run] = chance.randbytes(len(content[run]))
            case 3:
                del content[max(1, start) :]
            case 4:
                del content[run]
            case 5:
                content[start:start] = content[run]
            case 6:
                other = chance.randrange(len(content) + 1)
                moved = content[run]
                del content[run]
                content[other:other] = moved
            case 7 | 8:
                size = chance.choice((1, 2, 4, 8))
                value = chance.choice(EXTREMES) & 2 ** (8 * size) - 1
                at = chance.randrange(min(len(content), HEADER_BYTES))
                content[at : at + size] = value.to_bytes(size, chance.choice(("big", "little")))
        if not content:
            break
    return bytes(content)


def options_of(chance: random.Random) -> ExtractOptions:
    """Any way to extract."""
    exact = chance.random() < 0.2
    return ExtractOptions(
        sampling=chance.choice([*SAMPLINGS]),
        fps=chance.choice((0.5, 2.0, 10.0, 60.0)),
        short_side=chance.choice((0, 32, 224)),
        width=48 if exact else 0,
        height=48 if exact else 0,
        fit=chance.choice(("crop", "pad")),
        detector=chance.choice([*DETECTORS]),
        frames_per_shot=chance.choice((1, 3)),
        missing_frames=chance.choice([*MISSING_FRAMES]),
        missing_audio=chance.choice([*MISSING_AUDIO]),
        max_missing_share=chance.choice((0.2, 1.0)),
    )


def complaints(parts: list, options: ExtractOptions) -> Iterator[str]:
    """What is inconsistent about all that came of a video."""
    info, *between, summary = parts
    if not isinstance(info, VideoInfo) or not isinstance(summary, Summary):
        yield f"it began with {info} and ended with {summary}"
        return
    frames = [part for part in between if isinstance(part, Frame)]
    chunks = [part for part in between if isinstance(part, AudioChunk)]
    if len(frames) + len(chunks) != len(between):
        yield "there are parts of no kind"
    yield from _complaints_of_frames(frames)
    yield from _complaints_of_sound(chunks, options)
    told = [info.width, info.height, info.duration_s, summary.audio_s, summary.missing_audio_s]
    told += [summary.duration_s, summary.fps or 0, summary.frame_count]
    if not all(math.isfinite(number) and number >= 0 for number in told):
        yield f"no numbers: {told}"
    if info.rotation_deg not in (0, 90, 180, 270):
        yield f"turned by {info.rotation_deg}"
    good = sum(frame.imputed_by is None for frame in frames)
    made = summary.repeated_frames + summary.interpolated_frames
    if summary.frames != len(frames) or len(frames) != good + made or not good:
        yield f"{len(frames)} frames, {good} of them good, do not go with {summary}"
    if summary.missing_frames != summary.dropped_frames + made:
        yield f"the missing frames do not add up: {summary}"
    sound_s = sum(chunk.end_s - chunk.start_s for chunk in chunks)
    if abs(summary.audio_s - sound_s) > 1e-3:
        yield f"{sound_s} s of sound do not go with {summary}"
    if summary.missing_frames / (summary.missing_frames + good) > options.max_missing_share:
        yield f"too much is missing: {summary}"


def _complaints_of_frames(frames: list[Frame]) -> Iterator[str]:
    if [frame.index for frame in frames] != list(range(len(frames))):
        yield "the frames are not numbered one by one"
    times_s = [frame.time_s for frame in frames]
    if not all(map(math.isfinite, times_s)) or times_s != sorted(times_s):
        yield f"the times are not in order: {times_s}"
    if len({(frame.width, frame.height) for frame in frames}) > 1:
        yield "the frames are of several sizes"
    for frame in frames:
        with Image.open(io.BytesIO(frame.jpeg)) as image:
            image.load()
            if image.format != "JPEG" or image.size != (frame.width, frame.height):
                yield f"frame {frame.index} is {image.format} of {image.size}"


def _complaints_of_sound(chunks: list[AudioChunk], options: ExtractOptions) -> Iterator[str]:
    for chunk in chunks:
        if len(chunk.samples) != 2 * round((chunk.end_s - chunk.start_s) * 16_000) > 0:
            yield f"{len(chunk.samples)} bytes of sound from {chunk.start_s} to {chunk.end_s}"
    for before, after in itertools.pairwise(chunks):
        gap_s = after.start_s - before.end_s
        if gap_s < 0 or (gap_s > 0 and options.missing_audio == "silence"):
            yield f"sound from {before.end_s} is followed by sound from {after.start_s}"


def _children() -> list[psutil.Process]:
    """The programs that are at a video now."""
    found = []
    for worker in decoders():
        with contextlib.suppress(psutil.NoSuchProcess):
            found += worker.children()
    return found


def _problems(decoder: Decoder, path: Path, options: ExtractOptions) -> Iterator[str]:
    try:
        yield from complaints(list(decoder.decode(path, options)), options)
    except MediaError as error:
        # A defect of ours is put down to the file, too: here it is not to be.
        ours = error.reason in ("timed_out", "decoder_failed")
        if ours or REASONS[error.reason] != "quarantined":
            yield f"{error.reason}: {error}"
    if len(_children()) > 1:  # the one that has just told the outcome may still be ending
        yield f"it left a process behind: {_children()}"


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(100), id="100"),
        pytest.param(range(100, 2000), id="2000", marks=pytest.mark.slow),
    ],
)
def test_a_file_damaged_at_random_has_an_outcome(sources, tmp_path, seeds):
    problems = []
    with Memory() as memory, Decoder() as decoder:
        for seed in seeds:
            chance = random.Random(seed)
            source = sources / SOURCES[seed % len(SOURCES)]
            path = tmp_path / f"{seed}{source.suffix}"
            path.write_bytes(damaged(source.read_bytes(), chance))
            options = options_of(chance)
            found = list(_problems(decoder, path, options))
            problems += [f"{path}, of {source.name}, {options}: {one}" for one in found]
            if not found:
                path.unlink()
    assert not problems, "\n".join(problems)
    assert memory.peak_bytes < RESIDENT_BYTES
    assert not decoders()
