"""
### Videos in buckets become rows of tables

Finds objects that are new, replaced or gone in the configured buckets, and turns each video into
frames (JPEG) and audio (16 kHz mono). Unpause it, and it does so every hour; or trigger it by hand
for a part of a bucket.

**Tasks.** `discover` lists and compares with what is known, and plans shards; `extract` works on
them, each a mapped task; `audit` proves that every video has exactly one outcome; `publish` makes
all of it visible at once, in the tables `sources`, `videos`, `frames`, `audio`, `outcomes`.

**What a video can end as** (table `outcomes`): `done`; `quarantined`, its own fault, such as
`truncated`, tried again when it, the options or the decoder changed, or when you ask below;
`failed`, such as `denied`, tried again by later runs; `skipped`, such as `archived`, left alone
until the object is restored. No video fails another. The run fails, publishing outcomes only, when
more than the share below failed with their shards, through no fault of their own.

**What is kept**, and what stands for frames that do not decode, you say below; `docs/extraction.md`
tells more. Rows that are made up say so (`imputed_by`), and `videos` counts what was missing.

**Running it again** is always safe: what is done is recognised and not done twice. Two objects with
the same bytes are one video with two sources.

**When it fails**, read the log of the failed task, remove the cause, and clear the task or wait for
the next run. `vidpipe changes --since today` lists what was quarantined and why.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from vidpipe.config import load_settings
from vidpipe.orchestration.common import audit_what_is_done, dag_settings, shard_settings
from vidpipe.orchestration.extraction_params import extraction_params, retry_params
from vidpipe.orchestration.operator import StageOperator
from vidpipe.orchestration.params import budget_params, form, runtime_params, text_param

SETTINGS = load_settings()
EXTRACT = SETTINGS.extract
SELECTION = {
    "source": Param(
        None,
        type=["null", "string"],
        enum=[None, *SETTINGS.sources.uris],
        values_display={"null": "all of them"},
        title="Bucket",
        description="Which of the configured buckets; none chosen: all.",
    ),
    "prefix": text_param("Prefix", "Only objects whose key begins so, such as 2026/01/."),
    "pattern": text_param("Pattern", "Only objects whose whole key matches, such as *.mp4."),
    "modified_after": text_param(
        "Modified after", "Only objects modified at this time or later.", format="date-time"
    ),
    "modified_before": text_param(
        "Modified before", "Only objects modified before this time.", format="date-time"
    ),
    **retry_params(),
    **budget_params(max_videos=10_000, max_hours=1),
}
EXTRACTION = extraction_params(EXTRACT)
MAX_FAILED_SHARE = Param(
    EXTRACT.max_failed_share,
    type="number",
    minimum=0,
    maximum=1,
    title="Allowed failure rate",
    description=(
        "Publish outcomes only, and fail the run, if a larger share of the videos failed with"
        " their shards. Videos that fail by themselves do not count."
    ),
    section="Budget",
)

with DAG(
    "ingest",
    dag_display_name="1 · ingest",
    description="Turns new videos in the buckets into frames and audio.",
    doc_md=__doc__,
    schedule="@hourly",
    params=form(SELECTION, EXTRACTION, {"max_failed_share": MAX_FAILED_SHARE}, runtime_params()),
    tags=["vidpipe", "scheduled"],
    **dag_settings(),
) as dag:
    discover = StageOperator(
        task_id="discover",
        stage="discover",
        config={name: dag.param(name) for name in SELECTION | EXTRACTION},
    )
    extract = StageOperator.partial(
        task_id="extract",
        stage="extract",
        **shard_settings(),
    ).expand(shard=discover.output)
    audit_what_is_done(discover, extract, max_failed_share=dag.param("max_failed_share"))
