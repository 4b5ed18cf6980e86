"""probe: what a video is, by its content, and why a file is none."""

from __future__ import annotations

import math

import pytest

from tests.media_files import cut, make_clip, run_ffmpeg
from vidpipe.errors import MediaError
from vidpipe.media import probe
from vidpipe.reasons import REASONS


def reason_of(path) -> str:
    with pytest.raises(MediaError) as caught:
        probe(path)
    assert caught.value.reason in REASONS
    return caught.value.reason


def test_tells_what_a_clip_is(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4", size="128x72", fps=25, duration_s=2.0))
    assert "mp4" in info.container
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")
    assert (info.width, info.height, info.rotation_deg) == (128, 72, 0)
    assert (info.fps, info.frame_count) == (25.0, 50)
    assert info.duration_s == pytest.approx(2.0, abs=0.05)
    assert info.bit_rate > 0


def test_a_video_without_audio_has_no_audio_codec(tmp_path):
    assert probe(make_clip(tmp_path / "a.mp4", tone_hz=None)).audio_codec is None


@pytest.mark.parametrize(
    ("name", "video_codec", "output"),
    [
        ("a.webm", "vp9", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus"),
        ("a.ts", "mpeg2video", "-c:v mpeg2video -r 25 -c:a mp2"),
        ("a.mpg", "mpeg1video", "-c:v mpeg1video -r 25 -c:a mp2"),
        ("a.mov", "prores", "-c:v prores -pix_fmt yuv422p10le -c:a pcm_s16le"),
        ("a.avi", "mjpeg", "-c:v mjpeg -pix_fmt yuvj420p -strict unofficial -c:a pcm_s16le"),
        ("a.mp4", "hevc", "-c:v libx265 -preset ultrafast -x265-params log-level=error"),
        ("a.mkv", "av1", "-c:v libsvtav1 -preset 12 -c:a flac"),
        ("a.flv", "flv1", "-c:v flv -ar 22050 -c:a libmp3lame"),
        ("a.ogv", "theora", "-c:v libtheora -c:a libvorbis"),
        ("a.gif", "gif", "-c:v gif -pix_fmt rgb8 -an"),
        ("a.mp4", "h264", "-pix_fmt yuv444p10le"),
    ],
)
def test_knows_the_containers_and_codecs_of_the_world(tmp_path, name, video_codec, output):
    info = probe(make_clip(tmp_path / name, *output.split()))
    assert info.video_codec == video_codec
    assert (info.width, info.height) == (96, 64)
    assert (info.audio_codec is None) == name.endswith(".gif")


def test_the_content_decides_and_the_name_does_not(tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    odd = clip.rename(tmp_path / "http: 'ünï %d\n.txt")
    assert probe(odd).video_codec == "h264"


@pytest.mark.parametrize(("turned_deg", "size"), [(90, (64, 96)), (180, (96, 64)), (270, (64, 96))])
def test_the_size_is_that_of_the_picture_as_shown(tmp_path, turned_deg, size):
    plain = make_clip(tmp_path / "plain.mp4")
    turned = tmp_path / "turned.mp4"
    # ffmpeg counts anticlockwise.
    run_ffmpeg("-display_rotation", -turned_deg, "-i", plain, "-c", "copy", turned)
    info = probe(turned)
    assert info.rotation_deg == turned_deg
    assert (info.width, info.height) == size


def test_pixels_that_are_not_square_make_the_picture_wider(tmp_path):
    info = probe(make_clip(tmp_path / "a.mp4", "-vf", "setsar=4/3"))
    assert (info.width, info.height) == (128, 64)


def test_a_stream_without_index_has_no_frame_count_and_no_duration(tmp_path):
    info = probe(make_clip(tmp_path / "a.264", "-bsf:v", "dump_extra", tone_hz=None))
    assert (info.frame_count, info.duration_s) == (None, 0.0)


def test_a_single_frame_and_a_tiny_picture_are_videos(tmp_path):
    one = probe(make_clip(tmp_path / "one.mp4", "-frames:v", "1", tone_hz=None))
    assert one.frame_count == 1
    tiny = probe(make_clip(tmp_path / "tiny.mp4", size="2x2", tone_hz=None))
    assert (tiny.width, tiny.height) == (2, 2)


def test_no_bytes(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert reason_of(tmp_path / "a.mp4") == "empty"


@pytest.mark.parametrize("content", [b"x", b"To whom it may concern\n" * 99, bytes(9999)])
def test_what_is_no_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    assert reason_of(tmp_path / "a.mp4") == "unreadable"


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_an_image_is_no_video(tmp_path, kind):
    run_ffmpeg("-f", "lavfi", "-i", "testsrc", "-frames:v", "1", tmp_path / f"a.{kind}")
    assert reason_of((tmp_path / f"a.{kind}").rename(tmp_path / "a.mp4")) == "no_video"


def test_sound_alone_is_no_video_even_with_a_cover_picture(tmp_path):
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "a.m4a")
    assert reason_of(tmp_path / "a.m4a") == "no_video"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc", "-frames:v", "1", tmp_path / "cover.jpg")
    cover = ("-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")
    run_ffmpeg("-i", tmp_path / "a.m4a", "-i", tmp_path / "cover.jpg", *cover, tmp_path / "a.mp3")
    assert reason_of(tmp_path / "a.mp3") == "no_video"


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_an_mp4_that_was_cut_before_its_index_is_truncated(tmp_path, share):
    clip = make_clip(tmp_path / "whole.mp4", duration_s=3.0)
    assert reason_of(cut(clip, tmp_path / "a.mp4", share)) == "truncated"


def test_an_mp4_that_was_cut_in_its_index_at_the_front_is_truncated(tmp_path):
    clip = make_clip(tmp_path / "whole.mp4", "-movflags", "+faststart", duration_s=3.0)
    assert reason_of(cut(clip, tmp_path / "a.mp4", 0.01)) == "truncated"


def test_an_mp4_with_a_spoilt_index_is_not_truncated(tmp_path):
    content = make_clip(tmp_path / "whole.mp4", tone_hz=None).read_bytes()
    at = content.index(b"stsc") + 8
    (tmp_path / "a.mp4").write_bytes(content[:at] + b"\xff" * 8 + content[at + 8 :])
    assert reason_of(tmp_path / "a.mp4") == "unreadable"


def test_encrypted_video_is_told_as_such_and_not_decoded_to_noise(tmp_path):
    key = ("-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb")
    kid = ("-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")
    clip = make_clip(tmp_path / "a.mp4", "-encryption_scheme", "cenc-aes-ctr", *key, *kid)
    assert reason_of(clip) == "unsupported_codec"


def test_a_codec_that_nobody_knows(tmp_path):
    content = make_clip(tmp_path / "known.mp4", tone_hz=None).read_bytes()
    rest = b"\0\0\0\0\0\0\0\1"
    assert b"avc1" + rest in content
    (tmp_path / "a.mp4").write_bytes(content.replace(b"avc1" + rest, b"zzzz" + rest))
    assert reason_of(tmp_path / "a.mp4") == "unsupported_codec"


def test_a_variable_rate_is_told_as_its_average(tmp_path):
    # 1 s at 30, 1 s at 10 frames a second
    every = "select='lt(t,1)+not(mod(n,3))'"
    clip = make_clip(
        tmp_path / "a.mp4", "-vf", every, "-fps_mode", "vfr", fps=30, duration_s=2.0, tone_hz=None
    )
    info = probe(clip)
    assert info.frame_count == 40
    assert math.isclose(info.fps, 20, rel_tol=0.05)
