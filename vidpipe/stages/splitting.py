"""What a snapshot splits its videos by: what their owner says, how they look, where they were."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pyarrow.dataset as ds

from vidpipe.console import echo
from vidpipe.datasets.near_duplicates import NearPairs, find_near_pairs, is_blank
from vidpipe.datasets.proof import Proof, prove
from vidpipe.datasets.splits import (
    NEAR_DUPLICATE_BITS,
    TRAIN,
    VALIDATION_SHARE,
    Assignment,
    InseparableError,
    check_classes,
    split_videos,
)
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.fingerprints import fingerprints_of
from vidpipe.stages.inseparable import explain
from vidpipe.text import printable

SHOWN = 20  # pairs, videos and classes of a kind, in the log


@dataclass(frozen=True)
class Draw:
    """By what a split is drawn: where it is the same, videos keep the places that they have."""

    seed: int
    test_share: float
    validation_share: float


@dataclass(frozen=True)
class Planned:
    """A split, and its proof."""

    draw: Draw
    assignment: Assignment
    proof: Proof

    @property
    def counts(self) -> dict[str, int]:
        """Of what came of it."""
        return {
            "units": self.proof.units,
            "near_pairs": self.proof.near_pairs,
            "without_hash": self.proof.without_hash,
            "left_out": len(self.assignment.left_out),
        }

    @property
    def summary(self) -> str:
        """In one line."""
        counts = self.counts
        if self.proof.near_duplicate_bits:
            near = f"{counts['near_pairs']} near pairs, {counts['without_hash']} without hash"
        else:
            near = "near duplicates were not looked for"
        return f"{counts['units']} units, {near}, {counts['left_out']} left out"


def plan_splits(
    attempt: Attempt,
    lake: Lake,
    snapshots: dict[str, int],
    labels: Mapping[str, Collection[str]],
    extractions: Mapping[str, tuple[str, str]],
    pseudo_labels: Mapping[str, Collection[str]],
) -> Planned:
    """Splits the videos of a task.

    Videos that people told of get their places first, as if there were no others. One that a model
    told of can only be in train, and is left out where it belongs to what is in another split.

    Args:
        attempt: That of the snapshot, whose configuration says how.
        lake: Where they are.
        snapshots: Snapshot ids of the tables.
        labels: The classes of each video, as people say.
        extractions: Work key and run key of the extraction of each video, also of the others.
        pseudo_labels: The classes of others, as a model says.

    Raises:
        BadInputError: They cannot be split.
    """
    config = attempt.manifest.config
    task = config["task"]
    draw = Draw(config.get("seed") or 0, config.get("test_share") or 0.2, VALIDATION_SHARE)
    bits = config.get("near_duplicate_bits")
    bits = NEAR_DUPLICATE_BITS if bits is None else bits
    groups, given = _owner_says(lake, snapshots, task)
    pseudo_labels = {v: of for v, of in pseudo_labels.items() if given.get(v, TRAIN) == TRAIN}
    names = _names(lake, snapshots, extractions)
    check_classes(labels, groups=groups, given=given, names=names)
    fingerprints = fingerprints_of(attempt, lake, snapshots, extractions) if bits else {}
    near_pairs = find_near_pairs(
        fingerprints, bits, lambda done, of: attempt.progress(done, of, "frames compared")
    )
    split = functools.partial(
        split_videos,
        **dataclasses.asdict(draw),
        groups=groups,
        near_pairs=near_pairs,
        given=given,
        names=names,
    )
    try:
        assignment = split(labels, previous=_previous(lake, snapshots, task, draw))
    except InseparableError as error:
        raise explain(error, attempt, lake, snapshots, extractions, fingerprints, names) from error
    if pseudo_labels:
        places = {**dict.fromkeys(pseudo_labels, TRAIN), **assignment.splits}
        told = {v: labels[v] for v in assignment.splits}
        joined = split({**pseudo_labels, **told}, previous=places)
        assignment = dataclasses.replace(
            assignment,
            splits=joined.splits,
            units=joined.units,
            left_out={**assignment.left_out, **joined.left_out},
        )
    proof = prove(assignment.splits, groups, fingerprints, bits, near_pairs)
    _tell(assignment, proof, near_pairs.among(assignment.splits), names)
    return Planned(draw, assignment, proof)


def _owner_says(
    lake: Lake, snapshots: dict[str, int], task: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Group and split that the annotations give to videos: of each the newest that is given."""
    annotations = lake.dataset("annotations", snapshots=snapshots)
    found = []
    for column in ("group", "split"):
        rows = annotations.to_table(
            columns=["video_id", column, "annotated_at"],
            filter=(ds.field("task") == task) & (ds.field(column) != ""),
        )
        ordered = rows.sort_by("annotated_at").to_pylist()
        found.append({row["video_id"]: row[column] for row in ordered})
    groups, given = found
    return groups, given


def _previous(lake: Lake, snapshots: dict[str, int], task: str, draw: Draw) -> dict[str, str]:
    """The split of each video that was drawn in the same way before."""
    drawn_so = ds.field("dataset") == task
    for name, value in dataclasses.asdict(draw).items():
        drawn_so &= ds.field(name) == value
    rows = lake.dataset("splits", snapshots=snapshots).to_table(
        columns=["video_id", "split", "split_at"], filter=drawn_so
    )
    return {row["video_id"]: row["split"] for row in rows.sort_by("split_at").to_pylist()}


def _names(lake: Lake, snapshots: dict[str, int], videos: Collection[str]) -> dict[str, str]:
    """What people call videos."""
    rows = lake.dataset("videos", snapshots=snapshots).to_table(
        columns=["video_id", "source_uri"], filter=ds.field("video_id").isin(list(videos))
    )
    return {row["video_id"]: printable(row["source_uri"]) for row in rows.to_pylist()}


def _tell(assignment: Assignment, proof: Proof, near: NearPairs, names: Mapping[str, str]) -> None:
    """Shows what people may want to look at, a few of each, by their names."""
    splits = assignment.splits

    def called(video_id: str) -> str:
        return names.get(video_id, video_id)

    _show(
        len(near),
        (f"near duplicates: {called(one)} and {called(other)}" for one, other in near),
    )
    without_hash = [v for v in splits if is_blank(proof.fingerprints.get(v, "?"))]
    _show(
        len(without_hash),
        (f"shows too little to be compared: {called(video_id)}" for video_id in without_hash),
    )
    _show(
        len(assignment.left_out),
        (
            f"left out: {called(video_id)}, as it belongs to "
            + " and to ".join(
                f"{called(tie.video_id) if tie.video_id != video_id else 'itself'} ({tie.split})"
                for tie in ties
            )
            for video_id, ties in assignment.left_out.items()
        ),
    )
    _show(
        len(assignment.moved),
        (
            f"moved, as its split is given: {called(video_id)} from {before} to {splits[video_id]}"
            for video_id, before in assignment.moved.items()
        ),
    )
    _show(
        len(assignment.untested),
        (f"no video of class {printable(label)!r} is in the test" for label in assignment.untested),
    )


def _show(count: int, lines: Iterable[str]) -> None:
    for line in itertools.islice(lines, SHOWN):
        echo(f"snapshot: {line}")
    if count > SHOWN:
        echo(f"snapshot: … and {count - SHOWN} more")
