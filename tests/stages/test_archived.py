"""Objects in an archive of the store: left alone until they are restored, and in nobody's way."""

from __future__ import annotations

import re
from collections.abc import Iterator

import boto3
import pytest

from tests.runs import audit_and_publish, ingest, rows, shards, stage
from tests.servers import new_lake, serve_guarded_s3
from vidpipe.config import S3Settings
from vidpipe.errors import ArchivedError, NothingToDoError, UsageError
from vidpipe.lake.query import run_query
from vidpipe.lake.store_errors import os_error
from vidpipe.lake.tables import Lake
from vidpipe.stages import listing
from vidpipe.stages.backlog import ingest_backlog, require_retries

OPTIONS = {"fps": 4.0, "short_side": 64}


class Archive:
    """The bucket `videos` of a server that has archives.

    Attributes:
        lake: Watches it.
        client: Its owner.
    """

    def __init__(self, settings: S3Settings, lake: Lake):
        self.lake = lake
        self.client = boto3.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key,
        )

    def put(self, name: str, body: bytes, storage_class: str = "STANDARD") -> None:
        """Writes an object."""
        self.client.put_object(Bucket="videos", Key=name, Body=body, StorageClass=storage_class)

    def move(self, name: str, storage_class: str) -> None:
        """Changes its storage class, as rules of the bucket do."""
        if self.client.head_object(Bucket="videos", Key=name).get("StorageClass"):
            self.restore(name)
        self.client.copy_object(
            Bucket="videos",
            Key=name,
            CopySource={"Bucket": "videos", "Key": name},
            StorageClass=storage_class,
        )

    def restore(self, name: str) -> None:
        """Makes it readable for a day."""
        self.client.restore_object(Bucket="videos", Key=name, RestoreRequest={"Days": 1})

    def outcomes(self, run_key: str) -> dict[str, tuple[str, str | None]]:
        """Status and reason by name."""
        return {
            row["source_uri"].removeprefix("s3://videos/"): (row["status"], row["reason"])
            for row in rows(self.lake, "outcomes")
            if row["run_key"] == run_key
        }

    def counts(self, run_key: str, **config) -> dict[str, int]:
        """Those of a run, without what is zero."""
        plan = ingest(self.lake, run_key, **config, **OPTIONS)
        return {name: count for name, count in plan.result["counts"].items() if count}


@pytest.fixture
def archive(tmp_path) -> Iterator[Archive]:
    with serve_guarded_s3() as settings:
        yield Archive(settings, new_lake(settings, tmp_path, "archives"))


def test_archived_objects_are_left_alone_until_they_are_restored(archive, media):
    bodies = [path.read_bytes() for path in media.videos]
    for number, body in enumerate(bodies[:4]):
        archive.put(f"{number}.mp4", body)
    for name, storage_class in (("a", "GLACIER"), ("b", "DEEP_ARCHIVE"), ("c", "GLACIER")):
        archive.put(f"{name}.mp4", bodies["abc".index(name) + 4], storage_class)
    archive.put("at-once.mp4", bodies[7], "GLACIER_IR")
    assert archive.counts("one") == {"listed": 8, "new": 5, "archived": 3, "selected": 5}
    done = dict.fromkeys(("0.mp4", "1.mp4", "2.mp4", "3.mp4", "at-once.mp4"), ("done", None))
    archived = dict.fromkeys(("a.mp4", "b.mp4", "c.mp4"), ("skipped", "archived"))
    assert archive.outcomes("one") == done | archived
    assert len(rows(archive.lake, "videos")) == 5, "the others are published at once"
    (outcome,) = (
        r for r in rows(archive.lake, "outcomes") if r["item"].startswith("s3://videos/b")
    )
    assert outcome["message"].startswith("The object is archived (storage class DEEP_ARCHIVE).")

    assert archive.counts("two") == {"listed": 8, "known": 5, "archived": 3}
    assert archive.outcomes("two") == {}, "nothing is tried, and nothing is said twice"
    assert ingest_backlog(archive.lake) == 0
    with pytest.raises(NothingToDoError, match="must be restored first: there are 3"):
        require_retries([], ["s3://videos/a.mp4"], archive.lake)

    archive.restore("a.mp4")
    archive.move("b.mp4", "STANDARD_IA")
    assert archive.counts("three") == {
        "listed": 8, "known": 5, "new": 2, "archived": 1, "selected": 2,
    }  # fmt: skip
    assert archive.outcomes("three") == dict.fromkeys(("a.mp4", "b.mp4"), ("done", None))
    now = run_query(
        "select source_uri from current_outcomes where reason = 'archived'", archive.lake.settings
    ).to_pylist()
    assert [row["source_uri"] for row in now] == ["s3://videos/c.mp4"]


def test_what_is_archived_after_it_was_extracted_stays_known(archive, media):
    archive.put("a.mp4", media.videos[0].read_bytes())
    ingest(archive.lake, "one", **OPTIONS)
    archive.move("a.mp4", "GLACIER")
    assert archive.counts("two") == {"listed": 1, "known": 1}


def test_an_object_that_is_archived_between_listing_and_reading_is_skipped(archive, media):
    for number in range(2):
        archive.put(f"{number}.mp4", media.videos[number].read_bytes())
    plan = stage(archive.lake, "one", "discover", **OPTIONS)
    archive.move("1.mp4", "GLACIER")
    shards(archive.lake, plan)
    audit_and_publish(archive.lake, "one", plan)
    assert archive.outcomes("one") == {"0.mp4": ("done", None), "1.mp4": ("skipped", "archived")}
    assert archive.counts("two") == {"listed": 2, "known": 1, "archived": 1}
    archive.restore("1.mp4")
    assert archive.counts("three") == {"listed": 2, "known": 1, "new": 1, "selected": 1}


def test_where_a_listing_says_nothing_of_archives_single_objects_are_asked(
    archive, media, monkeypatch
):
    """Objects of INTELLIGENT_TIERING say in a listing nothing of the tier that they are in."""
    monkeypatch.setattr("vidpipe.lake.store._is_archived", lambda *_: None)
    archive.put("0.mp4", media.videos[0].read_bytes(), "GLACIER")
    assert archive.counts("one") == {"listed": 1, "new": 1, "selected": 1}
    assert archive.outcomes("one") == {"0.mp4": ("skipped", "archived")}
    assert archive.counts("two") == {"listed": 1, "archived": 1}
    archive.restore("0.mp4")
    assert archive.counts("three") == {"listed": 1, "new": 1, "selected": 1}


@pytest.mark.long
def test_of_many_archived_objects_a_few_are_asked_each_time(archive, media, monkeypatch):
    monkeypatch.setattr(listing, "ASKED_OBJECTS", 2)
    for number in range(5):
        archive.put(f"{number}.mp4", media.videos[0].read_bytes() + bytes(number), "GLACIER")
    assert archive.counts("first") == {"listed": 5, "archived": 5}
    for number in range(5):
        archive.restore(f"{number}.mp4")
    taken = 0
    for number in range(3):
        taken += archive.counts(str(number)).get("selected", 0)
    assert taken == 5


def test_a_file_of_the_lake_that_is_archived_is_told(archive, media):
    archive.put("0.mp4", media.videos[0].read_bytes())
    ingest(archive.lake, "one", **OPTIONS)
    listed = archive.client.list_objects_v2(Bucket="lake", Prefix="archives/tables")
    for found in listed["Contents"]:
        source = {"Bucket": "lake", "Key": found["Key"]}
        archive.client.copy_object(**source, CopySource=source, StorageClass="GLACIER")
    # Where they come late, as from a busy server, pyarrow tells no words of the store: then the
    # line names the archive among what it may be.
    with pytest.raises(UsageError, match="storage class.* Restore it|whether .* is archived"):
        run_query("select * from videos", archive.lake.settings)
    with pytest.raises(ArchivedError, match="GLACIER"):
        archive.lake.store.get(f"s3://lake/{found['Key']}")


def test_the_words_of_the_store_tell_an_archived_file_of_the_lake():
    words = "The operation is not valid for the object's storage class"
    for said in (
        f"AWS Error UNKNOWN (HTTP status 403) during GetObject operation: {words}",
        f"AWS Error INVALID_OBJECT_STATE during GetObject operation: {words}",
    ):
        error = os_error(f"The tables cannot be read: {said}")
        assert type(error) is UsageError
        assert re.search("storage class.* Restore it", str(error))
