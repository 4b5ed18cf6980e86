"""
### The best way to train, by trying out

Searches how fast to learn, how large a batch … (you say what) by many short trainings, and shows
what it found. It registers no model: that does `train`, with the best configuration.

**Tasks.** `tune_plan` pins a dataset as `train` does and says what is searched. Each `trial` is a
training, whose parameters Optuna (TPE) chooses by what the trials before it found; the first are
the architectures as they are without a search. It learns from the training videos and is judged on
the validation videos, by accuracy and, where that is the same, by loss; test videos are not
touched. Trials end early where others do better (asynchronous successive halving), so that most of
the time goes to good ones. `best` tells which is the best: in its log, and in the MLflow run to
which it links, with the trials below it, a picture of how much each parameter matters
(`importance.png`), one of how it went (`history.png`), `trials.json` and `best.json`. `audit` and
`publish` make the dataset known.

**Train with it.** `offer` waits for an answer: *Approve*, on its page or below *Required Actions*,
and `start_train` starts `train` with the best configuration (if `train` is paused, unpause it).
Where nobody is asked, or the answer is no, both are skipped.
From a shell: the command with which `vidpipe run tune` ends.

**Budget.** In trials, and in hours: trials that would begin later end at once and are `skipped` as
`out_of_budget`. Trials that diverge cost only themselves.

**When a machine dies**, or the scheduler: what is known of a trial is in the lake, each on its own.
A trial that is tried again has the parameters that it had and goes on after the last step that it
kept, in its MLflow run.

**On one machine** trials follow each other; on Kubernetes each is a pod, with the GPUs and the
memory that the form says.

**When it fails**, not one trial learnt to its end: read the log of a failed trial, remove the
cause, and clear it.
"""

from __future__ import annotations

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, task_group

from vidpipe.orchestration.common import audit_what_is_done, dag_settings, training_settings
from vidpipe.orchestration.dataset_params import dataset_params
from vidpipe.orchestration.offer import OfferOperator
from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import (
    form,
    pod_params,
    prediction_params,
    runtime_params,
    task_param,
)
from vidpipe.orchestration.training_params import (
    architectures_param,
    network_params,
    training_params,
    tuning_params,
)

ASK_HOURS = "ask_hours"
PARAMS = {
    "task": task_param(),
    "architectures": architectures_param("Of several the best is searched, too."),
    **tuning_params(),
    **dataset_params(),
    **network_params(),
    **training_params(),
}
POD = {name: param for name, param in pod_params().items() if name != "workers"}

with DAG(
    "tune",
    dag_display_name="4 · tune",
    description="Searches the best way to train by many short trainings.",
    doc_md=__doc__,
    schedule=None,
    params=form(PARAMS, prediction_params(), runtime_params(), POD),
    tags=["vidpipe"],
    **dag_settings(several=True),
) as dag:
    tune_plan = StageOperator(
        task_id="tune_plan",
        stage="tune",
        config={name: dag.param(name) for name in PARAMS if name != ASK_HOURS},
    )

    # A group, for parameters of the run that a mapped operator has look different at each parsing.
    @task_group(prefix_group_id=False)
    def trials(shard: str) -> None:
        """Each a training."""
        pod = {name: dag.param(name) for name in POD}
        StageOperator(task_id="trial", stage="trial", shard=shard, pod=pod, **training_settings())

    best = StageOperator(
        task_id="best",
        stage="best",
        shard="{{ ti.xcom_pull('tune_plan', key='last') }}",
        trigger_rule="all_done_min_one_success",
        multiple_outputs=True,
    )
    offer = OfferOperator(
        task_id="offer",
        subject="Train {{ params.task }} with the best configuration?",
        body="{{ ti.xcom_pull('best', key='body') }}",
    )
    start_train = TriggerDagRunOperator(
        task_id="start_train", trigger_dag_id="train", conf=best.output["train"]
    )
    trials.expand(shard=tune_plan.output) >> best
    audit_what_is_done(tune_plan, best, needed="best") >> offer >> start_train
