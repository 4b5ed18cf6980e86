"""
### A model learns what people labelled

Pins a dataset from the table `annotations`, trains a network on it, compares it with the champion,
and makes it the champion if it is better. Everything it measures is in MLflow.

**Before the first training**, run `ingest` and `annotate`. Every class needs two labelled videos at
the very least; a few dozen are a beginning. Which architecture to take when: docs/models.md.

**Tasks.** `snapshot` joins videos with their labels and splits them, so that what belongs together,
a group of yours or near duplicates, is never in two splits (table `splits`, with the proof; see
docs/datasets.md). New videos join, and none of the old moves. `train` fits the network, with its
progress by epoch in the log and in MLflow; `evaluate` measures it on the test split, and the
champion on the same clips; `promote` gives it the alias `champion` if its accuracy is higher by the
margin, surely enough, and no large slice of the videos is worse than it may be (table
`promotions`). A champion that may be guessing gives way to any better model; a first model that may
be guessing is not promoted unless people approve. The best that was not promoted is the
`challenger`: `vidpipe promote TASK VERSION` makes it the champion. `audit` and `publish` make the
tables show it.

**Several architectures** learn from the same dataset, each by itself. `promote` ranks them, in its
log and in the MLflow run to which it links (`ranking.png`, `ranking.json`): the best on the
validation videos meets the champion, the others are kept in MLflow. One that fails is told of there
and leaves the others as they are.

**Who decides?** These figures; with `approve`, people: `preview` has a better model look at a part
of what the champion labelled, and `approval` shows what would change and what it would cost, and
waits for *Approve* on its page or below *Required Actions*. Else the champion stays. `approval` is
skipped where nobody is asked, and where people reject; the run succeeds all the same.

**What chance does** to the clips that it learns from, a preset says (`augmentation`): to all frames
of a clip alike, never to what is measured. Nothing is mirrored unless you say that left and right
mean the same in this task; labels that speak of left or right are refused then.

**Running it again** trains another version. A task that was stopped
or killed goes on after the last step that it kept: killed, at most a minute of training is lost
(`[train] checkpoint_every_s`). What comes of it is the same, on a CPU to the last bit.

**On Kubernetes** it trains on all GPUs of its pod, or with several workers on those of several
pods, as the form says; when one is lost all go on from the last checkpoint. Without Kubernetes the
training has the machine of its task.

**When it fails** with "one example", label more videos of the class that is named, or withdraw it;
where all examples are one group or look alike, label some that are not.
"""

from __future__ import annotations

from airflow.sdk import DAG, task_group

from vidpipe.orchestration import notify
from vidpipe.orchestration.common import (
    SHARD_NAME,
    audit_what_is_done,
    dag_settings,
    training_settings,
)
from vidpipe.orchestration.dataset_params import dataset_params
from vidpipe.orchestration.offer import ApprovePromotionOperator
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
    gate_params,
    network_params,
    training_params,
)

PARAMS = {
    "task": task_param(),
    "architectures": architectures_param("Of several the best in validation meets the champion."),
    **dataset_params(),
    **network_params(),
    **training_params(),
    **gate_params(),
}

POD = pod_params()

with DAG(
    "train",
    dag_display_name="3 · train",
    description="Trains a model, compares it with the champion, promotes what is better.",
    doc_md=__doc__,
    schedule=None,
    params=form(PARAMS, prediction_params(), runtime_params(), POD),
    tags=["vidpipe"],
    **dag_settings(several=True),
) as dag:
    snapshot = StageOperator(
        task_id="snapshot",
        stage="snapshot",
        config={name: dag.param(name) for name in PARAMS},
    )

    @task_group(prefix_group_id=False)
    def architecture(train: str, evaluate: str) -> None:
        """What is done for each of them."""
        pod = {name: dag.param(name) for name in POD}
        training = StageOperator(
            task_id="train", stage="train", shard=train, pod=pod, **training_settings()
        )
        training >> StageOperator(
            task_id="evaluate", stage="evaluate", shard=evaluate, map_index_template=SHARD_NAME
        )

    preview = StageOperator(
        task_id="preview",
        stage="preview",
        shard="{{ ti.xcom_pull('snapshot', key='preview') or '' }}",
        # Of what there is: an architecture that failed does not take the others with it.
        trigger_rule="all_done_min_one_success",
    )
    approval = ApprovePromotionOperator(task_id="approval", preview="preview")
    promote = StageOperator(
        task_id="promote",
        stage="promote",
        shard="{{ ti.xcom_pull('snapshot', key='last') }}",
        # An approval that nobody was asked for, or that was not given, is skipped: it decides.
        trigger_rule="none_failed",
        **notify.waiting_promotion(),
    )
    architecture.expand_kwargs(snapshot.output) >> preview >> approval >> promote
    audit_what_is_done(snapshot, promote, needed="promote")
