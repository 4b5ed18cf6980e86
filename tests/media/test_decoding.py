"""decode: frames at their own times, sound beside them, and no way out of the file."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import itertools
import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from tests.decoded import EVERY_FRAME, Decoded, picture, pitch_hz, reason_of
from tests.media_files import (
    cut,
    damage,
    decoders,
    make_clip,
    make_ramp,
    run_ffmpeg,
)
from vidpipe.errors import MediaError
from vidpipe.media import (
    ExtractOptions,
    decode,
    ffmpeg_path,
    probe,
)
from vidpipe.media.clock import FrameTimes
from vidpipe.media.missing import Expected
from vidpipe.media.options import MISSING_FRAMES

# Times


def test_frames_have_the_times_at_which_they_are_shown(tmp_path):
    decoded = Decoded(make_ramp(tmp_path / "a.mp4", "-bf", "2", "-preset", "medium", frames=20))
    assert decoded.numbers == list(range(20))
    assert decoded.times_s == [n / 10 for n in range(20)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_frames_of_a_variable_rate_keep_their_own_times(tmp_path, name):
    kept = [0, 1, 2, 7, 9, 10, 19]
    chosen = "select='" + "+".join(f"eq(n,{n})" for n in kept) + "'"
    decoded = Decoded(make_ramp(tmp_path / name, filters=chosen))
    assert decoded.numbers == kept
    assert decoded.times_s == [n / 10 for n in kept]


def test_frames_that_come_in_bursts_are_all_kept(tmp_path):
    burst = "settb=1/1000,setpts='1000*floor(N/2)+3*mod(N,2)'"
    clip = make_ramp(tmp_path / "a.mkv", "-enc_time_base", "1/1000", frames=6, filters=burst)
    assert Decoded(clip).times_s == [0.0, 0.003, 1.0, 1.003, 2.0, 2.003]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_times_count_from_the_start_of_the_container(tmp_path, name):
    plain = make_ramp(tmp_path / "plain.mkv")
    run_ffmpeg("-itsoffset", "7", "-i", plain, "-c", "copy", "-copyts", tmp_path / name)
    assert Decoded(tmp_path / name).times_s == [n / 10 for n in range(20)]


def test_a_picture_that_starts_after_the_sound_keeps_its_distance_from_it(tmp_path):
    ramp, sound, clip = make_ramp(tmp_path / "v.mkv"), tmp_path / "a.wav", tmp_path / "a.mkv"
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=2", sound)
    run_ffmpeg("-itsoffset", "0.5", "-i", ramp, "-i", sound, "-c", "copy", clip)
    decoded = Decoded(clip)
    assert decoded.times_s == [0.5 + n / 10 for n in range(20)]
    assert decoded.summary.audio_s == pytest.approx(2.0, abs=0.01)


def test_pts_are_in_the_time_base_of_the_stream(tmp_path):
    clip = make_ramp(tmp_path / "a.mp4", "-video_track_timescale", "12800")
    assert [frame.pts for frame in Decoded(clip).frames] == [n * 1280 for n in range(20)]


def test_key_frames_are_told_from_others(tmp_path):
    clip = make_ramp(tmp_path / "a.mp4", "-g", "8", "-keyint_min", "8", "-sc_threshold", "0")
    keys = [frame.index for frame in Decoded(clip).frames if frame.key_frame]
    assert keys == [0, 8, 16]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory) -> Path:
    """A clip with gaps, of 30 frames a second."""
    clip = tmp_path_factory.mktemp("uneven") / "a.mkv"
    return make_ramp(clip, frames=25, fps=30, filters="select='lt(n,10)+eq(n,17)+gt(n,20)'")


@pytest.mark.parametrize("fps", [0.5, 2.0, 7.5, 12.5, 30.0, 60.0])
def test_the_first_frame_at_or_after_each_moment_of_the_grid_is_kept(uneven, fps):
    every_s = Decoded(uneven).times_s
    assert len(every_s) == 15
    moments_s = [n / fps for n in range(int(fps) + 2)]
    # Matroska rounds to the millisecond.
    expected_s = {next((t for t in every_s if t >= m - 0.0005), None) for m in moments_s}
    kept = Decoded(uneven, ExtractOptions(fps=fps, short_side=0, jpeg_quality=90))
    assert kept.times_s == sorted(expected_s - {None})


# Pictures


@pytest.mark.parametrize(
    ("size", "filters", "short_side", "expected"),
    [
        ("320x180", "null", 90, (160, 90)),
        ("180x320", "null", 90, (90, 160)),
        ("320x180", "null", 0, (320, 180)),
        ("320x180", "null", 180, (320, 180)),
        ("320x180", "null", 500, (320, 180)),  # never enlarged
        ("161x121", "null", 0, (161, 121)),
        ("2x2", "null", 224, (2, 2)),
        ("96x64", "setsar=4/3", 0, (128, 64)),  # square pixels
        ("96x64", "setsar=1/2", 32, (32, 43)),
    ],
)
def test_the_short_side_is_cut_down(tmp_path, size, filters, short_side, expected):
    output = ("-vf", filters, "-pix_fmt", "yuv444p", "-frames:v", "1")
    clip = make_clip(tmp_path / "a.mp4", *output, size=size, tone_hz=None)
    [frame] = Decoded(clip, ExtractOptions(1, short_side, 90)).frames
    assert (frame.width, frame.height) == expected
    assert picture(frame).shape == (*expected[::-1], 3)
    if not short_side:
        info = probe(clip)
        assert (info.width, info.height) == expected


# Four quarters: red, green over blue, white.
QUARTERS = (
    "color=red:s={w}x{h}[a];color=lime:s={w}x{h}[b];color=blue:s={w}x{h}[c];color=white:s={w}x{h}[d];"
    "[a][b]hstack[e];[c][d]hstack[f];[e][f]vstack,trim=end_frame=5"
)


def colours(pixels: np.ndarray) -> list[str]:
    """What the corners of a picture show."""
    names = {(1, 0, 0): "red", (0, 1, 0): "lime", (0, 0, 1): "blue", (1, 1, 1): "white"}
    height, width = pixels.shape[:2]
    corners = [(y, x) for y in (1, height - 2) for x in (1, width - 2)]
    return [names.get(tuple(np.rint(pixels[at] / 255).astype(int)), "black") for at in corners]


@pytest.mark.parametrize("turned_deg", [0, 90])
@pytest.mark.parametrize(
    ("size", "exact", "fit", "shown"),
    [
        ((64, 32), (48, 48), "crop", ["red", "lime", "blue", "white"]),
        ((64, 32), (48, 48), "pad", ["black"] * 4),
        ((32, 64), (48, 48), "crop", ["red", "lime", "blue", "white"]),
        ((32, 64), (48, 48), "pad", ["black"] * 4),
        ((64, 32), (33, 17), "crop", ["red", "lime", "blue", "white"]),
        ((64, 32), (256, 128), "pad", ["red", "lime", "blue", "white"]),
        ((64, 32), (1, 1), "crop", None),
        ((64, 32), (2, 300), "crop", None),
        ((64, 32), (300, 2), "pad", None),
    ],
)
def test_an_exact_size_is_cut_or_padded_to(tmp_path, size, exact, fit, shown, turned_deg):
    plain, clip = tmp_path / "plain.mp4", tmp_path / "a.mp4"
    source = QUARTERS.format(w=size[0] // 2, h=size[1] // 2)
    run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-qp", "1", plain)
    run_ffmpeg("-display_rotation", -turned_deg, "-i", plain, "-c", "copy", clip)
    width, height = exact if turned_deg == 0 else exact[::-1]
    options = ExtractOptions(1, 0, 100, width=width, height=height, fit=fit)
    [frame] = Decoded(clip, options).frames
    assert (frame.width, frame.height) == (width, height)
    found = picture(frame)
    if shown:
        # Turned clockwise, the corner below on the left comes up.
        turned = [shown[n] for n in (2, 0, 3, 1)] if turned_deg else shown
        assert colours(found) == turned
    if shown == ["black"] * 4:
        # The whole of it is there, in its shape, in the middle.
        rows, columns = np.nonzero(found.max(axis=2) > 60)
        seen = (columns.max() - columns.min() + 1, rows.max() - rows.min() + 1)
        ratio = 48 / max(size)
        expected = tuple(side * ratio for side in (size[::-1] if turned_deg else size))
        assert seen == pytest.approx(expected, abs=2)
        assert [columns.min() + columns.max(), rows.min() + rows.max()] == pytest.approx(
            [47, 47], abs=2
        )


@pytest.mark.parametrize(
    ("how", "turn"),
    [
        ("-display_rotation -90", lambda stored: np.rot90(stored, -1)),
        ("-display_rotation 180", lambda stored: np.rot90(stored, 2)),
        ("-display_rotation 90", np.rot90),
        ("-display_rotation 10", lambda stored: stored),  # to the nearest quarter
        ("-display_hflip", np.fliplr),
        ("-display_vflip", np.flipud),
        ("-display_rotation 90 -display_hflip", lambda stored: np.fliplr(np.rot90(stored))),
    ],
)
def test_a_picture_is_turned_as_players_turn_it(tmp_path, how, turn):
    plain, turned = make_clip(tmp_path / "plain.mp4", tone_hz=None), tmp_path / "turned.mp4"
    run_ffmpeg(*how.split(), "-i", plain, "-c", "copy", turned)
    expected = turn(picture(Decoded(plain).frames[0]))
    found = picture(Decoded(turned).frames[0])
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 6


@pytest.mark.parametrize(
    "output",
    [
        "-pix_fmt yuv420p",
        "-pix_fmt yuv444p",
        "-pix_fmt yuv420p10le",
        "-pix_fmt yuvj420p -color_range pc",
        "-c:v libx264rgb",
        "-c:v ffv1 -pix_fmt bgr0",
    ],
)
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_jpegs_show_the_colours_of_the_source(tmp_path, output, matrix):
    # 0 is black, 255 white; a wrong range or matrix is off by 8 and more.
    red, green, blue = 40, 180, 60
    source = f"color=0x{red:02x}{green:02x}{blue:02x}:s=64x64:d=0.1:r=10,format=gbrp"
    to_yuv = f"scale=out_color_matrix={matrix}:out_range=tv"
    if "rgb" in output or "bgr" in output:
        to_yuv, tags = "null", ()
    else:
        tags = ("-colorspace", matrix)
        if "pc" in output:
            to_yuv = to_yuv.replace("tv", "pc")
    clip = tmp_path / "a.mkv"
    coded = ("-c:v", "libx264", "-qp", "1", *output.split(), *tags)
    run_ffmpeg("-f", "lavfi", "-i", source, "-vf", to_yuv, *coded, clip)
    found = picture(Decoded(clip).frames[0]).mean(axis=(0, 1))
    assert np.abs(found - [red, green, blue]).max() < 4


def test_jpegs_match_the_source_picture(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", size="192x128", tone_hz=None)
    source = ["-f", "lavfi", "-i", "testsrc=s=192x128:r=10:d=1"]
    raw = subprocess.run(
        [ffmpeg_path(), *source, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    ).stdout
    pictures = np.frombuffer(raw, np.uint8).reshape(10, 128, 192, 3)
    decoded = Decoded(clip)
    assert len(decoded.frames) == 10
    for frame, expected in zip(decoded.frames, pictures, strict=True):
        # Half the resolution of colour costs some at the edges.
        assert np.abs(picture(frame) - expected).mean() < 6


def test_a_lower_quality_makes_smaller_files(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", tone_hz=None)
    sizes = [
        sum(len(frame.jpeg) for frame in Decoded(clip, ExtractOptions(10, 0, quality)).frames)
        for quality in (100, 60, 20, 1)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


JPEGS_OF = """
import hashlib, sys
from vidpipe.media import ExtractOptions, Frame
from vidpipe.media.reading import read

options = ExtractOptions(
    sampling="all", short_side=61, missing_frames="repeat", max_missing_share=1.0
)
jpegs = [part.jpeg for part in read(sys.argv[1], options) if isinstance(part, Frame)]
print(len(jpegs), hashlib.sha256(b"".join(jpegs)).hexdigest())
"""


@pytest.mark.parametrize("size", ["81x61", "163x122", "61x108"])
def test_jpegs_do_not_depend_on_what_lay_in_memory(tmp_path, size):
    output = ("-pix_fmt", "yuv444p", "-g", "10")
    whole = make_clip(tmp_path / "whole.mp4", *output, size=size, duration_s=2.0, tone_hz=None)
    for path in (whole, damage(whole, tmp_path / "damaged.mp4")):
        printed = {
            subprocess.run(
                [sys.executable, "-c", JPEGS_OF, path],
                env=os.environ | {"MALLOC_PERTURB_": filling},  # glibc fills what it hands out
                capture_output=True,
                check=True,
            ).stdout
            for filling in ("1", "85", "170")
        }
        assert len(printed) == 1


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("a.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus"),
        ("a.mpg", "-c:v mpeg2video -r 25 -c:a mp2"),
        ("a.mov", "-c:v prores -pix_fmt yuv422p10le -c:a pcm_s16le"),
        ("a.avi", "-c:v mjpeg -pix_fmt yuvj420p -strict unofficial -c:a pcm_s16le"),
        ("a.mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=error"),
        ("a.mkv", "-c:v libsvtav1 -preset 12 -c:a flac"),
        ("a.mp4", "-movflags frag_keyframe+empty_moov"),
    ],
)
def test_whole_videos_of_all_kinds_decode_without_a_complaint(tmp_path, name, output):
    decoded = Decoded(make_clip(tmp_path / name, *output.split(), fps=25))
    assert decoded.summary.frames == 25
    assert decoded.summary.audio_s == pytest.approx(1.0, abs=0.1)
    assert decoded.summary.decode_errors == 0


def test_a_video_whose_size_changes_midway_keeps_that_of_the_start(tmp_path):
    mpeg2 = ("-c:v", "mpeg2video", "-r", "25", "-c:a", "mp2")
    one = make_clip(tmp_path / "1.ts", *mpeg2, fps=25, duration_s=2.0)
    shift = ("-output_ts_offset", "2")
    two = make_clip(tmp_path / "2.ts", *mpeg2, *shift, size="64x96", fps=25, duration_s=2.0)
    (tmp_path / "a.ts").write_bytes(one.read_bytes() + two.read_bytes())
    decoded = Decoded(tmp_path / "a.ts")
    assert {picture(frame).shape for frame in decoded.frames} == {(64, 96, 3)}
    assert decoded.summary.frames >= 99
    # The sound goes on as if nothing had been.
    assert decoded.summary.audio_s == pytest.approx(4.0, abs=0.1)
    larger = make_clip(tmp_path / "3.ts", *mpeg2, *shift, size="192x96", fps=25, duration_s=2.0)
    (tmp_path / "b.ts").write_bytes(one.read_bytes() + larger.read_bytes())
    with pytest.raises(MediaError, match="192×96 are too many") as caught:
        Decoded(tmp_path / "b.ts", dataclasses.replace(EVERY_FRAME, max_pixels=10_000))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        # One is far off, for its container is damaged: ahead, behind, the last.
        ([0, 1, 2, 70, 4, 5, 80, 81], [0, 1, 2, 3, 4, 5, 80, 81]),
        ([20, 21, 5, 23, 24], [20, 21, 22, 23, 24]),
        ([0, 1, 90], [0, 1, 90]),
        # Several are, or the clock begins anew: what comes then goes on from there.
        ([0, 1, 80, 81, 82, 5, 6, 7], [0, 1, 80, 81, 82, 83, 84, 85]),
        ([50, 51, 0, 1, 2], [50, 51, 52, 53, 54]),
        # Long pauses are none of that.
        ([0, 60, 120, 121], [0, 60, 120, 121]),
        # Rounded times may be equal, or one too low.
        ([0, 1, 1, 2, 4, 3, 5], [0, 1, 1, 2, 4, 4, 5]),
    ],
)
def test_times_that_are_out_of_order_lose_no_frame(told, expected):
    times = FrameTimes(Fraction(1, 20), Fraction(20))
    frames = [SimpleNamespace(pts=t, dts=t, duration=0) for t in told]
    shown = [one for frame in frames for one in times.add(frame)] + list(times.end())
    assert [frame for frame, _, _ in shown] == frames
    assert [time for _, time, _ in shown] == expected


def _with_wrong_times(source: Path, target: Path, wrong: range, by_s: float) -> Path:
    """Copies a video; the times of some of its packets are shifted."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(read.demux(read.streams.video[0])):
            if not packet.size:
                continue
            if number in wrong:
                packet.pts += round(by_s / packet.time_base)
            packet.stream = stream
            written.mux(packet)
    return target


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "flv"])
def test_wrong_times_of_packets_lose_nothing_after_them(tmp_path, container):
    clip = make_clip(tmp_path / "a.mp4", "-bf", "2", fps=25, duration_s=20, tone_hz=None)
    right = _with_wrong_times(clip, tmp_path / f"right.{container}", range(0), 0)
    whole = Decoded(right, ExtractOptions(fps=2))
    assert len(whole.frames) == 40
    one = _with_wrong_times(clip, tmp_path / f"one.{container}", range(203, 204), 10)
    decoded = Decoded(one, ExtractOptions(fps=2))
    assert decoded.times_s == pytest.approx(whole.times_s, abs=0.1)
    assert "not in order" in decoded.summary.told
    assert whole.summary.told is None
    # It may be that the clock was set: it goes on from there.
    several = _with_wrong_times(clip, tmp_path / f"several.{container}", range(203, 209), 10)
    decoded = Decoded(several, dataclasses.replace(EVERY_FRAME, fps=2))
    assert decoded.summary.frames == 500
    apart_s = np.diff(decoded.times_s)
    assert apart_s.min() >= 0 and sorted(apart_s)[-2] < 0.3
    decoded = Decoded(several, ExtractOptions(fps=2))
    assert 39 <= decoded.summary.frames <= 42


def test_a_gap_without_end_is_damage_and_takes_no_memory():
    expected = Expected(lambda start_s, end_s: itertools.count())
    expected.missing_before(0.0)
    expected.spoil(0.0, lost=True)
    with pytest.raises(MediaError) as caught:
        expected.missing_before(1.0)
    assert caught.value.reason == "damaged"


def test_what_is_lost_between_packets_is_counted(tmp_path):
    # 10 of 188 bytes' packets each hold a part of a frame; a key frame every 5.
    whole = make_clip(tmp_path / "a.ts", "-g", "5", duration_s=4.0, tone_hz=None).read_bytes()
    half = len(whole) // 188 // 2 * 188
    (tmp_path / "b.ts").write_bytes(whole[:half] + whole[half + 188 * 20 :])
    summary = Decoded(tmp_path / "b.ts", Leniently()).summary
    assert summary.missing_frames > 0
    assert summary.frames + summary.missing_frames == 40


# Sound


@pytest.mark.parametrize(
    "output",
    [
        "-c:a aac",
        "-c:a aac -ac 2 -ar 48000",
        "-c:a pcm_alaw -ar 8000",
        "-c:a ac3 -ac 6",
        "-c:a libopus",
        "-c:a pcm_f32le -ar 96000",
    ],
)
def test_sound_is_16_khz_of_the_right_length_and_pitch(tmp_path, output):
    decoded = Decoded(make_clip(tmp_path / "a.mkv", *output.split(), duration_s=2.0, tone_hz=600))
    assert len(decoded.samples) / 16_000 == pytest.approx(2.0, abs=0.05)
    assert decoded.summary.audio_s == decoded.chunks[-1].end_s == len(decoded.samples) / 16_000
    assert pitch_hz(decoded.samples) == pytest.approx(600, abs=2)


def test_sound_comes_in_chunks_that_follow_each_other(tmp_path):
    chunks = Decoded(make_clip(tmp_path / "a.mp4", fps=1, duration_s=65)).chunks
    assert [round(chunk.end_s - chunk.start_s) for chunk in chunks] == [30, 30, 5]
    assert [chunk.start_s for chunk in chunks] == [0.0, 30.0, 60.0]
    for chunk in chunks:
        assert len(chunk.samples) == round((chunk.end_s - chunk.start_s) * 16_000) * 2


def test_sound_that_starts_late_or_has_gaps_stays_where_it_belongs(tmp_path):
    ramp, sound, clip = make_ramp(tmp_path / "v.mkv"), tmp_path / "a.mkv", tmp_path / "c.mkv"
    # 0.5 s to 1 s and 1.5 s to 2 s
    beeps = "sine=d=2:r=16000,asetnsamples=800,aselect='between(mod(t,1),0.499,0.999)'"
    run_ffmpeg("-f", "lavfi", "-i", beeps, "-c:a", "pcm_s16le", "-copyts", sound)
    run_ffmpeg("-i", ramp, "-copyts", "-i", sound, "-map", "0", "-map", "1", "-c", "copy", clip)
    decoded = Decoded(clip)
    assert decoded.times_s[0] == 0.0
    loud = [np.abs(decoded.samples[s * 1600 : (s + 1) * 1600]).max() > 0.05 for s in range(20)]
    assert loud == [False] * 5 + [True] * 5 + [False] * 5 + [True] * 5
    spans = [(round(c.start_s, 2), round(c.end_s, 2), c.imputed_by) for c in decoded.chunks]
    silent = [(0.0, 0.5, "silence"), (1.0, 1.5, "silence")]
    heard = [(0.5, 1.0, None), (1.5, 2.0, None)]
    assert spans == sorted(silent + heard)
    assert decoded.summary.missing_audio_s == pytest.approx(1.0, abs=0.01)
    # Or the gaps are left.
    dropped = Decoded(clip, ExtractOptions(1, 0, 90, missing_audio="drop"))
    assert [(round(c.start_s, 2), round(c.end_s, 2), None) for c in dropped.chunks] == heard
    assert dropped.chunks[0].samples == decoded.chunks[1].samples
    assert dropped.summary.audio_s == pytest.approx(1.0, abs=0.01)
    assert dropped.summary.missing_audio_s == decoded.summary.missing_audio_s


def test_sound_that_does_not_decode_midway_is_a_gap_and_the_rest_stays_in_time(tmp_path):
    beep = "sine=f=600:r=16000:d=4,volume=0.5"
    run_ffmpeg("-f", "lavfi", "-i", beep, "-c:a", "flac", tmp_path / "a.mkv")
    clip = make_clip(tmp_path / "v.mkv", duration_s=4.0, tone_hz=None)
    run_ffmpeg(
        *("-i", clip, "-i", tmp_path / "a.mkv", "-map", "0:v", "-map", "1:a", "-c", "copy"),
        *("-bsf:a", "noise=amount='between(n,10,19)'", tmp_path / "c.mkv"),
    )
    decoded = Decoded(tmp_path / "c.mkv")
    assert decoded.summary.frames == 40
    assert decoded.summary.decode_errors > 0
    assert decoded.summary.audio_s == pytest.approx(4.0, abs=0.05)
    assert 0.5 < decoded.summary.missing_audio_s < 1.1
    assert "silence" in {chunk.imputed_by for chunk in decoded.chunks}
    loud = [np.abs(decoded.samples[s * 1600 : (s + 1) * 1600]).max() > 0.05 for s in range(40)]
    assert all(loud[:6]) and all(loud[14:39])


def test_a_video_without_sound_yields_none(tmp_path):
    decoded = Decoded(make_clip(tmp_path / "a.mp4", tone_hz=None))
    assert decoded.chunks == []
    assert (decoded.summary.frames, decoded.summary.audio_s) == (10, 0.0)


def test_sound_whose_format_changes_midway_goes_on_at_its_time(tmp_path):
    mpeg2 = ("-c:v", "mpeg2video", "-r", "25", "-c:a", "mp2")
    one = make_clip(tmp_path / "1.ts", *mpeg2, fps=25, duration_s=2.0, tone_hz=600)
    other = ("-ac", "2", "-ar", "48000", "-output_ts_offset", "2")
    two = make_clip(tmp_path / "2.ts", *mpeg2, *other, fps=25, duration_s=2.0, tone_hz=900)
    (tmp_path / "a.ts").write_bytes(one.read_bytes() + two.read_bytes())
    decoded = Decoded(tmp_path / "a.ts")
    assert decoded.summary.audio_s == pytest.approx(4.0, abs=0.1)
    assert pitch_hz(decoded.samples[8000:24000]) == pytest.approx(600, abs=3)
    assert pitch_hz(decoded.samples[40000:56000]) == pytest.approx(900, abs=3)


# Bad videos


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_a_video_that_was_cut_is_truncated(tmp_path, name):
    codec = ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")
    output = codec if name == "a.webm" else ("-movflags", "+faststart") if name == "a.mp4" else ()
    whole = make_clip(tmp_path / f"whole_{name}", *output, duration_s=3.0)
    assert Decoded(whole).summary.frames == 30
    assert reason_of(cut(whole, tmp_path / name, 0.6)) == "truncated"


def test_a_fragmented_mp4_that_was_cut_yields_what_there_is_and_tells(tmp_path):
    # How long it was, nothing tells.
    output = ("-g", "5", "-movflags", "frag_keyframe+empty_moov")
    whole = make_clip(tmp_path / "whole.mp4", *output, duration_s=3.0)
    assert not Decoded(whole).summary.truncated
    summary = Decoded(cut(whole, tmp_path / "a.mp4", 0.6)).summary
    assert summary.truncated
    assert 15 <= summary.frames <= 20


def test_an_index_without_frames_has_no_frames(tmp_path):
    whole = make_clip(tmp_path / "whole.mp4", "-movflags", "frag_keyframe+empty_moov")
    start = whole.read_bytes().index(b"moof") - 4
    (tmp_path / "a.mp4").write_bytes(whole.read_bytes()[:start])
    assert reason_of(tmp_path / "a.mp4") == "no_frames"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Path:
    """40 frames, 10 a second, of which those from 1.0 s to 2.5 s do not decode."""
    folder = tmp_path_factory.mktemp("damaged")
    whole = make_clip(folder / "whole.mp4", duration_s=4.0, tone_hz=None)
    return damage(whole, folder / "a.mp4")


@dataclasses.dataclass(frozen=True)
class Leniently(ExtractOptions):
    """Every frame of a video, however many are missing."""

    short_side: int = 0
    sampling: str = "all"
    max_missing_share: float = 1.0


def test_a_damaged_video_yields_what_is_before_and_after_the_damage(damaged):
    decoded = Decoded(damaged, Leniently())
    missing = [round(n / 10, 3) for n in range(10, 26)]
    assert decoded.times_s == [t for t in (n / 10 for n in range(40)) if t not in missing]
    assert decoded.summary.missing_frames == decoded.summary.dropped_frames == 16
    assert decoded.summary.decode_errors > 0
    assert "error while decoding" in decoded.summary.told
    # What comes after it may show it.
    assert [frame.time_s > 1 for frame in decoded.frames] == [f.damaged for f in decoded.frames]


def test_what_lacks_too_much_is_refused(damaged):
    assert reason_of(damaged, Leniently(max_missing_share=0.39)) == "damaged"
    Decoded(damaged, Leniently(max_missing_share=0.4))


def test_missing_frames_are_repeated(damaged):
    decoded = Decoded(damaged, Leniently(missing_frames="repeat"))
    assert decoded.times_s == [n / 10 for n in range(40)]
    made = decoded.frames[10:26]
    assert {frame.imputed_by for frame in made} == {"repeat"}
    assert {frame.jpeg for frame in made} == {decoded.frames[9].jpeg}
    assert {f.imputed_by for f in decoded.frames if f not in made} == {None}
    assert decoded.summary.repeated_frames == decoded.summary.missing_frames == 16


def test_missing_frames_are_interpolated(damaged):
    decoded = Decoded(damaged, Leniently(missing_frames="interpolate"))
    before, after = picture(decoded.frames[9]), picture(decoded.frames[26])
    for n in range(10, 26):
        frame = decoded.frames[n]
        weight = (n - 9) / (26 - 9)
        assert frame.imputed_by == "interpolate"
        assert frame.time_s == pytest.approx(n / 10)
        assert np.abs(picture(frame) - (before * (1 - weight) + after * weight)).mean() < 3
    assert decoded.summary.interpolated_frames == 16


@pytest.mark.parametrize("policy", MISSING_FRAMES)
def test_what_is_missing_is_counted_by_the_frames_that_would_be_kept(damaged, policy):
    decoded = Decoded(damaged, Leniently(sampling="fps", fps=1, missing_frames=policy))
    assert decoded.summary.missing_frames == 1
    assert decoded.times_s == [0.0, 2.6, 3.0] if policy == "drop" else [0.0, 1.0, 2.6, 3.0]


def test_sound_that_does_not_decode_leaves_the_frames_of_use(tmp_path):
    plain, clip = make_clip(tmp_path / "plain.mkv"), tmp_path / "a.mkv"
    run_ffmpeg("-i", plain, "-c", "copy", "-bsf:a", "noise=amount=1", clip)
    summary = Decoded(clip).summary
    assert summary.frames == 10
    assert summary.decode_errors > 0


def test_a_video_that_is_too_long_is_refused(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", duration_s=2.0)
    options = ExtractOptions(10, 0, 90, max_duration_s=1.0)
    with pytest.raises(MediaError) as caught:
        next(decode(clip, options))
    assert caught.value.reason == "too_long"


def test_a_video_that_goes_on_after_what_its_container_tells_is_refused(tmp_path):
    clip = make_clip(tmp_path / "a.264", duration_s=2.0, tone_hz=None)
    assert probe(clip).duration_s == 0
    assert reason_of(clip, ExtractOptions(10, 0, 90, max_duration_s=1.0)) == "too_long"


def test_a_video_that_is_too_large_is_refused(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    assert reason_of(clip, ExtractOptions(10, 0, 90, max_pixels=96 * 64 - 1)) == "too_large"
    Decoded(clip, ExtractOptions(10, 0, 90, max_pixels=96 * 64))


# Nothing is left behind


def test_leaving_early_leaves_no_process_thread_or_pipe(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", fps=50, duration_s=20)
    gc.collect()  # what earlier tests left to be collected holds files and threads
    threads, files = threading.active_count(), len(os.listdir("/dev/fd"))
    for _ in range(3):
        parts = decode(clip, EVERY_FRAME)
        next(parts)
        assert decoders()
        parts.close()
        assert not decoders()
    assert threading.active_count() <= threads
    assert len(os.listdir("/dev/fd")) <= files


def test_an_error_of_the_consumer_leaves_no_process(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", fps=50, duration_s=20)
    with (
        pytest.raises(ZeroDivisionError),
        contextlib.closing(decode(clip, EVERY_FRAME)) as parts,
    ):
        for _ in parts:
            raise ZeroDivisionError
    assert not decoders()
