"""The views: what holds now, out of tables that only grow.

Plain SQL that DuckDB, Spark, Trino and Athena understand alike. `docs/queries.md` repeats it for
those who read the tables without vidpipe; a test keeps the two the same.
"""

from __future__ import annotations

import textwrap

from vidpipe.schemas import TABLES


def _newest(table: str, *, of: str, order: str, where: str = "", columns: str = "") -> str:
    """SQL of the newest row of each `of`, then only those for which `where` holds.

    Args:
        table: The table.
        of: Columns that say what a row is about; nulls in them are equal.
        order: What makes a row newer, first column first.
        where: Asked of the newest rows only: a row that was withdrawn hides the older ones.
        columns: What is selected; empty: all columns of the table.
    """
    condition = f"newest = 1 and {where}" if where else "newest = 1"
    return f"""\
select {columns or _columns(table)}
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


def _columns(table: str, prefix: str = "", *, without: tuple[str, ...] = ()) -> str:
    names = (f"{prefix}{name}" for name in TABLES[table].schema.names if name not in without)
    return "\n    ".join(textwrap.wrap(", ".join(names), 90))


def _indented(sql: str) -> str:
    return textwrap.indent(sql, "    ")


_SOURCE = ("source_uri", "source_version")


VIEWS: dict[str, str] = {
    # Objects that are in the buckets.
    "current_sources": _newest(
        "sources",
        of="source_uri",
        order="seen_at desc, run_key desc",
        where="not deleted",
        columns=f"""source_uri, true as in_bucket,
    {_columns("sources", without=("source_uri",))}""",
    ),
    # The object that stands for each video, whose bytes may have had several names: one that is in
    # a bucket if there is any, among these the first by name.
    "video_sources": """\
with seen as (
    select
        *,
        row_number() over (
            partition by source_uri
            order by seen_at desc, run_key desc
        ) as newest
    from sources
)
select video_id, source_uri, source_version, in_bucket
from (
    select
        video_id,
        source_uri,
        source_version,
        newest = 1 as in_bucket,
        row_number() over (
            partition by video_id
            order by case when newest = 1 then 0 else 1 end, source_uri, newest
        ) as choice
    from seen
    where video_id is not null and not deleted
) ranked
where choice = 1""",
    # One row per video, however often it was extracted.
    "current_videos": f"""\
select coalesce(video_sources.source_uri, newest.source_uri) as source_uri,
    video_sources.in_bucket,
    newest.video_id,
    coalesce(video_sources.source_version, newest.source_version) as source_version,
    {_columns("videos", "newest.", without=("video_id", *_SOURCE))}
from (
{_indented(_newest("videos", of="video_id", order="ingested_at desc, run_key desc, work_key"))}
) newest
left join video_sources on video_sources.video_id = newest.video_id""",
    # What became of each item when it was tried last. The items of `extract` are versions of
    # objects: the newest of an object says what became of it, and whether that one is in a bucket.
    # Items of later stages are videos.
    "current_outcomes": f"""\
with objects as (
{_indented(_newest("sources", of="source_uri", order="seen_at desc, run_key desc"))}
)
select case when newest.stage in ('discover', 'extract') then newest.source_uri
        else coalesce(video_sources.source_uri, newest.source_uri) end as source_uri,
    case when newest.stage in ('discover', 'extract') then not objects.deleted
        else video_sources.in_bucket end as in_bucket,
    {_columns("outcomes", "newest.", without=("source_uri",))}
from (
{
        _indented(
            _newest(
                "outcomes",
                of="stage, case when stage = 'extract' then source_uri else item end",
                order="finished_at desc, run_key desc",
            )
        )
    }
) newest
left join objects on objects.source_uri = newest.source_uri
left join video_sources on video_sources.video_id = newest.video_id""",
    # What people say now: all rows of the newest import of each task, video, range and annotator.
    # The columns are not listed: one is called group, which engines quote in different ways.
    "current_annotations": """\
select video_sources.source_uri, video_sources.in_bucket, annotations.*
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
left join video_sources on video_sources.video_id = annotations.video_id
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
select video_sources.source_uri, video_sources.in_bucket,
    {_columns("reviews", "reviews.")},
    coalesce(answered.people, 0) as people,
    coalesce(answered.agreeing, 0) as agreeing
from reviews
left join answered
    on answered.work_key = reviews.work_key
    and answered.label = reviews.label
left join video_sources on video_sources.video_id = reviews.video_id""",
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
select video_sources.source_uri, video_sources.in_bucket,
    {_columns("labels", "labels.")}
from labels
left join video_sources on video_sources.video_id = labels.video_id
where labels.work_key in (select work_key from ranked where newest = 1)""",
    # The labels of each task and video: those of people where there are any, else the model's. A
    # label of people holds if at least half of those who labelled the video gave it, or if none has
    # more votes; a row without a label says that there is nothing of this task.
    "best_labels": """\
with judged as (
    select task, video_id, annotator, label, start_s, end_s, annotated_at
    from current_annotations
    where box_x is null and (label is not null or coalesce(start_s <> end_s, true))
),
annotators as (
    select
        task,
        video_id,
        annotator,
        count(label) as labels,
        max(annotated_at) as annotated_at
    from judged
    group by task, video_id, annotator
),
videos_of_people as (
    select
        task,
        video_id,
        count(*) as people,
        count(case when labels = 0 then 1 end) as found_nothing,
        max(annotated_at) as annotated_at
    from annotators
    group by task, video_id
),
votes as (
    select
        *,
        max(agreeing) over (partition by task, video_id) as most
    from (
        select task, video_id, label, count(distinct annotator) as agreeing
        from judged
        where label is not null
        group by task, video_id, label
    ) counted
),
ranges as (
    select task, video_id, label, start_s, end_s, max(annotated_at) as annotated_at
    from judged
    where label is not null
    group by task, video_id, label, start_s, end_s
)
select video_sources.source_uri, video_sources.in_bucket,
    videos_of_people.task, videos_of_people.video_id, ranges.start_s, ranges.end_s, votes.label,
    'people' as labelled_by, videos_of_people.people,
    coalesce(votes.agreeing, videos_of_people.found_nothing) as agreeing,
    null as score, true as accepted, null as model, null as model_version,
    coalesce(ranges.annotated_at, videos_of_people.annotated_at) as labelled_at
from videos_of_people
left join votes
    on votes.task = videos_of_people.task
    and votes.video_id = videos_of_people.video_id
    and (
        2 * votes.agreeing >= videos_of_people.people
        or (votes.agreeing = votes.most and votes.agreeing >= videos_of_people.found_nothing)
    )
left join ranges
    on ranges.task = votes.task
    and ranges.video_id = votes.video_id
    and ranges.label = votes.label
left join video_sources on video_sources.video_id = videos_of_people.video_id
union all
select current_labels.source_uri, current_labels.in_bucket,
    current_labels.task, current_labels.video_id, current_labels.start_s, current_labels.end_s,
    current_labels.label,
    'model' as labelled_by, 0 as people, 0 as agreeing,
    current_labels.score, current_labels.accepted,
    current_labels.model, current_labels.model_version, current_labels.labelled_at
from current_labels
left join videos_of_people
    on videos_of_people.task = current_labels.task
    and videos_of_people.video_id = current_labels.video_id
where videos_of_people.video_id is null""",
}
