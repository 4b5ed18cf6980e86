"""Our training beside the same network in plain Keras with everything in memory.

Plain Keras: the clips, decoded, as an array in memory, `model.fit` with the same batch size, and no
augmentation; ours: from the decoded clips on the local disk, and streamed from Parquet, likewise
without augmentation, and with each of its presets. In turns; steps a CPU second of all threads,
from the end of the first epoch on, without validation.

    PYTHONPATH=. python benchmarks/training.py --rounds 3
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from input import FRAMES, Inputs

from vidpipe.datasets.clips import read_clips
from vidpipe.datasets.presets import PRESETS
from vidpipe.datasets.streaming import StreamedClips
from vidpipe.models.architectures import Network, find_architecture
from vidpipe.models.classification import build_model
from vidpipe.training.fit import fit, prepare
from vidpipe.training.optimizing import make_optimizer
from vidpipe.training.settings import FitSettings

CLASSES = 4


class Training:
    """The same training on the same pictures, again and again.

    Args:
        folder: For the pictures.
        architecture: Which.
        videos: How many.
        epochs: How long.
    """

    def __init__(self, folder: Path, architecture: str, videos: int, epochs: int):
        found = find_architecture(architecture)
        self.architecture, self.epochs, self.found = architecture, epochs, found
        assert found.sampling.frames == FRAMES and found.sampling.height == found.sampling.width
        self.inputs = Inputs(folder, videos, found.sampling.height)
        self.labels = np.eye(CLASSES, dtype=np.float32)[np.arange(videos) % CLASSES]
        path = folder / "finer.npy"
        inputs = self.inputs
        self.finer = read_clips(
            inputs.frames, inputs.extractions, inputs.sampling, path, finer=3
        ).array

    def run(self, kind: str) -> float:
        """Steps a CPU second of `keras`, of `streamed`, or of ours with a preset."""
        settings = FitSettings(
            self.epochs,
            self.found.batch_size,
            self.found.learning_rate,
            kind if kind in PRESETS else "none",
            seed=0,
        )
        prepare(settings)
        model = build_model(Network(self.architecture), self.inputs.sampling, CLASSES)
        ends: list[float] = []
        steps = -(-self.inputs.videos // settings.batch_size)
        if kind == "keras":
            model.compile(
                make_optimizer(settings, self.epochs * steps),
                loss="categorical_crossentropy",
                metrics=["accuracy"],
            )
            model.fit(
                np.array(self.inputs.stored),
                self.labels,
                batch_size=settings.batch_size,
                epochs=self.epochs,
                callbacks=[
                    keras.callbacks.LambdaCallback(
                        on_epoch_end=lambda epoch, logs: ends.append(time.process_time())
                    )
                ],
                verbose=0,
            )
        else:
            inputs = self.inputs
            clips = self.finer if PRESETS[settings.augmentation].moments > 1 else inputs.stored
            if kind == "streamed":
                clips = StreamedClips(inputs.frames, inputs.extractions, inputs.sampling)
            fit(
                model,
                clips,
                self.labels,
                train=np.arange(inputs.videos),
                validation=np.empty(0, int),
                settings=settings,
                on_epoch=lambda epoch: ends.append(time.process_time()),
            )
        return (self.epochs - 1) * steps / (ends[-1] - ends[0])


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="cnn_rnn")
    parser.add_argument("--videos", type=int, default=144)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--kinds", nargs="+", default=["none", "article", "light", "strong", "streamed"]
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        training = Training(Path(name), chosen.architecture, chosen.videos, chosen.epochs)
        kinds = ["keras", *chosen.kinds]
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(chosen.rounds):
            for kind in kinds:
                rates[kind].append(training.run(kind))
        for kind in kinds:
            shown = ", ".join(f"{rate:.2f}" for rate in rates[kind])
            ratios = [a / b for a, b in zip(rates[kind], rates["keras"], strict=True)]
            print(
                f"{kind}: {statistics.median(rates[kind]):.2f} steps/CPU s ({shown}),"
                f" {statistics.median(ratios):.2f} of Keras"
            )


if __name__ == "__main__":
    main()
