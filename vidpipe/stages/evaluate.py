"""evaluate: measures a new model on the test split, and the champion on the same videos."""

from __future__ import annotations

from vidpipe import tracking
from vidpipe.datasets.labelled import Dataset
from vidpipe.datasets.splits import TEST
from vidpipe.evaluation.figures import draw_confusion, draw_mistakes
from vidpipe.evaluation.metrics import Evaluation, evaluate
from vidpipe.lake.tables import Lake
from vidpipe.models.bundle import Bundle
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, read_result


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Evaluates the model of a training.

    Config: dataset (URI), train (URI of the training's manifest).

    Result: what the training's report holds, metrics, classes, test_videos, champion_version and
    champion_metrics (null while there is no champion).

    Raises:
        BadInputError: The training did not end.
    """
    (item,) = manifest.items
    trained = read_result(lake.store, lake.uri, manifest.config["train"])
    dataset = Dataset.from_json(lake.store.get_json(manifest.config["dataset"]))
    champion = tracking.champion(dataset.task)
    if champion and champion.version == trained["model_version"]:
        champion = None  # an earlier attempt of this run went as far as to promote it
    mlflow_run = tracking.open_run(trained["mlflow_run_id"])
    result = _evaluate(trained["model_uri"], dataset, attempt, lake, mlflow_run)
    attempt.result |= {
        **trained,
        "metrics": result.metrics(),
        "classes": len(dataset.labels),
        "test_videos": len(result.truth),
        "champion_version": None,
        "champion_metrics": None,
    }
    print(f"evaluate: {_shown(result)}, on {len(result.truth)} videos", flush=True)
    if champion:
        of_champion = _evaluate(champion.uri, dataset, attempt, lake, None)
        mlflow_run.log_metrics(
            {f"champion_{name}": value for name, value in of_champion.metrics().items()}
        )
        attempt.result |= {
            "champion_version": champion.version,
            "champion_metrics": of_champion.metrics(),
        }
        print(f"evaluate: the champion, version {champion.version}, has {_shown(of_champion)}")
    attempt.outcome(item["item"], item["work_key"])


def _evaluate(
    model_uri: str,
    dataset: Dataset,
    attempt: Attempt,
    lake: Lake,
    mlflow_run: tracking.Run | None,
) -> Evaluation:
    """Measures a model; with a run, metrics and pictures go there."""
    bundle = Bundle.load(model_uri)
    bundle.check_canary()
    path = attempt.scratch / "clips.npy"
    path.unlink(missing_ok=True)
    videos, clips = dataset.read_clips(
        lake,
        (TEST,),
        bundle.sampling,
        path,
        lambda done, of: attempt.progress(0, 1, f"reading frames, {done} of {of}"),
    )
    result = evaluate(bundle.predict(clips), bundle.labels, [video.label for video in videos])
    if mlflow_run:
        title = f"{dataset.task} by {bundle.architecture}, accuracy {result.accuracy:.3f}"
        mlflow_run.log_metrics({f"test_{name}": v for name, v in result.metrics().items()})
        mlflow_run.log_json(result.per_class(), "per_class.json")
        mlflow_run.log_figure(draw_confusion(result, title), "confusion.png")
        mlflow_run.log_figure(draw_mistakes(result, clips, title), "misclassified.png")
    return result


def _shown(result: Evaluation) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in result.metrics().items())
