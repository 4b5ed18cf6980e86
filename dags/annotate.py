"""
### Labels that people gave become rows of `annotations`

Reads a file of labels from S3, checks every line, and imports all of it or nothing.
(From a file at hand: `vidpipe annotate labels.csv --task motion`.)

**The file** is CSV with a header, or JSON Lines, with the columns

| column | |
| --- | --- |
| `video` | URI, key or file name of the video |
| `label` | what it shows |
| `start_s`, `end_s` | from when to when; left out: the whole video |
| `annotator` | who says so |
| `delete` | `true` withdraws the row |

A row replaces the earlier row of the same task, video, range and annotator; the others stay. What
was there before stays readable in the table's history.

**Tasks.** `annotate` reads and checks; `audit` and `publish` make it visible at once. With "only
show" the log of `annotate` lists what would change, and nothing is published.

**When it fails**, the log of `annotate` lists what is wrong by line: a video that is not known, a
label that is empty, a range outside the video. Correct the file, upload it, and trigger again.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param, task

from vidpipe.orchestration.common import audit_and_publish, dag_settings
from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import runtime_params, task_param

PARAMS = {
    "task": task_param(),
    "file": Param(
        type="string",
        pattern="^s3://[^/]+/.+",
        title="File",
        description="Where the labels are: s3://bucket/labels.csv or .jsonl.",
    ),
    "diff": Param(
        False,
        type="boolean",
        title="Only show",
        description="Only show in the log what would change; import nothing.",
    ),
}

with DAG(
    "annotate",
    description="Imports labels that people gave.",
    doc_md=__doc__,
    schedule=None,
    params={**PARAMS, **runtime_params()},
    tags=["vidpipe"],
    **dag_settings(),
) as dag:

    @task.short_circuit
    def is_import(params: dict) -> bool:
        """Skips what follows where changes are only to be shown."""
        return not params["diff"]

    annotate = StageOperator(
        task_id="annotate",
        stage="annotate",
        config={name: dag.param(name) for name in PARAMS},
    )
    annotate >> is_import() >> audit_and_publish(annotate)
