"""
### People look at what a model says, where it is worth their minute

Picks videos that the champion labelled and of which people say nothing yet, and writes them as
tasks for Label Studio and CVAT, with what the champion says and a link to each video.

**What is picked**, each video once:

| picked for | |
| --- | --- |
| `random` | drawn evenly of all of them; on these the precision of the champion is measured |
| `disagreeing` | champion and challenger say different things, and both are sure |
| `uncertain` | the champion is least sure |

The challenger judges some videos for that, ten for each that is to be found. While there is none,
the uncertain take its part.

**The whole round.** `vidpipe reviews TASK --save FOLDER` fetches the files of the newest review; in
Label Studio, make a project with the configuration `label-studio.xml`, and import
`label-studio.json` (CVAT: docs/review.md). When people have answered, export the project as JSON
and import it by `annotate`: that also tells the precision, with its interval. `vidpipe reviews
TASK` shows it at any time, MLflow with the model (`review_precision`), and the view
`current_reviews` in SQL. Then `train`, which learns from the answers.

**Links** let anybody see the videos without a password until they end: they stand in the files, and
in no log. Made with passing credentials of a role, they end with those. Where browsers reach the
object store by another address than vidpipe does, set `public_endpoint_url` in `[s3]`.

**Tasks.** `review` picks and writes; `audit` and `publish` make the table `reviews` show it.
Without a champion, or where it labelled nothing new, all are skipped.

**Running it again** picks anew. What an earlier review asks for by links that still hold is only
picked again by the even draw.

**When it fails**, read the log of the failed task, remove the cause, and clear the task.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from vidpipe.orchestration.common import audit_and_publish, dag_settings
from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import form, prediction_params, runtime_params, task_param

PARAMS = {
    "task": task_param(),
    "max_videos": Param(
        100,
        type="integer",
        minimum=1,
        maximum=10_000,
        title="Videos",
        description="So many are picked, or fewer where there are not so many.",
    ),
    "random_share": Param(
        0.5,
        type="number",
        minimum=0,
        maximum=1,
        title="Share drawn evenly",
        description="Precision is measured on these: of 50 videos, it is known to about a tenth.",
    ),
    "disagreeing_share": Param(
        0.25,
        type="number",
        minimum=0,
        maximum=1,
        title="Share of disagreement",
        description=(
            "On which champion and challenger disagree. The rest, and what is not found, is for"
            " videos of which the champion is least sure."
        ),
    ),
    "link_hours": Param(
        72,
        type="number",
        exclusiveMinimum=0,
        maximum=7 * 24,
        title="Links hold so many hours",
        description="Whoever has a link sees its video until then. S3 allows a week at most.",
    ),
    "seed": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Seed",
        description="The same draws the same of the same videos. Empty: another for each run.",
    ),
}

with DAG(
    "review",
    dag_display_name="6 · review",
    description="Picks videos that are worth a person's minute, for Label Studio and CVAT.",
    doc_md=__doc__,
    schedule=None,
    params=form(PARAMS, prediction_params(), runtime_params()),
    tags=["vidpipe"],
    **dag_settings(),
) as dag:
    review = StageOperator(
        task_id="review",
        stage="review",
        config={name: dag.param(name) for name in PARAMS},
    )
    review >> audit_and_publish(review)
