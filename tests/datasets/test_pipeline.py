"""Batches are the same for the same seed, hold every clip once, and are whole in their parts."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.datasets.pipeline import (
    Order,
    Part,
    chance_moments,
    plain_batches,
    plain_clips,
    plain_moments,
    training_batches,
)
from vidpipe.datasets.presets import Augmentation

RANDOM = np.random.default_rng(0)
FRAMES = 3
CLIPS = RANDOM.integers(0, 256, (20, FRAMES, 16, 24, 3), dtype=np.uint8)
# As an augmentation wants them that chooses moments.
MORE = RANDOM.integers(0, 256, (20, 3 * FRAMES, 16, 24, 3), dtype=np.uint8)
LABELS = np.eye(4, dtype=np.float32)[np.arange(20) % 4]
WEIGHTS = 1 + np.arange(20, dtype=np.float32)
ROWS = np.arange(3, 20)
# Of each clip a sound of its own; two are mute.
SOUND = np.broadcast_to(np.arange(20, dtype=np.float16)[:, None, None], (20, 4, 3)).copy()
SOUND[[5, 12]] = np.nan
NONE, ARTICLE = Augmentation(), Augmentation("article")
RICH = [Augmentation("article", mix="mixup"), Augmentation("strong", True, "cutmix")]


def batches(dataset) -> list[tuple[np.ndarray, ...]]:
    return list(dataset.as_numpy_iterator())


def make(seed: int, augmentation: Augmentation, **chosen):
    clips = MORE if augmentation.preset == "strong" else CLIPS
    return training_batches(
        clips,
        ROWS,
        LABELS[ROWS],
        WEIGHTS[ROWS],
        order=Order(clips, ROWS, batch_size=5, seed=seed),
        frames=FRAMES,
        augmentation=augmentation,
        seed=seed,
        **{"epochs": 1, **chosen},
    )


def test_plain_batches_are_the_rows_in_order():
    plain = plain_batches(CLIPS, ROWS, LABELS[ROWS], WEIGHTS[ROWS], batch_size=5, frames=FRAMES)
    clips, labels, weights = zip(*batches(plain), strict=True)
    np.testing.assert_array_equal(np.concatenate(clips), CLIPS[ROWS])
    np.testing.assert_array_equal(np.concatenate(labels), LABELS[ROWS])
    np.testing.assert_array_equal(np.concatenate(weights), WEIGHTS[ROWS])


def test_of_more_frames_the_middles_are_evaluated():
    plain = plain_batches(MORE, ROWS, LABELS[ROWS], WEIGHTS[ROWS], batch_size=5, frames=FRAMES)
    found = np.concatenate([clips for clips, *_ in batches(plain)])
    np.testing.assert_array_equal(found, MORE[ROWS][:, 1::3])
    np.testing.assert_array_equal(plain_clips(MORE, ROWS, FRAMES), found)


def test_an_epoch_holds_every_row_once_with_its_label_and_weight():
    found = [
        tuple(value.tobytes() for value in row)
        for batch in batches(make(0, NONE))
        for row in zip(*batch, strict=True)
    ]
    rows = (tuple(values[r].tobytes() for values in (CLIPS, LABELS, WEIGHTS)) for r in ROWS)
    assert sorted(found) == sorted(rows)


@pytest.mark.parametrize("augmentation", [NONE, ARTICLE, RICH[1]])
def test_the_seed_decides_and_every_epoch_differs(augmentation):
    one, again, other = (
        [clips for clips, *_ in batches(make(seed, augmentation, epochs=2))] for seed in (1, 1, 2)
    )
    epochs = np.concatenate(one[:4]), np.concatenate(one[4:])
    np.testing.assert_array_equal(np.concatenate(one), np.concatenate(again))
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[0] != np.concatenate(other[:4])).any()


@pytest.mark.parametrize("augmentation", RICH)
def test_from_any_step_on_the_batches_are_those_of_the_whole(augmentation):
    whole = batches(make(1, augmentation, epochs=2))
    assert len(whole) == 8
    for first_step in (1, 6):
        rest = batches(make(1, augmentation, epochs=2, first_step=first_step))
        for batch, same in zip(whole[first_step:], rest, strict=True):
            for values, same_values in zip(batch, same, strict=True):
                np.testing.assert_array_equal(values, same_values)


@pytest.mark.parametrize("augmentation", RICH)
def test_parts_of_a_batch_are_the_whole_and_small_ones_are_taken_whole(augmentation):
    parts = zip(*(batches(make(1, augmentation, part=Part(n, 3))) for n in range(3)), strict=True)
    for batch, of_parts in zip(batches(make(1, augmentation)), parts, strict=True):
        assert {int(whole) for *_, whole in of_parts} == {len(batch[0])}
        for values, *of_values in zip(batch, *(part[:-1] for part in of_parts), strict=True):
            if len(batch[0]) < 3:
                for part in of_values:
                    np.testing.assert_array_equal(part, values)
            else:
                np.testing.assert_array_equal(np.concatenate(of_values), values)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_a_mixed_clip_is_two_with_their_labels_and_weights_in_proportion(mix):
    levels = np.arange(20, dtype=np.uint8) * 10
    clips = np.broadcast_to(levels[:, None, None, None, None], CLIPS.shape)
    weights = np.where(np.arange(20) % 2, 3, 1).astype(np.float32)
    mixed = training_batches(
        clips,
        np.arange(20),
        np.eye(20, dtype=np.float32),
        weights,
        order=Order(clips, np.arange(20), batch_size=20, seed=3),
        frames=FRAMES,
        augmentation=Augmentation(mix=mix),
        seed=3,
        epochs=1,
    )
    ((pictures, labels, counts),) = batches(mixed)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
    assert ((labels > 0).sum(axis=1) <= 2).all() and (labels.max(axis=1) < 0.95).sum() >= 3
    # What each of both counts for, and so how much of it is seen.
    shares = labels * counts[:, None] / weights
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-4)
    np.testing.assert_array_equal(pictures, np.broadcast_to(pictures[:, :1], pictures.shape))
    means = pictures.mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(means, shares @ levels.astype(float), atol=0.51)
    kinds = [len(np.unique(picture)) for picture in pictures]
    assert max(kinds) == (2 if mix == "cutmix" else 1)


@pytest.mark.parametrize("augmentation", [NONE, Augmentation("strong")])
def test_each_clip_comes_with_its_sound_as_it_is(augmentation):
    found = batches(make(1, augmentation, sound=SOUND))
    plain = plain_batches(
        CLIPS, ROWS, LABELS[ROWS], WEIGHTS[ROWS], batch_size=5, frames=FRAMES, sound=SOUND
    )
    for (clips, sound), _, weights in (*found, *batches(plain)):
        rows = weights.astype(int) - 1
        assert clips.shape == (len(rows), FRAMES, 16, 24, 3) and sound.dtype == np.float16
        np.testing.assert_array_equal(sound, SOUND[rows])
    clips, sound = plain_clips(CLIPS, ROWS, FRAMES, SOUND)
    np.testing.assert_array_equal(clips, CLIPS[ROWS])
    np.testing.assert_array_equal(sound, SOUND[ROWS])


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_sounds_are_mixed_as_labels_are_where_both_have_one(mix):
    chosen = {"augmentation": Augmentation(mix=mix), "seed": 3, "frames": FRAMES, "epochs": 1}
    rows, one = np.arange(20), np.ones(20)
    order = Order(CLIPS, rows, batch_size=20, seed=3)
    (((_, heard), labels, _),) = batches(
        training_batches(
            CLIPS, rows, np.eye(20, dtype=np.float32), one, order=order, sound=SOUND, **chosen
        )
    )
    mute = np.isnan(SOUND[:, 0, 0])
    kinds = set()
    for sound, shares in zip(heard, labels, strict=True):
        audible = np.where(mute, 0, shares)
        kinds.add((int((shares > 0).sum()), int((audible > 0).sum())))
        if audible.any():
            expected = audible @ np.where(mute, 0, rows) / audible.sum()
            np.testing.assert_allclose(sound, expected, atol=0.03)
        else:
            assert np.isnan(sound).all()
    assert {(2, 2), (2, 1)} <= kinds  # of two that are mixed one is mute


def test_moments_are_a_part_of_the_video_in_order():
    assert plain_moments(36, 12).tolist() == list(range(1, 36, 3))
    assert plain_moments(4, 4).tolist() == [0, 1, 2, 3]
    found = chance_moments(np.random.default_rng(0), 2000, 36, 12)
    assert found.min() == 0 and found.max() == 35
    assert (np.diff(found, axis=1) >= 0).all()
    length = found[:, -1] - found[:, 0]
    assert length.min() < 20 and length.max() > 32
    # Every clip is of its own part and speed.
    assert len(np.unique(found, axis=0)) > 1990
