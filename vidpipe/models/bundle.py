"""A trained model as it travels: one MLflow model that holds all that labelling needs.

    MLmodel           MLflow's own description, with the signature
    data/model.keras  the network with its weights
    data/bundle.json  task, architecture, labels, sampling, kind of labels, thresholds
    data/canary.npz   a few made clips with the scores they got when the model was made

This module is its MLflow flavour. Nothing in it is pickled and no code lies beside it, so that a
model from a registry can do no more than compute.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
from mlflow import pyfunc
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec

import vidpipe.models.layers  # noqa: F401  (registers them for loading)
from vidpipe import tracking
from vidpipe.errors import BadInputError, VidpipeError
from vidpipe.models.architectures import SOUND_SHAPE, Sampling
from vidpipe.models.inspection import load_network, read_canary, read_facts
from vidpipe.models.prediction import Predictor
from vidpipe.version import code_version

# Pictures; where a model hears, these as `clips` and what is heard as `sound`.
Clips = np.ndarray | dict[str, np.ndarray]

FLAVOR = "vidpipe"
FILES = ("bundle.json", "canary.npz", "model.keras")
MOST_BYTES = 8e9  # the largest backbone takes 0.2
CANARY_CLIPS = 4
SQUARE = 8  # pixels of a side
TOLERANCE = 1e-3  # of a score: processors differ in the last digits, not in these


@dataclass
class Bundle:
    """A network with what belongs to it.

    Attributes:
        model: Clips `(batch, frames, height, width, 3)`, 0 to 255, or pairs of these and sound, to
            scores `(batch, classes)`.
        task: What it tells.
        architecture: What it is.
        labels: Name of each class, in the order of the scores.
        sampling: What it is to be given of a video.
        canary_clips: A few clips, as `predict` takes them.
        canary_scores: The scores they got.
        several: Whether a clip may have several labels at once, or none.
        thresholds: Of each label the lowest score with which it is accepted; what is not named is
            in any case.
    """

    model: keras.Model
    task: str
    architecture: str
    labels: list[str]
    sampling: Sampling
    canary_clips: Clips
    canary_scores: np.ndarray
    several: bool = False
    thresholds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def pack(
        cls,
        model: keras.Model,
        *,
        task: str,
        architecture: str,
        labels: list[str],
        sampling: Sampling,
        several: bool = False,
        thresholds: dict[str, float] | None = None,
    ) -> Bundle:
        """Puts a trained network together with its canary."""
        canary = _made_clips(sampling)
        nothing = np.empty((0, len(labels)), np.float32)
        facts = task, architecture, labels, sampling
        bundle = cls(model, *facts, canary, nothing, several, thresholds or {})
        bundle.canary_scores = bundle.predict(canary)
        return bundle

    @classmethod
    def load(cls, uri: str | os.PathLike) -> Bundle:
        """Loads a model from a folder, or from where MLflow keeps it (`models:/NAME/VERSION`).

        Raises:
            BadInputError: It is no model of vidpipe's, is damaged, or lies where MLflow keeps none.
            OutOfMemoryError: It does not fit in the memory.
        """
        if not str(uri).startswith("models:/"):
            return _read(Path(uri) / "data")
        place = tracking.find_files(str(uri))
        with tempfile.TemporaryDirectory(prefix="vidpipe-model-") as folder:
            _download(f"{place.rstrip('/')}/data", Path(folder))
            return _read(Path(folder))

    def predict(self, clips: Clips, params: dict[str, Any] | None = None) -> np.ndarray:
        """Scores clips.

        Args:
            clips: uint8 `(clips, frames, height, width, 3)`; may be memory-mapped. Where the model
                hears, that as `clips`, and as `sound` float16 `(clips, *SOUND_SHAPE)`, NaN where
                it is missing.
            params: Unused; MLflow's own servers pass it.

        Returns:
            float32 `(clips, classes)`; each row adds up to one, unless there may be several labels.

        Raises:
            OutOfMemoryError: The network does not fit in the memory, not even for one clip.
        """
        inputs = (clips["clips"], clips["sound"]) if self.sampling.sound else (clips,)
        if not len(inputs[0]):
            return np.empty((0, len(self.labels)), np.float32)
        return self._predictor.predict(inputs)

    @functools.cached_property
    def _predictor(self) -> Predictor:
        return Predictor(self.model)

    def check_canary(self) -> None:
        """Makes sure that the model computes here what it did where it was trained.

        Raises:
            BadInputError: It does not, or does not compute at all.
            OutOfMemoryError: The network does not fit in the memory.
        """
        try:
            scores = self.predict(self.canary_clips)
        except VidpipeError:
            raise
        except Exception as error:  # a network that was put together wrongly may raise anything
            raise BadInputError(
                f"The {self.architecture} model of {self.task} does not compute:"
                f" {' '.join(str(error).split())[:300]} Train it anew."
            ) from error
        difference = float(np.abs(scores - self.canary_scores).max())
        # Written so that a score that is no number fails, too.
        if not difference <= TOLERANCE:
            raise BadInputError(
                f"The {self.architecture} model of {self.task} scores its canary clips differently"
                f" here, by {difference:.4f}: it or the libraries changed. Train it anew."
            )

    def log(self, run_id: str) -> None:
        """Keeps the model in a run and registers it as a new version of its task."""
        run = tracking.open_run(run_id)
        with tracking.answering():
            # Else MLflow shows it in the experiment "Default", and not beside its run.
            mlflow.set_experiment(experiment_id=run.experiment_id)
            Model.log(
                artifact_path=None,
                name="model",
                flavor=sys.modules[__name__],
                run_id=run_id,
                registered_model_name=tracking.model_name(self.task),
                bundle=self,
            )


def _made_clips(sampling: Sampling) -> Clips:
    """Squares of chance colours: clips of videos in a model could never be forgotten; with noise,
    the last without sound."""
    shape, random = (CANARY_CLIPS, *sampling.shape), np.random.default_rng(0)
    colours = random.integers(0, 256, shape, dtype=np.uint8)
    height, width = (np.arange(size) // SQUARE for size in (sampling.height, sampling.width))
    clips = colours[:, :, height][:, :, :, width]
    if not sampling.sound:
        return clips
    sound = random.uniform(-8, 0, (CANARY_CLIPS, *SOUND_SHAPE)).astype(np.float16)
    sound[-1] = np.nan
    return {"clips": clips, "sound": sound}


def _signature(bundle: Bundle) -> ModelSignature:
    clips = np.dtype(np.uint8), (-1, *bundle.sampling.shape)
    inputs = [TensorSpec(*clips)]
    if bundle.sampling.sound:
        sound = np.dtype(np.float16), (-1, *SOUND_SHAPE)
        inputs = [TensorSpec(*clips, "clips"), TensorSpec(*sound, "sound")]
    outputs = [TensorSpec(np.dtype(np.float32), (-1, len(bundle.labels)))]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def save_model(bundle: Bundle, path: str | os.PathLike, mlflow_model: Model | None = None) -> None:
    """Writes a model folder; MLflow calls this by its name."""
    folder, mlflow_model = Path(path), mlflow_model or Model()
    data = folder / "data"
    data.mkdir(parents=True)
    bundle.model.save(data / "model.keras")
    facts = {
        "task": bundle.task,
        "architecture": bundle.architecture,
        "labels": bundle.labels,
        "sampling": dataclasses.asdict(bundle.sampling),
        "several": bundle.several,
        "thresholds": bundle.thresholds,
    }
    (data / "bundle.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    canary = bundle.canary_clips if bundle.sampling.sound else {"clips": bundle.canary_clips}
    np.savez_compressed(data / "canary.npz", **canary, scores=bundle.canary_scores)
    mlflow_model.signature = _signature(bundle)
    mlflow_model.add_flavor(FLAVOR, data="data", code_version=code_version())
    pyfunc.add_to_model(mlflow_model, loader_module=__name__, data="data")
    mlflow_model.save(folder / "MLmodel")


def _load_pyfunc(path: str) -> Bundle:
    """What `mlflow.pyfunc.load_model` calls with the path of `data`."""
    return _read(Path(path))


def _download(uri: str, folder: Path) -> None:
    """Brings the files of a model, and nothing else that lies beside them."""
    with tracking.answering():
        listed = mlflow.artifacts.list_artifacts(artifact_uri=uri)
        sizes = {file.path.rpartition("/")[2]: file.file_size or 0 for file in listed}
        if (size_bytes := sum(sizes.get(name, 0) for name in FILES)) > MOST_BYTES:
            raise BadInputError(
                f"A model of vidpipe's has at most {MOST_BYTES / 1e9:g} GB. Received: {uri} with"
                f" {size_bytes / 1e9:.1f} GB. Promote another version."
            )
        for name in FILES:
            if name in sizes:
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"{uri}/{name}", dst_path=str(folder)
                )


def _read(data: Path) -> Bundle:
    try:
        facts = read_facts(data / "bundle.json")
        canary = read_canary(data / "canary.npz", facts)
        network = load_network(data / "model.keras", facts)
        return Bundle(
            network,
            facts.task,
            facts.architecture,
            facts.labels,
            facts.sampling,
            *canary,
            facts.several,
            facts.thresholds,
        )
    except VidpipeError:
        raise
    except Exception as error:  # a damaged file raises what its many readers think of
        line = " ".join(str(error).split())[:300] or type(error).__name__
        raise BadInputError(f"This is no model of vidpipe's, or it is damaged: {line}") from error
