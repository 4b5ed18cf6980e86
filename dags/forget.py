"""
### A video leaves everything, and does not come back

Forgets a video under all of its names, or all that was ever read from a source. As triggered, it
only tells what there is; look at that, and trigger it again without "only tell".
(By hand: `vidpipe forget s3://videos/anna.mp4 --dry-run`.)

**What goes**: its rows in every table; the states of all tables before that, and the files that
held the rows, so that `--at` and Iceberg's time travel begin anew; manifests, pinned datasets,
uploaded label files and data files of attempts that name it; the pictures of misclassified clips
in MLflow on which it is seen.

**What stays**: a hash of its id and of each of its names (table `forgotten`), by which `ingest`
knows it and leaves it alone; the models that learnt from it, which are listed: train anew without
it, and delete them in MLflow, should that be asked for; the object in the watched bucket, which
vidpipe only reads; and what is not vidpipe's: logs of Airflow, copies that people made, earlier
versions of objects where the lake's bucket keeps those.

**Tasks.** `forget` does all of it. What it shows is taken out at once for all readers. It may be
stopped and tried again at any moment.

**Running it again** is safe. With "lift" `ingest` takes the video in again, as if it were new.

**When it fails** because a run that has not ended still has files of it, wait until that run has
ended, and trigger it again: until then only those files are left. Anything else: read its log,
remove the cause, and clear the task.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from vidpipe.orchestration.common import dag_settings
from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import form, runtime_params, text_param

PARAMS = {
    "video": Param(
        type="string",
        pattern="^([0-9a-f]{64}|s3://[^/]+/.+)$",
        title="Video or source",
        description="A video_id (64 hexadecimal digits), or the URI of an object: s3://bucket/key.",
    ),
    "dry_run": Param(
        True,
        type="boolean",
        title="Only tell",
        description="Only tell in the log what there is of it; change nothing.",
    ),
    "lift": Param(
        False,
        type="boolean",
        title="Lift",
        description="Let it in again; what was forgotten stays gone.",
    ),
    "why": text_param("Why", "A reason, kept with the hashes: name nobody in it."),
    "idle_hours": Param(
        24,
        type="number",
        minimum=0,
        title="Hours after which a run is over",
        description="A run that was not published and left nothing new for so long has ended.",
    ),
}

with DAG(
    "forget",
    dag_display_name="8 · forget",
    description="Removes a video from everywhere, for good.",
    doc_md=__doc__,
    schedule=None,
    params=form(PARAMS, runtime_params()),
    tags=["vidpipe"],
    **dag_settings(),
) as dag:
    StageOperator(
        task_id="forget",
        stage="forget",
        config={name: dag.param(name) for name in PARAMS},
        execution_timeout=timedelta(hours=12),
    )
