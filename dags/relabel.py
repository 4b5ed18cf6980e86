"""
### A new champion labels again what it makes stale

Labels by the champion the videos that have labels of the task already, but none by it. As
triggered, it only tells how many those are, how long, and what they cost; look at that, and trigger
it again without "only tell".

**Within a budget.** The videos of which the models before were least sure come first: their labels
most likely change. After so many videos, or hours, no further one is begun; what is done is
published.

**Tasks.** `relabel_plan` finds the videos, tells what they cost and plans shards; `label` works on
them, each a mapped task, as in `label_nightly`; `audit` and `publish` make the tables `labels` and
`outcomes` show them, and `current_labels` what the champion says. Where it only tells, there are no
shards, and nothing is published.

**What it costs** is what the model took of a CPU when it was evaluated; reading the frames comes on
top of it. A ceiling of pod hours is in the form, too.

**Running it again** goes on where it was left: what the champion has labelled is not stale any
more. Labels of the models before stay in the table; after `vidpipe rollback` they are current
again, and nothing is labelled anew.

**When it fails**, read the log of the failed task, remove the cause, and clear the task or trigger
it again.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

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
    task_param,
)

PARAMS = {
    "task": task_param(),
    "dry_run": Param(
        True,
        type="boolean",
        title="Only tell",
        description="Only tell in the log what is stale and what it costs; label nothing.",
    ),
    **budget_params(
        max_videos=10_000,
        max_hours=6,
        first="Those come first of which the models before were least sure",
    ),
}

with DAG(
    "relabel",
    dag_display_name="7 · relabel",
    description="Labels by a new champion what has labels of others; first it only tells.",
    doc_md=__doc__,
    schedule=None,
    params=form(PARAMS, prediction_params(), runtime_params()),
    tags=["vidpipe"],
    **dag_settings(),
) as dag:
    relabel_plan = StageOperator(
        task_id="relabel_plan",
        stage="relabel",
        config={name: dag.param(name) for name in PARAMS},
    )
    label = StageOperator.partial(
        task_id="label",
        stage="label",
        **shard_settings(),
    ).expand(shard=relabel_plan.output)
    audit_what_is_done(relabel_plan, label)
