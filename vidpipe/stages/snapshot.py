"""snapshot: pins what a training learns from, and plans its train, evaluate and promote.

Several architectures learn from the same dataset: each has its own train and evaluate.

The labels are the annotations that hold; where people contradict each other,
`vidpipe/datasets/consensus.py` settles it. Which videos are in which split,
`vidpipe/datasets/splits.py` says: what was published of the same task, seed and shares before stays
as it is.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import pyarrow.dataset as ds

from vidpipe.datasets.annotations import Key, Statement, current_labels, tells_of_video
from vidpipe.datasets.consensus import Consensus, Span, settle
from vidpipe.datasets.kinds import KINDS, SINGLE, TIMED
from vidpipe.datasets.labelled import Dataset, LabelledVideo
from vidpipe.datasets.missing_data import LEAVE_OUT, PSEUDO_LABEL_SCORE
from vidpipe.datasets.presets import refuse_sides
from vidpipe.datasets.splits import SPLITS, TEST, TRAIN
from vidpipe.errors import BadInputError, UsageError
from vidpipe.evaluation.gates import PREVIEW_VIDEOS, Gate
from vidpipe.evaluation.judging import is_measurable
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.models.architectures import CLASSIFICATION
from vidpipe.models.pretrained import find_pretrained
from vidpipe.models.weights import require_weights
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.pseudo_labels import read_pseudo_labels
from vidpipe.stages.splitting import Planned, plan_splits
from vidpipe.training.settings import complete


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Writes the rows of `splits` and the manifests of the stages that follow.

    Config: task, kind (of labels, see `vidpipe.datasets.kinds.KINDS`; null: single), architectures
    (their names), seed, test_share, near_duplicate_bits (null: the default), incomplete (see
    `vidpipe.datasets.missing_data.INCOMPLETE`; null: keep), pseudo_labels_of (the version of the
    model whose labels stand for missing ones; null: none do), pseudo_label_score (the lowest that
    counts), approve (whether people are asked before a model is promoted), preview_videos (how many
    it looks at for them), the fields of `Gate`, and what `vidpipe.training.settings.complete`
    takes.

    Result: `shards` (URIs of all manifests), `mapped` (those of train and evaluate of each
    architecture), `last` (that of promote), `preview` (that of preview, if people are asked),
    `dataset` (version), `base` (snapshot ids read) and counts: train, validation, test, tied,
    of_no_class, without_frames, units, near_pairs, without_hash, left_out, incomplete,
    pseudo_labelled and, where sound is asked for, without_sound.

    Raises:
        BadInputError: There are too few annotations, they cannot be split, or nothing is true of
            the test videos.
    """
    config = manifest.config
    trainings = complete_all(config, lake)
    require_all_weights(trainings, lake)
    # What a form leaves empty is null.
    given = {f.name: config.get(f.name) for f in dataclasses.fields(Gate)}
    gate = Gate(**{name: value for name, value in given.items() if value is not None})
    dataset, dataset_uri = pin_dataset(manifest, attempt, lake)
    test = dataset.of(TEST)
    if not is_measurable(dataset, test):
        raise BadInputError(
            f"Models are compared on test videos, and of the {len(test)} of task {dataset.task!r}"
            " nothing is true: label more videos that show something."
        )
    plan = Plan(manifest, attempt, lake)
    models = []
    for architecture, training in trainings.items():
        train = {
            "task": dataset.task,
            "dataset": dataset_uri,
            "dataset_version": dataset.version,
            "accept_precision": gate.accept_precision,
            **training,
        }
        train_uri = plan.add("train", architecture, train)
        evaluate = {"dataset": dataset_uri, "train": train_uri, "margin": gate.margin}
        evaluate_uri = plan.add("evaluate", architecture, evaluate)
        models.append({"train": train_uri, "evaluate": evaluate_uri})
    promote = {
        "evaluated": [model["evaluate"] for model in models],
        "margin": gate.margin,
        "confidence": gate.confidence,
        "slice_limit": gate.slice_limit,
    }
    names = "+".join(trainings)
    if config.get("approve"):
        preview = {**promote, "preview_videos": config.get("preview_videos") or PREVIEW_VIDEOS}
        attempt.result["preview"] = plan.add("preview", names, preview)
        promote["approval"] = layout.approval_uri(lake.uri, manifest.run_key)
    promote_uri = plan.add("promote", names, promote)
    epochs = sum(training["epochs"] for training in trainings.values())
    attempt.announce("train", epochs, unit="epochs")
    attempt.result |= {"shards": plan.uris, "mapped": models, "last": promote_uri}


def pin_dataset(manifest: Manifest, attempt: Attempt, lake: Lake) -> tuple[Dataset, str]:
    """Writes the rows of `splits` and a dataset, and tells of it in the result.

    Config and result as of `run`, without what is said of networks and their manifests.

    Returns:
        The dataset, and its URI.

    Raises:
        BadInputError: There are too few annotations, or they cannot be split; left and right are
            said to mean the same, and labels tell them apart.
        UsageError: What learns is to hear, and no video has sound.
    """
    config = manifest.config
    task, kind = config["task"], _kind(config)
    snapshots = lake.published()
    extractions = _extractions(lake, snapshots)
    incomplete = {v for v, of in extractions.items() if of.incomplete}
    durations_s = {video_id: of.duration_s for video_id, of in extractions.items()}
    agreed = settle(_current(lake, snapshots, task), kind, durations_s)
    labels = {video_id: of for video_id, of in agreed.labels.items() if video_id in extractions}
    incomplete &= labels.keys()
    if config.get("incomplete") == LEAVE_OUT:
        labels = {video_id: of for video_id, of in labels.items() if video_id not in incomplete}
    counts_of = collections.Counter(itertools.chain(*agreed.labels.values()))
    if lost := sorted(set(counts_of) - set(itertools.chain(*labels.values()))):
        count = counts_of[lost[0]]
        raise BadInputError(
            f"Class {lost[0]!r} has {count} labelled videos, and none of them has frames (or all of"
            " them, if incomplete ones are left out). Ingest them again, or withdraw their labels"
            " (column `delete`)."
        )
    if kind == SINGLE and not labels:
        raise BadInputError(
            f"No video of task {task!r} has one label that most of its annotators agree on"
            f" ({len(agreed.tied)} tied). Where a video may show several things at once, train with"
            " kind `several`."
        )
    if (
        kind == SINGLE
        and agreed.tied
        and len(classes := set(itertools.chain(*labels.values()))) < 2
    ):
        raise BadInputError(
            f"All labelled videos of task {task!r} are {classes.pop()!r}, but for"
            f" {len(agreed.tied)} tied, on which their annotators contradict each other. Correct"
            " these, or label more."
        )
    if config.get("mirrored"):
        refuse_sides(counts_of)
    _require_times(kind, agreed.spans, durations_s)
    pseudo_labels = _pseudo_labels(lake, snapshots, config, kind, agreed, extractions)
    extracted = {
        v: (extractions[v].work_key, extractions[v].run_key) for v in (*labels, *pseudo_labels)
    }
    planned = plan_splits(attempt, lake, snapshots, labels, extracted, pseudo_labels)
    units = planned.assignment.units
    labels |= pseudo_labels
    dataset = Dataset(
        task,
        [
            LabelledVideo(
                video_id,
                labels[video_id],
                split,
                *extracted[video_id],
                units[video_id],
                agreed.spans.get(video_id, ()),
                durations_s[video_id],
                config["pseudo_labels_of"] if video_id in pseudo_labels else "",
            )
            for video_id, split in planned.assignment.splits.items()
        ],
        snapshots,
        planned.proof,
        kind,
    )
    audible = (extractions[video.video_id].extracted_audio_s for video in dataset.of(TRAIN))
    if config.get("sound") and not any(audible):
        raise UsageError(
            f"A network that hears was asked for (sound), and no video of task {task!r} that it"
            " would learn from has sound. Train without, or label videos that have sound."
        )
    _write_splits(attempt, lake, dataset, planned)
    dataset_uri = f"{layout.run_uri(lake.uri, manifest.run_key)}/datasets/{attempt.name}.json"
    lake.store.put_json(dataset_uri, dataset.to_json())
    counts = {
        **collections.Counter(planned.assignment.splits.values()),
        "tied": len(agreed.tied),
        "of_no_class": len(agreed.told) - len(agreed.labels) - len(agreed.tied),
        "without_frames": sum(video_id not in extractions for video_id in agreed.labels),
        "incomplete": len(incomplete),
        "pseudo_labelled": sum(bool(video.pseudo_label_of) for video in dataset.videos),
    }
    if config.get("sound"):
        counts["without_sound"] = sum(
            not extractions[video.video_id].extracted_audio_s for video in dataset.videos
        )
    attempt.conclude(
        f"dataset {dataset.version} of {task}, {len(dataset.labels)} classes, videos: "
        + ", ".join(f"{n} {name}" for name, n in counts.items() if n or name in SPLITS)
        + f"; {planned.summary}"
        + _note_on_backbone(config, lake)
    )
    attempt.result |= {
        "dataset": dataset.version,
        "base": snapshots,
        "counts": {**counts, **planned.counts},
    }
    return dataset, dataset_uri


def complete_all(config: dict[str, Any], lake: Lake) -> dict[str, dict[str, Any]]:
    """The training of each architecture, in full; config as of `run`.

    A backbone without weights gets those that were fetched for it, if there are any.

    Raises:
        UsageError: There is no task, no architecture, or no such thing as is asked for.
    """
    if not config.get("task"):
        raise UsageError("A training needs a task, such as motion.")
    sliding = _kind(config) == TIMED
    names = config.get("architectures") or []
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise UsageError(
            f"A training needs architectures, one or more of {', '.join(CLASSIFICATION)}."
            f" Received: {names!r}"
        )
    common = {**config, "weights": _weights(config, lake), "sliding": sliding}
    return {name: complete({**common, "architecture": name}) for name in names}


def _weights(config: dict[str, Any], lake: Lake) -> str | None:
    """The URI of the weights that are chosen, or were fetched for the backbone; None: random."""
    backbone, weights = config.get("backbone"), config.get("weights")
    if backbone and not weights:
        return find_pretrained(backbone, lake.store, lake.uri)
    return weights


def _note_on_backbone(config: dict[str, Any], lake: Lake) -> str:
    """Says that a backbone has no weights: a line of its own, after a break; else nothing."""
    backbone = config.get("backbone")
    if not backbone or _weights(config, lake):
        return ""
    return (
        f"\n{backbone} begins with random weights, for the lake has none for it: it learns from"
        " these videos alone (vidpipe fetch-weights lists what there is)."
    )


def require_all_weights(trainings: Mapping[str, dict[str, Any]], lake: Lake) -> None:
    """Checks that the weights files of all trainings are there; see `require_weights`."""
    for uri in {training["weights"] for training in trainings.values()} - {None}:
        require_weights(uri, lambda: lake.store)


def _kind(config: dict[str, Any]) -> str:
    kind = config.get("kind") or SINGLE
    if kind not in KINDS:
        raise UsageError(f"Labels are of a kind of {', '.join(KINDS)}. Received: {kind!r}")
    return kind


def _current(lake: Lake, snapshots: dict[str, int], task: str) -> dict[Key, frozenset[Statement]]:
    """The annotations of a task that hold."""
    annotations = lake.dataset("annotations", snapshots=snapshots)
    current = current_labels(annotations.to_table(filter=ds.field("task") == task))
    if not current:
        others = sorted(set(annotations.to_table(columns=["task"])["task"].to_pylist()) - {task})
        raise BadInputError(
            f"Task {task!r} has no annotation."
            f" Import some with `vidpipe annotate FILE --task {task}`."
            + (f" There are annotations of: {', '.join(others)}." if others else "")
        )
    if not any(tells_of_video(key, said) for key, of in current.items() for said in of):
        raise BadInputError(
            f"Task {task!r} has annotations of boxes and empty pictures only, which tell nothing of"
            " a video. To classify videos, annotate whole videos or ranges of them."
        )
    return current


def _pseudo_labels(
    lake: Lake,
    snapshots: dict[str, int],
    config: dict[str, Any],
    kind: str,
    agreed: Consensus,
    extractions: Mapping[str, _Extraction],
) -> dict[str, tuple[str]]:
    """Labels of a model for videos of which nobody told anything."""
    if not config.get("pseudo_labels_of"):
        return {}
    if kind != SINGLE:
        raise UsageError(
            "Labels of a model can stand for missing ones where a video has one label. Received:"
            f" kind {kind!r} with pseudo_labels_of {config['pseudo_labels_of']!r}"
        )
    score = config.get("pseudo_label_score")
    found = read_pseudo_labels(
        lake,
        snapshots,
        config["task"],
        config["pseudo_labels_of"],
        PSEUDO_LABEL_SCORE if score is None else score,
        set(itertools.chain(*agreed.labels.values())),
    )
    left_out = config.get("incomplete") == LEAVE_OUT
    return {
        v: label
        for v, label in found.items()
        if v in extractions
        and v not in agreed.told
        and not (left_out and extractions[v].incomplete)
    }


class _Extraction(NamedTuple):
    work_key: str
    run_key: str
    duration_s: float
    extracted_audio_s: float
    missing_frames: int | None
    truncated: bool | None

    @property
    def incomplete(self) -> bool:
        """Whether frames did not decode, or the file ends before its end."""
        return bool(self.missing_frames or self.truncated)


def _extractions(lake: Lake, snapshots: dict[str, int]) -> dict[str, _Extraction]:
    """The newest extraction of each video."""
    columns = ["video_id", *_Extraction._fields, "ingested_at"]
    rows = lake.dataset("videos", snapshots=snapshots).to_table(columns=columns)
    return {
        row["video_id"]: _Extraction(*(row[name] for name in _Extraction._fields))
        for row in rows.sort_by("ingested_at").to_pylist()
    }


def _require_times(
    kind: str, spans: Mapping[str, Collection[Span]], durations_s: Mapping[str, float]
) -> None:
    """Refuses labels with times of which none has a time."""
    whole = all(
        span.start_s <= 0 and span.end_s >= durations_s.get(video_id, 0)
        for video_id, of in spans.items()
        for span in of
    )
    if kind == TIMED and whole:
        raise BadInputError(
            "Labels with times are asked for, and no annotation has a time: all tell of whole"
            " videos. Annotate ranges (columns `start_s`, `end_s`), or take labels of another kind."
        )


def _write_splits(attempt: Attempt, lake: Lake, dataset: Dataset, planned: Planned) -> None:
    """Rows of `splits`, unless an earlier run published this very version."""
    draw = dataclasses.asdict(planned.draw)
    work_key = layout.make_work_key(dataset.task, "snapshot", dataset.version, *draw.values())
    known = lake.dataset("splits", snapshots=dataset.snapshots).count_rows(
        filter=ds.field("work_key") == work_key
    )
    attempt.outcome(f"{dataset.task}/{dataset.version}", work_key)
    if known:
        return
    attempt.write(
        "splits",
        (
            {
                "dataset": dataset.task,
                "version": dataset.version,
                "video_id": video.video_id,
                "label": None if dataset.several else video.labels[0],
                "labels": json.dumps(video.labels) if dataset.several else None,
                "split": video.split,
                "group": video.group,
                "weight": 1.0,
                "pseudo_label_of": video.pseudo_label_of or None,
                **draw,
                "proof": planned.proof.summary,
                "split_at": attempt.manifest.planned_time,
                "work_key": work_key,
                "run_key": attempt.manifest.run_key,
            }
            for video in dataset.videos
        ),
    )


class Plan:
    """The manifests of stages that have one item each: a model.

    Attributes:
        uris: Of those that were written.
    """

    def __init__(self, manifest: Manifest, attempt: Attempt, lake: Lake):
        self.uris: list[str] = []
        self._manifest = manifest
        self._attempt = attempt
        self._lake = lake
        self._shards: collections.Counter[str] = collections.Counter()

    def add(self, stage: str, name: str, config: dict[str, Any]) -> str:
        """Writes the manifest of a stage for the model of this name; returns its URI."""
        run_key, item = self._manifest.run_key, f"{self._manifest.config['task']}/{name}"
        shard = f"{self._shards[stage]:05d}"
        self._shards[stage] += 1
        uri = layout.manifest_uri(self._lake.uri, run_key, stage, self._attempt.name, shard)
        dataclasses.replace(
            self._manifest,
            stage=stage,
            shard=shard,
            config=config,
            items=[{"item": item, "work_key": layout.make_work_key(run_key, stage, item)}],
        ).write(self._lake.store, uri)
        self.uris.append(uri)
        return uri
