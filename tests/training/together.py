"""A process that trains a tiny network: alone, on several pretended devices, or as a worker.

python -m tests.training.together OUTPUT.npz --architecture cnn --devices 2
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from vidpipe.errors import TemporaryError
from vidpipe.models.architectures import Sampling
from vidpipe.models.classification import build_model
from vidpipe.training.distribution import Replicas, Workers, open_replicas
from vidpipe.training.fit import FitSettings, fit, make_repeatable

SAMPLING = Sampling(frames=3, height=24, width=24)
SETTINGS = FitSettings(epochs=2, batch_size=4, learning_rate=3e-3, augmentation=True, seed=5)


def open_devices(number: int) -> Replicas:
    """Several devices that are all this machine's CPU, or what the environment says."""
    if number == 1:
        workers = Workers.from_environment()
        workers.meet()
        return open_replicas(workers)
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * number
    )
    return Replicas(tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(number)]))


def train(replicas: Replicas, architecture: str) -> tuple[keras.Model, list[dict[str, float]]]:
    """Fits nine clips of noise: three steps an epoch, the last of a single clip."""
    random = np.random.default_rng(0)
    clips = random.integers(0, 256, (14, 3, 24, 24, 3), dtype=np.uint8)
    labels = np.eye(2, dtype=np.float32)[np.arange(14) % 2]
    make_repeatable(SETTINGS.seed)
    model = build_model(architecture, SAMPLING, 2)
    history = fit(
        model,
        clips,
        labels,
        train=np.arange(9),
        validation=np.arange(9, 14),
        settings=SETTINGS,
        on_epoch=lambda epoch: None,
        replicas=replicas,
    )
    return model, history


def main() -> None:
    """Trains, and keeps the weights and the metrics of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--architecture", default="attention")
    parser.add_argument("--devices", type=int, default=1)
    chosen = parser.parse_args()
    try:
        replicas = open_devices(chosen.devices)
        with replicas.watching():
            model, history = train(replicas, chosen.architecture)
    except TemporaryError as error:
        sys.exit(str(error))
    weights = {f"{n:03d}": weight for n, weight in enumerate(model.get_weights())}
    np.savez(chosen.output, history=json.dumps(history), **weights)


if __name__ == "__main__":
    main()
