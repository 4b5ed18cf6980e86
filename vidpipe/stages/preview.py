"""preview: what would change if a model became the champion, shown to those who are to approve.

The model looks at a part of the videos that the champion labelled; what it calls otherwise is shown
as film strips, with what it would cost to label all of them anew.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.dataset as ds

from vidpipe import tracking
from vidpipe.evaluation.figures import SHEET_CLIPS, draw_flips
from vidpipe.evaluation.reviews import Labels, best_scores, draw
from vidpipe.lake.tables import Lake
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.backlog import stale_videos
from vidpipe.stages.deciding import Decision, decide
from vidpipe.stages.manifest import Manifest
from vidpipe.stages.relabel import estimate_cpu_hours
from vidpipe.stages.trying import try_model
from vidpipe.text import printable

LEAST_OF_LABEL = 5  # videos that are looked at, of which the champion says the same
FLIPS_TOLD = 10


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Previews the best of the evaluated models.

    Config: as of `vidpipe.stages.deciding.decide`, and preview_videos (how many it looks at).

    Result: ask (whether there is something to approve), body (what people are shown, Markdown),
    looked_at, flipped (videos), stale (videos that it would label anew), cpu_hours (that this
    would take; null where nobody measured), mlflow_url.
    """
    (item,) = manifest.items
    task = item["item"].partition("/")[0]
    decision = decide(manifest, lake)
    champion = tracking.champion(task)
    result: dict[str, Any] = {
        "ask": decision.promoted,
        "mlflow_url": decision.evaluated["mlflow_url"],
        **dict.fromkeys(("looked_at", "flipped", "stale"), 0),
        "cpu_hours": None,
    }
    shown = ""
    if decision.promoted and champion:
        snapshots = lake.published()
        stale = stale_videos(lake, snapshots, task, decision.version.version)
        result["stale"] = len(stale)
        result["cpu_hours"] = estimate_cpu_hours(decision.version, stale)
        shown = _flips(manifest, attempt, lake, snapshots, decision, champion, stale, result)
        shown += f"\n\n{_told_cost(stale, result['cpu_hours'])}"
    flips = f"{result['flipped']} of {result['looked_at']} videos flip."
    attempt.conclude(
        f"version {decision.version.version} of {task}: {decision.why}"
        f" {flips if result['looked_at'] else 'There is nothing to show.'}"
    )
    attempt.result |= {**result, "body": _body(decision, result, shown)}
    attempt.outcome(item["item"], item["work_key"])


def _flips(
    manifest: Manifest,
    attempt: Attempt,
    lake: Lake,
    snapshots: dict[str, int],
    decision: Decision,
    champion: tracking.Version,
    stale: list[dict[str, Any]],
    result: dict[str, Any],
) -> str:
    """Compares with what the champion said; returns the table of what flips, in Markdown."""
    said = _said_by(lake, snapshots, champion, {video["video_id"]: video for video in stale})
    chosen = _stratified(said, manifest.config["preview_videos"])
    videos = {video["video_id"]: video for video in stale if video["video_id"] in chosen}
    flips: dict[str, tuple[Labels, Labels]] = {}
    shown: dict[str, np.ndarray] = {}
    for video_id, found, clip in try_model(decision.version, lake, snapshots, videos, attempt):
        after = best_scores((segment.label, segment.score) for segment in found)
        result["looked_at"] += 1
        if after.keys() != said[video_id].keys():
            flips[video_id] = said[video_id], after
            shown[video_id] = np.array(clip)
            surest = sorted(shown, key=lambda v: (-max(flips[v][1].values()), v))[:SHEET_CLIPS]
            shown = {v: shown[v] for v in surest}
    result["flipped"] = len(flips)
    _draw(decision, champion, flips, shown, videos)
    counts = collections.Counter(
        (_names(before), _names(after)) for before, after in flips.values()
    )
    lines = [
        f"| {_cell(before)} | {_cell(after)} | {count} |"
        for (before, after), count in counts.most_common(FLIPS_TOLD)
    ]
    head = ["| was | becomes | videos |", "| --- | --- | --- |"] if lines else []
    return "\n".join(
        [
            f"Of {result['looked_at']} videos that version {champion.version} labelled, drawn of"
            f" each label, {len(flips)} change theirs.",
            "",
            *head,
            *lines,
        ]
    )


def _said_by(
    lake: Lake, snapshots: dict[str, int], champion: tracking.Version, videos: Mapping[str, Any]
) -> dict[str, Labels]:
    """What the champion said of videos."""
    rows = lake.dataset("labels", snapshots=snapshots).to_table(
        columns=["video_id", "label", "score"],
        filter=(ds.field("model") == champion.name)
        & (ds.field("model_version") == champion.version),
    )
    said = collections.defaultdict(list)
    for row in rows.to_pylist():
        if row["video_id"] in videos:
            said[row["video_id"]].append((row["label"], row["score"]))
    return {video_id: best_scores(found) for video_id, found in said.items()}


def _stratified(said: Mapping[str, Labels], count: int) -> set[str]:
    """Draws so many videos or some more: of each label its share, but not too few."""
    of_label = collections.defaultdict(list)
    for video_id, labels in said.items():
        of_label[_names(labels)].append(video_id)
    return {
        video_id
        for videos in of_label.values()
        for video_id in draw(
            videos, max(LEAST_OF_LABEL, round(count * len(videos) / len(said))), seed=0
        )
    }


def _draw(
    decision: Decision,
    champion: tracking.Version,
    flips: Mapping[str, tuple[Labels, Labels]],
    shown: Mapping[str, np.ndarray],
    videos: Mapping[str, Mapping[str, Any]],
) -> None:
    """Keeps the film strips of the flips of which the model is surest."""
    captions = [
        f"{printable(videos[v]['source_uri'].rpartition('/')[2])}\n"
        f"was {_names(flips[v][0])}\nbecomes {_names(flips[v][1])} {max(flips[v][1].values()):.2f}"
        for v in shown
    ]
    version, run = decision.version, tracking.open_run(decision.version.run_id)
    title = f"{version.name}: version {version.version} in place of {champion.version}"
    figure = draw_flips(list(shown.values()), captions, len(flips), title)
    run.log_pictures({tracking.FLIPS: figure}, shown)


def _body(decision: Decision, result: dict[str, Any], shown: str) -> str:
    """What people are shown, in Markdown."""
    metrics = ", ".join(f"{n} {v:.3f}" for n, v in decision.evaluated["metrics"].items())
    url = result["mlflow_url"]
    pictures = [f"[metrics and pictures in MLflow]({url})"]
    if result["flipped"]:
        pictures.append(f"[what flips, as film strips]({url}/artifacts/{tracking.FLIPS})")
    parts = [f"**{_cell(decision.why)}**", metrics, shown, " · ".join(pictures)]
    if decision.table:
        parts.append(f"```\n{decision.table.strip()}\n```")
    return "\n\n".join(filter(None, parts))


def _told_cost(stale: list[dict[str, Any]], cpu_hours: float | None) -> str:
    hours = sum(video["duration_s"] for video in stale) / 3600
    cost = "" if cpu_hours is None else f", which takes the model about {cpu_hours:.3g} CPU hours"
    return (
        f"To label all {len(stale)} videos of the history anew (`relabel`) is {hours:.2f} hours of"
        f" video{cost}. Until then they keep the labels that they have."
    )


def _names(labels: Labels) -> str:
    return ", ".join(sorted(labels))


def _cell(text: str) -> str:
    """A text that is no Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_[]|<>" else c for c in " ".join(text.split()))
