"""Sampling: which frames are kept; the same, whether or not what nobody needs is decoded."""

from __future__ import annotations

import io
import itertools
import math
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.media_files import make_ramp, number_of, run_ffmpeg
from vidpipe.errors import UsageError
from vidpipe.media import Decoder, ExtractOptions, Frame, Summary
from vidpipe.media.bitstream import PacketKinds
from vidpipe.media.options import DETECTORS, SAMPLINGS
from vidpipe.media.sampling import Grid

FRAMES = 100
FPS = 25

# Frames that nothing refers to, restarts with and without a key frame, codecs of one kind of frame.
CODINGS = {
    "h264": ("a.mp4", "-c:v libx264 -preset medium -g 30"),
    "h264, pyramid of B-frames": ("a.mp4", "-c:v libx264 -bf 8 -b_strategy 0 -b-pyramid normal"),
    "h264, open GOPs": ("a.mkv", "-c:v libx264 -g 12 -bf 3 -x264-params open-gop=1"),
    "h264 in TS": ("a.ts", "-c:v libx264 -preset medium -g 30"),
    "h264, refreshed piece by piece": ("a.mp4", "-c:v libx264 -g 30 -x264-params intra-refresh=1"),
    "h264, frames that are fields": ("a.mkv", "-c:v libx264 -flags +ildct+ilme -bf 2 -g 20"),
    "h264 in AVI": ("a.avi", "-c:v libx264 -bf 0 -g 20"),
    "hevc": ("a.mp4", "-c:v libx265 -preset fast -x265-params log-level=error:keyint=30"),
    "hevc, closed GOPs": (
        "a.mkv",
        "-c:v libx265 -preset fast -x265-params log-level=error:keyint=12:open-gop=0",
    ),
    "vp8": ("a.webm", "-c:v libvpx -deadline realtime -g 20 -auto-alt-ref 1 -lag-in-frames 10"),
    "vp9": ("a.webm", "-c:v libvpx-vp9 -deadline good -cpu-used 8 -g 20"),
    "av1": ("a.mkv", "-c:v libsvtav1 -preset 12 -g 20"),
    "mpeg2": ("a.ts", "-c:v mpeg2video -bf 2 -g 12 -q:v 2"),
    "mpeg4": ("a.avi", "-c:v mpeg4 -bf 2 -g 12 -q:v 2"),
    "mjpeg": ("a.avi", "-c:v mjpeg -pix_fmt yuvj420p -q:v 2"),
    "prores": ("a.mov", "-c:v prores -pix_fmt yuv422p10le"),
}


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as running:
        yield running


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    """A moving picture, in each coding."""
    made = {}
    for number, (name, (file, output)) in enumerate(CODINGS.items()):
        made[name] = tmp_path_factory.mktemp(f"clip{number}") / file
        moving = f"testsrc2=s=160x96:r={FPS}:d={FRAMES / FPS}"
        run_ffmpeg("-f", "lavfi", "-i", moving, "-pix_fmt", "yuv420p", *output.split(), made[name])
    return made


def frames_of(decoder: Decoder, path: Path, **options) -> list[Frame]:
    _, *frames, summary = decoder.decode(path, ExtractOptions(short_side=0, **options))
    assert isinstance(summary, Summary)
    assert (summary.decode_errors, summary.missing_frames) == (0, 0)
    return frames


def on_grid(frames: list[Frame], fps: float) -> list[Frame]:
    """The first frame at or after each moment n / fps, as the words have it."""
    kept = []
    for _, group in itertools.groupby(frames, lambda f: math.floor((f.time_s + 0.001) * fps)):
        kept.append(next(group))
    return kept


def shown(frames: list[Frame]) -> list[tuple]:
    return [(frame.time_s, frame.pts, frame.key_frame, frame.jpeg) for frame in frames]


@pytest.mark.parametrize("coding", CODINGS)
def test_what_is_kept_is_the_same_as_if_all_had_been_decoded(decoder, clips, coding):
    every = frames_of(decoder, clips[coding], sampling="all")
    assert [frame.time_s for frame in every] == pytest.approx([n / FPS for n in range(FRAMES)])
    for fps in (0.3, 2.0, 7.0, 24.0):
        assert shown(frames_of(decoder, clips[coding], fps=fps)) == shown(on_grid(every, fps))


@pytest.mark.parametrize("coding", CODINGS)
def test_keyframes_are_those_of_all_that_are_coded_by_themselves(decoder, clips, coding):
    every = frames_of(decoder, clips[coding], sampling="all")
    keys = frames_of(decoder, clips[coding], sampling="keyframes")
    assert shown(keys) == shown([frame for frame in every if frame.key_frame])
    assert keys


@pytest.mark.parametrize("coding", CODINGS)
def test_reference_frames_are_some_of_all_with_their_own_times(decoder, clips, coding):
    every = {frame.time_s: frame for frame in frames_of(decoder, clips[coding], sampling="all")}
    kept = frames_of(decoder, clips[coding], sampling="reference", fps=2.0)
    assert shown(kept) == shown([every[frame.time_s] for frame in kept])
    assert kept == [*on_grid(kept, 2.0)]
    assert len(kept) == FRAMES / FPS * 2


def test_reference_frames_leave_out_those_that_nothing_refers_to(decoder, clips):
    # I b b b b b b b P: the middle one of the eight is referred to, the others are not.
    kept = frames_of(
        decoder, clips["h264, pyramid of B-frames"], sampling="reference", fps=float(FPS)
    )
    assert len(kept) < FRAMES / 2


@pytest.mark.parametrize(
    ("coding", "share"),
    [
        ("h264, pyramid of B-frames", 0.6),
        ("hevc, closed GOPs", 0.8),
        ("mjpeg", 0.1),
        ("prores", 0.1),
    ],
)
def test_what_no_kept_frame_needs_is_not_decoded(clips, coding, share):
    with av.open(str(clips[coding])) as container:
        stream = container.streams.video[0]
        grid = Grid(1.0, PacketKinds(stream), references_only=False)
        decoded = [
            skip
            for packet in container.demux(stream)
            if packet.size
            for _, skip in grid.feed(packet, float(packet.pts * packet.time_base), False)
        ]
    assert len(decoded) <= share * FRAMES
    assert decoded.count("DEFAULT") >= FRAMES / FPS


def test_after_a_packet_without_a_time_all_is_decoded(clips):
    with av.open(str(clips["mjpeg"])) as container:
        stream = container.streams.video[0]
        grid = Grid(1.0, PacketKinds(stream), references_only=False)
        fed = [
            list(grid.feed(packet, None if number == 50 else number / FPS, False))
            for number, packet in enumerate(container.demux(stream))
            if packet.size
        ]
    assert all(fed[number] for number in range(50, FRAMES))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    gaps=st.lists(st.integers(1, 40), min_size=2, max_size=25),
    fps=st.floats(0.2, 60.0),
    coding=st.sampled_from(["-bf 0", "-bf 3 -b_strategy 0", "-bf 3 -g 4"]),
)
def test_any_spacing_of_frames_gives_the_first_of_each_moment(
    decoder, tmp_path_factory, gaps, fps, coding
):
    # Frames at the times that the gaps add up to, in hundredths of a second.
    numbers = list(itertools.accumulate(gaps, initial=0))
    times = "+".join(f"eq(N,{n})*{number}" for n, number in enumerate(numbers))
    clip = tmp_path_factory.mktemp("spaced") / "a.mp4"
    make_ramp(
        clip,
        *("-enc_time_base", "1/100", "-video_track_timescale", "100"),
        *coding.split(),
        frames=len(numbers),
        filters=f"settb=1/100,setpts='{times}'",
    )
    every = frames_of(decoder, clip, sampling="all")
    assert [round(frame.time_s * 100) for frame in every] == numbers
    assert shown(frames_of(decoder, clip, fps=fps)) == shown(on_grid(every, fps))


# Scenes


@pytest.fixture(scope="module")
def shots(tmp_path_factory) -> Path:
    """Shots of 2, 3 and 1 s, each of another colour, that get lighter frame by frame."""
    folder, parts = tmp_path_factory.mktemp("shots"), []
    for number, (colour, duration_s) in enumerate((("red", 2), ("green", 3), ("blue", 1))):
        parts.append(folder / f"{number}.ts")
        source = f"color={colour}:s=96x64:r=10:d={duration_s},noise=alls=3"
        run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "mpeg2video", "-q:v", "2", parts[-1])
    listed = "|".join(map(str, parts))
    run_ffmpeg("-i", f"concat:{listed}", "-c:v", "libx264", folder / "a.mp4")
    return folder / "a.mp4"


@pytest.mark.parametrize("detector", [d for d in DETECTORS if d != "threshold"])
def test_each_shot_yields_a_frame_from_its_middle(decoder, shots, detector):
    kept = frames_of(decoder, shots, sampling="scenes", detector=detector)
    assert [frame.time_s for frame in kept] == pytest.approx([1.0, 3.5, 5.5], abs=0.3)


def test_several_frames_of_a_shot_are_spread_over_it(decoder, shots):
    kept = frames_of(decoder, shots, sampling="scenes", frames_per_shot=2)
    expected = [0.5, 1.5, 2.75, 4.25, 5.25, 5.75]
    assert [frame.time_s for frame in kept] == pytest.approx(expected, abs=0.3)


def test_a_video_of_one_shot_yields_its_frame_and_a_short_shot_all_it_has(decoder, tmp_path):
    clip = make_ramp(tmp_path / "a.mp4", frames=3)
    kept = frames_of(decoder, clip, sampling="scenes", frames_per_shot=10)
    assert [number_of_frame(frame) for frame in kept] == [0, 1, 2]
    [frame] = frames_of(decoder, clip, sampling="scenes")
    assert frame.time_s == 0.1


def number_of_frame(frame: Frame) -> int:
    return number_of(float(np.asarray(Image.open(io.BytesIO(frame.jpeg)).convert("L")).mean()))


# Words


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sampling": "often"}, "sampling must be one of fps, reference"),
        ({"fit": "stretch"}, "fit must be one of crop, pad. Received: 'stretch'"),
        ({"width": 224}, "needs both width and height"),
        ({"fps": 0}, "fps must be from 0.001 to 1000. Received: 0"),
        ({"missing_frames": "guess"}, "missing_frames must be one of drop, repeat"),
        ({"max_missing_share": 1.5}, "max_missing_share must be from 0 to 1"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(options, told):
    with pytest.raises(UsageError, match=told):
        ExtractOptions(**options)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_label_of_a_sampling_tells_what_decides(sampling):
    assert ExtractOptions(sampling=sampling).label.startswith(sampling)
    assert ExtractOptions(sampling="fps", fps=2.5).label == "fps=2.5"
