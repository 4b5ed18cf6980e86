"""The views: what holds now, out of tables that only grow.

Plain SQL that DuckDB, Spark, Trino and Athena understand alike. `docs/queries.md` repeats it for
those who read the tables without vidpipe; a test keeps the two the same.
"""

from __future__ import annotations

import textwrap

from vidpipe.schemas import TABLES


def _newest(table: str, *, of: str, order: str, where: str = "") -> str:
    """SQL of the newest row of each `of`, then only those for which `where` holds.

    Args:
        table: The table.
        of: Columns that say what a row is about; nulls in them are equal.
        order: What makes a row newer, first column first.
        where: Asked of the newest rows only: a row that was withdrawn hides the older ones.
    """
    condition = f"newest = 1 and {where}" if where else "newest = 1"
    return f"""\
select {_columns(table)}
from (
    select
        *,
        row_number() over (
            partition by {of}
            order by {order}
        ) as newest
    from {table}
) ranked
where {condition}"""


def _columns(table: str, prefix: str = "") -> str:
    names = (f"{prefix}{name}" for name in TABLES[table].schema.names)
    return "\n    ".join(textwrap.wrap(", ".join(names), 90))


VIEWS: dict[str, str] = {
    # Objects that are in the buckets.
    "current_sources": _newest(
        "sources",
        of="source_uri",
        order="seen_at desc, run_key desc",
        where="not deleted",
    ),
    # One row per video, however often it was extracted.
    "current_videos": _newest(
        "videos", of="video_id", order="ingested_at desc, run_key desc, work_key"
    ),
    # What became of each item when it was tried last. The items of `extract` are versions of
    # objects: the newest of an object says what became of it.
    "current_outcomes": _newest(
        "outcomes",
        of="stage, case when stage = 'extract' then source_uri else item end",
        order="finished_at desc, run_key desc",
    ),
    # What people say now: all rows of the newest import of each task, video, range and annotator.
    # The columns are not listed: one is called group, which engines quote in different ways.
    "current_annotations": """\
select annotations.*
from annotations
join (
    select
        work_key,
        source,
        rank() over (
            partition by task, video_id, start_s, end_s, annotator
            order by annotated_at desc, run_key desc
        ) as newest
    from annotations
) ranked
    on ranked.work_key = annotations.work_key
    and ranked.source = annotations.source
where ranked.newest = 1 and not annotations.withdrawn""",
    # What people were asked about, with how many of them say something of the video by now, and how
    # many say what the model said. A box tells of a thing in a picture, and nothing in one frame
    # tells of that frame: neither tells of the video.
    "current_reviews": f"""\
with said as (
    select task, video_id, annotator, label
    from current_annotations
    where box_x is null and (label is not null or coalesce(start_s <> end_s, true))
),
answered as (
    select
        reviews.work_key,
        reviews.label,
        count(distinct said.annotator) as people,
        count(distinct case when said.label = reviews.label then said.annotator end) as agreeing
    from reviews
    join said on said.task = reviews.task and said.video_id = reviews.video_id
    group by reviews.work_key, reviews.label
)
select {_columns("reviews", "reviews.")},
    coalesce(answered.people, 0) as people,
    coalesce(answered.agreeing, 0) as agreeing
from reviews
left join answered
    on answered.work_key = reviews.work_key
    and answered.label = reviews.label""",
    # The model of each task.
    "champions": _newest("promotions", of="task", order="promoted_at desc, run_key desc, work_key"),
    # Of each task and video, what the champion says that was promoted last among those that
    # labelled it.
    "current_labels": f"""\
with promoted as (
    select task, model, model_version, max(promoted_at) as promoted_at
    from promotions
    group by task, model, model_version
),
labelled as (
    select task, video_id, model, model_version, work_key, max(labelled_at) as labelled_at
    from labels
    group by task, video_id, model, model_version, work_key
),
ranked as (
    select
        labelled.task,
        labelled.work_key,
        row_number() over (
            partition by labelled.task, labelled.video_id
            order by promoted.promoted_at desc, labelled.labelled_at desc, labelled.work_key
        ) as newest
    from labelled
    join promoted
        on promoted.task = labelled.task
        and promoted.model = labelled.model
        and promoted.model_version = labelled.model_version
    join outcomes
        on outcomes.work_key = labelled.work_key
        and outcomes.stage = 'label'
        and outcomes.status = 'done'
)
select {_columns("labels")}
from labels
where work_key in (select work_key from ranked where newest = 1)""",
}
