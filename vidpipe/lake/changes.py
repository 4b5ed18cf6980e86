"""What changed since a time: what is new, gone, labelled otherwise, set aside, promoted.

A run belongs to the time at which it was published, which the history of `outcomes` tells; where
that history was cut off, to the time at which its last item was finished. Tables only grow, so
what held before is what the tables say without the rows of the runs published since.
"""

from __future__ import annotations

import collections
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from vidpipe.config import Settings
from vidpipe.console import echo
from vidpipe.lake.query import answer
from vidpipe.lake.results import show_rows
from vidpipe.lake.tables import Lake
from vidpipe.lake.terminal import show_on_terminal
from vidpipe.lake.times import parse_time
from vidpipe.lake.views import VIEWS

ROWS_SHOWN = 20

# Each is asked with the runs published since as `new_runs (run_key)`.
_SECTIONS = {
    "New videos": """
        select source_uri, duration_s, v.video_id
        from current_videos v
        where video_id not in (select video_id from videos where run_key not in (from new_runs))
        order by source_uri""",
    "Gone sources": """
        select source_uri, seen_at
        from sources
        where deleted and run_key in (from new_runs)
            and source_uri not in (select source_uri from current_sources)
        qualify row_number() over (partition by source_uri order by seen_at desc) = 1
        order by source_uri""",
    "Newly labelled": """
        select task, label, count(distinct video_id) as videos
        from current_labels
        where (task, video_id) not in (
            select (task, video_id) from labels where run_key not in (from new_runs)
        )
        group by all
        order by all""",
    "Flipped labels": """
        select c.task, coalesce(v.source_uri, c.video_id) as video, c.start_s, c.end_s,
            p.label as before, c.label as now, c.score, c.model_version as version
        from (from current_labels qualify {best}) c
        join (from previous_labels qualify {best}) p using (task, video_id, start_s, end_s)
        left join current_videos v using (video_id)
        where c.label <> p.label
        order by c.task, video, c.start_s""".format(
        best="row_number() over (partition by task, video_id, start_s order by score desc, label)"
        " = 1"
    ),
    "Not done": """
        select status, stage, reason, count(*) as items,
            coalesce(min(source_uri), min(item)) as "such as",
            first(message order by source_uri nulls last) as message
        from current_outcomes
        where status <> 'done' and run_key in (from new_runs)
        group by status, stage, reason
        order by array_position(['quarantined', 'failed', 'skipped'], status), items desc""",
    "Promoted": """
        select task, model, model_version as version, replaced_version as replaced, promoted_at,
            promoted_by, why
        from promotions
        where run_key in (from new_runs)
        order by promoted_at""",
}


@dataclass(frozen=True)
class Changes:
    """What changed.

    Attributes:
        since: From when on.
        runs: Run keys published since.
        sections: Heading → rows: new videos, gone sources, newly labelled, flipped labels, not
            done (quarantined, failed, skipped, by reason), promoted.
    """

    since: datetime
    runs: list[str]
    sections: dict[str, pa.Table]


def changes_since(since: datetime, settings: Settings | None = None) -> Changes:
    """Compares the tables as they are published with what they said at a time.

    Args:
        since: A time with its zone.
        settings: Where the lake is; the process's own by default.
    """
    history = list(Lake(settings).publications())
    if not history:
        return Changes(since, [], {})
    until = history[0].published_at  # all of it is asked of one state
    finished = answer(
        "select run_key from outcomes group by run_key"
        f" having max(finished_at) > timestamptz '{since.astimezone(UTC).isoformat()}'",
        settings,
        at=until,
    )
    published = {p.run_key for p in history if p.published_at > since}
    runs = sorted(published | set(finished["run_key"].to_pylist()))
    if not runs:
        return Changes(since, [], {})
    new_runs = ", ".join(f"('{run.replace(chr(39), chr(39) * 2)}')" for run in runs)
    before = ", ".join(
        f"{table} as (from main.{table} where run_key not in (from new_runs))"
        for table in ("labels", "promotions", "outcomes")
    )
    prefix = f"""
        with new_runs (run_key) as (values {new_runs}),
        previous_labels as (with {before}, held as ({VIEWS["current_labels"]}) from held)"""
    return Changes(
        since,
        runs,
        {title: answer(prefix + sql, settings, at=until) for title, sql in _SECTIONS.items()},
    )


def print_changes(since: str, settings: Settings | None = None) -> None:
    """Prints what changed since a time, as `parse_time` understands it."""
    changes = changes_since(parse_time(since), settings)
    count = len(changes.runs)
    runs = "1 run was" if count == 1 else f"{count or 'no'} runs were"
    echo(f"Since {changes.since:%Y-%m-%d %H:%M %Z}, {runs} published.")
    for title, rows in changes.sections.items():
        if rows.num_rows:
            echo("", f"{title} ({rows.num_rows})")
            if rows.num_rows > 1 and "source_uri" in rows.column_names:
                _print_folders(rows["source_uri"].to_pylist())
                echo()
            _print_rows(rows)


def _print_folders(uris: list[str]) -> None:
    counts = collections.Counter(f"{uri.rpartition('/')[0]}/" for uri in uris)
    _print_rows(pa.table([*zip(*counts.most_common(), strict=True)], ["folder", "count"]))


def _print_rows(rows: pa.Table) -> None:
    """Prints the first rows, without ids where a person reads them beside names."""
    shown = rows.slice(0, ROWS_SHOWN)
    if sys.stdout.isatty():
        if "source_uri" in shown.column_names and "video_id" in shown.column_names:
            shown = shown.drop_columns("video_id")
        show_on_terminal(
            shown.column_names, (list(row.values()) for row in shown.to_pylist()), sys.stdout
        )
    else:
        show_rows(shown.column_names, (row.values() for row in shown.to_pylist()))
    if rows.num_rows > ROWS_SHOWN:
        echo(f"… and {rows.num_rows - ROWS_SHOWN} more")
