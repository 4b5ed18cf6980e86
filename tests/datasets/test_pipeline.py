"""Batches are the same for the same seed, hold every clip once, and move a clip as one."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.datasets.pipeline import Part, augment_clips, plain_batches, training_batches

RANDOM = np.random.default_rng(0)
CLIPS = RANDOM.integers(0, 256, (20, 3, 16, 24, 3), dtype=np.uint8)
LABELS = np.eye(4, dtype=np.float32)[np.arange(20) % 4]
WEIGHTS = np.arange(20, dtype=np.float32)
ROWS = np.arange(3, 20)


def batches(dataset) -> list[tuple[np.ndarray, ...]]:
    return list(dataset.as_numpy_iterator())


def make(seed: int, augment: bool, epochs: int = 1, first_step: int = 0, part: Part | None = None):
    return training_batches(
        CLIPS,
        ROWS,
        LABELS[ROWS],
        WEIGHTS[ROWS],
        batch_size=5,
        augment=augment,
        seed=seed,
        epochs=epochs,
        first_step=first_step,
        part=part,
    )


def test_plain_batches_are_the_rows_in_order():
    plain = plain_batches(CLIPS, ROWS, LABELS[ROWS], WEIGHTS[ROWS], batch_size=5)
    clips, labels, weights = zip(*batches(plain), strict=True)
    np.testing.assert_array_equal(np.concatenate(clips), CLIPS[ROWS])
    np.testing.assert_array_equal(np.concatenate(labels), LABELS[ROWS])
    np.testing.assert_array_equal(np.concatenate(weights), WEIGHTS[ROWS])


def test_an_epoch_holds_every_row_once_with_its_label_and_weight():
    found = [
        tuple(value.tobytes() for value in row)
        for batch in batches(make(0, augment=False))
        for row in zip(*batch, strict=True)
    ]
    rows = (tuple(values[r].tobytes() for values in (CLIPS, LABELS, WEIGHTS)) for r in ROWS)
    assert sorted(found) == sorted(rows)


@pytest.mark.parametrize("augment", [False, True])
def test_the_seed_decides_and_every_epoch_differs(augment):
    one, again, other = (
        [clips for clips, *_ in batches(make(seed, augment, epochs=2))] for seed in (1, 1, 2)
    )
    epochs = np.concatenate(one[:4]), np.concatenate(one[4:])
    np.testing.assert_array_equal(np.concatenate(one), np.concatenate(again))
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[0] != np.concatenate(other[:4])).any()


@pytest.mark.parametrize("first_step", [1, 4, 6])
def test_from_any_step_on_the_batches_are_those_of_the_whole(first_step):
    whole = batches(make(1, True, epochs=2))
    rest = batches(make(1, True, epochs=2, first_step=first_step))
    assert len(whole) == 8 and len(rest) == 8 - first_step
    for batch, same in zip(whole[first_step:], rest, strict=True):
        for values, same_values in zip(batch, same, strict=True):
            np.testing.assert_array_equal(values, same_values)


def test_parts_of_a_batch_are_the_whole_and_small_ones_are_taken_whole():
    parts = zip(*(batches(make(1, True, part=Part(n, 3))) for n in range(3)), strict=True)
    for batch, of_parts in zip(batches(make(1, True)), parts, strict=True):
        assert {int(whole) for *_, whole in of_parts} == {len(batch[0])}
        for values, *of_values in zip(batch, *(part[:-1] for part in of_parts), strict=True):
            if len(batch[0]) < 3:
                for part in of_values:
                    np.testing.assert_array_equal(part, values)
            else:
                np.testing.assert_array_equal(np.concatenate(of_values), values)


def test_all_frames_of_a_clip_are_moved_alike_and_each_clip_otherwise():
    picture = RANDOM.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    same = np.broadcast_to(picture, (2, 3, 16, 24, 3)).copy()
    moved = augment_clips(same, (1, 2)).numpy()
    assert moved.shape == same.shape and moved.dtype == np.uint8
    np.testing.assert_array_equal(moved[:, 0], moved[:, 1])
    np.testing.assert_array_equal(moved[:, 0], moved[:, 2])
    assert (moved[0] != moved[1]).any() and (moved[0, 0] != picture).any()


def test_augmentation_never_mirrors_and_keeps_things_near_their_place():
    size = 64
    clips = np.zeros((200, 1, size, size, 3), np.uint8)
    clips[:, 0, 28:36, 8:16] = 255  # left of the middle
    moved = augment_clips(clips, (3, 4)).numpy()[:, 0, :, :, 0].astype(float)
    y, x = np.mgrid[:size, :size]
    weight = moved.sum(axis=(1, 2))
    centre_x = (moved * x).sum(axis=(1, 2)) / weight
    centre_y = (moved * y).sum(axis=(1, 2)) / weight
    # 20 pixels left of the centre: zoom, shift by 0.1 and turning by 20° leave it on its side.
    assert (centre_x < size / 2).all()
    assert np.abs(centre_x - 11.5).max() < 16 and np.abs(centre_y - 31.5).max() < 20
    assert abs(centre_x.mean() - 12) < 2 and centre_x.std() > 2 and centre_y.std() > 2
