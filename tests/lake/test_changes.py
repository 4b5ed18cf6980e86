"""What changed since a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lake.rows import DAY, publish_rows
from tests.servers import new_lake
from vidpipe.errors import UsageError
from vidpipe.lake.changes import changes_since, print_changes
from vidpipe.lake.times import parse_time

NOW = datetime(2026, 3, 5, 14, 30, tzinfo=timezone(timedelta(hours=2)))


def _label(video, version, label):
    return {
        "task": "motion",
        "video_id": video,
        "model": "m",
        "model_version": version,
        "label": label,
        "labelled_at": DAY,
    }


def _promotion(version, at):
    return {"task": "motion", "model": "m", "model_version": version, "promoted_at": at}


@pytest.fixture(scope="module")
def changed(s3_server, tmp_path_factory):
    """A lake in which everything changed, and the time before."""
    lake = new_lake(s3_server.settings, tmp_path_factory.mktemp("changed"), "changed")
    return lake, _change_everything(lake)


def _change_everything(lake):
    """Publishes twice, with changes of every kind; returns the time of the first publication."""
    first = {
        "sources": [
            {"source_uri": "s3://b/old", "seen_at": DAY},
            {"source_uri": "s3://b/stays", "seen_at": DAY},
        ],
        "videos": [{"video_id": v, "source_uri": f"s3://b/{v}"} for v in ("flips", "stays")],
        "labels": [_label("flips", "1", "up"), _label("stays", "1", "up")],
        "promotions": [_promotion("1", DAY)],
    }
    publish_rows(lake, "r1", "label", first, not_done={"before": "truncated"})
    since = next(lake.publications()).published_at
    second = {
        "sources": [{"source_uri": "s3://b/old", "seen_at": DAY, "deleted": True}],
        "videos": [
            {"video_id": "new", "source_uri": "s3://b/new"},
            {"video_id": "stays", "source_uri": "s3://b/stays"},
        ],
        "labels": [
            _label("flips", "2", "down"),
            _label("stays", "2", "up"),
            _label("new", "2", "left"),
        ],
        "promotions": [_promotion("2", DAY + timedelta(hours=1))],
    }
    second["sources"][0]["seen_at"] = DAY + timedelta(hours=1)
    not_done = {"a": "no_video", "b": "no_video", "c": "denied", "d": "vanished"}
    publish_rows(lake, "r2", "label", second, not_done=not_done)
    return since


def _rows(changes, section, *columns):
    return [tuple(r.values()) for r in changes.sections[section].select(columns).to_pylist()]


def test_all_that_changed_and_nothing_else(changed):
    lake, since = changed
    # The outcomes of the first run were finished before it was published.
    changes = changes_since(since, lake.settings)
    assert changes.runs == ["r2"]
    assert _rows(changes, "New videos", "video_id") == [("new",)]
    assert _rows(changes, "Gone sources", "source_uri") == [("s3://b/old",)]
    assert _rows(changes, "Newly labelled", "task", "label", "videos") == [("motion", "left", 1)]
    flipped = _rows(changes, "Flipped labels", "video", "before", "now", "version")
    assert flipped == [("s3://b/flips", "up", "down", "2")]
    assert _rows(changes, "Not done", "status", "reason", "items") == [
        ("quarantined", "no_video", 2),
        ("failed", "denied", 1),
        ("skipped", "vanished", 1),
    ]
    assert _rows(changes, "Not done", "such as")[0] == ("s3://b/a",)
    assert _rows(changes, "Promoted", "version") == [("2",)]


def test_since_before_everything_nothing_flipped(changed):
    lake, _ = changed
    changes = changes_since(DAY - timedelta(days=9_000), lake.settings)
    assert changes.runs == ["r1", "r2"]
    assert changes.sections["New videos"].num_rows == 3
    assert changes.sections["Flipped labels"].num_rows == 0


def test_runs_are_known_without_their_snapshots(lake):
    since = _change_everything(lake)
    outcomes = lake.iceberg("outcomes")
    current = outcomes.current_snapshot().snapshot_id
    old = [s.snapshot_id for s in outcomes.snapshots() if s.snapshot_id != current]
    outcomes.maintenance.expire_snapshots().by_ids(old).commit()
    assert len(list(lake.publications())) == 1
    changes = changes_since(since, lake.settings)
    assert changes.runs == ["r2"] and changes.sections["Flipped labels"].num_rows == 1


def test_it_is_printed_with_headings(changed, capsys):
    lake, since = changed
    print_changes(since.isoformat(), lake.settings)
    out = capsys.readouterr().out
    assert "1 run was published." in out
    for words in ("New videos (1)", "Flipped labels (1)", "no_video", "s3://b/old", "Promoted (1)"):
        assert words in out


def test_folders_are_counted_before_names(lake, capsys):
    videos = [
        {"video_id": f"{folder}{n}", "source_uri": f"s3://b/{folder}/{n}.mp4"}
        for folder, count in (("new", 25), ("old", 2))
        for n in range(count)
    ]
    publish_rows(lake, "r1", "extract", {"videos": videos})
    print_changes("2026-01-01", lake.settings)
    _, heading, *lines = filter(None, capsys.readouterr().out.splitlines())
    assert heading == "New videos (27)"
    assert [line.split() for line in lines[:3]] == [
        ["folder", "count"],
        ["s3://b/new/", "25"],
        ["s3://b/old/", "2"],
    ]
    assert lines[3].split()[0] == "source_uri" and lines[-1] == "… and 7 more"


def test_nothing_changed(lake, capsys):
    print_changes("today", lake.settings)
    publish_rows(lake, "r1", "label", {"labels": [_label("a", "1", "up")]})
    print_changes((datetime.now(UTC) + timedelta(days=1)).isoformat(), lake.settings)
    assert capsys.readouterr().out.count("no runs were published.") == 2


@pytest.mark.parametrize(
    "text, expected",
    [
        ("today", "2026-03-05T00:00:00+02:00"),
        ("Yesterday", "2026-03-04T00:00:00+02:00"),
        ("2 days ago", "2026-03-03T14:30:00+02:00"),
        ("1 week ago", "2026-02-26T14:30:00+02:00"),
        (" 1  hour ago", "2026-03-05T13:30:00+02:00"),
        ("2026-01-31T18:00Z", "2026-01-31T18:00:00+00:00"),
        ("2026-01-31T18:00:00-05:00", "2026-01-31T18:00:00-05:00"),
    ],
)
def test_times_are_understood(text, expected):
    assert parse_time(text, NOW) == datetime.fromisoformat(expected)


def test_a_time_without_zone_is_local():
    assert parse_time("2026-01-31", NOW) == datetime(2026, 1, 31).astimezone()


@given(st.text(max_size=20) | st.from_regex(r"\d{1,9} (hours|days) ago", fullmatch=True))
def test_any_text_is_a_time_or_a_clear_error(text):
    try:
        assert parse_time(text, NOW).tzinfo
    except UsageError as error:
        assert "\n" not in str(error) and "Received" in str(error)
