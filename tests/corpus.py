"""A corpus of files, good and bad, each with the outcome that is right for it.

What is right was worked out from how a file is made, never copied from what came out: the clip of
every kind shows 25 pictures in a second, and each picture tells which one it is.

    python -m tests.corpus FOLDER
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import gzip
import io
import math
import operator
import os
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from tests.media_files import RAMP_FIRST, RAMP_STEP, run_ffmpeg
from tests.references import (
    LISTS,
    alias_entry,
    link_matroska,
    redirect_asf,
    refer_elsewhere,
    reference_movie,
    url_entry,
)

FPS = 25
FRAMES = 25
# Containers round times, the coarsest of these to the millisecond; and so do those who read them.
ROUNDING_S = 0.0015

# The reasons why whole videos are refused: FORMATS names the containers that people send, for each
# demuxer more is one more that untrusted bytes reach.
NOT_SENT = "a container that hardly anybody sends"
BARE = "a bare stream that hardly anybody sends"
PICTURES = "pictures in a row, no video"
NETWORK = "packets of a network protocol, no file"


@dataclass(frozen=True)
class Whole:
    """A video that is all there: every picture at its time, and nobody complains.

    Attributes:
        times_s: When its pictures are shown.
        sound_s: How much sound there is, within 0.1 s; 0: none.
        size: As shown.
        rotation_deg: By how much the stored picture is turned to be shown.
        numbers: Which picture of the clip is shown at each time; None: they do not tell.
    """

    times_s: tuple[float, ...]
    sound_s: float = 1.0
    size: tuple[int, int] = (96, 64)
    rotation_deg: int = 0
    numbers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Partly:
    """A damaged video of which the rest is of use.

    Attributes:
        frames: How many there are, at least and at most.
        truncated: Whether it is told that the end is missing.
        told: Whether the damage shows: in missing frames, errors, a truncated end, or in words.
        or_refused: The reason with which it may be refused as well, for how much is lost with
            some bytes is the encoder's choice.
    """

    frames: tuple[int, int]
    truncated: bool = False
    told: bool = True
    or_refused: str = ""


@dataclass(frozen=True)
class Refused:
    """A file that is put aside.

    Attributes:
        reason: A word of `vidpipe.schemas.REASONS`.
        because: Why it is right to refuse it, where that is not plain.
    """

    reason: str
    because: str = ""


@dataclass(frozen=True)
class Kind:
    """One file of the corpus.

    Attributes:
        name: Of the file.
        make: Makes it at a path; the files that it `needs` lie beside it.
        expected: What is right for it.
        needs: The files that it is made from.
    """

    name: str
    make: Callable[[Path], object]
    expected: Whole | Partly | Refused
    needs: tuple[str, ...] = ()


def regular(start_s: float = 0.0, frames: int = FRAMES, fps: float = FPS) -> tuple[float, ...]:
    """Times of pictures that follow each other evenly."""
    return tuple(start_s + n / fps for n in range(frames))


def whole(**changed) -> Whole:
    """The clip as it is."""
    return Whole(**{"times_s": regular(), "numbers": tuple(range(FRAMES))} | changed)


def make_clip(
    path: Path,
    output: str,
    size: str = "96x64",
    sound: bool = True,
    filters: str = "null",
    more: str = "",
) -> None:
    """Makes a second of ffmpeg's test picture, in its middle the ramp, with a tone.

    Args:
        path: What to make.
        output: How it is coded: ffmpeg's options.
        size: Of the picture.
        sound: Whether there is a tone.
        filters: What is done with the picture; the ramp is in `number_of` then.
        more: Options before the inputs.
    """
    width, height = (max(1, int(side) // 2) for side in size.split("x"))
    picture = (
        f"testsrc=s={size}:r={FPS}:d=1,format=gbrp[test];"
        f"nullsrc=s={width}x{height}:r={FPS}:d=1,format=gray,"
        f"geq=lum='{RAMP_FIRST}+{RAMP_STEP}*N',format=gbrp[ramp];"
        f"[test][ramp]overlay=W/4:H/4:format=gbrp,{filters}"
    )
    tone = ("-f", "lavfi", "-i", "sine=f=440:r=44100:d=1") if sound else ()
    # One thread: as many cores as a machine has would make other files of the same size.
    run_ffmpeg(
        *more.split(), "-f", "lavfi", "-i", picture, *tone, "-threads", "1", *output.split(), path
    )


H264 = "-c:v libx264 -preset ultrafast -g 8 -pix_fmt yuv420p"
REORDERED = "-c:v libx264 -preset medium -g 8 -pix_fmt yuv420p"
HEVC = "-c:v libx265 -preset ultrafast -x265-params log-level=error:pools=none:frame-threads=1"
AV1 = "-c:v libsvtav1 -preset 12"
VP8 = "-c:v libvpx -deadline realtime -cpu-used 8"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8"
SILENT_TS = "-c:v mpeg2video"
VC2 = "-c:v vc2 -pix_fmt yuv422p -strict -1"
VVC = "-c:v libvvenc -preset faster"
DV = "-c:v dvvideo -pix_fmt yuv420p"
DNXHR = "-c:v dnxhd -profile:v dnxhr_sq -pix_fmt yuv422p"
PCM = "-c:a pcm_s16le"
# These encoders begin with samples of silence. Most containers tell of them, so that the sound is
# shown from its real beginning; those below do not, and their pictures start so much later.
PRIMING_S = {
    "aac": 1024 / 44100,
    "mp2": 481 / 44100,
    "mp3": 1105 / 44100,
    "ac3": 256 / 44100,
    "ac3 48": 256 / 48000,
    "eac3": 256 / 44100,
    "opus": 312 / 48000,
    "nellymoser": 128 / 22050,
    "wma": 2048 / 44100,
    "vorbis": 128 / 44100,
}


def _coded() -> Iterator[Kind]:
    """Every container and codec that the world uses and the ffmpeg of the product writes."""
    plain = {
        # MP4 and its family
        "h264.mp4": f"{REORDERED} -c:a aac",
        "openh264.mp4": "-c:v libopenh264 -c:a aac",
        "b_frames.mp4": f"{REORDERED} -bf 8 -b_strategy 0 -x264-params b-pyramid=normal -c:a aac",
        "open_gop.mp4": f"{REORDERED} -g 8 -x264-params open-gop=1 -c:a aac",
        "interlaced.mp4": f"{REORDERED} -x264-params tff=1 -c:a aac",
        "faststart.mp4": f"{H264} -movflags +faststart -c:a aac",
        "fragmented.mp4": f"{H264} -g 5 -movflags frag_keyframe+empty_moov+delay_moov -c:a aac",
        "dash.mp4": f"{H264} -g 5 -movflags dash+delay_moov -c:a aac",
        "hevc.mp4": f"{HEVC} -tag:v hvc1 -c:a aac",
        "av1.mp4": f"{AV1} -c:a libopus",
        "vp9.mp4": f"{VP9} -c:a flac -strict -2",
        "vvc.mp4": f"{VVC} -c:a aac",
        "mpeg4.mp4": "-c:v mpeg4 -bf 2 -c:a libmp3lame",
        "mpeg2.mp4": "-c:v mpeg2video -bf 2 -c:a ac3",
        "mjpeg.mp4": "-c:v mjpeg -c:a alac",
        "ffv1.mp4": "-c:v ffv1 -c:a aac",
        "jpeg2000.mp4": "-c:v jpeg2000 -c:a aac",
        "png.mp4": "-c:v png -c:a aac",
        "dirac.mp4": f"{VC2} -c:a aac",
        "smooth.ismv": f"{H264} -c:a pcm_s16be -f ismv",
        "playstation.mp4": f"{H264} -c:a aac -f psp",
        "ipod.m4v": f"{H264} -c:a aac -f ipod",
        "phone.3g2": f"{H264} -c:a aac",
        # QuickTime
        "prores.mov": f"-c:v prores -pix_fmt yuv422p10le {PCM}",
        "prores_alpha.mov": "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le -c:a pcm_s24le",
        "animation_alpha.mov": f"-c:v qtrle -pix_fmt argb {PCM}",
        "png_alpha.mov": "-c:v png -pix_fmt rgba -c:a alac",
        "cinepak.mov": "-c:v cinepak -c:a adpcm_ima_qt",
        "sorenson.mov": "-c:v svq1 -c:a pcm_s16be",
        "graphics.mov": "-c:v smc -c:a pcm_u8",
        "hap.mov": "-c:v hap -c:a pcm_mulaw",
        "dxv.mov": "-c:v dxv -c:a pcm_alaw",
        "cineform.mov": "-c:v cfhd -pix_fmt yuv422p10le -c:a pcm_s32le",
        "r210.mov": "-c:v r210 -c:a pcm_f32le",
        "v210.mov": "-c:v v210 -c:a pcm_f64le",
        "raw.mov": f"-c:v rawvideo -pix_fmt uyvy422 {PCM}",
        "h263.mov": f"-c:v h263p {PCM}",
        "avid.mov": f"-c:v avrp {PCM}",
        "mjpeg.mov": f"-c:v mjpeg {PCM}",
        # AVI
        "mjpeg.avi": f"-c:v mjpeg {PCM}",
        "mpeg4.avi": "-c:v mpeg4 -c:a ac3",
        "xvid.avi": "-c:v libxvid -c:a ac3",
        "msmpeg4v2.avi": f"-c:v msmpeg4v2 {PCM}",
        "msmpeg4v3.avi": "-c:v msmpeg4 -c:a adpcm_ms",
        "wmv1.avi": f"-c:v wmv1 {PCM}",
        "wmv2.avi": f"-c:v wmv2 {PCM}",
        "h264.avi": f"{H264} {PCM}",
        "vp8.avi": f"{VP8} {PCM}",
        "ffv1.avi": "-c:v ffv1 -c:a flac",
        "huffyuv.avi": "-c:v huffyuv -c:a pcm_u8",
        "ffvhuff.avi": "-c:v ffvhuff -c:a adpcm_ima_wav",
        "utvideo.avi": "-c:v utvideo -c:a pcm_s24le",
        "magicyuv.avi": "-c:v magicyuv -c:a pcm_f32le",
        "zlib.avi": "-c:v zlib -c:a pcm_alaw",
        "screen.avi": "-c:v zmbv -pix_fmt bgr0 -c:a pcm_mulaw",
        "flash_screen.avi": f"-c:v flashsv {PCM}",
        "msrle.avi": "-c:v msrle -c:a adpcm_yamaha",
        "cinepak.avi": f"-c:v cinepak {PCM}",
        "raw.avi": f"-c:v rawvideo -pix_fmt bgr24 {PCM}",
        "y41p.avi": f"-c:v y41p {PCM}",
        "asus1.avi": f"-c:v asv1 {PCM}",
        "asus2.avi": f"-c:v asv2 {PCM}",
        "cirrus.avi": f"-c:v cljr {PCM}",
        "lossless_jpeg.avi": f"-c:v ljpeg -pix_fmt bgr24 {PCM}",
        "jpeg_ls.avi": f"-c:v jpegls {PCM}",
        "snow.avi": f"-c:v snow -strict -2 {PCM}",
        "speedhq.avi": f"-c:v speedhq {PCM}",
        "dirac.avi": f"{VC2} {PCM}",
        "player.amv": "-c:v amv -c:a adpcm_ima_amv -ar 22050 -block_size 882 -f amv",
        # Matroska and WebM
        "h264.mkv": f"{REORDERED} -c:a libvorbis",
        "h264_10_bit.mkv": f"{H264}10le -c:a libvorbis",
        "h264_444.mkv": "-c:v libx264 -pix_fmt yuv444p -c:a eac3",
        "h264_422_10_bit.mkv": "-c:v libx264 -pix_fmt yuv422p10le -c:a dca -strict -2",
        "h264_grey.mkv": "-c:v libx264 -pix_fmt gray -c:a truehd -strict -2",
        "h264_rgb.mkv": "-c:v libx264rgb -c:a mlp -strict -2",
        "kvazaar.mkv": "-c:v libkvazaar -c:a aac",
        "hevc_444_12_bit.mkv": f"{HEVC} -pix_fmt yuv444p12le -c:a tta",
        "hevc_grey_10_bit.mkv": f"{HEVC} -pix_fmt gray10le -c:a wavpack",
        "vp9_10_bit.mkv": f"{VP9} -pix_fmt yuv420p10le -c:a libopus",
        "vp9_444.mkv": f"{VP9} -pix_fmt yuv444p -c:a libopus",
        "av1_10_bit.mkv": f"{AV1} -pix_fmt yuv420p10le -c:a libopus",
        "rav1e.mkv": "-c:v librav1e -speed 10 -c:a libopus",
        "theora.mkv": "-c:v libtheora -c:a libvorbis",
        "ffv1_rgb_16_bit.mkv": "-c:v ffv1 -pix_fmt gbrp16le -strict -2 -c:a flac",
        "ffv1_alpha_16_bit.mkv": "-c:v ffv1 -pix_fmt yuva444p16le -c:a flac",
        "ffv1_grey_16_bit.mkv": "-c:v ffv1 -pix_fmt gray16le -c:a flac",
        "mpeg1.mkv": "-c:v mpeg1video -bf 2 -c:a mp2",
        "mpeg2_422.mkv": f"-c:v mpeg2video -pix_fmt yuv422p {PCM}",
        "mpeg4.mkv": "-c:v mpeg4 -bf 2 -c:a aac",
        "prores.mkv": "-c:v prores -c:a pcm_f64le",
        "raw.mkv": "-c:v rawvideo -pix_fmt yuv420p -c:a pcm_s16be",
        "dirac.mkv": f"{VC2} -c:a flac",
        "vvc.mkv": f"{VVC} -c:a aac",
        "wmv2.mkv": f"-c:v wmv2 {PCM}",
        "live.mkv": f"{H264} -live 1 -c:a aac",
        "vp8.webm": f"{VP8} -c:a libvorbis",
        "vp8_alpha.webm": f"{VP8} -auto-alt-ref 0 -pix_fmt yuva420p -c:a libvorbis",
        "vp9.webm": f"{VP9} -c:a libopus",
        "vp9_alpha.webm": f"{VP9} -pix_fmt yuva420p -c:a libopus",
        "vp9_hidden_frames.webm": (
            "-c:v libvpx-vp9 -deadline good -cpu-used 5 -auto-alt-ref 1 -lag-in-frames 16"
            " -c:a libopus"
        ),
        "av1.webm": "-c:v libaom-av1 -cpu-used 8 -c:a libopus",
        # Others
        "screen.flv": "-c:v flashsv -ar 22050 -c:a pcm_s16le",
        "theora.ogv": "-c:v libtheora -c:a libvorbis",
        "vp8.ogv": f"{VP8} -c:a libopus -f ogg",
        "mpeg2.mxf": "-c:v mpeg2video -bf 2 -ar 48000 -c:a pcm_s16le",
        "h264_intra.mxf": f"{H264} -g 1 -ar 48000 -c:a pcm_s16le",
        "prores.mxf": "-c:v prores -ar 48000 -c:a pcm_s24le",
        "jpeg2000.mxf": "-c:v jpeg2000 -ar 48000 -c:a pcm_s16le",
        "ffv1.mxf": "-c:v ffv1 -ar 48000 -c:a pcm_s16le",
        "rv10.rm": "-c:v rv10 -c:a ac3",
        "rv20.rm": "-c:v rv20 -c:a ac3",
        "ffv1.nut": "-c:v ffv1 -c:a flac",
        "raw.nut": f"-c:v rawvideo -pix_fmt rgb24 {PCM}",
        "h264.nut": f"{REORDERED} {PCM}",
    }
    for name, output in plain.items():
        yield _clip(name, output)
    # These know too few colours to tell one picture from the next.
    coarse = {
        "rpza.mov": "-c:v rpza -c:a pcm_s8",
        "msvideo1.avi": f"-c:v msvideo1 {PCM}",
    }
    for name, output in coarse.items():
        yield _clip(name, output, numbers=None)
    screen = "-c:v flashsv2 -ar 22050 -c:a nellymoser"
    yield _clip("screen2.flv", screen, times_s=regular(PRIMING_S["nellymoser"]), numbers=None)

    later = {
        "adobe.f4v": (f"{H264} -c:a aac -f f4v", "aac"),
        "sorenson.flv": ("-c:v flv -c:a libmp3lame", "mp3"),
        "h264.flv": (f"{REORDERED} -c:a aac", "aac"),
        "hevc.flv": (f"{HEVC} -c:a aac", "aac"),
        "av1.flv": (f"{AV1} -c:a aac", "aac"),
        "vp9.flv": (f"{VP9} -c:a libopus", "opus"),
        "mpeg1.mpg": ("-c:v mpeg1video -bf 2 -c:a mp2", "mp2"),
        "mpeg2.mpg": ("-c:v mpeg2video -bf 2 -f mpeg -c:a mp2", "mp2"),
        "svcd.mpg": ("-c:v mpeg2video -f svcd -c:a mp2", "mp2"),
        "dvd.vob": ("-c:v mpeg2video -bf 2 -f dvd -ar 48000 -c:a ac3", "ac3 48"),
        "h264.vob": (f"{REORDERED} -f vob -c:a mp2", "mp2"),
        "mpeg1.ts": ("-c:v mpeg1video -c:a mp2", "mp2"),
        "mpeg2.ts": ("-c:v mpeg2video -bf 2 -c:a mp2", "mp2"),
        "mpeg4.ts": ("-c:v mpeg4 -c:a libmp3lame", "mp3"),
        "h264.ts": (f"{REORDERED} -c:a aac", "aac"),
        "hevc.ts": (f"{HEVC} -c:a ac3", "ac3"),
        "vvc.ts": (f"{VVC} -c:a aac", "aac"),
        "opus.ts": (f"{H264} -c:a libopus", "opus"),
        "dirac.ts": (f"{VC2} -c:a aac", "aac"),
        "bluray.m2ts": (f"{REORDERED} -mpegts_m2ts_mode 1 -c:a eac3", "eac3"),
        "wmv1.wmv": ("-c:v wmv1 -c:a wmav1", "wma"),
        "wmv2.wmv": ("-c:v wmv2 -c:a wmav2", "wma"),
        "msmpeg4.asf": ("-c:v msmpeg4 -c:a libmp3lame", "mp3"),
    }
    for name, (output, codec) in later.items():
        yield _clip(name, output, times_s=regular(PRIMING_S[codec]))

    # AVI tells when to decode, not when to show, which is later where pictures are reordered.
    yield _clip("mpeg4_reordered.avi", f"-c:v mpeg4 -bf 2 {PCM}")
    yield _clip("mpeg1.avi", f"-c:v mpeg1video -bf 2 {PCM}")
    yield _clip("h264_reordered.avi", f"{REORDERED} {PCM}")

    bare = {
        "mpeg1.m1v": "-c:v mpeg1video -bf 2",
        "mpeg2.m2v": "-c:v mpeg2video -bf 2",
        "mpeg4.m4v": "-c:v mpeg4 -f m4v",
        "h264.264": REORDERED,
        "hevc.265": f"{HEVC} -f hevc",
        "av1.obu": f"{AV1} -f obu",
        "vp8.ivf": VP8,
        "vp9.ivf": VP9,
        "av1.ivf": AV1,
        "animation.gif": "-c:v gif -pix_fmt rgb8",
        "animation.avif": f"{AV1} -f avif",
    }
    for name, output in bare.items():
        yield _clip(name, output, sound_s=0.0)

    # Codecs that know few sizes
    yield _clip("phone.3gp", "-c:v h263 -ar 8000 -c:a libopencore_amrnb", size=(128, 96))
    yield _clip("dnxhr.mov", f"{DNXHR} -c:a pcm_s16be", size=(256, 128))
    yield _clip("apv.mp4", "-c:v liboapv -c:a aac", size=(256, 128))
    yield _clip("dnxhr.mxf", f"{DNXHR} -ar 48000 {PCM}", size=(256, 128))
    yield _clip("opatom.mxf", f"{DNXHR} -f mxf_opatom", size=(256, 128), sound_s=0.0)
    vcd = "-c:v mpeg1video -f vcd -b:v 1150k -c:a mp2"
    yield _clip("vcd.mpg", vcd, size=(352, 288), times_s=regular(PRIMING_S["mp2"]))
    yield _clip("dv.avi", f"{DV} -ar 48000 -ac 2 {PCM}", size=(720, 576))
    yield _clip("dv.mov", f"{DV} -ar 48000 -ac 2 {PCM}", size=(720, 576))
    # The pixels of PAL are 16:15.
    for name, output in (("pal.dv", "-ar 48000 -ac 2 -f dv"), ("dv.mxf", f"-ar 48000 {PCM}")):
        yield _clip(name, f"{DV} {output}", size=(768, 576), made="720x576")


def _clip(name: str, output: str, made: str | None = None, **changed) -> Kind:
    """A whole clip.

    Args:
        name: Of the file.
        output: How it is coded.
        made: Its size as stored, where this is not that shown.
        changed: What is different from the usual clip.
    """
    expected = whole(**changed)
    return Kind(
        name,
        lambda path: make_clip(
            path, output, made or "{}x{}".format(*expected.size), sound=bool(expected.sound_s)
        ),
        expected,
    )


def _shaped() -> Iterator[Kind]:
    """Odd and huge pictures, and pictures that are turned."""
    for width, height in ((2, 2), (3, 5), (17, 33), (161, 121), (1920, 8), (8, 1920)):
        name = f"{width}x{height}.mp4"
        told = {} if min(width, height) > 64 else {"numbers": None}
        yield _clip(name, "-c:v libx264 -pix_fmt yuv444p -c:a aac", size=(width, height), **told)
    yield _clip("1x1.mkv", "-c:v ffv1 -c:a aac", size=(1, 1), numbers=None)
    one = {"times_s": (0.0,), "sound_s": 0.0}
    yield _clip("8192x4096.mkv", "-c:v mjpeg -frames:v 1", size=(8192, 4096), numbers=(0,), **one)
    # 2²⁶ pixels are allowed.
    grey = "-c:v mjpeg -pix_fmt gray -color_range pc -frames:v 1"
    for size, expected in (
        ("16384x4096", whole(size=(16384, 4096), numbers=None, **one)),
        ("16384x4100", Refused("too_large")),
    ):
        yield Kind(f"{size}.mkv", lambda path, size=size: _blank(path, grey, size), expected)
    # Of a few bytes, and 2³² pixels: FFmpeg knows no such picture.
    yield Kind("65535x65535.gif", lambda path: path.write_bytes(_huge_gif(65535)), NO_FRAMES)
    yield Kind(
        "16000x16000.gif", lambda path: path.write_bytes(_huge_gif(16000)), Refused("too_large")
    )

    wide = f"{H264} -c:a aac -vf setsar=4/3"
    yield _clip("wide_pixels.mp4", wide, size=(128, 64), made="96x64")
    yield _clip("wide_pixels.264", wide, size=(128, 64), made="96x64", sound_s=0.0)
    yield _clip("full_range.mp4", f"{H264} -vf scale=out_range=pc -color_range pc -c:a aac")

    for name, turn, rotation_deg in (
        ("turned_90.mp4", "-display_rotation -90", 90),
        ("turned_180.mp4", "-display_rotation 180", 180),
        ("turned_270.mp4", "-display_rotation 90", 270),
        # To the nearest quarter of a turn.
        ("turned_30.mp4", "-display_rotation -30", 0),
        ("mirrored.mp4", "-display_hflip", 0),
        ("upside_down.mp4", "-display_vflip", 180),
        ("turned_and_mirrored.mp4", "-display_rotation 90 -display_hflip", 90),
    ):
        size = (64, 96) if rotation_deg % 180 else (96, 64)
        expected = whole(size=size, rotation_deg=rotation_deg)
        yield _from("h264.mp4", name, "-c copy", expected, before=turn)
    turned = "-c copy -bsf:v h264_metadata=rotate=90:display_orientation=insert"
    expected = whole(size=(64, 96), rotation_deg=270)
    yield _from("h264.mp4", "turned_by_its_bitstream.mp4", turned, expected)
    # That of the start stays.
    yield _clip("half_size.ts", SILENT_TS, size=(48, 32), sound_s=0.0)
    # libavcodec drops the last picture before a change, as its own ffmpeg does.
    changed = _joined("size_changes.ts", "silent.ts", "half_size.ts")
    yield dataclasses.replace(changed, expected=Partly((2 * FRAMES - 1, 2 * FRAMES), told=False))


def _from(
    source: str,
    name: str,
    output: str,
    expected: Whole | Partly | Refused,
    before: str = "",
    beside: str | None = None,
) -> Kind:
    """A kind that ffmpeg makes from another, or from two."""

    def make(path: Path) -> None:
        second = ("-i", path.parent / beside) if beside else ()
        run_ffmpeg(*before.split(), "-i", path.parent / source, *second, *output.split(), path)

    return Kind(name, make, expected, (source, *filter(None, [beside])))


def _joined(name: str, first: str, second: str) -> Kind:
    """A file after the other in one: the second goes on where the first ended."""
    return Kind(
        name,
        lambda path: path.write_bytes(
            (path.parent / first).read_bytes() + (path.parent / second).read_bytes()
        ),
        whole(
            times_s=regular(frames=2 * FRAMES),
            numbers=(*range(FRAMES), *range(FRAMES)),
            sound_s=0.0,
        ),
        (first, second),
    )


def _blank(path: Path, output: str, size: str, duration_s: int = 1) -> None:
    source = f"color=gray:s={size}:r={FPS}:d={duration_s}"
    run_ffmpeg("-f", "lavfi", "-i", source, *output.split(), path)


def _huge_gif(side: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    picture = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\2\2\x4c\1\0"
    return head + 2 * picture + b";"  # one would be a still image


def _timed() -> Iterator[Kind]:
    """Rates, gaps, and clocks that start anywhere or jump."""
    chosen = (0, 1, 2, 7, 9, 10, 19)
    uneven = whole(times_s=tuple(n / FPS for n in chosen), numbers=chosen)
    select = "select='" + "+".join(f"eq(n,{n})" for n in chosen) + "'"
    for name, output in (
        ("vfr.mp4", f"{REORDERED} -c:a alac"),
        ("vfr.mkv", f"{REORDERED} {PCM}"),
        ("vfr.webm", f"{VP9} -c:a libopus"),
    ):
        yield _filtered(name, f"-fps_mode passthrough {output}", select, uneven)
    for name, seconds in (
        ("1000_fps.mkv", "N/1000"),
        ("240_fps.mp4", "N/240"),
        ("ntsc.mp4", "N*1001/30000"),
        ("time_lapse.mp4", "N*10"),
        ("bursts.mkv", "floor(N/2)+mod(N,2)*3/1000"),
    ):
        times_s = tuple(
            float(eval(seconds, {"N": Fraction(n), "floor": math.floor, "mod": operator.mod}))
            for n in range(FRAMES)
        )
        output = f"-fps_mode passthrough -enc_time_base 1/120000 {REORDERED}"
        filters = f"settb=1/120000,setpts='({seconds})/TB'"
        yield _filtered(name, output, filters, whole(times_s=times_s, sound_s=0.0))
    gap = f"-fps_mode passthrough -enc_time_base 1/1000 -frames:v 2 {H264}"
    three_hours = "settb=1/1000,setpts='3*3600*1000*N'"
    told = whole(times_s=(0.0, 3 * 3600.0), numbers=(0, 1), sound_s=0.0)
    yield _filtered("three_hours.mkv", gap, three_hours, told)
    seven_hours = "settb=1/1000,setpts='7*3600*1000*N'"
    yield _filtered("seven_hours.mp4", gap, seven_hours, Refused("too_long"))

    one = whole(times_s=(0.0,), numbers=(0,), sound_s=0.0)
    for name, output in (
        ("one.mp4", H264),
        ("one.mkv", HEVC),
        ("one.webm", VP9),
        ("one.ts", "-c:v mpeg2video"),
        ("one.avi", "-c:v mjpeg"),
        ("one.mpg", "-c:v mpeg1video"),
        ("one.264", H264),
        ("one.flv", "-c:v flv"),
    ):
        yield _filtered(name, f"{output} -frames:v 1", "null", one)

    yield _clip("silent.ts", SILENT_TS, sound_s=0.0)
    yield _joined("clock_starts_anew.ts", "silent.ts", "silent.ts")
    yield _clip("late.ts", f"{SILENT_TS} -output_ts_offset 7000", sound_s=0.0)
    yield _joined("clock_jumps_ahead.ts", "silent.ts", "late.ts")
    yield _joined("clock_jumps_back.ts", "late.ts", "silent.ts")
    # Its counter has 33 bits at 90 kHz: it overflows in the middle of this second.
    wraps = f"{SILENT_TS} -output_ts_offset 95441.8"
    yield _clip("clock_overflows.ts", wraps, sound_s=0.0)
    early = "-c copy -avoid_negative_ts disabled -output_ts_offset -0.48"
    negative = f"{REORDERED} -movflags negative_cts_offsets -c:a aac"
    yield _clip("decoded_before_zero.mp4", negative)
    # An edit list hides what comes before zero.
    cut_off = whole(times_s=regular(frames=13), numbers=tuple(range(12, 25)), sound_s=0.52)
    yield _from("h264.mp4", "edited.mp4", early, cut_off)
    late = "-itsoffset 0.5"
    for name, sound_s in (("sound_first.mkv", 1.0), ("sound_first.mp4", 1.0)):
        yield _from(
            "h264_silent.mp4",
            name,
            "-map 0 -map 1:a -c copy",
            whole(times_s=regular(0.5), sound_s=sound_s),
            before=late,
            beside="h264.mkv",
        )


def _filtered(name: str, output: str, filters: str, expected: Whole | Partly | Refused) -> Kind:
    sound = isinstance(expected, Whole) and expected.sound_s > 0
    return Kind(name, lambda path: make_clip(path, output, sound=sound, filters=filters), expected)


def _many_streams() -> Iterator[Kind]:
    """More beside the picture and the sound."""
    yield _clip("h264_silent.mp4", REORDERED, sound_s=0.0)
    both = "-map 0:v -map 0:a -map 1:v -map 1:a -c copy"
    for name in ("two_pictures.mp4", "two_pictures.mkv"):
        yield _from("h264.mp4", name, both, whole(), beside="xvid.avi")
    yield _from("h264.mp4", "sound_before_picture.mp4", "-map 0:a -map 0:v -c copy", whole())
    cover = "-map 1:v -map 0 -c copy -disposition:v:0 attached_pic"
    yield _from("h264.mp4", "with_cover.mp4", cover, whole(), beside="cover.jpg")
    yield _attached("with_cover.mkv", "cover.jpg", "image/jpeg")
    yield _attached("with_attachment.mkv", "subtitles.srt", "application/x-font-ttf")
    yield _from("prores.mov", "with_timecode.mov", "-c copy -timecode 01:00:00:00", whole())
    for name, codec in (("with_subtitles.mp4", "mov_text"), ("with_subtitles.mkv", "srt")):
        subtitles = f"-map 0 -map 1 -c copy -c:s {codec}"
        yield _from("h264.mp4", name, subtitles, whole(), beside="subtitles.srt")
    yield Kind(
        "captions_begin_late.flv",
        _with_late_captions,
        whole(times_s=regular(frames=500), sound_s=0.0, numbers=None),
    )
    yield _changed("h264.mp4", "with_junk_after_it.mp4", lambda content: content + JUNK, whole())
    silent = whole(sound_s=0.0)
    yield _changed("silent.ts", "with_junk_before_it.ts", lambda content: JUNK + content, silent)
    titled = f"{H264} -metadata title=no_text -c:a aac"
    yield _clip("with_title.mp4", titled)
    no_text = partial(_replaced, b"no_text", b"\xff\xfe\x80\xc3\xe2\0\xf0")
    yield _changed("with_title.mp4", "with_title_that_is_no_text.mp4", no_text, whole())
    yield _changed("h264.mp4", "two_in_a_row.mp4", lambda content: content * 2, whole())
    yield Kind("wrong_name.txt", lambda path: make_clip(path, f"{H264} -f matroska {PCM}"), whole())
    yield Kind("wrong_name.mkv", lambda path: make_clip(path, f"{H264} -f mp4 -c:a alac"), whole())
    yield Kind("no name", lambda path: make_clip(path, "-c:v mjpeg -c:a alac -f mov"), whole())


def _with_late_captions(path: Path) -> None:
    """A stream that is not there yet when the file is opened."""
    _blank(path, "-c:v flv", "96x64", duration_s=20)
    words = b"\2\0\x0aonTextData\x08\0\0\0\1\0\4type\2\0\4Text\0\4text\2\0\5Hello\0\0\x09"
    tag = struct.pack(">BBHBHB3x", 18, 0, len(words), 0, 19_500, 0) + words
    with path.open("ab") as file:
        file.write(tag + struct.pack(">I", len(tag)))


def _attached(name: str, attachment: str, mime_type: str) -> Kind:
    """A Matroska file that carries another one."""

    def make(path: Path) -> None:
        attach = ("-attach", path.parent / attachment, "-metadata:s:t", f"mimetype={mime_type}")
        run_ffmpeg("-i", path.parent / "h264.mkv", "-c", "copy", *attach, path)

    return Kind(name, make, whole(), ("h264.mkv", attachment))


def _changed(
    source: str,
    name: str,
    change: Callable[[bytes], bytes],
    expected: Whole | Partly | Refused,
) -> Kind:
    """A kind whose bytes are made from those of another."""

    def make(path: Path) -> None:
        path.write_bytes(change((path.parent / source).read_bytes()))

    return Kind(name, make, expected, (source,))


def _not_taken() -> Iterator[Kind]:
    """Whole videos in containers that are not among those that are read."""
    for name, output, size, because in (
        ("television.wtv", "-c:v mpeg2video -c:a mp2", "96x64", NOT_SENT),
        ("flash.swf", "-c:v flv -c:a libmp3lame", "96x64", NOT_SENT),
        ("game.roq", "-c:v roqvideo -r 30 -ar 22050 -ac 1 -c:a roq_dpcm", "128x64", NOT_SENT),
        ("film_strip.flm", "-c:v rawvideo -pix_fmt rgba -an -f filmstrip", "96x64", NOT_SENT),
        ("raw.y4m", "-pix_fmt yuv420p -an", "96x64", NOT_SENT),
        ("studio.gxf", "-c:v mpeg2video -ar 48000 -c:a pcm_s16le", "720x576", NOT_SENT),
        ("game.cpk", "-c:v cinepak -an -f film_cpk", "96x64", NOT_SENT),
        ("linux_game.mjpg", "-c:v mjpeg -an -f smjpeg", "96x64", NOT_SENT),
        ("bare.mjpeg", "-c:v mjpeg -an", "96x64", BARE),
        ("bare.h261", "-c:v h261 -an", "176x144", BARE),
        ("bare.h263", "-c:v h263 -an", "176x144", BARE),
        ("bare.vvc", f"{VVC} -an", "96x64", BARE),
        ("bare.drc", f"{VC2} -an -f dirac", "96x64", BARE),
        ("bare.dnxhd", f"{DNXHR} -an", "256x128", BARE),
        ("bare.apv", "-c:v liboapv -an", "256x128", BARE),
        ("bare.avs2", "-c:v libxavs2 -pix_fmt yuv420p -an", "96x64", BARE),
        ("bare.yuv", "-c:v rawvideo -an -f rawvideo", "96x64", "nothing tells its size"),
        ("camera.mpjpeg", "-c:v mjpeg -an -f mpjpeg", "96x64", NETWORK),
        ("packets.rtp", "-c:v mpeg2video -an -f rtp_mpegts", "96x64", NETWORK),
        ("stream.asf", "-c:v wmv2 -c:a wmav2 -f asf_stream", "96x64", NETWORK),
        ("animation.apng", "-c:v apng -an -f apng", "96x64", PICTURES),
        ("animation.webp", "-c:v libwebp_anim -an", "96x64", PICTURES),
        ("animation.fits", "-c:v fits -pix_fmt gray -an", "96x64", PICTURES),
    ):
        yield Kind(
            name,
            lambda path, output=output, size=size: make_clip(path, output, size),
            Refused("no_video" if name in BEGIN_AS_STILLS else "unreadable", because),
        )


BEGIN_AS_STILLS = ("bare.mjpeg", "animation.apng", "animation.webp")


def _no_video() -> Iterator[Kind]:
    """What is no video, or none that can be decoded."""
    still = Refused("no_video", PICTURES)
    for name, output in (
        *((f"{name}", "") for name in ("cover.jpg", "picture.png", "picture.webp", "picture.tiff")),
        *((f"{name}", "") for name in ("picture.bmp", "picture.jxl", "picture.jp2")),
        ("picture.gif", "-c:v gif -pix_fmt rgb8"),
        ("picture.avif", "-c:v libaom-av1 -cpu-used 8 -still-picture 1 -f avif"),
    ):
        yield Kind(
            name,
            lambda path, output=output: make_clip(path, f"-an -frames:v 1 {output}"),
            still,
        )
    yield _changed("cover.jpg", "picture.mp4", lambda content: content + b"\0", still)
    # A phone's picture that moves: what begins with a picture is one.
    yield Kind(
        "motion_photo.jpg",
        lambda path: path.write_bytes(
            (path.parent / "cover.jpg").read_bytes() + (path.parent / "h264.mp4").read_bytes()
        ),
        still,
        ("cover.jpg", "h264.mp4"),
    )
    for name, output in (
        ("sound.m4a", "-c:a aac"),
        ("sound.mp3", "-c:a libmp3lame"),
        ("sound.wav", PCM),
        ("sound.flac", "-c:a flac"),
        ("sound.aac", "-c:a aac"),
        ("sound.opus", "-c:a libopus"),
        ("sound.mka", "-c:a libvorbis"),
        ("sound.wma", "-c:a wmav2"),
        ("sound.ts", "-c:a mp2"),
        ("sound_as_video.mp4", "-c:a libmp3lame -f mp3"),
    ):
        yield Kind(
            name, lambda path, output=output: make_clip(path, f"-vn {output}"), Refused("no_video")
        )
    yield _from(
        "cover.jpg",
        "sound_with_cover.mp3",
        "-map 1 -map 0 -c copy -disposition:v attached_pic",
        Refused("no_video"),
        beside="sound.mp3",
    )
    yield _from(
        "cover.jpg",
        "sound_with_cover.m4a",
        "-map 1 -map 0 -c copy -disposition:v attached_pic",
        Refused("no_video"),
        beside="sound.m4a",
    )
    key = "76a6c65c5ea762046bd749a2e632ccbb"
    encrypted = f"-encryption_scheme cenc-aes-ctr -encryption_key {key} -encryption_kid {key}"
    yield _from("h264.mp4", "encrypted.mp4", f"-c copy {encrypted}", Refused("unsupported_codec"))
    yield _changed(
        "h264_silent.mp4",
        "unknown_codec.mp4",
        partial(_replaced, b"avc1" + FIRST_ENTRY, b"zzzz" + FIRST_ENTRY),
        Refused("unsupported_codec"),
    )
    for name, source, mark, back in (
        ("head_only.mp4", "fragmented.mp4", b"moof", 4),
        ("head_only.gif", "animation.gif", b"\x21\xff\x0bNETSCAPE", 0),
    ):
        yield _changed(source, name, partial(_before, mark, back), NO_FRAMES)
    # Not even opened without the first of its clusters.
    yield _changed(
        "h264.mkv", "head_only.mkv", partial(_before, b"\x1f\x43\xb6\x75", 0), UNREADABLE
    )
    yield Kind("empty", lambda path: path.touch(), Refused("empty"))
    for name, content in (
        ("one_byte.mp4", b"x"),
        ("zeros.mp4", bytes(100_000)),
        ("text.mp4", b"To whom it may concern\n" * 99),
        ("page.html", b"<!DOCTYPE html><video src='h264.mp4'></video>"),
        ("data.json", b'{"video": "h264.mp4"}'),
        ("script.sh", b"#!/bin/sh\nexit 1\n"),
        ("document.pdf", b"%PDF-1.7\n" + bytes(range(256)) * 20),
        ("program", b"\x7fELF\2\1\1" + bytes(range(256)) * 20),
        ("random.mp4", random.Random(1).randbytes(100_000)),
        ("random.ts", random.Random(2).randbytes(100_000)),
    ):
        yield Kind(name, lambda path, content=content: path.write_bytes(content), UNREADABLE)
    for name, pack in (
        ("archive.zip", _zip),
        ("archive.tar", _tar),
        ("video.mp4.gz", gzip.compress),
    ):
        yield _changed("h264.mp4", name, pack, UNREADABLE)


def _zip(content: bytes) -> bytes:
    """An archive with a video as it is, not packed."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("h264.mp4", content)
    return target.getvalue()


def _tar(content: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo("h264.mp4")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def _replaced(old: bytes, new: bytes, content: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


def _before(mark: bytes, back: int, content: bytes) -> bytes:
    return content[: content.index(mark) - back]


def _references() -> Iterator[Kind]:
    """What names other files: the video beside it, and a place at which nobody must knock."""
    for suffix, make in LISTS.items():
        yield Kind(
            f"list_of_files.{suffix}",
            lambda path, make=make: path.write_text(make(str(path.parent / "mpeg2.ts"))),
            UNREADABLE,
        )
        yield Kind(
            f"list_of_places.{suffix}",
            lambda path, make=make: path.write_text(make(URL)),
            UNREADABLE,
        )
    # Their own pictures are shown, whatever else they name.
    for source, name, refer, expected in (
        ("wmv2.wmv", "redirects.wmv", redirect_asf, whole(times_s=regular(PRIMING_S["wma"]))),
        ("live.mkv", "linked.mkv", link_matroska, whole()),
        ("prores.mov", "refers_to_url.mov", _refer_to_url, whole()),
    ):
        yield _changed(source, name, lambda content, refer=refer: refer(content, URL), expected)
    yield Kind(
        "refers_to_file.mov",
        lambda path: path.write_bytes(
            refer_elsewhere(
                (path.parent / "prores.mov").read_bytes(), alias_entry(path.parent / "raw.mov")
            )
        ),
        NO_FRAMES,
        ("prores.mov", "raw.mov"),
    )
    yield Kind(
        "reference_movie.mov",
        lambda path: path.write_bytes(reference_movie(URL)),
        Refused("no_video"),
    )
    for name in ("concat:h264.mp4|mpeg2.ts", "frame%03d.mp4", "-i"):
        yield Kind(
            name,
            lambda path: make_clip(path, f"{H264} {PCM} -metadata title={path.name} -f matroska"),
            whole(),
        )


def _refer_to_url(movie: bytes, target: str) -> bytes:
    return refer_elsewhere(movie, url_entry(target))


def _head(content: bytes) -> bytes:
    return bytes(64) + content[64:]


def _middle(content: bytes) -> bytes:
    start, size = len(content) // 2, len(content) // 20
    return content[:start] + bytes(size) + content[start + size :]


def _tail(content: bytes) -> bytes:
    return content[: len(content) * 6 // 10]


def _damaged() -> Iterator[Kind]:
    """The same damage to each container: its first 64 bytes, a twentieth, its last two fifths."""
    hurt = Partly((13, 25), or_refused="damaged")
    # Their decoders conceal what is lost, or their containers skip it, without a word.
    quietly = Partly((12, 25), told=False)
    cut = Refused("truncated")
    # Nothing in them tells how long they should be.
    shorter = Partly((10, 18), told=False)
    for source, head, middle, tail in (
        ("h264.mp4", UNREADABLE, hurt, cut),
        ("faststart.mp4", UNREADABLE, hurt, cut),
        ("fragmented.mp4", UNREADABLE, hurt, Partly((14, 16), truncated=True)),
        ("prores.mov", UNREADABLE, Partly((23, 24)), cut),
        ("h264.mkv", UNREADABLE, hurt, cut),
        ("vp9.webm", UNREADABLE, cut, cut),  # of its single cluster, nothing comes after the hole
        # What begins without a head may be taken for the bare stream in it.
        ("mpeg4.avi", quietly, quietly, cut),
        ("h264.flv", UNREADABLE, hurt, cut),
        # All of its pictures come before most of its sound.
        ("mpeg2.mpg", quietly, Partly((13, 25)), Partly((18, 25), told=False)),
        ("h264.ts", Partly((20, 25), told=False), hurt, shorter),
        ("wmv2.wmv", UNREADABLE, quietly, shorter),
        ("theora.ogv", UNREADABLE, hurt, shorter),
        ("mpeg2.mxf", Partly((10, 25), or_refused="damaged"), quietly, cut),
        ("rv20.rm", UNREADABLE, hurt, cut),
        ("h264.nut", NO_FRAMES, quietly, Partly((10, 18))),
        ("animation.gif", UNREADABLE, quietly, Partly((14, 16))),
        ("vp8.ivf", UNREADABLE, quietly, cut),
        ("h264.264", quietly, quietly, Partly((10, 18))),
        ("mpeg2.m2v", quietly, Partly((20, 25)), Partly((10, 18))),
        # 15 of its 25 frames, each of the same size
        ("pal.dv", quietly, quietly, Partly((15, 15), told=False)),
    ):
        stem, dot, suffix = source.partition(".")
        for where, change, expected in (
            ("head", _head, head),
            ("middle", _middle, middle),
            ("tail", _tail, tail),
        ):
            yield _changed(source, f"{stem}_{where}_lost{dot}{suffix}", change, expected)


def _sources() -> Iterator[Kind]:
    words = "1\n00:00:00,000 --> 00:00:01,000\nHello\n"
    yield Kind("subtitles.srt", lambda path: path.write_text(words), UNREADABLE)


URL = "http://127.0.0.1:9/a.ts"
JUNK = random.Random(0).randbytes(3000)
FIRST_ENTRY = b"\0\0\0\0\0\0\0\1"  # what follows the name of a codec in a file of the MP4 family
UNREADABLE = Refused("unreadable")
NO_FRAMES = Refused("no_frames")


def kinds() -> list[Kind]:
    """All of the corpus."""
    return [
        *_sources(),
        *_coded(),
        *_shaped(),
        *_timed(),
        *_many_streams(),
        *_not_taken(),
        *_no_video(),
        *_references(),
        *_damaged(),
    ]


def make_corpus(folder: Path, names: Collection[str] = ()) -> None:
    """Makes the files of these names, or of all, and those first that they are made from."""
    known = {kind.name: kind for kind in kinds()}
    folder.mkdir(parents=True, exist_ok=True)
    waiting: set[str] = set()
    wanted = [*(names or known)]
    while wanted:
        name = wanted.pop()
        waiting.add(name)
        wanted += known[name].needs
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        while waiting:
            ready = [known[name] for name in waiting if not waiting & {*known[name].needs}]
            list(pool.map(lambda kind: kind.make(folder / kind.name), ready))
            waiting -= {kind.name for kind in ready}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    make_corpus(parser.parse_args().folder)
