"""Which accuracy each architecture reaches on clips at hand, with weights and without.

    python benchmarks/classification.py CLIPS WEIGHTS --height 512 --width 640

Below the folder CLIPS lies one folder a class, whose files are told apart by number: neighbours may
come from one recording, so that the folds are ranges of them. WEIGHTS is a file for the backbone
(`vidpipe/models/weights.py`). All clips of a fold are predicted by networks that saw none of it,
and all folds are judged together, with an interval by bootstrap over the ranges. Each architecture
is trained as it is where a form is left empty, but for the frames. Last comes what is chosen among
those behind the backbone: for each fold anew, by training and predicting within the others alone.

Beside them, on the same clips and folds, what people do first: the same backbone at the size that
it was made for, the mean of its features, and the logistic regression of scikit-learn.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pyarrow.dataset as ds
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vidpipe.datasets.clips import read_clips
from vidpipe.evaluation.intervals import bootstrap
from vidpipe.models.architectures import CLASSIFICATION, Network, Sampling, chosen, find_backbone
from vidpipe.models.backbones import build_encoder
from vidpipe.models.classification import GRIDS, build_model, standardise
from vidpipe.models.complexity import count_flops
from vidpipe.models.weights import fetch_weights, load_weights
from vidpipe.training.fit import fit, prepare
from vidpipe.training.settings import FitSettings, complete

GRID = max(GRIDS.values())


class Clips:
    """The clips, their classes and their folds.

    Args:
        folder: One folder a class.
        folds: How many ranges the files of each class are cut into.
        scratch: For the frames.
    """

    def __init__(self, folder: Path, folds: int, scratch: Path):
        self._scratch = scratch
        self.paths = sorted(folder.glob("*/*.*"))
        classes = np.array([path.parent.name for path in self.paths])
        self.names = sorted(set(classes))
        self.truth = np.array([self.names.index(name) for name in classes])
        self.fold = np.empty(len(self.paths), int)
        for number in range(len(self.names)):
            rows = np.flatnonzero(self.truth == number)
            self.fold[rows] = np.arange(len(rows)) * folds // len(rows)
        self.groups = [f"{t} {f}" for t, f in zip(self.truth, self.fold, strict=True)]
        frames = scratch / "frames"
        subprocess.run(
            ["vidpipe", "extract", folder, "--output", frames, "--short-side", "0"], check=True
        )
        self._frames = ds.dataset(frames / "frames")
        rows = ds.dataset(frames / "videos").to_table(["source_uri", "video_id", "work_key"])
        by_name = {Path(row["source_uri"]).name: row for row in rows.to_pylist()}
        self._rows = [by_name[path.name] for path in self.paths]

    def read(self, sampling: Sampling) -> np.ndarray:
        """uint8 `(clips, frames, height, width, 3)`."""
        wanted = {row["video_id"]: row["work_key"] for row in self._rows}
        path = self._scratch / f"clips-{sampling.height}x{sampling.width}.npy"
        return read_clips(self._frames, wanted, sampling, path).array

    def judged(self, predict: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> str:
        """Accuracy of all folds together.

        Args:
            predict: Gets the clips to learn from and those to tell the class of.
        """
        predicted, started_s, used_s = (
            np.empty(len(self.truth), int),
            time.time(),
            time.process_time(),
        )
        for fold in sorted(set(self.fold)):
            test = np.flatnonzero(self.fold == fold)
            predicted[test] = predict(np.flatnonzero(self.fold != fold), test)
        right = predicted == self.truth
        interval = bootstrap(lambda rows: right[rows].mean(), self.groups)
        return (
            f"{right.mean():.3f} ({interval}) | {time.time() - started_s:.0f} s,"
            f" {time.process_time() - used_s:.0f} s of CPU"
        )


def encode(clips: Clips, backbone: str, weights: str, sampling: Sampling, grid: int) -> np.ndarray:
    """What the frozen backbone makes of the clips."""
    encoder = build_encoder(backbone, sampling, grid)
    with tempfile.TemporaryDirectory() as folder:
        file = fetch_weights(weights, lambda: None, Path(folder))
    load_weights(encoder.get_layer("backbone"), file)
    return np.concatenate([encoder.predict_on_batch(clip[None]) for clip in clips.read(sampling)])


def trained(clips: Clips, config: dict, seed: int, inputs: np.ndarray) -> Callable:
    """A `predict` of `Clips.judged` that trains as vidpipe does."""
    network, sampling = chosen(Network, config), chosen(Sampling, config)
    settings = dataclasses.replace(chosen(FitSettings, config), seed=seed)
    labels = np.eye(len(clips.names), dtype=np.float32)[clips.truth]

    def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        prepare(settings)
        model = build_model(network, sampling, len(clips.names))
        if network.frozen:
            model = model.get_layer("head")
            standardise(model, inputs, train)
        fit(
            model,
            inputs,
            labels,
            train=train,
            validation=np.empty(0, int),
            settings=settings,
            on_epoch=lambda epoch: None,
        )
        return np.concatenate([model.predict_on_batch(inputs[[n]]) for n in test]).argmax(axis=1)

    return predict


def choosing(clips: Clips, candidates: dict[str, Callable]) -> Callable:
    """A `predict` of `Clips.judged` that takes the one which predicts best within what it learns
    from, fold by fold; of equal ones the first."""

    def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        right = dict.fromkeys(candidates, 0)
        for name, candidate in candidates.items():
            for fold in sorted(set(clips.fold[train])):
                held_out = train[clips.fold[train] == fold]
                found = candidate(train[clips.fold[train] != fold], held_out)
                right[name] += int((found == clips.truth[held_out]).sum())
        best = max(candidates, key=right.__getitem__)
        print(f"chosen: {best}, of {right}", flush=True)
        return candidates[best](train, test)

    return predict


def main() -> None:
    """Prints a row for each architecture, with and without weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--width", type=int, default=224)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--architectures", nargs="+", default=list(CLASSIFICATION))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidpipe-benchmark-") as folder:
        clips = Clips(args.clips, args.folds, Path(folder))
        print(f"{len(clips.truth)} clips of {', '.join(clips.names)}", flush=True)
        side = find_backbone(args.backbone).side
        plain = Sampling(args.frames, side, side)
        means = encode(clips, args.backbone, args.weights, plain, 1).mean(axis=(1, 2, 3))

        def regress(train: np.ndarray, test: np.ndarray) -> np.ndarray:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            return model.fit(means[train], clips.truth[train]).predict(means[test])

        print(
            f"{args.backbone} at {side}, logistic regression | {clips.judged(regress)}", flush=True
        )
        size = {"frames": args.frames, "height": args.height, "width": args.width}
        native = Sampling(**size)
        grids = encode(clips, args.backbone, args.weights, native, GRID)
        candidates: dict[str, Callable] = {}
        for architecture in args.architectures:
            behind = complete(
                {
                    "architecture": architecture,
                    "backbone": args.backbone,
                    "weights": args.weights,
                    **size,
                }
            )
            own = complete({"architecture": architecture, "frames": args.frames})
            coarse = (
                grids if GRIDS[architecture] == GRID else grids.mean(axis=(2, 3), keepdims=True)
            )
            for name, config, inputs in (
                (f"frozen {args.backbone}", behind, coarse),
                ("own layers", own, clips.read(chosen(Sampling, own))),
            ):
                model = build_model(chosen(Network, config), chosen(Sampling, config), 4)
                told = f"{model.count_params():,} parameters, {count_flops(model) / 1e9:.2f} GFLOPs"
                for seed in args.seeds:
                    judged = clips.judged(trained(clips, config, seed, inputs))
                    print(f"{architecture}, {name}, seed {seed} | {judged} | {told}", flush=True)
                keras.utils.clear_session()
            candidates[architecture] = trained(clips, behind, args.seeds[0], coarse)
        print(f"chosen within | {clips.judged(choosing(clips, candidates))}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
