"""What is tried again: when something changed, when a try came to no end, when someone asks."""

from __future__ import annotations

import pytest

from tests.runs import audit_and_publish, ingest, rows, stage
from tests.servers import config_file
from vidpipe.cli import cli
from vidpipe.config import load_settings
from vidpipe.errors import NothingToDoError, TemporaryError, UsageError
from vidpipe.stages import work
from vidpipe.stages.backlog import ingest_backlog

OPTIONS = {"fps": 4.0, "short_side": 64}


def outcomes(lake, run_key: str) -> dict[str, tuple[str, str | None]]:
    """Status and reason of each object that a run was given, by its last part."""
    return {
        row["source_uri"].rpartition("/")[2]: (row["status"], row["reason"])
        for row in rows(lake, "outcomes")
        if row["run_key"] == run_key
    }


def counts(lake, run_key: str, **config) -> dict[str, int]:
    return stage(lake, run_key, "discover", **config).result["counts"]


def selected(lake, run_key: str, **config) -> int:
    return counts(lake, run_key, **OPTIONS, **config)["selected"]


@pytest.fixture
def broken(bucket, media) -> str:
    """URI of an object that is truncated, as `b.mp4`; beside it is a good one, `a.mp4`."""
    bucket.put("a.mp4", media.videos[0])
    (truncated,) = (path for path, reason in media.broken.items() if reason == "truncated")
    return bucket.put("b.mp4", truncated)


def test_a_quarantined_video_is_tried_again_once_with_other_options(lake, broken):
    ingest(lake, "one", **OPTIONS)
    assert outcomes(lake, "one") == {"a.mp4": ("done", None), "b.mp4": ("quarantined", "truncated")}
    other = OPTIONS | {"fps": 2.0}
    plan = ingest(lake, "two", **other)
    assert plan.result["counts"] == {
        "listed": 2,
        "known": 1,
        "gone": 0,
        "given_up": 0,
        "forgotten": 0,
        "archived": 0,
        "new": 0,
        "retried": 1,
        "selected": 1,
        "backlog": 0,
    }
    assert "1 retried" in plan.result["summary"]
    assert outcomes(lake, "two") == {"b.mp4": ("quarantined", "truncated")}
    assert counts(lake, "three", **other)["retried"] == 0
    assert counts(lake, "four", **OPTIONS)["retried"] == 0, "these were tried, too"


def test_a_quarantined_video_is_tried_again_with_another_decoder(lake, broken, monkeypatch):
    ingest(lake, "one")
    assert ingest_backlog(lake) == 0
    monkeypatch.setattr(work, "decoder_version", lambda: "ffmpeg 99")
    assert ingest_backlog(lake) == 1
    assert ingest(lake, "two").result["counts"]["retried"] == 1
    assert ingest_backlog(lake) == 0


def test_a_form_that_sends_2_for_2_0_asks_for_the_same_work(lake, broken):
    ingest(lake, "one", **OPTIONS)
    assert counts(lake, "two", fps=4, short_side=64)["retried"] == 0


def test_what_is_tried_again_and_comes_to_no_end_is_taken_by_the_next_run(lake, broken):
    ingest(lake, "one", **OPTIONS)
    ingest(lake, "night too short", retry_reasons=["truncated"], max_hours=1e-9, **OPTIONS)
    assert outcomes(lake, "night too short") == {"b.mp4": ("skipped", "out_of_budget")}
    assert selected(lake, "planned") == 1
    for number in range(lake.settings.extract.max_tries):
        plan = stage(lake, f"dies {number}", "discover", **OPTIONS)
        assert plan.result["counts"]["retried"] == 1
        audit_and_publish(lake, f"dies {number}", plan, max_failed_share=1.0)
    assert selected(lake, "often enough") == 0
    ingest(lake, "asked", retry_videos=[broken], **OPTIONS)
    assert outcomes(lake, "asked") == {"b.mp4": ("quarantined", "truncated")}
    assert selected(lake, "after") == 0


def test_those_of_a_reason_are_tried_again_when_someone_asks(lake, bucket, media):
    for path in media.broken:
        bucket.put(path.name, path)
    ingest(lake, "one", **OPTIONS)
    truncated = {path.name for path, reason in media.broken.items() if reason == "truncated"}
    ingest(lake, "two", retry_reasons=["truncated"], **OPTIONS)
    assert outcomes(lake, "two") == dict.fromkeys(truncated, ("quarantined", "truncated"))
    assert selected(lake, "three", retry_reasons=["internal"]) == 0
    assert selected(lake, "four") == 0


def test_a_retry_of_nothing_runs_nothing(lake, broken, tmp_path, monkeypatch):
    ingest(lake, "one", **OPTIONS)
    monkeypatch.setenv("VIDPIPE_CONFIG", str(config_file(lake, tmp_path / "vidpipe.toml")))
    monkeypatch.chdir(tmp_path)
    load_settings.cache_clear()

    def retry(*arguments: str) -> None:
        cli.main(["retry", *arguments], standalone_mode=False)

    with pytest.raises(NothingToDoError, match="Nothing is to be tried again: .* no_video asks"):
        retry("--reason", "no_video")
    with pytest.raises(UsageError, match="gone.mp4"):
        retry("--video", f"{broken.rpartition('/')[0]}/gone.mp4")
    # No Airflow runs here: it is asked where there is something to do.
    for asked in (["--reason", "truncated"], ["--video", broken]):
        with pytest.raises(TemporaryError, match="vidpipe up"):
            retry(*asked)
    load_settings.cache_clear()


def test_what_was_given_up_is_tried_again_when_someone_asks(lake, bucket, media):
    uri = bucket.put("a.mp4", media.videos[0])
    for number in range(lake.settings.extract.max_tries):
        plan = stage(lake, f"dies {number}", "discover", **OPTIONS)
        audit_and_publish(lake, f"dies {number}", plan, max_failed_share=1.0)
    assert selected(lake, "given up") == 0
    assert selected(lake, "by name", retry_videos=[uri]) == 1
    plan = ingest(lake, "by reason", retry_reasons=["stage_failed"], **OPTIONS)
    assert plan.result["counts"]["retried"] == 1
    assert outcomes(lake, "by reason") == {"a.mp4": ("done", None)}


def test_a_video_that_is_done_is_extracted_again_only_with_other_options(lake, bucket, media):
    bucket.put("a.mp4", media.videos[0])
    ingest(lake, "one", **OPTIONS)
    (video,) = rows(lake, "videos")
    asked = {"retry_videos": [video["video_id"], ""]}
    ingest(lake, "same", **asked, **OPTIONS)
    assert outcomes(lake, "same") == {"a.mp4": ("skipped", "duplicate")}
    ingest(lake, "other", **asked, **OPTIONS | {"fps": 2.0})
    assert outcomes(lake, "other") == {"a.mp4": ("done", None)}
    assert len({row["work_key"] for row in rows(lake, "videos")}) == 2
    assert selected(lake, "after") == 0


def test_what_was_asked_for_comes_first_and_the_budget_applies(lake, bucket, media, broken):
    ingest(lake, "one", **OPTIONS)
    bucket.put("new.mp4", media.videos[1])
    plan = ingest(lake, "two", retry_reasons=["truncated"], max_videos=1, **OPTIONS)
    assert set(outcomes(lake, "two")) == {"b.mp4"}
    assert (plan.result["counts"]["new"], plan.result["counts"]["backlog"]) == (1, 1)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"retry_reasons": ["broken"]}, "one of empty, .* Received: broken$"),
        ({"retry_reasons": ["vanished"]}, "Received: vanished$"),
        ({"retry_videos": ["nope"]}, "in a watched bucket, .* Received: nope$"),
        ({"retry_videos": [str(n) for n in range(9)]}, "Received: 0, 1, 2, 3, 4, …$"),
    ],
)
def test_what_there_is_not_is_told_in_one_line(lake, broken, asked, words):
    with pytest.raises(UsageError, match=words) as error:
        stage(lake, "one", "discover", **asked)
    assert "\n" not in str(error.value)
