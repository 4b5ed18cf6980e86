"""
### A model learns what people labelled

Pins a dataset from the table `annotations`, trains a network on it, compares it with the champion,
and makes it the champion if it is better. Everything it measures is in MLflow.

**Before the first training**, run `ingest` and `annotate`. Every class needs two labelled videos at
the very least; a few dozen are a beginning.

**Tasks.** `snapshot` joins videos with their labels and splits them, so that what belongs together,
a group of yours or near duplicates, is never in two splits (table `splits`, with the proof; see
docs/datasets.md). New videos join, and none of the old moves. `train` fits the network, with its
progress by epoch in the log and in MLflow; `evaluate` measures it on the test split, and the
champion on the same clips; `promote` gives it the alias `champion` if its accuracy is higher by the
margin, surely enough, and no large slice of the videos is worse than it may be, else `challenger`
(table `promotions`); `audit` and `publish` make the tables show it.

**Which architecture?** `cnn` sees one frame at a time: enough where one picture tells the class,
and blind to motion. The others see the frames in their order; docs/models.md tells which to take
when. With few labels, a backbone with weights from other pictures is worth more than anything else.

**Running it again** with the same values trains again, as another version. A task that was stopped
or killed goes on, in the MLflow run that it had begun, after the last step that it kept: told to
stop, that is the last one; killed, at most a minute of training is lost (`[train]
checkpoint_every_s`). What comes of it is the same, on a CPU to the last bit.

**On Kubernetes** it trains on all GPUs of its pod, or with several workers on those of several
pods, each with the GPUs and the memory that the form says. Workers begin together, the first keeps
what is learnt, and when one is lost all go on from the last checkpoint. Without Kubernetes the
training has the machine of its task, whatever the form says of these three.

**When it fails** with "one example", label more videos of the class that is named, or withdraw it.
Where all examples of a class are one group or look alike, label some that are not.
"""

from __future__ import annotations

from airflow.sdk import DAG

from vidpipe.orchestration import notify
from vidpipe.orchestration.common import audit_what_is_done, dag_settings, training_settings
from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import (
    architecture_param,
    dataset_params,
    gate_params,
    missing_data_params,
    network_params,
    pod_params,
    runtime_params,
    task_param,
    training_params,
)

PARAMS = {
    "task": task_param(),
    "architecture": architecture_param(),
    **dataset_params(),
    **missing_data_params(),
    **network_params(),
    **training_params(),
    **gate_params(),
}

POD = pod_params()

with DAG(
    "train",
    description="Trains a model, compares it with the champion, promotes what is better.",
    doc_md=__doc__,
    schedule=None,
    params={**PARAMS, **runtime_params(), **POD},
    tags=["vidpipe"],
    **dag_settings(several=True),
) as dag:
    snapshot = StageOperator(
        task_id="snapshot",
        stage="snapshot",
        config={name: dag.param(name) for name in PARAMS},
    )
    train, evaluate, promote = (
        StageOperator(
            task_id=stage,
            stage=stage,
            shard=f"{{{{ ti.xcom_pull('snapshot')[{number}] }}}}",
            **settings,
        )
        for number, (stage, settings) in enumerate(
            {
                "train": {
                    "pod": {name: dag.param(name) for name in POD},
                    **training_settings(),
                },
                "evaluate": {},
                "promote": notify.waiting_promotion(),
            }.items()
        )
    )
    snapshot >> train >> evaluate >> promote
    audit_what_is_done(snapshot, promote)
