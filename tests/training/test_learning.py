"""`cnn`, as it is where a form is left empty, learns in its ten epochs what one frame shows.

On the demo's own clips, with fewer and smaller frames. What it must not begin with, or be slowed
by, shows here and not in tests that learn by heart: zeros in its last layer, on a cosine, stay near
chance for most of it.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vidpipe.local import demo_data
from vidpipe.local.demo import LEARNED
from vidpipe.models.architectures import Network, Sampling, chosen
from vidpipe.models.classification import build_model
from vidpipe.training.fit import fit, prepare
from vidpipe.training.settings import FitSettings, complete

TRAIN, VALIDATION, TEST = 144, 48, 48
COLORS = list(demo_data.COLORS)


def appearance(sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """Clips of the demo without their files, in any order, and the colour that each shows."""
    silent = {word: np.zeros(100) for word in demo_data.WORDS}
    order = np.random.default_rng(0).permutation(TRAIN + VALIDATION + TEST)
    clips = np.empty((len(order), *sampling.shape), np.uint8)
    colors = np.empty(len(order), int)
    for row, number in enumerate(order):
        clip = demo_data._plan_clip(int(number), 0, silent)
        frames = list(demo_data._frames(clip))
        for moment, place in enumerate((np.arange(sampling.frames) + 0.5) / sampling.frames):
            picture = Image.fromarray(frames[int(place * len(frames))])
            clips[row, moment] = picture.resize((sampling.width, sampling.height))
        colors[row] = COLORS.index(clip.color)
    return clips, colors


@pytest.mark.long
def test_cnn_learns_appearance_as_the_demo_promises():
    config = complete({"architecture": "cnn", "frames": 2, "height": 96, "width": 96})
    network, sampling, settings = (
        chosen(kind, config) for kind in (Network, Sampling, FitSettings)
    )
    clips, colors = appearance(sampling)
    prepare(settings)
    model = build_model(network, sampling, len(COLORS))
    fit(
        model,
        clips,
        np.eye(len(COLORS), dtype=np.float32)[colors],
        train=np.arange(TRAIN),
        validation=np.arange(TRAIN, TRAIN + VALIDATION),
        settings=settings,
        on_epoch=lambda epoch: None,
    )
    tested = slice(TRAIN + VALIDATION, None)
    found = model.predict(clips[tested], verbose=0).argmax(axis=1)
    assert (found == colors[tested]).mean() > LEARNED
