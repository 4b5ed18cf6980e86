"""Attacks by files that name other files: nobody reads these, and nobody knocks at these places."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus import make_corpus
from tests.media_files import make_clip, run_ffmpeg
from tests.references import (
    LISTS,
    alias_entry,
    link_matroska,
    redirect_asf,
    refer_elsewhere,
    reference_movie,
    url_entry,
)
from tests.security.decoding import frames_of, reason_of
from vidpipe.media import Decoder


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """One for all files."""
    with Decoder() as decoder:
        yield decoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A few videos."""
    folder = tmp_path_factory.mktemp("references")
    make_corpus(folder, ("wmv2.wmv", "live.mkv", "prores.mov"))
    make_clip(folder / "secret.ts", *"-c:v mpeg2video -r 25 -c:a mp2".split())
    return folder


def places(server: socket.socket, secret: Path) -> list[str]:
    """Ways to name a video that nobody asked for."""
    host, port = server.getsockname()
    at = [f"{scheme}://{host}:{port}/a.ts" for scheme in ("http", "tcp", "rtsp", "rtmp", "ftp")]
    files = [str(secret), f"file://{secret}", f"file:{secret}", secret.name]
    return [*at, *files, f"subfile,,start,0,end,0,,:{secret}", f"concat:{secret}"]


@pytest.mark.parametrize("suffix", LISTS)
def test_a_list_of_other_files_is_no_video(folder, decoder, listener, suffix):
    """Tries: a playlist, a list of segments or a script names local files and servers.

    Stopped by: a list of the containers that hold what they hold themselves.
    """
    for place in places(listener, folder / "secret.ts"):
        for name in (f"list.{suffix}", "list.mp4"):
            (folder / name).write_text(LISTS[suffix](place))
            assert reason_of(decoder, folder / name) == "unreadable"
    # FFmpeg by itself would read them.
    for suffix, flags in (("m3u8", ["-extension_picky", "0"]), ("ffconcat", ["-safe", "0"])):
        (folder / f"read.{suffix}").write_text(LISTS[suffix](str(folder / "secret.ts")))
        run_ffmpeg(*flags, "-i", folder / f"read.{suffix}", "-f", "null", "-")


@pytest.mark.parametrize(
    ("source", "refer"),
    [
        ("wmv2.wmv", redirect_asf),
        ("live.mkv", link_matroska),
        ("prores.mov", lambda movie, place: refer_elsewhere(movie, url_entry(place))),
    ],
)
def test_a_video_that_names_others_shows_its_own_pictures(folder, decoder, listener, source, refer):
    """Tries: a video redirects to another, links a chapter of it, or has its samples elsewhere.

    Stopped by: the demuxers follow no reference, and know no protocol but files.
    """
    own = frames_of(decoder, folder / source)
    content = (folder / source).read_bytes()
    path = folder / f"refers_{source}"
    for place in places(listener, folder / "secret.ts"):
        path.write_bytes(refer(content, place))
        assert [frame.jpeg for frame in frames_of(decoder, path)] == [frame.jpeg for frame in own]


def test_a_movie_that_only_names_another_is_none(folder, decoder, listener):
    """Tries: a QuickTime reference movie names a local file or a server.

    Stopped by: the demuxer follows no reference: there is no video in it.
    """
    for place in places(listener, folder / "secret.ts"):
        (folder / "reference.mov").write_bytes(reference_movie(place))
        assert reason_of(decoder, folder / "reference.mov") == "no_video"


def test_a_movie_whose_samples_lie_elsewhere_is_not_followed(tmp_path, decoder):
    """Tries: the data reference of a movie is an alias of another file, whose bytes become frames.

    Stopped by: the demuxer is not allowed to follow it; Landlock would deny the file.
    """
    raw = ("-c:v", "rawvideo", "-pix_fmt", "rgb24")
    for name, color in (("own", "gray"), ("other", "white")):
        source = f"color={color}:s=64x64:r=5:d=1,format=rgb24"
        run_ffmpeg("-f", "lavfi", "-i", source, *raw, tmp_path / f"{name}.mov")
    movie, other = tmp_path / "a.mov", (tmp_path / "other.mov").resolve()
    movie.write_bytes(refer_elsewhere((tmp_path / "own.mov").read_bytes(), alias_entry(other)))
    output = ("-f", "rawvideo", "-pix_fmt", "gray", tmp_path / "seen")
    run_ffmpeg("-enable_drefs", "1", "-use_absolute_path", "1", "-i", movie, *output)
    assert (tmp_path / "seen").read_bytes() == b"\xff" * 64 * 64 * 5, "it can be followed"
    assert reason_of(decoder, movie) == "no_frames"


def test_a_video_is_a_file_whatever_its_name_and_whatever_lies_beside_it(tmp_path, monkeypatch):
    """Tries: a file is named like an option, a protocol or a pattern, or lies beside a module.

    Stopped by: paths go to FFmpeg as `file:…`, and modules never come from the working folder.
    """
    monkeypatch.chdir(tmp_path)
    clip = make_clip(tmp_path / "a.mp4", tone_hz=None)
    Path("json.py").write_text("raise SystemExit('a module of the working folder ran')")
    with Decoder() as decoder:
        for name in ("concat:a.mp4", "-i", "a%03d.mp4", "http:", "ü 'b\n.mp4"):
            shutil.copy(clip, tmp_path / name)
            assert len(frames_of(decoder, Path(name))) == 10


def test_an_attachment_is_left_where_it_is(tmp_path, decoder):
    """Tries: a Matroska file brings a font under the name of a file elsewhere, to be written there.

    Stopped by: attachments are not read; the decoder could write no file.
    """
    (tmp_path / "font").write_bytes(b"not a font")
    video, target = tmp_path / "a.mkv", tmp_path / "written.ttf"
    attached = (
        "-attach",
        tmp_path / "font",
        "-metadata:s:t",
        "mimetype=application/x-truetype-font",
    )
    make_clip(video, *map(str, attached), "-metadata:s:t", f"filename={target}", tone_hz=None)
    assert str(target).encode() in video.read_bytes()
    assert len(frames_of(decoder, video)) == 10
    assert not target.exists()
