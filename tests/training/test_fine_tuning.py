"""A backbone that is fine-tuned learns with its head, but for its means and variances."""

from __future__ import annotations

import numpy as np
import pytest

from vidpipe.models.architectures import Network, Sampling
from vidpipe.models.backbones import keep_statistics
from vidpipe.models.classification import build_model
from vidpipe.training.fit import fit, prepare
from vidpipe.training.settings import FitSettings

SAMPLING = Sampling(frames=2, height=32, width=32)


@pytest.mark.long
def test_the_weights_of_a_fine_tuned_backbone_learn_and_its_statistics_stay():
    settings = FitSettings(epochs=1, batch_size=2, learning_rate=1e-3, augmentation="none", seed=0)
    prepare(settings)
    network = Network("cnn", backbone="mobilenet_v2", fine_tune=True)
    model = build_model(network, SAMPLING, classes=2)
    backbone = model.get_layer("encoder").get_layer("backbone")
    keep_statistics(backbone)
    before = {v.path: v.numpy() for v in backbone.variables}
    clips = np.random.default_rng(0).integers(0, 256, (4, *SAMPLING.shape), dtype=np.uint8)
    labels = np.eye(2, dtype=np.float32)[np.arange(4) % 2]
    fit(
        model,
        clips,
        labels,
        train=np.arange(4),
        validation=np.arange(0),
        settings=settings,
        on_epoch=lambda epoch: None,
    )
    changed = {v.path for v in backbone.variables if not np.array_equal(before[v.path], v.numpy())}
    kernels = {v.path for v in backbone.trainable_variables}
    assert len(kernels) > 50 and changed == kernels
    assert not any("moving" in path or "gamma" in path for path in changed)
