"""Durations, rates, counts and clocks: what was read is believed where a header contradicts it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.decoded import EVERY_FRAME, Decoded, reason_of
from tests.media_files import make_clip, run_ffmpeg
from tests.mp4_boxes import edit_once, zero_durations
from vidpipe.errors import MediaError
from vidpipe.media import DecodeLimit, Decoder, ExtractOptions, ffmpeg_path

TWO_PER_S = ExtractOptions(fps=2, short_side=0)
B_FRAMES = ("-preset", "medium", "-bf", "2", "-g", "10")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """2 s at 25 frames a second, with a tone."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return make_clip(path, *B_FRAMES, fps=25, duration_s=2.0)


def record(target: Path, source: Path, *output: str) -> None:
    """Writes into a pipe, so that no duration can be filled in at the end."""
    command = [ffmpeg_path(), "-loglevel", "error", "-i", str(source), *output, "pipe:1"]
    target.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def make_recording(path: Path, clip: Path) -> None:
    record(path, clip, "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", "-f", "webm")


def make_bare(path: Path, clip: Path) -> None:
    run_ffmpeg("-i", clip, "-an", "-c", "copy", "-f", "h264", path)


def make_zero(path: Path, clip: Path) -> None:
    path.write_bytes(zero_durations(clip.read_bytes()))


def make_short_totals(path: Path, clip: Path) -> None:
    run_ffmpeg("-i", clip, "-c:v", "mjpeg", "-c:a", "pcm_s16le", path)
    content = bytearray(path.read_bytes())
    # Of 50 frames the headers tell 20: AVI RIFF File Reference, AVIMAINHEADER, AVISTREAMHEADER.
    for at in (content.index(b"avih") + 8 + 16, content.index(b"strh") + 8 + 32):
        content[at : at + 4] = (20).to_bytes(4, "little")
    path.write_bytes(content)


def make_late(path: Path, clip: Path) -> None:
    run_ffmpeg("-i", clip, "-c", "copy", "-output_ts_offset", "40000", path)


def make_late_asf(path: Path, clip: Path) -> None:
    codecs = ("-c:v", "mpeg4", "-c:a", "libmp3lame")
    run_ffmpeg("-i", clip, *codecs, "-output_ts_offset", "10", path)


def make_audio_of_1970(path: Path, clip: Path) -> None:
    inputs = ("-i", clip, "-itsoffset", "1750000000", "-i", clip)
    run_ffmpeg(*inputs, "-map", "0:v", "-map", "1:a", "-c", "copy", "-copyts", path)


def make_b_frames_in_avi(path: Path, clip: Path) -> None:
    run_ffmpeg("-i", clip, "-c:v", "copy", "-c:a", "pcm_s16le", path)


@pytest.mark.parametrize("options", [EVERY_FRAME, TWO_PER_S], ids=["all", "fps"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("recording.webm", make_recording),
        ("bare.h264", make_bare),
        ("zero.mp4", make_zero),
        ("short_totals.avi", make_short_totals),
        ("late.mkv", make_late),
        ("late.nut", make_late),
        ("late.asf", make_late_asf),
        ("audio_of_1970.mp4", make_audio_of_1970),
        ("audio_of_1970.mkv", make_audio_of_1970),
        ("b_frames.avi", make_b_frames_in_avi),
    ],
)
def test_the_length_is_that_of_what_was_read(tmp_path, clip, name, make, options):
    make(tmp_path / name, clip)
    decoded = Decoded(tmp_path / name, options)
    summary = decoded.summary
    assert summary.duration_s == pytest.approx(2.0, abs=0.06)
    assert (summary.fps, summary.frame_count) == (pytest.approx(25.0, abs=0.01), 50)
    assert not summary.truncated
    first_s = decoded.times_s[0]
    assert 0 <= first_s < 0.1
    step_s = 1 / 25 if options is EVERY_FRAME else 0.5
    steps = 50 if options is EVERY_FRAME else 4
    assert len(decoded.frames) == steps
    assert decoded.times_s == pytest.approx([first_s + n * step_s for n in range(steps)], abs=0.04)


def test_times_of_b_frames_in_an_avi_go_on_to_the_last(tmp_path, clip):
    make_b_frames_in_avi(tmp_path / "a.avi", clip)
    assert Decoded(tmp_path / "a.avi").times_s == [n / 25 for n in range(50)]


def test_a_clock_that_begins_anew_thrice_is_no_shorter_for_it(tmp_path, clip):
    run_ffmpeg("-i", clip, "-c", "copy", tmp_path / "one.ts")
    (tmp_path / "a.ts").write_bytes(3 * (tmp_path / "one.ts").read_bytes())
    summary = Decoded(tmp_path / "a.ts").summary
    assert summary.duration_s == pytest.approx(6.0, abs=0.1)
    assert (summary.fps, summary.frame_count) == (25.0, 150)


def test_audio_with_a_clock_of_its_own_starts_with_the_video(tmp_path, clip):
    make_audio_of_1970(tmp_path / "a.mp4", clip)
    decoded = Decoded(tmp_path / "a.mp4")
    assert decoded.summary.audio_s == pytest.approx(2.0, abs=0.1)
    assert "its audio starts 1750000000 s after the video" in decoded.summary.told


def test_a_header_that_nothing_contradicts_is_believed(tmp_path, clip):
    summary = Decoded(clip).summary
    assert (summary.fps, summary.frame_count) == (25.0, 50)
    info = Decoded(clip).info
    assert (info.fps, info.frame_count, info.duration_s) == (25.0, 50, summary.duration_s)


def test_hidden_frames_are_not_counted(tmp_path):
    hidden = "-c:v libvpx -deadline good -cpu-used 5 -auto-alt-ref 1 -lag-in-frames 16 -b:v 200k"
    clip = make_clip(tmp_path / "a.webm", *hidden.split(), fps=25, duration_s=2.0, tone_hz=None)
    assert Decoded(clip, TWO_PER_S).summary.frame_count == 50


def test_an_edit_that_starts_without_a_key_frame_keeps_its_times(tmp_path):
    whole = make_clip(tmp_path / "whole.mp4", *B_FRAMES, fps=30, duration_s=1.0, tone_hz=None)
    cut = tmp_path / "cut.mp4"
    run_ffmpeg("-i", whole, "-c", "copy", "-bsf:v", "noise=drop=lt(n\\,2)", cut)
    # Of ticks of 1/15360 s: the first frame is shown at 512, a key frame at 5120.
    (tmp_path / "a.mp4").write_bytes(edit_once(cut.read_bytes(), 512 + 272))
    decoded = Decoded(tmp_path / "a.mp4")
    key_s = (5120 - 512 - 272) / 15360
    assert decoded.frames[0].time_s == pytest.approx(key_s, abs=1e-6)
    assert decoded.frames[0].key_frame
    assert Decoded(tmp_path / "a.mp4", TWO_PER_S).times_s[0] == pytest.approx(key_s, abs=1e-3)


def test_nothing_is_before_the_start_where_the_first_packet_is_shown_late(tmp_path):
    # The first packet is an I frame that later packets precede, as in an open group of VVC.
    clip = make_clip(tmp_path / "whole.mp4", *B_FRAMES, fps=25, duration_s=2.0, tone_hz=None)
    trailing = tmp_path / "a.ts"
    run_ffmpeg("-i", clip, "-c", "copy", "-bsf:v", "noise=drop=lt(n\\,1)", trailing)
    assert Decoded(trailing).times_s[0] >= 0


def test_a_gap_is_named(tmp_path):
    stream = make_clip(tmp_path / "whole.ts", "-g", "25", fps=25, duration_s=6.0)
    content = stream.read_bytes()
    start, end = (len(content) // 188 * share // 6 * 188 for share in (3, 5))
    (tmp_path / "a.ts").write_bytes(content[:start] + content[end:])
    with pytest.raises(
        MediaError, match=r"no frames from [23]\.\d\d to [45]\.\d\d s \(\d"
    ) as caught:
        Decoded(tmp_path / "a.ts")
    assert caught.value.reason == "damaged"
    lenient = ExtractOptions(sampling="all", max_missing_share=0.9)
    summary = Decoded(tmp_path / "a.ts", lenient).summary
    assert "There are no frames from" in summary.told
    assert summary.duration_s == pytest.approx(6.0, abs=0.2)
    assert summary.fps == 25.0


def test_the_time_limit_grows_with_what_was_read(tmp_path, clip, monkeypatch):
    make_recording(tmp_path / "once.webm", clip)
    long = tmp_path / "a.webm"
    looped = ("-stream_loop", "14", "-i", tmp_path / "once.webm", "-c", "copy")
    command = [ffmpeg_path(), "-loglevel", "error", *map(str, looped), "-f", "webm", "pipe:1"]
    long.write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    asked = []
    seconds = DecodeLimit.seconds

    def note(limit: DecodeLimit, duration_s: float, size_bytes: int) -> float:
        asked.append(duration_s)
        return seconds(limit, duration_s, size_bytes)

    monkeypatch.setattr(DecodeLimit, "seconds", note)
    with Decoder() as decoder:
        info, *_, summary = decoder.decode(long, TWO_PER_S)
    assert info.duration_s == 0.0
    assert summary.duration_s == pytest.approx(30.0, abs=0.5)
    assert asked[:2] == [0.0, 0.0]
    assert asked[2:] == sorted(asked[2:])
    assert max(asked) >= 20.0


def test_a_video_that_is_too_long_is_refused_whatever_its_clock(tmp_path, clip):
    make_late(tmp_path / "a.mkv", clip)
    limited = ExtractOptions(sampling="all", max_duration_s=1.0)
    assert reason_of(tmp_path / "a.mkv", limited) == "too_long"
