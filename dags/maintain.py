"""
### What is left over goes

Removes pods that nobody waits for, checkpoints that no training goes on from, and features of
videos that no training uses. Unpause it, and it does so every hour; or trigger it by hand.

**Tasks.** `sweep` looks for pods and Jobs of this deployment in the cluster, and removes those
whose task is over or is not known any more; it is skipped where no pods are configured. Most are
gone within a minute: a process beside the scheduler looks for them all the time.
`maintain` removes the checkpoints of trainings whose run left nothing new for some days, and what
frozen backbones made of videos, where no training used it for some weeks: the next makes it anew.

**What it leaves alone**: what a task waits for or may go on with, and what belongs to another
deployment. Two that share a namespace need names of their own
(`deployment` in `vidpipe.toml`).

**Running it again** is always safe. A failed training that is cleared later begins anew.

**When it fails**, read the log of the failed task, remove the cause, and wait for the next run.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from vidpipe.orchestration.common import dag_settings
from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import form, runtime_params
from vidpipe.orchestration.sweep import SweepOperator

PARAMS = {
    "checkpoint_days": Param(
        7,
        type="number",
        minimum=1,
        title="Days after which checkpoints go",
        description="A run that left nothing new for so many days is over.",
    ),
    "feature_days": Param(
        30,
        type="number",
        minimum=1,
        title="Days after which features of videos go",
        description="Where no training with that backbone and size came for so many days.",
    ),
}

with DAG(
    "maintain",
    dag_display_name="9 · maintain",
    description="Removes pods, checkpoints and features that are left over.",
    doc_md=__doc__,
    schedule="@hourly",
    params=form(PARAMS, runtime_params()),
    tags=["vidpipe", "scheduled"],
    **dag_settings(),
) as dag:
    # It is no pod: where all slots of that pool are taken it is needed most.
    SweepOperator(task_id="sweep", pool="default_pool")
    StageOperator(
        task_id="maintain",
        stage="maintain",
        config={name: dag.param(name) for name in PARAMS},
    )
