from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vidpipe.errors import MediaError
from vidpipe.local.demo_data import COLORS, MOTIONS, SHAPES, DemoData, make_demo_videos
from vidpipe.media import ExtractOptions, Frame, decode, ffmpeg_path, probe

CLIPS = 48


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> DemoData:
    return make_demo_videos(tmp_path_factory.mktemp("demo"), clips=CLIPS, seed=3)


@pytest.fixture(scope="module")
def truths(demo) -> list[dict]:
    return json.loads(demo.truth_json.read_text(encoding="utf-8"))


def _pixels(path: Path, width: int, height: int) -> np.ndarray:
    command = [ffmpeg_path(), "-v", "error", "-i", str(path), "-fps_mode", "passthrough"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def _labels(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["video"]: row["label"] for row in csv.DictReader(file)}


def _corners(truth: dict) -> np.ndarray:
    """Where the object begins in each frame: its first box, from which the others are wrapped."""
    return np.array([frame["boxes"][0][:2] for frame in truth["frames"]])


def test_labels_are_even_and_independent(demo):
    motion, appearance = _labels(demo.motion_csv), _labels(demo.appearance_csv)
    assert list(motion) == list(appearance) == [path.name for path in demo.videos]
    pairs = Counter((motion[name], appearance[name]) for name in motion)
    assert pairs == {(m, a): CLIPS / 16 for m in MOTIONS for a in COLORS}


def test_boxes_hold_the_object_in_every_frame(demo, truths):
    for truth in truths[:8]:
        pixels = _pixels(demo.folder / truth["video"], truth["width"], truth["height"])
        assert len(pixels) == len(truth["frames"])
        color = np.array(COLORS[truth["appearance"]])
        seen = (np.abs(pixels.astype(int) - color) < 50).all(axis=-1)
        for picture, frame in zip(seen, truth["frames"], strict=True):
            boxes = np.zeros_like(picture)
            for x, y, width, height in frame["boxes"]:
                left, right = round(x * truth["width"]), round((x + width) * truth["width"])
                top, bottom = round(y * truth["height"]), round((y + height) * truth["height"])
                boxes[top:bottom, left:right] = True
            assert picture.sum() > 0.4 * boxes.sum()
            assert (picture & boxes).sum() > 0.9 * picture.sum()


def test_two_frames_tell_the_motion(truths):
    for truth in truths:
        moves = np.diff(_corners(truth), axis=0)
        moves = (moves + 0.5) % 1 - 0.5  # out on one side, in on the other
        total = moves.sum(axis=0) / (truth["frames"][-1]["time_s"])
        across = np.array(MOTIONS[truth["motion"]]) == 0
        assert total[across] == 0
        assert 0.25 < total[~across] @ [sum(MOTIONS[truth["motion"]])] < 0.45


def test_one_frame_does_not_tell_the_motion(truths):
    """The nearest clip by place, size and look is of the same motion no more than by chance."""
    looks = []
    for truth in truths:
        corner, [_, _, width, height] = _corners(truth)[0], truth["frames"][0]["boxes"][0]
        looks.append([*corner, width, height, SHAPES.index(truth["object"])])
    distances = np.linalg.norm(np.array(looks)[:, None] - np.array(looks)[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    motions = np.array([truth["motion"] for truth in truths])
    assert np.mean(motions[distances.argmin(axis=1)] == motions) < 0.45


def test_the_same_seed_gives_the_same_files_and_another_seed_others(demo, tmp_path):
    code = "make_demo_videos(pathlib.Path(sys.argv[1]), clips=3, seed=3)"
    imports = "import pathlib, sys; from vidpipe.local.demo_data import make_demo_videos"
    subprocess.run([sys.executable, "-c", f"{imports}; {code}", tmp_path / "again"], check=True)
    other = make_demo_videos(tmp_path / "other", clips=3, seed=4)
    # Splits are drawn by the hash of the bytes.
    for number in range(3):
        content = demo.videos[number].read_bytes()
        assert content == (tmp_path / "again" / demo.videos[number].name).read_bytes()
        assert content != other.videos[number].read_bytes()


def test_a_few_clips_play_roles(demo, truths):
    infos = [probe(path) for path in demo.videos[:12]]
    assert [i for i, info in enumerate(infos) if info.rotation_deg] == [1]
    for info, truth in zip(infos, truths, strict=False):
        assert (info.video_codec, info.width, info.height) == (
            "h264",
            truth["width"],
            truth["height"],
        )
        assert info.audio_codec == ("aac" if truth["words"] else None)
    gaps = [np.ptp(np.diff([f["time_s"] for f in truth["frames"]])) > 0.01 for truth in truths]
    assert [i for i, uneven in enumerate(gaps) if uneven] == [2]
    assert [i for i, info in enumerate(infos) if info.audio_codec is None] == [9]
    assert len({(info.width, info.height) for info in infos}) > 3
    assert len({info.fps for info in infos}) > 3


def test_times_of_the_truth_are_those_that_decoding_gives(demo, truths):
    options = ExtractOptions(fps=1000, short_side=0, jpeg_quality=90)
    for number in range(4):
        path = demo.videos[number]
        frames = [part for part in decode(path, options) if isinstance(part, Frame)]
        times_s = [frame["time_s"] for frame in truths[number]["frames"]]
        assert [frame.time_s for frame in frames] == pytest.approx(times_s, abs=0.001)


def test_broken_files_are_broken_as_told(demo):
    assert set(demo.broken.values()) == {"empty", "unreadable", "truncated", "no_video"}
    for path, reason in demo.broken.items():
        with pytest.raises(MediaError) as caught:
            probe(path)
        assert caught.value.reason == reason


def test_words_are_spoken_where_the_truth_says(demo, truths):
    spoken = 0
    for truth in truths[:12]:
        command = [ffmpeg_path(), "-v", "error", "-i", str(demo.folder / truth["video"])]
        command += ["-map", "0:a?", "-ar", "16000", "-f", "s16le", "pipe:"]
        result = subprocess.run(command, capture_output=True)
        samples = np.frombuffer(result.stdout, np.int16).astype(float)
        assert bool(len(samples)) == bool(truth["words"])
        for word in truth["words"]:
            inside = samples[int(word["start_s"] * 16000) : int(word["end_s"] * 16000)]
            before = samples[: int(truth["words"][0]["start_s"] * 16000) - 800]
            if word["end_s"] < len(samples) / 16000:
                assert inside.std() > 10 * before.std()
                spoken += 1
    assert spoken > 12
