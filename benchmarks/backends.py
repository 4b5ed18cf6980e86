"""How fast each architecture learns and labels on the device and the backend of Keras at hand.

Clips of chance colours, each architecture with the frames and the size that it has where a form is
left empty, a backbone learning too; one step of `train_on_batch` or `predict_on_batch` after the
other, the batch coming from memory. Needs Keras, numpy and the backend alone, TensorFlow only where
it is that.

    KERAS_BACKEND=jax PYTHONPATH=. python benchmarks/backends.py --batch 32
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np

from vidpipe.models.architectures import CLASSIFICATION, Network, find_defaults
from vidpipe.models.classification import build_model

CLASSES, WARM_UP = 10, 3


def clips_per_s(step: Callable[[], object], batch: int, steps: int) -> float:
    """By the median step."""
    taken_s = []
    for number in range(WARM_UP + steps):
        started_s = time.perf_counter()
        step()
        if number >= WARM_UP:
            taken_s.append(time.perf_counter() - started_s)
    return batch / statistics.median(taken_s)


def measure(architecture: str, backbone: str | None, policy: str, batch: int, steps: int) -> str:
    """A line of the table."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    network = Network(architecture, backbone=backbone, fine_tune=backbone is not None)
    sampling = find_defaults(architecture, backbone, network.fine_tune).sampling
    model = build_model(network, sampling, classes=CLASSES)
    model.compile("adam", "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    clips = random.integers(0, 256, (batch, *sampling.shape), dtype=np.uint8)
    classes = random.integers(0, CLASSES, batch)
    learnt = clips_per_s(lambda: model.train_on_batch(clips, classes), batch, steps)
    labelled = clips_per_s(lambda: model.predict_on_batch(clips), batch, steps)
    name = architecture + (f", {backbone}" if backbone else "")
    shape = " × ".join(map(str, sampling.shape[:3]))
    return f"| `{name}` | {shape} | {policy} | {learnt:,.0f} | {labelled:,.0f} |"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--architectures", nargs="+", default=list(CLASSIFICATION))
    parser.add_argument("--backbones", nargs="*", default=["resnet50"])
    parser.add_argument("--policies", nargs="+", default=["float32", "mixed_bfloat16"])
    options = parser.parse_args()
    print(f"Keras {keras.version()} on {keras.backend.backend()}, batches of {options.batch}\n")
    print(
        "| | frames | policy | learns, clips/s | labels, clips/s |\n| --- | --- | --- | --- | --- |"
    )
    measured = [(architecture, None) for architecture in options.architectures]
    measured += [("attention", backbone) for backbone in options.backbones]
    for architecture, backbone in measured:
        for policy in options.policies:
            line = measure(architecture, backbone, policy, options.batch, options.steps)
            print(line, flush=True)


if __name__ == "__main__":
    main()
