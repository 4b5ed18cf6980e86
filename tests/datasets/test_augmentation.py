"""Every frame of a clip is changed alike, boxes follow, and nothing is mirrored silently."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.datasets.augmentation import Augmenter, move_boxes
from vidpipe.datasets.presets import PRESETS, Augmentation, refuse_sides
from vidpipe.errors import BadInputError

RANDOM = np.random.default_rng(0)
AUGMENTED = [name for name in PRESETS if name != "none"]
HEIGHT, WIDTH = 60, 100


def augmented(clips: np.ndarray, augmentation: Augmentation, seed=(1, 2)):
    augmenter = Augmenter(augmentation)
    drawn = augmenter.draw(seed, len(clips), *clips.shape[2:4])
    return augmenter.apply(clips, drawn).numpy(), drawn


@pytest.mark.parametrize("preset", AUGMENTED)
def test_all_frames_of_a_clip_are_changed_alike_and_each_clip_otherwise(preset):
    picture = RANDOM.integers(60, 180, (16, 24, 3), dtype=np.uint8)
    same = np.broadcast_to(picture, (24, 3, 16, 24, 3)).copy()
    changed, _ = augmented(same, Augmentation(preset))
    assert changed.shape == same.shape and changed.dtype == np.uint8
    np.testing.assert_array_equal(changed[:, 0], changed[:, 1])
    np.testing.assert_array_equal(changed[:, 0], changed[:, 2])
    assert len(np.unique(changed, axis=0)) > 20


def test_light_that_depends_on_the_picture_does_not_flicker():
    # A dark and a bright frame: each by itself would be stretched to the same.
    clips = np.zeros((40, 2, 16, 16, 3), np.uint8)
    clips[:, 0], clips[:, 1] = 60, 120
    clips[:, :, 4:12, 4:12] += 20
    changed, _ = augmented(clips, Augmentation("strong"))
    brightness = changed.mean(axis=(2, 3, 4))
    assert (brightness[:, 1] >= brightness[:, 0] + 20).all()


def test_half_of_the_clips_are_mirrored_where_left_and_right_mean_the_same_and_else_none():
    clips = np.zeros((60, 1, HEIGHT, WIDTH, 3), np.uint8)
    clips[:, 0, 26:34, 10:18] = 255  # left of the middle

    def are_left(augmentation: Augmentation) -> np.ndarray:
        changed, _ = augmented(clips, augmentation)
        weight = (changed[:, 0] > 127).sum(axis=3)
        x = (weight * np.arange(WIDTH)).sum(axis=(1, 2)) / weight.sum(axis=(1, 2))
        assert (np.abs(x - WIDTH / 2) > 5).all()
        return x < WIDTH / 2

    for preset in ("light", "article"):
        assert are_left(Augmentation(preset)).all()
        assert 18 < are_left(Augmentation(preset, mirrored=True)).sum() < 42


def test_the_default_keeps_things_near_their_place():
    size = 64
    clips = np.zeros((200, 1, size, size, 3), np.uint8)
    clips[:, 0, 28:36, 8:16] = 255
    moved = augmented(clips, Augmentation("article"), (3, 4))[0][:, 0, :, :, 0].astype(float)
    y, x = np.mgrid[:size, :size]
    weight = moved.sum(axis=(1, 2))
    centre_x = (moved * x).sum(axis=(1, 2)) / weight
    centre_y = (moved * y).sum(axis=(1, 2)) / weight
    assert np.abs(centre_x - 11.5).max() < 16 and np.abs(centre_y - 31.5).max() < 20
    assert abs(centre_x.mean() - 12) < 2 and centre_x.std() > 2 and centre_y.std() > 2


@pytest.mark.parametrize("preset", AUGMENTED)
def test_boxes_follow_what_is_in_them(preset):
    clips = np.full((60, 2, HEIGHT, WIDTH, 3), 40, np.uint8)
    boxes = np.empty((60, 2, 1, 4), np.float32)
    for clip in range(60):
        for frame in range(2):
            left, top = RANDOM.integers(30, 55), RANDOM.integers(20, 30)
            clips[clip, frame, top : top + 8, left : left + 12] = 220
            ends = np.array([left, top, left + 12, top + 8])
            boxes[clip, frame, 0] = ends / (WIDTH, HEIGHT, WIDTH, HEIGHT)
    changed, drawn = augmented(clips, Augmentation(preset, mirrored=True))
    moved = move_boxes(boxes, drawn.transforms, HEIGHT, WIDTH).numpy()
    assert (moved != boxes).any()
    for clip in range(60):
        for frame in range(2):
            grey = changed[clip, frame].mean(axis=-1)
            y, x = np.nonzero(grey > (grey.min() + grey.max()) / 2)
            seen = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
            box = moved[clip, frame, 0] * (WIDTH, HEIGHT, WIDTH, HEIGHT)
            # A corner of less than half a pixel is not seen.
            assert np.abs(seen - box).max() < 1.6


def test_a_box_is_cut_at_the_edge_and_empty_beyond_it():
    half = np.array([[1, 0, WIDTH / 2, 0, 1, 0, 0, 0]], np.float32)  # to the left
    boxes = np.array([[[[0.4, 0.2, 0.8, 0.6], [0.1, 0.1, 0.3, 0.3]]]], np.float32)
    moved = move_boxes(boxes, half, HEIGHT, WIDTH).numpy()[0, 0]
    np.testing.assert_allclose(moved[0], [0, 0.2, 0.3, 0.6], atol=1e-6)
    assert moved[1, 0] == moved[1, 2] == 0


@pytest.mark.parametrize(
    "labels",
    [
        ["turn_left", "straight"],
        ["Turn Right", "other"],
        ["turnLeft", "turnRight"],
        ["left-handed", "other"],
        ["LEFT", "up"],
        ["counter-clockwise", "still"],
        ["anticlockwise", "still"],
        ["hand l", "hand r"],
    ],
)
def test_labels_that_tell_left_from_right_are_refused(labels):
    with pytest.raises(BadInputError, match="tells left from right"):
        refuse_sides(labels)


def test_other_labels_can_be_mirrored():
    refuse_sides(["bright", "upright", "leftover", "cleft", "vitamin r", "bird"])
