"""What checkpoints cost a training, what a killed one loses, and our loop beside that of Keras.

A network learns from clips of noise of the demo's number and size. Checkpoints go to rclone's S3
server on this machine.

    PYTHONPATH=. python benchmarks/checkpoints.py --epochs 36 --rounds 2
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import random
import socket
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np

from vidpipe.config import S3Settings, TrainSettings
from vidpipe.datasets.pipeline import Order, plain_batches, training_batches
from vidpipe.errors import StoppedError
from vidpipe.lake.store import ObjectStore
from vidpipe.models.architectures import Network, find_architecture
from vidpipe.models.classification import build_model
from vidpipe.training.checkpoints import Checkpoint, Checkpoints
from vidpipe.training.fit import fit, prepare
from vidpipe.training.optimizing import make_optimizer
from vidpipe.training.settings import FitSettings

TRAIN, VALIDATION, CLASSES = 144, 48, 4
KEY, SECRET = "benchmark", "benchmark-secret"
RANDOM = np.random.default_rng(0)


class Watched(Checkpoints):
    """Checkpoints that count what they cost, and that a kill can keep from being made."""

    def begin(self) -> Watched:
        self.seconds: list[float] = []
        self.step = 0
        self.begun_s = self.kept_s = time.monotonic()
        self.dead = False
        return self

    def save(self, checkpoint: Checkpoint) -> bool:
        if self.dead:
            return False
        started_s = time.monotonic()
        kept = super().save(checkpoint)
        self.kept_s = time.monotonic()
        self.seconds.append(self.kept_s - started_s)
        self.step = checkpoint.step
        return kept

    def share(self) -> float:
        """Of the time since they were opened, the first compilation included."""
        return sum(self.seconds) / (time.monotonic() - self.begun_s)

    def killed_after(self, seconds: float) -> bool:
        """Whether the kill has come; from then on nothing is kept."""
        self.dead = time.monotonic() - self.begun_s > seconds
        return self.dead


class Training:
    """The same training again and again.

    Args:
        architecture: Which.
        epochs: How long.
    """

    def __init__(self, architecture: str, epochs: int):
        found = find_architecture(architecture)
        self.sampling, self.architecture = found.sampling, architecture
        s = found.sampling
        shape = (TRAIN + VALIDATION, s.frames, s.height, s.width, 3)
        self.clips = RANDOM.integers(0, 256, shape, dtype=np.uint8)
        self.labels = np.eye(CLASSES, dtype=np.float32)[np.arange(len(self.clips)) % CLASSES]
        self.weights = np.ones(len(self.clips), np.float32)
        self.train = np.arange(TRAIN)
        self.validation = np.arange(TRAIN, TRAIN + VALIDATION)
        self.settings = FitSettings(
            epochs, found.batch_size, found.learning_rate, augmentation="article", seed=0
        )
        self.order = Order(self.clips, self.train, batch_size=found.batch_size, seed=0)
        self.steps = epochs * self.order.steps

    def _model(self) -> keras.Model:
        prepare(self.settings)
        return build_model(Network(self.architecture), self.sampling, CLASSES)

    def ours(
        self,
        checkpoints: Checkpoints | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> float:
        """Trains by `fit`; returns the seconds from the end of the first epoch on."""
        ends: list[float] = []
        fit(
            self._model(),
            self.clips,
            self.labels,
            train=self.train,
            validation=self.validation,
            settings=self.settings,
            on_epoch=lambda epoch: ends.append(time.monotonic()),
            checkpoints=checkpoints,
            stopping=stopping,
        )
        return ends[-1] - ends[0]

    def of_keras(self) -> float:
        """Trains by `model.fit` on the same batches; returns the seconds likewise."""
        model, settings = self._model(), self.settings
        model.compile(
            make_optimizer(settings, self.steps),
            loss="categorical_crossentropy",
            metrics=["accuracy"],
        )
        size = settings.batch_size
        batches = training_batches(
            self.clips,
            self.train,
            self.labels[self.train],
            self.weights[self.train],
            order=self.order,
            frames=self.sampling.frames,
            augmentation=settings.of_clips,
            seed=0,
            epochs=settings.epochs,
        )
        ends: list[float] = []
        model.fit(
            batches,
            validation_data=plain_batches(
                self.clips,
                self.validation,
                self.labels[self.validation],
                self.weights[self.validation],
                batch_size=size,
                frames=self.sampling.frames,
            ),
            epochs=settings.epochs,
            steps_per_epoch=self.order.steps,
            callbacks=[
                keras.callbacks.EarlyStopping(
                    "val_loss", patience=settings.epochs, restore_best_weights=True
                ),
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: ends.append(time.monotonic())
                ),
            ],
            shuffle=False,
            verbose=0,
        )
        return ends[-1] - ends[0]


@contextlib.contextmanager
def s3(folder: Path) -> Iterator[ObjectStore]:
    """An S3 server with the bucket `lake`."""
    (folder / "lake").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rclone = Path(sysconfig.get_path("scripts")) / "rclone"
    server = subprocess.Popen(
        [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", folder],
        env=os.environ | {"RCLONE_CONFIG": "", "RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"'},
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield ObjectStore(S3Settings(f"http://127.0.0.1:{port}", "us-east-1", KEY, SECRET))
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="cnn_rnn")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--every-s", type=float, default=TrainSettings().checkpoint_every_s)
    chosen = parser.parse_args()
    training = Training(chosen.architecture, chosen.epochs)
    size = training.steps * (chosen.epochs - 1) / chosen.epochs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "s3").mkdir()
        with s3(folder / "s3") as store:

            def checkpoints(run: str, every_s: float) -> Watched:
                uri = f"s3://lake/{run}/"
                return Watched(store, uri, folder, every_s=every_s, tell=print).begin()

            seconds: dict[str, list[float]] = {"keras": [], "without": [], "with": []}
            costs, kept = [], []
            for number in range(chosen.rounds):
                seconds["keras"].append(training.of_keras())
                seconds["without"].append(training.ours())
                watched = checkpoints(f"with-{number}", chosen.every_s)
                seconds["with"].append(training.ours(watched))
                costs.append(watched.share())
                kept += watched.seconds
                stored = list(store.list(f"s3://lake/with-{number}/"))
            for what, of in seconds.items():
                shown = ", ".join(f"{s:.1f}" for s in of)
                print(f"{what}: {shown} s; {size / statistics.median(of):.1f} steps/s")
            shown = ", ".join(f"{100 * cost:.2f} %" for cost in costs)
            print(f"every {chosen.every_s:g} s: share of the checkpoints {shown}")
            print(f"a checkpoint: {', '.join(f'{s:.3f}' for s in kept)} s")
            print(f"its bytes: {max((o.size_bytes for o in stored), default=0)}")

            often = checkpoints("often", 0)
            training.ours(often)
            print(
                f"as often as may be: {len(often.seconds)} checkpoints, share"
                f" {100 * often.share():.2f} %"
            )
            random.seed(0)
            usual_s = statistics.median(seconds["without"])
            for number in range(chosen.kills):
                watched = checkpoints(f"killed-{number}", usual_s / 5)
                at_s = random.uniform(usual_s / 3, usual_s)
                try:
                    training.ours(watched, functools.partial(watched.killed_after, at_s))
                except StoppedError as error:
                    done = int(str(error).rstrip(".").rpartition(" ")[2])
                    lost_s = time.monotonic() - watched.kept_s
                    print(
                        f"every {usual_s / 5:.1f} s, killed after {at_s:.1f} s in step {done} of"
                        f" {training.steps}: {done - watched.step} steps lost, {lost_s:.1f} s"
                    )


if __name__ == "__main__":
    main()
