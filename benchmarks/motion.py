"""Whether each architecture learns the demo's motion classes, which no single frame tells.

The demo's 240 made clips of each seed, extracted as the demo does, 163 to learn from, 29 to
validate and 48 to test, drawn by the seed; each architecture is trained as it is where a form is
left empty.

    PYTHONPATH=. python benchmarks/motion.py --seeds 0 1 2

With `--keras FOLDER`, `model.fit` of plain Keras instead, on the backend of KERAS_BACKEND, without
augmentation: what a training on JAX comes to beside one on TensorFlow, from the same weights, which
are kept in the folder, by the same batches in the same order.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pyarrow.dataset as ds

from vidpipe.datasets.clips import read_clips
from vidpipe.evaluation.intervals import wilson
from vidpipe.local.demo import EXTRACT
from vidpipe.local.demo_data import make_demo_videos
from vidpipe.models.architectures import CLASSIFICATION, Network, Sampling, chosen
from vidpipe.models.classification import build_model
from vidpipe.training.settings import FitSettings, complete

CLIPS, TRAIN, VALIDATION = 240, 163, 29


class Motion:
    """The clips of a seed, what they show, and their order.

    Args:
        seed: Of clips and order.
        folder: For the videos and their frames.
    """

    def __init__(self, seed: int, folder: Path):
        self._folder = folder
        data = make_demo_videos(folder / "videos", clips=CLIPS, seed=seed)
        options = [f"--{name.replace('_', '-')}={value}" for name, value in EXTRACT.items()]
        extract = ["vidpipe", "extract", folder / "videos", "--output", folder / "out", *options]
        subprocess.run(extract, check=True, stdout=subprocess.DEVNULL)
        self._frames = ds.dataset(folder / "out/frames")
        columns = ["source_uri", "video_id", "work_key"]
        rows = ds.dataset(folder / "out/videos").to_table(columns).to_pylist()
        self._rows = {Path(row["source_uri"]).name: row for row in rows}
        with data.motion_csv.open(newline="") as file:
            self._labels = {row["video"]: row["label"] for row in csv.DictReader(file)}
        order = np.random.default_rng(seed).permutation(CLIPS)
        parts = np.split(order, [TRAIN, TRAIN + VALIDATION])
        self.train, self.validation, self.test = map(np.sort, parts)

    def read(self, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
        """Clips `(clips, frames, height, width, 3)` and classes `(clips, classes)`."""
        path = self._folder / f"{sampling.frames}x{sampling.height}x{sampling.width}.npy"
        wanted = {row["video_id"]: row["work_key"] for row in self._rows.values()}
        clips = read_clips(self._frames, wanted, sampling, path)
        names = {row["video_id"]: name for name, row in self._rows.items()}
        classes = sorted(set(self._labels.values()))
        numbers = [classes.index(self._labels[names[of]]) for of in clips.video_ids]
        return clips.array, np.eye(len(classes), dtype=np.float32)[numbers]


def train(motion: Motion, config: dict, begun: Path | None) -> tuple[int, int, float]:
    """Right test clips, all test clips, and CPU seconds; by plain Keras where it is begun."""
    sampling, settings = chosen(Sampling, config), chosen(FitSettings, config)
    clips, labels = motion.read(sampling)
    keras.utils.set_random_seed(settings.seed)
    started_s = time.process_time()
    if begun:
        model = build_model(chosen(Network, config), sampling, labels.shape[1])
        path = begun / f"{config['architecture']}-{settings.seed}.weights.h5"
        if path.exists():
            model.load_weights(path)
        else:
            model.save_weights(path)
        model.compile(keras.optimizers.Adam(settings.learning_rate), "categorical_crossentropy")
        random = np.random.default_rng(settings.seed)
        for _ in range(settings.epochs):
            order = random.permutation(motion.train)
            learnt = np.array(clips)[order], labels[order]
            model.fit(*learnt, batch_size=settings.batch_size, shuffle=False, verbose=0)
    else:
        from vidpipe.training.fit import fit, prepare

        prepare(settings)
        model = build_model(chosen(Network, config), sampling, labels.shape[1])
        fit(
            model,
            clips,
            labels,
            train=motion.train,
            validation=motion.validation,
            settings=settings,
            on_epoch=lambda epoch: None,
        )
    scores = np.concatenate([model.predict_on_batch(clips[[row]]) for row in motion.test])
    right = scores.argmax(axis=1) == labels[motion.test].argmax(axis=1)
    return int(right.sum()), len(right), time.process_time() - started_s


def main() -> None:
    """Prints a line for each seed and architecture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--architectures", nargs="+", default=list(CLASSIFICATION))
    parser.add_argument("--keras", type=Path)
    args = parser.parse_args()
    for seed in args.seeds:
        with tempfile.TemporaryDirectory(prefix="vidpipe-benchmark-") as folder:
            motion = Motion(seed, Path(folder))
            for architecture in args.architectures:
                config = complete({"architecture": architecture, "seed": seed})
                right, of, used_s = train(motion, config, args.keras)
                print(
                    f"{architecture}, seed {seed}, {keras.backend.backend()} |"
                    f" {right / of:.3f} ({wilson(right, of)}) | {used_s:.0f} s of CPU",
                    flush=True,
                )
                keras.utils.clear_session()


if __name__ == "__main__":
    sys.exit(main())
