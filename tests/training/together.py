"""A process that trains a tiny network: alone, on several pretended devices, or as a worker.

python tests/training/together.py OUTPUT.npz --devices 3
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from vidpipe.errors import TemporaryError
from vidpipe.models.architectures import SOUND_SHAPE, Network, Sampling
from vidpipe.models.classification import build_model
from vidpipe.models.layers import TokenForMissing
from vidpipe.training.distribution import Replicas, Workers, open_replicas
from vidpipe.training.fit import fit, prepare
from vidpipe.training.settings import FitSettings

SAMPLING = Sampling(frames=3, height=24, width=24, sound=True)
SETTINGS = FitSettings(
    epochs=2, batch_size=4, learning_rate=3e-3, augmentation="strong", seed=5, mix="cutmix"
)


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


def train(replicas: Replicas) -> tuple[keras.Model, list[dict[str, float]]]:
    """Fits nine clips of noise, some mute: three steps an epoch, the last of a single clip."""
    random = np.random.default_rng(0)
    clips = random.integers(0, 256, (14, 9, 24, 24, 3), dtype=np.uint8)
    sound = random.uniform(-8, 0, (14, *SOUND_SHAPE)).astype(np.float16)
    sound[::3] = np.nan
    labels = np.eye(2, dtype=np.float32)[np.arange(14) % 2]
    prepare(SETTINGS)
    model = build_model(Network("attention"), SAMPLING, 2)
    for layer in model.layers:
        if isinstance(layer, TokenForMissing):
            layer.share = 0.0  # each device would draw others
    history = fit(
        model,
        clips,
        labels,
        train=np.arange(9),
        validation=np.arange(9, 14),
        settings=SETTINGS,
        on_epoch=lambda epoch: None,
        sound=sound,
        replicas=replicas,
    )
    return model, history


def learnt(model: keras.Model, history: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """The weights, and the metrics of each epoch in the order of their names."""
    weights = {f"{n:03d}": weight for n, weight in enumerate(model.get_weights())}
    return {**weights, "history": np.array([[e[name] for name in sorted(e)] for e in history])}


def seeds(replicas: Replicas) -> np.ndarray:
    """The states of dropout's random numbers on each device, before the first step."""
    model = replicas.replicate(build_model(Network("cnn", dropout=0.5), SAMPLING, 2))
    replicas.draw_apart(model)
    weights = {id(variable) for variable in model.weights}
    states = [variable for variable in model.variables if id(variable) not in weights]
    return np.array([[value.numpy() for value in state.value.values] for state in states])


def main() -> None:
    """Trains, and keeps the weights, the metrics of each epoch, and the seeds of each device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--devices", type=int, default=1)
    chosen = parser.parse_args()
    try:
        replicas = open_devices(chosen.devices)
        with replicas.watching():
            model, history = train(replicas)
    except TemporaryError as error:
        sys.exit(str(error))
    found = learnt(model, history)
    if chosen.devices > 1:
        found["seeds"] = seeds(replicas)
    np.savez(chosen.output, **found)


if __name__ == "__main__":
    main()
