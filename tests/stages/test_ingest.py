"""ingest: discover, extract, audit, publish, on real videos and a real S3 server."""

from __future__ import annotations

import collections
import dataclasses
from datetime import timedelta

import pyarrow.parquet as pq
import pytest

from tests.chaos import ChaosProxy
from tests.runs import audit_and_publish, ingest, rows, shards, stage
from tests.servers import new_lake, serve_guarded_s3
from vidpipe.config import SourceSettings
from vidpipe.errors import BadInputError, TemporaryError, UsageError
from vidpipe.lake.query import run_query
from vidpipe.lake.tables import Lake
from vidpipe.lake.usage import Ledger, Use
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, find_report, give_up, now

OPTIONS = {"fps": 4.0, "short_side": 64}


def outcomes(lake, run_key: str) -> dict[str, tuple[str, str | None]]:
    return {
        row["source_uri"]: (row["status"], row["reason"])
        for row in rows(lake, "outcomes")
        if row["run_key"] == run_key
    }


def test_every_object_gets_an_outcome_and_good_videos_their_rows(lake, bucket, media):
    for path in (*media.videos, *media.broken):
        bucket.put(path.name, path)
    ingest(lake, "one", **OPTIONS)
    found = outcomes(lake, "one")
    assert len(found) == len(media.videos) + len(media.broken)
    for path in media.videos:
        assert found[f"{bucket.uri}/{path.name}"] == ("done", None)
    for path, reason in media.broken.items():
        assert found[f"{bucket.uri}/{path.name}"] == ("quarantined", reason)
    videos = rows(lake, "videos")
    assert len(videos) == len(media.videos)
    frames = collections.Counter(row["video_id"] for row in rows(lake, "frames"))
    assert frames == {video["video_id"]: video["extracted_frames"] for video in videos}
    assert all(min(frame["width"], frame["height"]) == 64 for frame in rows(lake, "frames"))
    with_audio = {video["video_id"] for video in videos if video["audio_codec"]}
    assert {row["video_id"] for row in rows(lake, "audio")} == with_audio
    assert with_audio != {video["video_id"] for video in videos}, "one clip has no audio"
    # What was read whole is known, whatever came of it.
    assert len(rows(lake, "sources")) == len(found)


@pytest.mark.parametrize("count", [0, 1, 5, 6])
def test_what_is_quarantined_is_named_at_the_end(lake, bucket, media, count):
    bucket.put("good.mp4", media.videos[0])
    uris = [bucket.put(f"{number}.mp4", b"no video") for number in range(count)]
    plan = stage(lake, "one", "discover", **OPTIONS)
    shards(lake, plan)
    told = audit_and_publish(lake, "one", plan).result["summary"]
    if not count:
        assert told == "1 done"
        return
    counts, named, where = told.splitlines()
    assert counts == f"1 done, {count} quarantined"
    of, _, names = named.partition(": ")
    *shown, last = names.split(", ")
    shown += [last] if last != "…" else []
    assert of == "quarantined" and (last == "…") == (count > 5) and len(shown) == min(count, 5)
    assert set(shown) <= {f"{uri} (unreadable)" for uri in uris}
    found = run_query(where.partition('"')[2].rstrip('"'), lake.settings).to_pylist()
    assert {row["source_uri"] for row in found} == set(uris)


def test_a_second_run_finds_nothing_to_do(lake, bucket, media):
    bucket.put("a.mp4", media.videos[0])
    bucket.put("broken.mp4", next(iter(media.broken)))
    ingest(lake, "one", **OPTIONS)
    before = rows(lake, "outcomes")
    plan = ingest(lake, "two", **OPTIONS)
    assert plan.result["counts"]["new"] == 0
    assert rows(lake, "outcomes") == before


def test_tables_of_an_older_version_get_the_new_columns(lake, bucket, media):
    new = {"frames": ["sampling", "imputed_by"], "videos": ["missing_frames", "truncated"]}
    bucket.put("a.mp4", media.videos[0])
    ingest(lake, "one", **OPTIONS)
    for table, columns in new.items():
        # As they were before there were such columns; its files are not read by these names.
        with lake.iceberg(table).update_schema(allow_incompatible_changes=True) as update:
            for column in columns:
                update.delete_column(column)
    bucket.put("b.mp4", media.videos[1])
    ingest(lake, "two", **OPTIONS)
    assert {row["sampling"] for row in rows(lake, "frames")} == {"fps=4"}
    assert {row["truncated"] for row in rows(lake, "videos")} == {False}
    assert len(rows(lake, "videos")) == 2


def test_two_objects_with_the_same_bytes_are_one_video_with_two_sources(lake, bucket, media):
    bucket.put("a.mp4", media.videos[0])
    bucket.put("b.mp4", media.videos[0])
    ingest(lake, "one", **OPTIONS)
    bucket.put("c.mp4", media.videos[0])
    ingest(lake, "two", **OPTIONS)
    assert len(rows(lake, "videos")) == 1
    assert len({row["video_id"] for row in rows(lake, "sources")}) == 1
    assert len(rows(lake, "sources")) == 3
    assert sorted(outcomes(lake, "one").values()) == [("done", None), ("skipped", "duplicate")]
    assert list(outcomes(lake, "two").values()) == [("skipped", "duplicate")]


def test_a_replaced_object_is_new_and_one_that_is_gone_is_marked(lake, bucket, media):
    uri = bucket.put("a.mp4", media.videos[0])
    bucket.put("b.mp4", media.videos[1])
    ingest(lake, "one", **OPTIONS)
    bucket.put("a.mp4", media.videos[2])
    bucket.delete("b.mp4")
    plan = ingest(lake, "two", **OPTIONS)
    assert plan.result["counts"]["new"] == 1
    assert plan.result["counts"]["gone"] == 1
    assert len(rows(lake, "videos")) == 3
    changed = [row for row in rows(lake, "sources") if row["run_key"] == "two"]
    assert [(row["source_uri"], row["deleted"]) for row in changed] == [
        (uri, False),
        (f"{bucket.uri}/b.mp4", True),
    ]
    bucket.put("b.mp4", media.videos[1])
    plan = ingest(lake, "three", **OPTIONS)
    assert plan.result["counts"]["new"] == 1, "one that came back is new"


@pytest.mark.parametrize(
    "name", ["with space.mp4", "ünïcode.mp4", "new\nline.mp4", "a+b%20c.mp4", "'quoted\"&.mp4"]
)
def test_any_object_name_is_only_a_name(lake, bucket, media, name):
    uri = bucket.put(name, media.videos[0])
    ingest(lake, "one", **OPTIONS)
    assert outcomes(lake, "one") == {uri: ("done", None)}


def test_a_budget_takes_the_newest_first_and_leaves_the_backlog(lake, bucket, media):
    for number, path in enumerate(media.videos[:4]):
        bucket.put(f"{number}.mp4", path)
    newest_first = sorted(
        lake.store.list(bucket.uri), key=lambda o: (o.modified_at, o.uri), reverse=True
    )
    plan = ingest(lake, "one", max_videos=3, **OPTIONS)
    assert plan.result["counts"]["backlog"] == 1
    assert set(outcomes(lake, "one")) == {found.uri for found in newest_first[:3]}
    ingest(lake, "two", max_videos=3, **OPTIONS)
    assert set(outcomes(lake, "two")) == {newest_first[3].uri}
    assert len(rows(lake, "videos")) == 4


def test_what_the_night_was_too_short_for_is_taken_by_the_next(lake, bucket, media):
    uri = bucket.put("a.mp4", media.videos[0])
    ingest(lake, "one", max_hours=1e-9, **OPTIONS)
    assert outcomes(lake, "one") == {uri: ("skipped", "out_of_budget")}
    ingest(lake, "two", **OPTIONS)
    assert outcomes(lake, "two") == {uri: ("done", None)}


def test_prefix_pattern_and_time_choose_and_what_they_leave_out_is_not_gone(lake, bucket, media):
    bucket.put("x/a.mp4", media.videos[0])
    bucket.put("x/b.avi", media.videos[1])
    bucket.put("y/c.mp4", media.videos[2])
    ingest(lake, "one", **OPTIONS)
    for choice in ({"prefix": "x/"}, {"pattern": "*.avi"}, {"modified_before": "2001-01-01"}):
        plan = stage(lake, f"two {choice}", "discover", **choice)
        assert plan.result["counts"]["gone"] == 0
    counts = stage(lake, "three", "discover", prefix="x/", pattern="*.mp4").result["counts"]
    assert (counts["listed"], counts["known"]) == (1, 1)


def test_an_object_replaced_between_listing_and_reading_is_left_to_the_next_run(
    lake, bucket, media
):
    uri = bucket.put("a.mp4", media.videos[0])
    plan = stage(lake, "one", "discover", **OPTIONS)
    bucket.put("a.mp4", media.videos[1])
    shards(lake, plan)
    audit_and_publish(lake, "one", plan)
    assert outcomes(lake, "one") == {uri: ("skipped", "vanished")}
    ingest(lake, "two", **OPTIONS)
    assert outcomes(lake, "two") == {uri: ("done", None)}


def test_a_shard_without_a_report_fails_its_items_and_blows_the_budget(lake, bucket, media):
    uri = bucket.put("a.mp4", media.videos[0])
    plan = stage(lake, "one", "discover", **OPTIONS)
    (shard,) = plan.result["shards"]
    give_up(lake.store, lake.uri, Manifest.read(lake.store, shard), "stage_failed", "No GPU left.")
    with pytest.raises(BadInputError, match="1 of 1 items failed.* extract 00000: No GPU left."):
        audit_and_publish(lake, "one", plan)
    assert outcomes(lake, "one") == {uri: ("failed", "stage_failed")}
    (outcome,) = (row for row in rows(lake, "outcomes") if row["source_uri"] == uri)
    assert outcome["message"] == "No GPU left."
    assert rows(lake, "videos") == []
    ingest(lake, "two", **OPTIONS)
    assert outcomes(lake, "two") == {uri: ("done", None)}


def test_a_shard_that_a_ceiling_refused_is_left_to_later_runs(lake, bucket, media):
    uri = bucket.put("a.mp4", media.videos[0])
    ledger = Ledger(lake.store, lake.uri)
    # More often than what fails may be tried.
    for number in range(lake.settings.extract.max_tries + 1):
        run_key = f"run {number}"
        plan = stage(lake, run_key, "discover", **OPTIONS)
        shard = Manifest.read(lake.store, plan.result["shards"][0])
        give_up(lake.store, lake.uri, shard, "out_of_budget", "The ceiling is reached.")
        pod = Use.begun(run_key, f"pod-{number}", 3600, gpus=2)
        ledger.note(pod)
        ledger.note(pod.end(now() - timedelta(minutes=3), now()))
        audit = audit_and_publish(lake, run_key, plan)
        assert outcomes(lake, run_key) == {uri: ("skipped", "out_of_budget")}
        assert audit.result["spent"] == {"pods": 1, "pod_hours": 0.05, "gpu_hours": 0.1}
        told = "1 skipped; so far 0.050 pod hours and 0.100 GPU hours"
        assert audit.result["summary"] == told
    ingest(lake, "last", **OPTIONS)
    assert outcomes(lake, "last") == {uri: ("done", None)}


def test_within_the_budget_failures_hold_nobody_else_up(lake, bucket, media):
    bucket.put("a.mp4", media.videos[0])
    bucket.put("b.mp4", media.videos[1])
    plan = stage(lake, "one", "discover", **OPTIONS)
    audit = audit_and_publish(lake, "one", plan, max_failed_share=1.0)
    assert audit.result["counts"] == {"failed": 2}


def test_what_fails_again_and_again_is_given_up(lake, bucket, media):
    bucket.put("a.mp4", media.videos[0])
    for number in range(lake.settings.extract.max_tries):
        plan = stage(lake, f"run {number}", "discover", **OPTIONS)
        assert plan.result["counts"]["selected"] == 1
        audit_and_publish(lake, f"run {number}", plan, max_failed_share=1.0)
    counts = stage(lake, "last", "discover", **OPTIONS).result["counts"]
    assert (counts["selected"], counts["given_up"]) == (0, 1)


def test_a_stage_that_was_done_is_not_done_again(lake, bucket, media):
    bucket.put("a.mp4", media.videos[0])
    plan = stage(lake, "one", "discover", **OPTIONS)
    assert stage(lake, "one", "discover", **OPTIONS).uri == plan.uri
    first = shards(lake, plan)
    assert [report.uri for report in shards(lake, plan)] == [report.uri for report in first]


def test_audit_refuses_files_that_are_not_as_reported(lake, bucket, media):
    bucket.put("a.mp4", media.videos[0])
    plan = stage(lake, "one", "discover", **OPTIONS)
    (report,) = shards(lake, plan)
    (frames,) = [file["uri"] for file in report.files if file["table"] == "frames"]
    lake.store.put(frames, lake.store.get(frames)[:-100])
    with pytest.raises(BadInputError, match="not as it was reported"):
        audit_and_publish(lake, "one", plan)


def test_audit_refuses_a_canary_that_came_out_wrong(lake, bucket, media):
    bucket.put("a.mp4", media.videos[0])
    plan = stage(lake, "one", "discover", **OPTIONS)
    shards(lake, plan)
    report = find_report(lake.store, lake.uri, Manifest.read(lake.store, plan.result["shards"][0]))
    assert report.result["canary_problems"] == []
    told = dataclasses.asdict(report) | {"result": {"canary_problems": ["frame at 1 s is grey"]}}
    lake.store.put_json(report.uri, told)
    with pytest.raises(BadInputError, match="canary"):
        audit_and_publish(lake, "one", plan)


def test_an_object_that_two_sources_list_is_one_item(lake, bucket, media):
    bucket.put("inner/a.mp4", media.videos[0])
    sources = SourceSettings((bucket.uri, f"{bucket.uri}/inner"))
    lake.settings = dataclasses.replace(lake.settings, sources=sources)
    plan = ingest(lake, "one", **OPTIONS)
    assert plan.result["counts"]["new"] == plan.result["counts"]["listed"] == 1
    assert len(rows(lake, "frames")) == rows(lake, "videos")[0]["extracted_frames"]


def test_a_bucket_that_does_not_exist_is_told_in_one_line(lake, bucket):
    lake.settings = dataclasses.replace(lake.settings, sources=SourceSettings(("s3://no-such",)))
    with pytest.raises(UsageError, match="'no-such' does not exist"):
        stage(lake, "one", "discover")


def test_a_bucket_that_denies_is_told_in_one_line(tmp_path):
    with serve_guarded_s3("closed") as settings:
        lake = new_lake(settings, tmp_path, "closed")
        lake.settings = dataclasses.replace(
            lake.settings, sources=SourceSettings(("s3://videos", "s3://closed"))
        )
        with pytest.raises(UsageError, match="s3://closed/: .* AccessDenied, .* Allow it"):
            stage(lake, "one", "discover")


def test_an_object_that_denies_is_an_outcome_and_holds_nobody_up(media, tmp_path):
    with serve_guarded_s3("videos/secret.mp4") as settings:
        lake = new_lake(settings, tmp_path, "secret")
        for name, path in zip(("open.mp4", "secret.mp4"), media.videos, strict=False):
            lake.store.upload(path, f"s3://videos/{name}")
        plan = stage(lake, "one", "discover", **OPTIONS)
        shards(lake, plan)
        audit_and_publish(lake, "one", plan)
        assert outcomes(lake, "one") == {
            "s3://videos/open.mp4": ("done", None),
            "s3://videos/secret.mp4": ("failed", "denied"),
        }


def test_an_object_that_the_store_rejects_is_an_outcome_and_holds_nobody_up(lake, bucket, media):
    for name, path in zip(("open.mp4", "encrypted.mp4"), media.videos, strict=False):
        bucket.put(name, path)
    plan = stage(lake, "one", "discover", **OPTIONS)
    with ChaosProxy(lake.settings.s3.endpoint_url) as proxy:
        proxy.befall = lambda request: "reject" if "encrypted" in request.path else None
        s3 = dataclasses.replace(lake.settings.s3, endpoint_url=proxy.url)
        shards(Lake(dataclasses.replace(lake.settings, s3=s3)), plan)
    audit_and_publish(lake, "one", plan)
    assert outcomes(lake, "one") == {
        f"{bucket.uri}/open.mp4": ("done", None),
        f"{bucket.uri}/encrypted.mp4": ("failed", "denied"),
    }


def test_items_that_fail_by_themselves_never_keep_others_unpublished(media, tmp_path):
    """The more so run after run: more of them than `max_failed_share`, and a good one each time."""
    secret = [f"secret-{number}.mp4" for number in range(3)]
    with serve_guarded_s3(*(f"videos/{name}" for name in secret)) as settings:
        lake = new_lake(settings, tmp_path, "secrets")
        for name, path in zip(secret, media.videos, strict=False):
            lake.store.upload(path, f"s3://videos/{name}")
        for number in range(2):
            lake.store.upload(media.videos[number + 3], f"s3://videos/open-{number}.mp4")
            plan = stage(lake, f"run {number}", "discover", **OPTIONS)
            shards(lake, plan)
            summary = audit_and_publish(lake, f"run {number}", plan).result["summary"]
            assert summary.startswith("1 done, 3 failed") and "secret-0.mp4 (denied)" in summary
            assert len(rows(lake, "videos")) == number + 1
        # Tried alone once more, they tell nothing of the machine.
        ingest(lake, "run 2", **OPTIONS)
        assert set(outcomes(lake, "run 2").values()) == {("failed", "denied")}
        assert stage(lake, "run 3", "discover").result["counts"]["given_up"] == 3


def test_a_run_that_can_read_nothing_fails(media, tmp_path):
    names = [f"{number}.mp4" for number in range(3)]
    with serve_guarded_s3(*(f"videos/{name}" for name in names)) as settings:
        lake = new_lake(settings, tmp_path, "closed")
        for name, path in zip(names, media.videos, strict=False):
            lake.store.upload(path, f"s3://videos/{name}")
        with pytest.raises(BadInputError, match="3 of 3 items failed.* AccessDenied"):
            ingest(lake, "one", **OPTIONS)


def test_an_object_that_its_store_cannot_give_is_an_outcome_and_holds_nobody_up(
    lake, bucket, media
):
    for name, path in zip(("open.mp4", "damaged.mp4"), media.videos, strict=False):
        bucket.put(name, path)
    plan = stage(lake, "one", "discover", **OPTIONS)
    with ChaosProxy(lake.settings.s3.endpoint_url) as proxy:
        proxy.befall = lambda request: "truncate" if "/damaged.mp4" in request.path else None
        s3 = dataclasses.replace(lake.settings.s3, endpoint_url=proxy.url)
        shards(Lake(dataclasses.replace(lake.settings, s3=s3)), plan)
    audit_and_publish(lake, "one", plan)
    assert outcomes(lake, "one") == {
        f"{bucket.uri}/open.mp4": ("done", None),
        f"{bucket.uri}/damaged.mp4": ("failed", "unavailable"),
    }
    ingest(lake, "two", **OPTIONS)
    assert outcomes(lake, "two") == {f"{bucket.uri}/damaged.mp4": ("done", None)}


def test_a_refusal_that_is_about_no_object_stops_the_shard(lake, bucket, media):
    for name, path in zip(("a.mp4", "b.mp4"), media.videos, strict=False):
        bucket.put(name, path)
    plan = stage(lake, "one", "discover", **OPTIONS)
    with ChaosProxy(lake.settings.s3.endpoint_url) as proxy:
        proxy.befall = lambda request: "expire" if ".mp4" in request.path else None
        s3 = dataclasses.replace(lake.settings.s3, endpoint_url=proxy.url)
        with pytest.raises(UsageError, match="ExpiredToken, 'as told' to GetObject.* renew them"):
            shards(Lake(dataclasses.replace(lake.settings, s3=s3)), plan)
    shards(lake, plan)
    audit_and_publish(lake, "one", plan)
    assert set(outcomes(lake, "one").values()) == {("done", None)}


def test_a_video_that_no_disk_here_can_hold_is_an_outcome(lake, bucket, media, monkeypatch):
    for name, path in zip(("open.mp4", "huge.mp4"), media.videos, strict=False):
        bucket.put(name, path)
    plan = stage(lake, "one", "discover", **OPTIONS)
    for uri in plan.result["shards"]:
        told = lake.store.get_json(uri)
        for item in told["items"]:
            item["size_bytes"] *= 10**12 if "huge" in item["source_uri"] else 1
        lake.store.put_json(uri, told)
    shards(lake, plan)
    audit_and_publish(lake, "one", plan)
    assert outcomes(lake, "one") == {
        f"{bucket.uri}/open.mp4": ("done", None),
        f"{bucket.uri}/huge.mp4": ("failed", "unavailable"),
    }


def test_a_row_that_no_table_takes_is_the_outcome_of_its_item_alone(lake, bucket, media):
    bucket.put("a.mp4", media.videos[0])
    ingest(lake, "one", **OPTIONS)
    (seen,) = rows(lake, "sources")
    with Attempt(Manifest("two", "extract", planned_at=seen["seen_at"].isoformat())) as attempt:
        for size_bytes in (1, 1 << 80):
            with attempt.item({"item": str(size_bytes)}) as item_rows:
                item_rows.write("sources", [seen | {"size_bytes": size_bytes}])
                item_rows.done(str(size_bytes))
        attempt.end_items()
        merged = {table: pq.read_table(path).to_pylist() for table, path in attempt.merge()}
    ended = {row["item"]: (row["status"], row["reason"]) for row in merged["outcomes"]}
    assert ended == {"1": ("done", None), str(1 << 80): ("failed", "internal")}
    assert [row["size_bytes"] for row in merged["sources"]] == [1]


def test_no_key_is_a_path(media, tmp_path):
    names = ("../../up.mp4", "a/../b.mp4", "/rooted.mp4", "./.mp4", "a//b.mp4")
    with serve_guarded_s3() as settings:
        lake = new_lake(settings, tmp_path, "names")
        for name, path in zip(names, media.videos, strict=False):
            lake.store.upload(path, f"s3://videos/{name}")
        ingest(lake, "one", **OPTIONS)
        assert outcomes(lake, "one") == {f"s3://videos/{name}": ("done", None) for name in names}
    assert {path.name for path in tmp_path.rglob("*")} == {"names.db"}


def test_a_source_that_is_not_configured_is_refused(lake, bucket):
    with pytest.raises(UsageError, match="not among the configured sources"):
        stage(lake, "one", "discover", source="s3://elsewhere")


def test_a_store_that_is_away_is_told_in_one_line_and_the_next_run_completes(
    lake, bucket, media, s3_server
):
    uri = bucket.put("a.mp4", media.videos[0])
    plan = stage(lake, "one", "discover", **OPTIONS)
    s3_server.stop()
    try:
        with pytest.raises(TemporaryError, match="does not answer"):
            shards(lake, plan)
    finally:
        s3_server.start()
    shards(lake, plan)
    audit_and_publish(lake, "one", plan)
    assert outcomes(lake, "one") == {uri: ("done", None)}


def test_a_folder_whose_videos_may_take_less_time_quarantines_what_takes_longer(
    lake, bucket, media, capsys
):
    sources = SourceSettings((bucket.uri,), (f"{bucket.uri}/uploads=0.001",))
    lake.settings = dataclasses.replace(lake.settings, sources=sources)
    trusted = bucket.put("trusted.mp4", media.videos[0])
    upload = bucket.put("uploads/a.mp4", media.videos[1])
    ingest(lake, "one", **OPTIONS)
    assert outcomes(lake, "one") == {
        trusted: ("done", None),
        upload: ("quarantined", "timed_out"),
    }
    (message,) = (row["message"] for row in rows(lake, "outcomes") if row["reason"] == "timed_out")
    assert "the limit of [sources] max_decode_s. Raise it, and run: vidpipe retry" in message
    assert "decoder sandbox: no new privileges, no network (seccomp" in capsys.readouterr().out
    # It is tried again when it is asked for.
    lake.settings = dataclasses.replace(lake.settings, sources=SourceSettings((bucket.uri,)))
    ingest(lake, "two", **OPTIONS)
    assert outcomes(lake, "two") == {}
    ingest(lake, "three", retry_reasons=["timed_out"], **OPTIONS)
    assert outcomes(lake, "three") == {upload: ("done", None)}
