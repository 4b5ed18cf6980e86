"""evaluate: measures a new model on the test split, and the champion on the same videos."""

from __future__ import annotations

import pyarrow.dataset as ds

from vidpipe import tracking
from vidpipe.datasets.labelled import Dataset
from vidpipe.datasets.splits import TEST
from vidpipe.evaluation.figures import draw_confusion, draw_mistakes, find_mistakes
from vidpipe.evaluation.metrics import Evaluation, evaluate
from vidpipe.lake.tables import Lake
from vidpipe.models.bundle import Bundle
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, read_result


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Evaluates the model of a training.

    Config: dataset (URI), train (URI of the training's manifest).

    Result: what the training's report holds, metrics, classes, test_videos, champion_version,
    champion_metrics (null while there is no champion) and champion_learnt: how many of the test
    videos the champion learnt from, which another seed or share of the split brings about.

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
        "champion_learnt": 0,
    }
    summary = f"{_shown(result)} on {len(result.truth)} test videos"
    if champion:
        of_champion = _evaluate(champion.uri, dataset, attempt, lake, None)
        mlflow_run.log_metrics(
            {f"champion_{name}": value for name, value in of_champion.metrics().items()}
        )
        attempt.result |= {
            "champion_version": champion.version,
            "champion_metrics": of_champion.metrics(),
            "champion_learnt": _learnt_by(champion, dataset, lake),
        }
        summary += f"; the champion, version {champion.version}: {_shown(of_champion)}"
    attempt.conclude(summary)
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
    videos = dataset.of(TEST)
    clips = dataset.read_clips(
        lake,
        videos,
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
        names = _names(lake, dataset, [video.video_id for video in videos])
        shown = [videos[number].video_id for number in find_mistakes(result)]
        mlflow_run.log_pictures(draw_mistakes(result, clips, names, title), shown)
    return result


def _names(lake: Lake, dataset: Dataset, video_ids: list[str]) -> list[str]:
    """File names of videos."""
    rows = lake.dataset("videos", snapshots=dataset.snapshots).to_table(
        columns=["video_id", "source_uri"], filter=ds.field("video_id").isin(video_ids)
    )
    name_of = {row["video_id"]: row["source_uri"].rpartition("/")[2] for row in rows.to_pylist()}
    return [name_of[video_id] for video_id in video_ids]


def _learnt_by(champion: tracking.Version, dataset: Dataset, lake: Lake) -> int:
    """How many of the test videos a champion was trained on."""
    version = tracking.open_run(champion.run_id).param("dataset_version")
    if version is None:
        return 0  # made elsewhere
    learnt = lake.dataset("splits").to_table(
        columns=["video_id"],
        filter=(ds.field("dataset") == dataset.task)
        & (ds.field("version") == version)
        & (ds.field("split") != TEST),
    )
    test = {video.video_id for video in dataset.videos if video.split == TEST}
    return len(test & set(learnt["video_id"].to_pylist()))


def _shown(result: Evaluation) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in result.metrics().items())
