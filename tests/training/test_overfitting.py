"""Every architecture can learn a few clips by heart: what it computes lets what it sees through."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.models.architectures import CLASSIFICATION, Network, Sampling
from vidpipe.models.classification import build_model
from vidpipe.training.fit import fit, prepare
from vidpipe.training.settings import FitSettings

SAMPLING = Sampling(frames=4, height=32, width=32)
CLIPS, CLASSES = 8, 4


def clips() -> np.ndarray:
    """Clips that differ in look: stripes of chance widths and colours, with noise."""
    random = np.random.default_rng(0)
    found = np.empty((CLIPS, *SAMPLING.shape))
    for clip in found:
        colours = random.integers(0, 256, (2, 3))
        stripes = np.arange(SAMPLING.width) // random.integers(2, 12) % 2
        clip[:] = colours[stripes]
    noise = random.normal(0, 10, found.shape)
    return np.clip(found + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=[] if name == "attention" else pytest.mark.long)
        for name in CLASSIFICATION
    ],
)
def test_eight_clips_are_learnt_by_heart(architecture):
    settings = FitSettings(60, CLIPS, 3e-3, augmentation="none", seed=0)
    prepare(settings)
    model = build_model(Network(architecture), SAMPLING, CLASSES)
    truth = np.arange(CLIPS) % CLASSES
    fit(
        model,
        clips(),
        np.eye(CLASSES, dtype=np.float32)[truth],
        train=np.arange(CLIPS),
        validation=np.empty(0, int),
        settings=settings,
        on_epoch=lambda epoch: None,
    )
    assert (model.predict_on_batch(clips()).argmax(axis=1) == truth).all()
