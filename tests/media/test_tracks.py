"""Tracks: which are read, how they are cropped, and audio of many channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.decoded import EVERY_FRAME, Decoded, picture, pitch_hz, reason_of
from tests.media_files import H264, make_clip, run_ffmpeg
from tests.mp4_boxes import crop_by_container
from vidpipe.errors import UsageError
from vidpipe.media import ExtractOptions

MAIN_HZ, OTHER_HZ = 1200, 300


def tracks(path: Path, *output: str, sizes: tuple[str, ...] = ("160x90", "320x180")) -> Path:
    """A video track of each size, and two audio tracks: one of 300 Hz, then one of 1200 Hz."""
    inputs: list[str] = []
    for size in sizes:
        inputs += ["-f", "lavfi", "-i", f"testsrc=s={size}:r=10:d=1"]
    for tone_hz in (OTHER_HZ, MAIN_HZ):
        inputs += ["-f", "lavfi", "-i", f"sine=f={tone_hz}:d=1"]
    maps = [part for n in range(len(sizes) + 2) for part in ("-map", str(n))]
    run_ffmpeg(*inputs, *maps, *H264, "-c:a", "aac", *output, path)
    return path


def chosen(decoded: Decoded) -> tuple:
    info = decoded.info
    heard_hz = round(pitch_hz(decoded.samples), -2)
    size = info.width, info.height
    assert {(frame.width, frame.height) for frame in decoded.frames} == {size}
    return (
        info.video_track,
        info.video_tracks,
        *size,
        info.audio_track,
        info.audio_tracks,
        heard_hz,
    )


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov"])
def test_default_tracks_come_first(tmp_path, name):
    second = (
        "-disposition:v:0 0 -disposition:v:1 default -disposition:a:0 0 -disposition:a:1 default"
    )
    path = tracks(tmp_path / name, *second.split())
    assert chosen(Decoded(path)) == (2, 2, 320, 180, 2, 2, MAIN_HZ)
    first = (
        "-disposition:v:0 default -disposition:v:1 0 -disposition:a:0 default -disposition:a:1 0"
    )
    path = tracks(tmp_path / name, *first.split())
    assert chosen(Decoded(path)) == (1, 2, 160, 90, 1, 2, OTHER_HZ)


def test_a_commentary_comes_after_the_main_audio(tmp_path):
    commentary = "-disposition:a:0 comment -disposition:a:1 0"
    path = tracks(tmp_path / "a.mkv", *commentary.split(), sizes=("160x90",))
    assert chosen(Decoded(path)) == (1, 1, 160, 90, 2, 2, MAIN_HZ)


@pytest.mark.parametrize("disposition", ["0", "default", "attached_pic"])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_cover_is_no_video(tmp_path, name, disposition):
    cover, clip = tmp_path / "cover.jpg", make_clip(tmp_path / "clip.mp4")
    run_ffmpeg("-f", "lavfi", "-i", "testsrc=s=640x640", "-frames:v", "1", cover)
    beside = ("-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", disposition)
    run_ffmpeg("-i", cover, "-i", clip, *beside, tmp_path / name)
    decoded = Decoded(tmp_path / name)
    assert len(decoded.frames) == 10
    assert (decoded.info.width, decoded.info.height) == (96, 64)


def test_audio_of_the_same_program_is_heard(tmp_path):
    programs = "-program program_num=1:st=1:st=2 -program program_num=2:st=0:st=3"
    path = tracks(tmp_path / "a.ts", *programs.split(), sizes=("320x180", "160x90"))
    decoded = Decoded(path)
    assert (decoded.info.width, decoded.info.height) == (320, 180)
    assert pitch_hz(decoded.samples) == pytest.approx(MAIN_HZ, abs=10)


def test_options_choose_a_track_or_a_language(tmp_path):
    spoken = "-metadata:s:a:0 language=ger -metadata:s:a:1 language=eng"
    path = tracks(tmp_path / "a.mkv", *spoken.split())

    def heard(**options) -> tuple:
        decoded = Decoded(path, ExtractOptions(sampling="all", short_side=0, **options))
        return (*chosen(decoded), decoded.info.audio_language)

    assert heard(video_track=1, audio_track=2) == (1, 2, 160, 90, 2, 2, MAIN_HZ, "eng")
    assert heard(video_track=2, audio_track=1) == (2, 2, 320, 180, 1, 2, OTHER_HZ, "ger")
    assert heard(audio_language="eng")[-2:] == (MAIN_HZ, "eng")
    assert heard(audio_language="deu")[-2:] == (OTHER_HZ, "ger")
    assert reason_of(path, ExtractOptions(audio_track=3)) == "no_track"
    assert reason_of(path, ExtractOptions(video_track=3)) == "no_track"


@pytest.mark.parametrize("wrong", [{"audio_language": "German"}, {"audio_track": -1}])
def test_a_track_that_cannot_be_is_wrong_usage(wrong):
    with pytest.raises(UsageError, match="Received"):
        ExtractOptions(**wrong)


def test_the_crop_of_the_container_is_applied_before_the_turn(tmp_path):
    plain = make_clip(tmp_path / "plain.mp4", size="160x96", tone_hz=None)
    # 8 pixels are left out on the left and 24 on the right, 4 above and 12 below.
    (tmp_path / "a.mp4").write_bytes(crop_by_container(plain.read_bytes(), 128, 80, -8, -4))
    decoded = Decoded(tmp_path / "a.mp4")
    assert (decoded.info.width, decoded.info.height) == (128, 80)
    whole = picture(Decoded(plain).frames[0])
    assert abs(picture(decoded.frames[0]) - whole[4:84, 8:136]).mean() < 4
    run_ffmpeg(
        "-display_rotation", "-90", "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4"
    )
    turned = Decoded(tmp_path / "b.mp4")
    assert (turned.info.width, turned.info.height, turned.info.rotation_deg) == (80, 128, 90)


def test_channels_that_cannot_be_mixed_are_averaged(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4")
    tone = np.sin(2 * np.pi * OTHER_HZ * np.arange(8000) / 8000) * (1 << 12)
    (tmp_path / "raw").write_bytes(np.repeat(tone.astype("<i2"), 25).tobytes())
    raw = ("-f", "s16le", "-ar", "8000", "-ac", "25", "-i", tmp_path / "raw")
    sound = (*raw, "-map", "0:v", "-map", "1:a", "-c:v", "copy")
    for codec in ("pcm_s16le", "pcm_f32le", "pcm_u8"):
        run_ffmpeg("-i", clip, *sound, "-c:a", codec, tmp_path / "a.mkv")
        decoded = Decoded(tmp_path / "a.mkv", EVERY_FRAME)
        assert len(decoded.frames) == 10
        assert decoded.summary.audio_s == pytest.approx(1.0, abs=0.05)
        assert pitch_hz(decoded.samples) == pytest.approx(OTHER_HZ, abs=10)
        assert abs(decoded.samples).max() == pytest.approx(1 / 8, abs=0.02)
        assert "The 25 channels of its audio are averaged." in decoded.summary.told
