"""A whole run without Airflow, for what people type."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vidpipe.errors import UsageError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.stages.manifest import Manifest, Report, now
from vidpipe.stages.runner import run_stage
from vidpipe.version import code_version


def upload_annotations(lake: Lake, file: Path) -> str:
    """Puts an annotation file into the lake, named by its content; returns its URI."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", file.name)
    digest = hashlib.sha256(content).hexdigest()[:16]
    uri = f"{layout.annotations_uri(lake.uri)}{digest}/{name}"
    lake.store.put(uri, content)
    return uri


def annotate(file: Path, task: str, *, diff: bool = False) -> None:
    """Imports an annotation file: annotate, audit, publish.

    Raises:
        BadInputError: The file has faults, listed by line.
    """
    lake = Lake()
    uri = upload_annotations(lake, file)
    stage = _run(lake, "annotate")
    plan = stage("annotate", task=task, file=uri, diff=diff)
    if not diff:
        audit = stage("audit", plan=plan.uri)
        stage("publish", publication=audit.result["publication"])


def forget(name: str, **config: Any) -> None:
    """Forgets a video or a source, or only tells what that means; see `vidpipe/stages/forget.py`.

    Raises:
        TemporaryError: A run that has not ended holds it still.
    """
    _run(Lake(), "forget")("forget", video=name, **config)


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
