"""The corpus: each of its files has the outcome that is right for it, by itself and among all."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.corpus import ROUNDING_S, Kind, Partly, Refused, Whole, kinds
from tests.media_files import decoders, number_of
from vidpipe.errors import MediaError
from vidpipe.media import AudioChunk, Decoder, ExtractOptions, Frame, Summary, VideoInfo
from vidpipe.reasons import REASONS

KINDS = {kind.name: kind for kind in kinds()}
EVERY_FRAME = ExtractOptions(sampling="all", short_side=0)


@pytest.fixture(scope="module")
def decoder():
    """One for all files, as in a stage."""
    with Decoder() as decoder:
        yield decoder
    assert not decoders()


def number(frame: Frame) -> int:
    """Which picture of the clip a frame shows: its middle tells."""
    with Image.open(io.BytesIO(frame.jpeg)) as image:
        grey = np.asarray(image.convert("L"), dtype=float)
    height, width = grey.shape
    return number_of(
        grey[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8].mean()
    )


@pytest.mark.parametrize("name", KINDS)
def test_a_file_has_the_outcome_that_is_right_for_it(corpus, decoder, name):
    expected = KINDS[name].expected
    try:
        info, *parts, summary = decoder.decode(corpus / name, EVERY_FRAME)
    except MediaError as error:
        assert error.reason in REASONS
        refused = expected.reason if isinstance(expected, Refused) else None
        assert error.reason in (refused, getattr(expected, "or_refused", None)), str(error)
        return
    assert not isinstance(expected, Refused), summary
    frames = [part for part in parts if isinstance(part, Frame)]
    assert [frame.index for frame in frames] == list(range(summary.frames))
    chunks = [part for part in parts if isinstance(part, AudioChunk)]
    assert len(frames) + len(chunks) == len(parts)
    if isinstance(expected, Whole):
        _check_whole(expected, info, frames, chunks, summary)
    else:
        _check_partly(expected, frames, summary)


def _check_whole(
    expected: Whole,
    info: VideoInfo,
    frames: list[Frame],
    chunks: list[AudioChunk],
    summary: Summary,
) -> None:
    assert [frame.time_s for frame in frames] == pytest.approx(expected.times_s, abs=ROUNDING_S)
    if expected.numbers is not None:
        assert tuple(map(number, frames)) == expected.numbers
    assert (info.width, info.height) == expected.size
    assert {(frame.width, frame.height) for frame in frames} == {expected.size}
    assert info.rotation_deg == expected.rotation_deg
    assert summary.audio_s == pytest.approx(expected.sound_s, abs=0.1)
    assert bool(info.audio_codec) == bool(chunks) == bool(expected.sound_s)
    assert not any(frame.damaged or frame.imputed_by for frame in frames)
    assert (summary.decode_errors, summary.missing_frames, summary.told) == (0, 0, None)
    assert summary.missing_audio_s < 0.1
    assert not summary.truncated


def _check_partly(expected: Partly, frames: list[Frame], summary: Summary) -> None:
    low, high = expected.frames
    assert low <= len(frames) <= high
    assert summary.truncated == expected.truncated
    if expected.told:
        assert summary.decode_errors or summary.missing_frames or summary.told
    times_s = [frame.time_s for frame in frames]
    assert times_s == sorted(times_s)


def test_the_whole_corpus_at_once_has_an_outcome_for_each_file(corpus, tmp_path):
    command = (sys.executable, "-m", "vidpipe", "extract", corpus, "--output", tmp_path / "out")
    options = ("--sampling", "all", "--short-side", "0")
    with subprocess.Popen([*command, *options], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        seen = set()
        while process.poll() is None:
            seen |= {*psutil.Process(process.pid).children(recursive=True)}
            try:
                _, told = process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
    assert process.returncode == 0, told.decode()
    assert seen and not psutil.wait_procs(seen, timeout=30)[1]
    rows = pq.read_table(tmp_path / "out" / "outcomes").to_pylist()
    outcomes = {os.path.basename(row["item"]): row for row in rows}
    assert len(outcomes) == len(rows)
    assert outcomes.keys() == KINDS.keys()
    wrong = {
        name: (row["status"], row["reason"], row["message"])
        for name, row in outcomes.items()
        if (row["status"], row["reason"]) not in _outcomes_of(KINDS[name])
    }
    assert not wrong
    videos = pq.read_table(tmp_path / "out" / "videos").num_rows
    assert videos == sum(row["status"] == "done" for row in rows)


def _outcomes_of(kind: Kind) -> list[tuple[str, str | None]]:
    """The statuses and reasons that are right."""
    match kind.expected:
        case Refused(reason):
            return [(REASONS[reason], reason)]
        case Partly(or_refused=reason) if reason:
            return [("done", None), (REASONS[reason], reason)]
    return [("done", None)]


def test_the_script_makes_the_corpus(corpus):
    assert {path.name for path in Path(corpus).iterdir()} == KINDS.keys()
    assert len(KINDS) >= 300
