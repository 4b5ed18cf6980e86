"""Fields of the trigger forms that several DAGs have."""

from __future__ import annotations

import copy
import importlib.util
from typing import Any

from airflow.sdk import Param

from vidpipe.config import RUNTIMES, load_settings
from vidpipe.lake.layout import TASK_PATTERN


def task_param() -> Param:
    """What is to be learnt or labelled."""
    return Param(
        type="string",
        pattern=TASK_PATTERN,
        title="Task",
        description="What the labels tell, in one word of small letters, such as motion.",
    )


def text_param(title: str, description: str, **kwargs: Any) -> Param:
    """A text that may be left empty."""
    return Param(None, type=["null", "string"], title=title, description=description, **kwargs)


def number_param(title: str, description: str, kind: str, section: str, **bounds: Any) -> Param:
    """A number that may be left empty."""
    return Param(
        None, type=["null", kind], title=title, description=description, section=section, **bounds
    )


def form(*groups: dict[str, Param]) -> dict[str, Param]:
    """All fields of a DAG's form, each explained after its name, by which a shell sets it."""
    fields = {}
    for name, param in (item for group in groups for item in group.items()):
        fields[name] = copy.copy(param)
        fields[name].description = f"{name}: {param.description}"
    return fields


def prediction_params() -> dict[str, Param]:
    """How much memory predictions take."""
    return {
        "batch_memory_gb": number_param(
            "Batch memory (GB)",
            "Memory that a batch of clips or frames may take beside the model: the batch is as"
            " large as that allows. Lower it where memory is short. Empty: as configured, 1 GB.",
            "number",
            "Where it runs",
            minimum=0.05,
            maximum=1000,
        )
    }


def runtime_params() -> dict[str, Param]:
    """Where the stages of a run are at work."""
    settings = load_settings()
    # Airflow's image has nothing of what a stage needs.
    has_stages = importlib.util.find_spec("pyiceberg") is not None
    return {
        "runtime": Param(
            settings.runtime,
            type="string",
            enum=[name for name in RUNTIMES if name != "local" or has_stages],
            values_display={
                "local": "local: a process on the machine of its task",
                "kubernetes": "kubernetes: a pod each",
            },
            title="Stages run as",
            description="All stages of this run do the same work, whichever is chosen.",
            section="Where it runs",
        ),
        "max_wait_hours": Param(
            settings.kubernetes.max_wait_s / 3600,
            type="number",
            exclusiveMinimum=0,
            title="Wait for a node at most so many hours",
            description="A pod whose CPU, memory or GPU is taken for longer fails its task.",
            section="Where it runs",
        ),
        "max_pod_hours_run": _ceiling_param("pod", settings.kubernetes.max_pod_hours_run),
        "max_gpu_hours_run": _ceiling_param("GPU", settings.kubernetes.max_gpu_hours_run),
    }


def _ceiling_param(kind: str, configured: float) -> Param:
    else_what = f"{configured:g}" if configured else "no ceiling"
    return Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        title=f"Spend at most so many {kind} hours",
        description=(
            "When its pods took so many, no further one is started; what is done is kept."
            f" Empty: as configured, {else_what}."
        ),
        section="Where it runs",
    )


def pod_params() -> dict[str, Param]:
    """What the pods of a training have; empty: as in the file of resources."""
    return {
        "gpus": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            maximum=16,
            title="GPUs",
            description="For each pod of the training. Empty: as configured, none by default.",
            section="Where it runs",
        ),
        "workers": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=64,
            title="Pods",
            description=(
                "So many train one model together, for more GPUs than one machine has. They begin"
                " when all of them have a node. Empty: as configured, one by default."
            ),
            section="Where it runs",
        ),
        "memory": text_param(
            "Memory",
            "For each pod of the training, such as 16Gi. Empty: as configured.",
            pattern=r"^[0-9]+(\.[0-9]+)?[MGT]i?$",
            section="Where it runs",
        ),
    }


def budget_params(
    max_videos: int, max_hours: float, first: str = "The newest come first"
) -> dict[str, Param]:
    """How much a run takes on; the rest is left to the runs after it."""
    return {
        "max_videos": Param(
            max_videos,
            type=["null", "integer"],
            minimum=1,
            title="At most so many videos",
            description=f"{first}; later runs take the others. Empty: no limit.",
            section="Budget",
        ),
        "max_hours": Param(
            max_hours,
            type=["null", "number"],
            exclusiveMinimum=0,
            title="At most so many hours",
            description=(
                "After so many hours no further video is begun, and what is done is published; "
                "later runs take the others. Empty: no limit."
            ),
            section="Budget",
        ),
    }
