"""preview: what would change if a model became the champion, shown to those who are to approve.

The model looks at a part of the videos that the champion labelled; what it calls otherwise is shown
as film strips, with what it would cost to label all of them anew.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pyarrow.dataset as ds

from vidpipe import tracking
from vidpipe.evaluation.figures import SHEET_CLIPS, draw_flips, shrink
from vidpipe.evaluation.ranking import show_ranking
from vidpipe.evaluation.reviews import Labels, best_scores, draw
from vidpipe.lake.tables import Lake
from vidpipe.mlflow_pages import artifact_page
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
        "ask": decision.approvable,
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
        said = _said_by(lake, snapshots, champion, {video["video_id"] for video in stale})
        chosen = _stratified(said, manifest.config["preview_videos"])
        videos = {video["video_id"]: video for video in stale if video["video_id"] in chosen}
        flips = _Flips(said)
        for video_id, found, clip in try_model(decision.version, lake, snapshots, videos, attempt):
            flips.note(video_id, best_scores((of.label, of.score) for of in found), clip)
        _draw(decision.version, champion, flips, videos)
        result |= {"looked_at": flips.looked_at, "flipped": len(flips.labels)}
        told = (
            f"Of {flips.looked_at} videos that version {champion.version} labelled, drawn of each"
            f" label, {len(flips.labels)} change theirs."
        )
        cost = _told_cost(stale, result["cpu_hours"])
        shown = "\n".join([told, "", *flips.table(), "", cost])
    flips = f"{result['flipped']} of {result['looked_at']} videos flip."
    attempt.conclude(
        f"version {decision.version.version} of {task}: {decision.why}"
        f" {flips if result['looked_at'] else 'There is nothing to show.'}"
    )
    attempt.result |= {**result, "body": _body(decision, result, shown)}
    attempt.outcome(item["item"], item["work_key"])


class _Flips:
    """What a model calls otherwise than the champion did.

    Args:
        said: What the champion said of each video.

    Attributes:
        looked_at: At how many videos the model looked.
        labels: Of each video that flips, what it was and what it becomes.
        shown: The first clip of those of which the model is surest, uint8 `(frames, height, width,
            3)` as a film strip shows it, the surest first.
    """

    def __init__(self, said: Mapping[str, Labels]):
        self._said = said
        self.looked_at = 0
        self.labels: dict[str, tuple[Labels, Labels]] = {}
        self.shown: dict[str, np.ndarray] = {}

    def note(self, video_id: str, after: Labels, clip: np.ndarray) -> None:
        """Notes what the model says of a video, and the clip that it saw."""
        self.looked_at += 1
        if after.keys() == self._said[video_id].keys():
            return
        self.labels[video_id] = self._said[video_id], after
        self.shown[video_id] = shrink(clip)
        surest = sorted(self.shown, key=lambda video: (-self._score(video), video))[:SHEET_CLIPS]
        self.shown = {video: self.shown[video] for video in surest}

    def caption(self, video_id: str) -> str:
        """Of a video that flips, in two lines."""
        before, after = self.labels[video_id]
        return f"was {_names(before)}\nbecomes {_names(after)} {self._score(video_id):.2f}"

    def table(self) -> list[str]:
        """How often what becomes what, the most frequent first, in Markdown."""
        counts = collections.Counter(
            (_names(before), _names(after)) for before, after in self.labels.values()
        )
        lines = [
            f"| {_cell(before)} | {_cell(after)} | {count} |"
            for (before, after), count in counts.most_common(FLIPS_TOLD)
        ]
        return ["| was | becomes | videos |", "| --- | --- | --- |", *lines] if lines else []

    def _score(self, video_id: str) -> float:
        return max(self.labels[video_id][1].values())


def _said_by(
    lake: Lake, snapshots: dict[str, int], champion: tracking.Version, videos: Collection[str]
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
    version: tracking.Version,
    champion: tracking.Version,
    flips: _Flips,
    videos: Mapping[str, Mapping[str, Any]],
) -> None:
    """Keeps the film strips of the flips of which the model is surest."""
    captions = [
        f"{printable(videos[v]['source_uri'].rpartition('/')[2])}\n{flips.caption(v)}"
        for v in flips.shown
    ]
    title = f"{version.name}: version {version.version} in place of {champion.version}"
    figure = draw_flips(list(flips.shown.values()), captions, len(flips.labels), title)
    tracking.open_run(version.run_id).log_pictures({tracking.FLIPS: figure}, flips.shown)


def _body(decision: Decision, result: dict[str, Any], shown: str) -> str:
    """What people are shown, in Markdown."""
    metrics = ", ".join(f"{n} {v:.3f}" for n, v in decision.evaluated["metrics"].items())
    url = result["mlflow_url"]
    pictures = [f"[metrics and pictures in MLflow]({url})"]
    if result["flipped"]:
        pictures.append(f"[what flips, as film strips]({artifact_page(url, tracking.FLIPS)})")
    parts = [f"**{_cell(decision.why)}**", metrics, shown, " · ".join(pictures)]
    if decision.ranking:
        parts.append(show_ranking(decision.ranking, markdown=True))
    parts += [f"{name} failed: {_cell(why)}" for name, why in decision.failed.items()]
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
