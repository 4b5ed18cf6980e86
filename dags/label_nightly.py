"""
### Every video gets its label, every night

The champion of each task labels every video that has no label of that task yet. Unpause it, and it
does so every day; or trigger it by hand for one task, one video, a prefix or a time range.

**Before the first night**, run `train`. While there is no champion, this DAG skips all of its tasks
and succeeds; the log of `label_plan` says so, and names a model that waits for `vidpipe promote`.

**Tasks.** `label_plan` finds the videos and plans shards; `label` works on them, each a mapped
task; `audit` proves that every video has exactly one outcome; `publish` makes all of it visible at
once, in the tables `labels` and `outcomes`.

**Thresholds** drop nothing: rows with a lower score are marked as not `accepted`, and kept. Each
model has its own, one for each label, set on validation videos when it was trained; one that is
given in the form holds in their place. `label_plan` says which labels of a model are never
accepted, and why.

**Running it again** the same night labels nothing twice. A new champion does not label again what
has a label: that is done by `relabel`, when you ask for it.

**When it fails**, read the log of the failed task, remove the cause, and clear the task or wait for
the next night.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from vidpipe.lake.layout import TASK_PATTERN
from vidpipe.orchestration.common import (
    audit_what_is_done,
    dag_settings,
    shard_settings,
)
from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import (
    budget_params,
    form,
    prediction_params,
    runtime_params,
    text_param,
)

PARAMS = {
    "task": text_param(
        "Task",
        "Only by the champion of this task, such as motion; empty: of every task that has one.",
        pattern=TASK_PATTERN,
    ),
    "video_id": text_param(
        "Video", "Only the video with this id (64 hexadecimal digits).", pattern="^[0-9a-f]{64}$"
    ),
    "prefix": text_param("Prefix", "Only videos whose URI begins so, such as s3://videos/2026/."),
    "ingested_after": text_param(
        "Ingested after", "Only videos ingested at this time or later.", format="date-time"
    ),
    "ingested_before": text_param(
        "Ingested before", "Only videos ingested before this time.", format="date-time"
    ),
    "threshold": Param(
        None,
        type=["null", "number"],
        minimum=0,
        maximum=1,
        title="Threshold",
        description=(
            "Labels with a lower score are kept, but marked as not accepted. Empty: as the model"
            " has it, for each label."
        ),
    ),
    **budget_params(max_videos=50_000, max_hours=6),
}

with DAG(
    "label_nightly",
    dag_display_name="5 · label_nightly",
    description="Labels every video that has no label yet, by the champion.",
    doc_md=__doc__,
    schedule="@daily",
    params=form(PARAMS, prediction_params(), runtime_params()),
    tags=["vidpipe", "scheduled"],
    **dag_settings(),
) as dag:
    label_plan = StageOperator(
        task_id="label_plan",
        stage="label",
        config={name: dag.param(name) for name in PARAMS},
    )
    label = StageOperator.partial(
        task_id="label",
        stage="label",
        **shard_settings(),
    ).expand(shard=label_plan.output)
    audit_what_is_done(label_plan, label)
