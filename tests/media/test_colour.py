"""Colours: HDR becomes what a display of SDR shows, and the row tells what it was."""

from __future__ import annotations

import math
import re
import subprocess

import numpy as np
import pytest

from tests.decoded import Decoded, picture
from tests.media_files import run_ffmpeg
from vidpipe.media import ExtractOptions, ffmpeg_path

SMALL = ExtractOptions(sampling="all", short_side=120, jpeg_quality=95)
SDR = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
HEVC = ("-c:v", "libx265", "-x265-params", "log-level=error:crf=8")
VP9 = ("-c:v", "libvpx-vp9", "-crf", "8", "-b:v", "0", "-cpu-used", "8", "-deadline", "realtime")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-crf", "12")


@pytest.fixture(scope="module")
def sdr(tmp_path_factory):
    path = tmp_path_factory.mktemp("sdr") / "sdr.mp4"
    shown = f"scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,{SDR}"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=480x270:r=5:d=0.6", "-vf", shown, "-crf", "8", path)
    return path


@pytest.mark.parametrize(
    ("name", "transfer", "output"),
    [
        ("a.mov", "arib-std-b67", (*HEVC, "-tag:v", "hvc1")),
        ("a.mp4", "smpte2084", HEVC),
        ("a.webm", "smpte2084", VP9),
        ("a.mkv", "arib-std-b67", AV1),
        ("b.mkv", "bt2020-10", HEVC),
    ],
)
def test_hdr_looks_like_the_sdr_that_it_was_made_of(tmp_path, sdr, name, transfer, output):
    filters = subprocess.run([ffmpeg_path(), "-filters"], capture_output=True, check=True).stdout
    if not re.search(rb"\bzscale\b", filters):
        pytest.skip("this ffmpeg cannot make HDR")
    linear = "zscale=t=linear:npl=203,format=gbrpf32le"
    coded = f"zscale=p=bt2020:t={transfer}:m=bt2020nc:r=tv:npl=203,format=yuv420p10le"
    tags = ("-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc")
    run_ffmpeg("-i", sdr, "-vf", f"{linear},{coded}", *output, *tags, tmp_path / name)
    made, right = Decoded(tmp_path / name, SMALL), Decoded(sdr, SMALL)
    assert (made.info.transfer, made.info.primaries) == (transfer, "bt2020")
    assert len(made.frames) == len(right.frames) == 3
    for one, other in zip(made.frames, right.frames, strict=True):
        error = np.mean((picture(one) - picture(other)) ** 2)
        assert 10 * math.log10(255**2 / error) > 25


def test_sdr_is_left_as_it_is_and_says_what_it_is(sdr, tmp_path):
    info = Decoded(sdr, SMALL).info
    assert (info.transfer, info.primaries) == ("bt709", "bt709")
    run_ffmpeg("-f", "lavfi", "-i", "testsrc=s=96x64:d=0.2", "-c:v", "ffv1", tmp_path / "a.mkv")
    info = Decoded(tmp_path / "a.mkv").info
    assert (info.transfer, info.primaries) == (None, None)
