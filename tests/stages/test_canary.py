"""The canary: well with a good decoder, and told where one alters what comes out."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import pytest
from PIL import Image

from vidpipe.media import AudioChunk, Decoder, Frame
from vidpipe.stages.canary import extraction_problems


class Altering(Decoder):
    """A decoder whose parts are altered, or left out, on their way."""

    def __init__(self, alter: Callable):
        super().__init__()
        self._alter = alter

    def decode(self, path, options):
        for part in super().decode(path, options):
            if (altered := self._alter(part)) is not None:
                yield altered


def test_a_good_decoder_has_no_problems_and_leaves_nothing_behind(tmp_path):
    with Decoder() as decoder:
        assert extraction_problems(tmp_path, decoder) == []
    assert list(tmp_path.iterdir()) == []


def drop_a_frame(part):
    return None if isinstance(part, Frame) and part.index == 3 else part


def shift_times(part):
    return dataclasses.replace(part, time_s=part.time_s + 0.01) if isinstance(part, Frame) else part


def darken(part):
    if not isinstance(part, Frame):
        return part
    with Image.open(io.BytesIO(part.jpeg)) as image:
        darker = image.point(lambda level: level - 5)
    content = io.BytesIO()
    darker.save(content, "JPEG", quality=95)
    return dataclasses.replace(part, jpeg=content.getvalue())


def make_larger(part):
    if not isinstance(part, Frame):
        return part
    with Image.open(io.BytesIO(part.jpeg)) as image:
        larger = image.resize((64, 64))
    content = io.BytesIO()
    larger.save(content, "JPEG", quality=95)
    return dataclasses.replace(part, jpeg=content.getvalue())


def play_faster(part):
    if not isinstance(part, AudioChunk):
        return part
    return dataclasses.replace(part, samples=part.samples[: len(part.samples) // 10 * 9])


def sound_higher(part):
    if not isinstance(part, AudioChunk):
        return part
    pairs = memoryview(part.samples).cast("h").tolist()[::2] * 2
    samples = b"".join(sample.to_bytes(2, "little", signed=True) for sample in pairs)
    return dataclasses.replace(part, samples=samples)


@pytest.mark.parametrize(
    ("alter", "problem"),
    [
        (drop_a_frame, "frames at"),
        (shift_times, "frames at"),
        (darken, "of grey"),
        (make_larger, "is (64, 64)"),
        (play_faster, "samples instead of"),
        (sound_higher, "a tone of 880 Hz"),
    ],
)
def test_a_decoder_that_alters_what_comes_out_is_told(tmp_path, alter, problem):
    with Altering(alter) as decoder:
        problems = extraction_problems(tmp_path, decoder)
    assert problem in problems[0]
