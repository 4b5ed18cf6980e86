"""Photos among videos: none is a video, and none stops the others. EXIF in a video is no fault."""

from __future__ import annotations

import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.decoded import EVERY_FRAME, Decoded, reason_of
from tests.media_files import make_clip, run_ffmpeg
from vidpipe.errors import MediaError
from vidpipe.media import Decoder

STILL = {
    "photo.jpg": "",
    "photo.png": "",
    "photo.webp": "",
    "photo.tiff": "",
    "photo.bmp": "",
    "photo.jxl": "",
    "photo.jp2": "",
    "photo.gif": "-c:v gif",
    "photo.avif": "-c:v libaom-av1 -cpu-used 8 -still-picture 1",
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A photo of each kind; HEIC has the structure of AVIF, and other codes."""
    folder = tmp_path_factory.mktemp("photos")
    for name, output in STILL.items():
        source = ("-f", "lavfi", "-i", "testsrc=s=96x64", "-frames:v", "1")
        run_ffmpeg(*source, *output.split(), folder / name)
    heic = (folder / "photo.avif").read_bytes().replace(b"avif", b"heic").replace(b"av01", b"hvc1")
    (folder / "photo.heic").write_bytes(heic)
    return folder


@pytest.mark.parametrize("name", [*STILL, "photo.heic"])
def test_a_photo_is_no_video(photos, name):
    with Decoder() as decoder, pytest.raises(MediaError, match="still image") as caught:
        list(decoder.decode(photos / name, EVERY_FRAME))
    assert caught.value.reason == "no_video"


def test_an_animated_avif_is_a_video(tmp_path):
    output = ("-c:v", "libaom-av1", "-cpu-used", "8", "-f", "avif")
    animation = make_clip(tmp_path / "a.avif", *output, fps=5, tone_hz=None)
    assert len(Decoded(animation).frames) == 5


def test_exif_beside_the_frames_of_a_video_is_passed_over(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    for number in range(5):
        picture = Image.new("RGB", (96, 64), (40 * number, 0, 0))
        picture.save(tmp_path / f"{number}.jpg", exif=exif)
    camera = tmp_path / "a.avi"
    run_ffmpeg("-framerate", "25", "-i", tmp_path / "%d.jpg", "-c", "copy", camera)
    decoded = Decoded(camera)
    assert len(decoded.frames) == 5
    assert decoded.info.rotation_deg == 0


def test_the_orientation_of_exif_turns_the_frames(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.new("RGB", (96, 64)).save(tmp_path / "0.jpg", exif=exif)
    run_ffmpeg("-i", tmp_path / "0.jpg", "-c", "copy", tmp_path / "a.avi")
    assert (Decoded(tmp_path / "a.avi").info.width, reason_of(tmp_path / "0.jpg")) == (
        64,
        "no_video",
    )


def test_many_photos_do_not_stop_the_videos_among_them(tmp_path, photos):
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    kinds = sorted(photos.iterdir())
    for number in range(10 * len(kinds)):
        photo = kinds[number % len(kinds)]
        # Each of its own bytes, as photos are.
        content = photo.read_bytes() + number.to_bytes(4, "big")
        (mixed / f"{number}{photo.suffix}").write_bytes(content)
    for number in range(3):
        make_clip(mixed / f"video_{number}.mp4", size="32x32", fps=5, tone_hz=300 + number)
    command = (sys.executable, "-m", "vidpipe", "extract", mixed, "--output", tmp_path / "out")
    subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, check=True)
    outcomes = pq.read_table(tmp_path / "out" / "outcomes").to_pylist()
    ended = {(row["status"], row["reason"], "video_" in row["item"]) for row in outcomes}
    assert ended == {("done", None, True), ("quarantined", "no_video", False)}
    assert len(outcomes) == 10 * len(kinds) + 3
