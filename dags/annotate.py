"""
### Labels and boxes that people gave become rows of `annotations`

Reads a file or a folder from S3, checks all of it, and imports all of it or nothing.
(From a file at hand: `vidpipe annotate labels.csv --task motion`.)

**The file** is CSV with a header, or JSON Lines, with the columns

| column | |
| --- | --- |
| `video` | URI, key or file name of the video, also without its ending |
| `label` | what it shows; null (JSON Lines): somebody looked, and there is nothing |
| `start_s`, `end_s` | from when to when, equal for a box in one frame; left out: the whole video |
| `annotator` | who says so |
| `box_x`, `box_y`, `box_width`, `box_height` | a box, in shares of the picture, 0 to 1 |
| `track`, `occluded` | which thing it is; whether something is before it |
| `group`, `split` | a scene, camera or flight; train, validation or test of an official list |
| `delete` | `true` withdraws what was said |

or of another format: lists of Kinetics and UCF101, JSON of ActivityNet, COCO and Label Studio,
CVAT's XML for video, a folder of YOLO. A folder is a ZIP, or a prefix that ends in a slash. What
each format holds, and how pictures are named, tells docs/annotations.md. `FILE.vidpipe.json` beside
a file, which `vidpipe export` writes, is read with it.

What the file says of a task, video, range and annotator replaces all that was said of it before;
the rest stays. What was there before stays readable in the table's history.

**Tasks.** `annotate` reads and checks, and tells how far annotators agree and, where the file
answers a `review`, how precise the champion is; `audit` and `publish` make it visible at once. With
"only show" the log of `annotate` lists what would change, and nothing is published.

**When it fails**, the log of `annotate` lists what is wrong by line, or by its place in a document:
a video that is not known, a label that is empty, a range outside the video, two labels where one is
meant (or "several labels"). Correct the file, upload it, and trigger again; or import the rest with
"skip faulty entries". A video that is not known may not be ingested yet: put it into a watched
bucket, and trigger `ingest` first.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

from vidpipe.orchestration.annotation_params import annotation_params
from vidpipe.orchestration.common import audit_and_publish, dag_settings
from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import form, runtime_params, task_param

PARAMS = {"task": task_param(), **annotation_params()}

with DAG(
    "annotate",
    dag_display_name="2 · annotate",
    description="Imports labels and boxes that people gave.",
    doc_md=__doc__,
    schedule=None,
    params=form(PARAMS, runtime_params()),
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
