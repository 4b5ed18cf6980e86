"""Copies are found whatever was done to them; what is different, or shows nothing, is not."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media_files import run_ffmpeg
from vidpipe.datasets import near_duplicates
from vidpipe.datasets.near_duplicates import (
    COLOUR,
    SAMPLING,
    differing_bits,
    find_near_pairs,
    fingerprint,
    is_blank,
    read_fingerprints,
)
from vidpipe.datasets.splits import NEAR_DUPLICATE_BITS
from vidpipe.errors import BadInputError
from vidpipe.local.demo_data import make_demo_videos
from vidpipe.media import ExtractOptions, ffmpeg_path
from vidpipe.stages.local_files import extract

WIDTH, HEIGHT, FPS, SECONDS = 320, 240, 10, 6
SCENES = 6
# What is done to a copy: what is read of it, and how it is changed and written.
CHANGES = {
    "coded anew": ([], ["-crf", "38"]),
    "half the size": ([], ["-vf", "scale=iw/2:ih/2"]),
    "another shape": ([], ["-vf", "scale=iw*0.75:ih"]),
    "cropped": ([], ["-vf", "crop=iw*0.95:ih*0.95"]),
    "letterbox": ([], ["-vf", "pad=iw:ih*5/4:0:(oh-ih)/2"]),
    "pillarbox": ([], ["-vf", "pad=iw*4/3:ih:(ow-iw)/2:0"]),
    "lighter": ([], ["-vf", "eq=brightness=0.08:contrast=1.1"]),
    "darker": ([], ["-vf", "eq=brightness=-0.08"]),
    "fewer frames": ([], ["-r", "6"]),
    "start cut off": (["-ss", "1.3"], []),
    "end cut off": (["-t", "4.1"], []),
    "fades in": ([], ["-vf", "fade=in:st=0.5:d=1.5"]),
    "black before it": ([], ["-vf", "tpad=start_duration=2"]),
    "all at once": (["-ss", "0.5"], ["-vf", "scale=200:150,eq=brightness=0.05", "-crf", "32"]),
}


def make_scene(path: Path, seed: int) -> Path:
    """A camera pans over a picture of soft, coloured shapes."""
    random = np.random.default_rng(seed)
    picture = np.zeros((HEIGHT * 2, WIDTH * 2, 3))
    for cells in (4, 8, 16, 32):
        coarse = random.normal(0, 1, (cells, cells, 3)) + random.normal(0, 0.5, 3)
        rows = np.linspace(0, cells - 1, HEIGHT * 2).round().astype(int)
        columns = np.linspace(0, cells - 1, WIDTH * 2).round().astype(int)
        picture += coarse[rows][:, columns] / cells**0.5
    picture = (120 + 60 * picture).clip(0, 255).astype(np.uint8)
    start, end = (random.integers(0, (HEIGHT, WIDTH)) for _ in range(2))
    command = [ffmpeg_path(), "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{WIDTH}x{HEIGHT}", "-r", f"{FPS}", "-i", "pipe:", "-crf", "20"]
    with subprocess.Popen([*command, "-pix_fmt", "yuv420p", path], stdin=subprocess.PIPE) as coder:
        for share in np.linspace(0, 0.5, FPS * SECONDS):
            top, left = (start + share * (end - start)).astype(int)
            coder.stdin.write(picture[top : top + HEIGHT, left : left + WIDTH].tobytes())
        coder.stdin.close()
    assert coder.returncode == 0
    return path


def looks(folder: Path, files: list[Path], **options) -> dict[str, str]:
    """The fingerprint of each file, by its name, through extraction."""
    extract(files, folder, ExtractOptions(**options), workers=2)
    tables = {name: ds.dataset(folder / name) for name in ("videos", "frames", "outcomes")}
    videos = tables["videos"].to_table(columns=["video_id", "work_key"]).to_pylist()
    found = read_fingerprints(
        tables["frames"],
        {row["video_id"]: row["work_key"] for row in videos},
        folder,
        lambda done, of: None,
    )
    outcomes = tables["outcomes"].to_table(columns=["source_uri", "video_id"]).to_pylist()
    return {Path(unquote(row["source_uri"])).stem: found[row["video_id"]] for row in outcomes}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Fingerprints of some scenes, and of copies of the first two; `number change` is the name."""
    folder = tmp_path_factory.mktemp("scenes")
    files = [make_scene(folder / f"{seed}.mp4", seed) for seed in range(SCENES)]
    for source in files[:2]:
        for change, (reading, writing) in CHANGES.items():
            files.append(folder / f"{source.stem} {change}.mp4")
            run_ffmpeg(*reading, "-i", source, "-pix_fmt", "yuv420p", *writing, files[-1])
    return looks(folder / "extracted", files)


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_and_taken_for_nothing_else(scenes, change):
    for source in "01":
        originals = {name: scenes[name] for name in scenes if " " not in name}
        copy = f"{source} {change}"
        pairs = find_near_pairs({**originals, copy: scenes[copy]}, NEAR_DUPLICATE_BITS)
        assert list(pairs) == [(source, copy)]


def test_all_copies_of_a_scene_come_together(scenes):
    for one, other in find_near_pairs(scenes, NEAR_DUPLICATE_BITS):
        assert one.split()[0] == other.split()[0]


@pytest.mark.long
def test_demo_clips_are_different_though_they_look_alike(tmp_path):
    demo = make_demo_videos(tmp_path / "demo", clips=60, seed=0)
    found = looks(tmp_path / "extracted", list(demo.videos), fps=8, short_side=128)
    assert len(found) == 60
    assert list(find_near_pairs(found, NEAR_DUPLICATE_BITS)) == []


def test_what_shows_nothing_is_near_to_nothing(tmp_path):
    sources = {
        "black": "color=black",
        "black again": "color=black",
        "blue": "color=blue",
        "noise on grey": "color=gray,noise=alls=4:allf=t",
        "fade": "color=gray,fade=out:d=3",
    }
    for number, (name, source) in enumerate(sources.items()):
        size = f"s=160x{120 + 8 * number}:d=3:r=10"
        source = source.replace("color=", f"color={size}:c=")
        run_ffmpeg("-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", tmp_path / f"{name}.mp4")
    found = looks(tmp_path / "extracted", sorted(tmp_path.glob("*.mp4")))
    assert found.keys() == sources.keys()
    assert all(is_blank(of_video) for of_video in found.values())
    assert list(find_near_pairs(found, 64)) == []


def test_a_mirror_image_is_another():
    clip = np.random.default_rng(0).integers(0, 255, (8, 4, 4, 3), np.uint8)
    clip = clip.repeat(16, axis=1).repeat(16, axis=2)
    pair = {"a": fingerprint(clip), "b": fingerprint(clip[:, :, ::-1])}
    assert list(find_near_pairs(pair, NEAR_DUPLICATE_BITS)) == []
    assert list(find_near_pairs({"a": pair["a"], "b": fingerprint(clip)}, 0)) == [("a", "b")]


def test_colours_tell_apart_what_moves_alike():
    clip = np.full((8, 64, 64, 3), 90, np.uint8)
    for number, frame in enumerate(clip):
        frame[8:30, number * 6 : number * 6 + 20] = (200, 200, 200)
    tinted = clip.copy()
    tinted[(clip == 90).all(axis=-1)] = (120, 80, 70)
    words = {"grey": fingerprint(clip), "brown": fingerprint(tinted)}
    assert list(find_near_pairs(words, NEAR_DUPLICATE_BITS)) == []


# === All pairs ===

FRAME = st.one_of(
    st.just("-"),
    # Few bits and colours, so that frames are alike by chance.
    st.builds(
        lambda bits, cb, cr: f"{bits:016x}{cb:02x}{cr:02x}",
        st.integers(0, 15),
        st.integers(100, 106),
        st.integers(100, 106),
    ),
)
VIDEO = st.lists(FRAME, max_size=SAMPLING.frames).map(" ".join)


def is_in(one: list[str], other: list[str], bits: int) -> bool:
    """Whether more than half of the frames are alike to some of the other, in order."""

    def alike(a: str, b: str) -> bool:
        apart = (int(a[:16], 16) ^ int(b[:16], 16)).bit_count()
        colours = (abs(int(a[n : n + 2], 16) - int(b[n : n + 2], 16)) for n in (16, 18))
        return apart <= bits and max(colours) <= COLOUR

    def most(i: int, j: int) -> int:
        if i == len(one):
            return 0
        found = [1 + most(i + 1, k) for k in range(j, len(other)) if alike(one[i], other[k])][:1]
        return max([most(i + 1, j), *found])

    return 2 * most(0, 0) > len(one)


@given(st.lists(VIDEO, max_size=12), st.integers(0, 4), st.integers(1, 20), st.integers(1, 20))
def test_all_pairs_are_found_whatever_the_blocks(videos, bits, rows, columns):
    fingerprints = {f"v{n:02}": words for n, words in enumerate(videos)}
    frames = {v: [w for w in words.split() if w != "-"] for v, words in fingerprints.items()}
    expected = [
        (one, other)
        for one in fingerprints
        for other in fingerprints
        if one < other and frames[one] and frames[other]
        if is_in(frames[one], frames[other], bits) or is_in(frames[other], frames[one], bits)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "BLOCK_ROWS", rows)
        patch.setattr(near_duplicates, "BLOCK_COLUMNS", columns)
        patch.setattr(near_duplicates, "CHECKED", 3)
        found = find_near_pairs(fingerprints, bits)
    assert list(found) == expected and len(found) == len(expected)
    some = set(list(fingerprints)[::2])
    assert list(found.among(some)) == [pair for pair in expected if some.issuperset(pair)]


@pytest.mark.parametrize("text", ["zz", "00", "-" * 20, " ".join(["0" * 20] * 9)])
def test_what_is_no_fingerprint_is_refused(text):
    with pytest.raises(BadInputError, match="no fingerprint"):
        find_near_pairs({"a": text, "b": "0" * 20}, 8)


@pytest.mark.parametrize("bits", [0, 3, 8])
def test_the_bits_of_a_pair_are_the_fewest_that_find_it(bits):
    one = " ".join(f"{number * 0x1234567:016x}8080" for number in range(1, 9))
    # Of five frames more bits differ than of the others; three are of something else.
    other = " ".join(
        f"{(number * 0x1234567) ^ ((1 << bits) - 1 if number < 6 else -1 % 2**64):016x}8080"
        for number in range(1, 9)
    )
    assert differing_bits(one, other) == bits
    assert len(find_near_pairs({"one": one, "other": other}, bits)) == 1
    if bits:
        assert len(find_near_pairs({"one": one, "other": other}, bits - 1)) == 0
