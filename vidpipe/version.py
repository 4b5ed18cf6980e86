"""Which code this is, for manifests, outcomes and MLflow."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import vidpipe


@functools.cache
def code_version() -> str:
    """The version of vidpipe, with the commit where it runs from a checkout.

    `VIDPIPE_CODE_VERSION` replaces it: Airflow's operator gives it to every stage, so that all
    tasks of a run name the same.
    """
    return os.environ.get("VIDPIPE_CODE_VERSION") or f"{vidpipe.__version__}{_commit()}"


def _commit() -> str:
    git = Path(vidpipe.__file__).parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if head.startswith("ref: "):
            head = (git / head.removeprefix("ref: ")).read_text().strip()
    except OSError:
        return ""
    return f"+{head[:12]}"
