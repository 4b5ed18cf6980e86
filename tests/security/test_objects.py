"""Attacks by whoever writes the watched buckets or the lake's bucket."""

from __future__ import annotations

import io
import json
import os
import secrets
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from tests.datasets.test_clips import SAMPLING, frame, jpeg, table
from tests.runs import ingest, rows, shards, stage
from tests.servers import S3Server, config_file, new_lake, serve_guarded_s3
from tests.stages.conftest import Bucket, bucket, media  # noqa: F401
from vidpipe.datasets.clips import read_clips
from vidpipe.datasets.features import FeatureCache
from vidpipe.datasets.labelled import LabelledVideo
from vidpipe.errors import BadInputError, NotFoundError, TemporaryError
from vidpipe.lake import layout
from vidpipe.lake.store import open_store
from vidpipe.lake.tables import Lake
from vidpipe.local import processes
from vidpipe.local.demo_data import DemoData
from vidpipe.local.state import StackState

OPTIONS = {"fps": 4.0, "short_side": 64}
KEYS = {
    "lines": "a\nextract: 9 of 9 done\r\n\u2028.mp4",
    "control codes": "\x1b]0;title\x07\x1b[2J.mp4",
    "another direction": "\u202egpj.4pm.mp4",
    "a path": "../../../etc/passwd",
    "an option": "-i --shard.mp4",
    "a shell": "`id`;$(id)|id.mp4",
    "a template": "{{ conn }}%s%(x)s.mp4",
    "a query": "x'; drop table labels; --.mp4",
    "a formula": "=cmd|' /c calc'!A0.mp4",
    "long": "x" * 900 + ".mp4",
}


def test_objects_have_names_that_do_something(tmp_path: Path, media: DemoData, capsys):  # noqa: F811
    """Tries: keys with line breaks, control codes, paths, options, templates, on a server that
    keeps them: to forge lines of a log, to write elsewhere, to run something.

    Stopped by: a key is data everywhere; logs escape it, files on the disk have other names.
    """
    content = media.videos[0].read_bytes()
    with serve_guarded_s3() as settings:
        # Its check of rights knows no keys of several lines: let everybody do everything.
        requests.post(f"{settings.endpoint_url}/moto-api/reset-auth", data="inf", timeout=60)
        lake = new_lake(settings, tmp_path, f"lake-{secrets.token_hex(4)}")
        for number, key in enumerate(KEYS.values()):
            # Each is another video: none is left out as a copy.
            lake.store.put(f"s3://videos/{key}", content + b"\0" * (8 + number))
        ingest(lake, "one", **OPTIONS)
        outcomes = {row["source_uri"]: row["status"] for row in rows(lake, "outcomes")}
    assert outcomes == {f"s3://videos/{key}": "done" for key in KEYS.values()}
    out = "".join(capsys.readouterr())
    assert "title" in out, "the log names them"
    assert all(line.isprintable() for line in out.split("\n"))
    assert not [line for line in out.splitlines() if line.startswith("extract: 9 of 9")]


def test_a_link_lies_in_the_folder_of_the_bucket(s3_server: S3Server, lake: Lake, tmp_path: Path):
    """Tries: a symbolic link in the folder behind the S3 server of one machine, to a secret file or
    to a folder.

    Stopped by: the server follows no links.
    """
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"very secret")
    folder = s3_server.folder / "videos" / secrets.token_hex(4)
    folder.mkdir()
    (folder / "file.mp4").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    uri = f"s3://videos/{folder.name}"
    assert list(lake.store.list(uri)) == []
    for key in ("file.mp4", "folder/secret.mp4"):
        with pytest.raises(NotFoundError):
            lake.store.get(f"{uri}/{key}")


def test_an_object_is_exchanged_after_it_was_listed(
    lake: Lake,
    bucket: Bucket,  # noqa: F811
    media: DemoData,  # noqa: F811
):
    """Tries: to put another object in place, such as one that fills the disk, between the listing
    and the reading.

    Stopped by: what is read must be of the version that was listed.
    """
    uri = bucket.put("a.mp4", media.videos[0])
    plan = stage(lake, "one", "discover", **OPTIONS)
    bucket.put("a.mp4", media.videos[1].read_bytes() + b"\0" * 1_000_000)
    shards(lake, plan)
    audited = stage(lake, "one", "audit", plan=plan.uri)
    stage(lake, "one", "publish", publication=audited.result["publication"])
    (outcome,) = rows(lake, "outcomes")
    assert (outcome["source_uri"], outcome["status"]) == (uri, "skipped")
    assert outcome["reason"] == "vanished"
    assert rows(lake, "videos") == []


def test_a_link_for_reviewers_is_changed(lake: Lake):
    """Tries: another object, or a later day, by a link that was made for one object.

    Stopped by: the link is signed: for one object, and until a time.
    """
    lake.store.put(f"{lake.uri}/shown.txt", b"shown")
    lake.store.put(f"{lake.uri}/hidden.txt", b"hidden")
    link = lake.store.link(f"{lake.uri}/shown.txt", timedelta(hours=1))
    assert requests.get(link, timeout=60).content == b"shown"
    over = lake.store.link(f"{lake.uri}/shown.txt", timedelta(seconds=-1))
    for changed in (
        link.replace("shown.txt", "hidden.txt"),
        link.replace("X-Amz-Expires=3600", "X-Amz-Expires=360000"),
        over,
    ):
        assert changed != link
        assert requests.get(changed, timeout=60).status_code in (400, 403)


def _parquet_bomb() -> bytes:
    """A file of 1 MB whose one column takes 7 GB as a whole."""
    file = io.BytesIO()
    part = pa.table({"video_id": pa.repeat("0" * 64, 1_000_000)})
    with pq.ParquetWriter(file, part.schema, compression="zstd") as writer:
        for _ in range(100):
            writer.write_table(part)
    return file.getvalue()


@pytest.mark.parametrize("damage", ["bomb", "no Parquet", "other columns", "other types"])
def test_a_file_of_no_table_waits_for_forgetting(lake: Lake, tmp_path: Path, damage: str):
    """Tries: a file below a table's folder that fills the memory of `forget`, or makes it fail, so
    that nobody can be forgotten.

    Stopped by: files are read a batch at a time, and what is no file of the table is deleted.
    """
    damaged = io.BytesIO()
    pq.write_table(pa.table({"video_id": ["x"]}), damaged)
    content = {
        "bomb": _parquet_bomb,
        "no Parquet": lambda: damaged.getvalue()[:-40] + b"\xff" * 28 + damaged.getvalue()[-8:],
        "other columns": lambda: _parquet(pa.table({"x": [1]})),
        "other types": lambda: _parquet(pa.table({"video_id": [[1]]})),
    }[damage]()
    folder = f"{layout.table_uri(lake.uri, 'frames')}/data"
    lake.store.put(f"{folder}/evil/a.parquet", content)
    script = (
        "from pathlib import Path\n"
        "from vidpipe.lake.forgetting import stray_files\n"
        "from vidpipe.lake.tables import Lake\n"
        "print(*stray_files(Lake(), 'frames', {'1' * 64}))\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(next(of for of in status.splitlines() if of.startswith('VmHWM')).split()[1])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"VIDPIPE_CONFIG": str(config_file(lake, tmp_path / "vidpipe.toml"))},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    strays, peak_kb = ended.stdout.splitlines()
    assert strays == ("" if damage == "bomb" else f"{folder}/evil/a.parquet")
    assert int(peak_kb) < 1_500_000


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


DOCUMENTS = {
    "no JSON": b"{",
    "deep": b"[" * 1_000_000,
    "no UTF-8": b'{"a": "\xff"}',
    "a number of many digits": b"1" * 1_000_000,
}


@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_of_the_lake_is_replaced(lake: Lake, content: bytes):
    """Tries: a manifest, a report or a dataset that is no JSON, or is nested a million deep.

    Stopped by: one line that names the object.
    """
    uri = f"{lake.uri}/runs/r/a.json"
    lake.store.put(uri, content)
    with pytest.raises(BadInputError, match=f"{uri} is no JSON document") as caught:
        lake.store.get_json(uri)
    assert len(str(caught.value)) < 1000


def test_a_document_of_the_lake_is_huge(lake: Lake, monkeypatch):
    """Tries: a document that does not fit in memory.

    Stopped by: its size is asked before it is read.
    """
    monkeypatch.setattr("vidpipe.lake.store.DOCUMENT_BYTES", 1000)
    lake.store.put(f"{lake.uri}/a.json", json.dumps("x" * 1000).encode())
    with pytest.raises(BadInputError, match="too large to be what it should be"):
        lake.store.get_json(f"{lake.uri}/a.json")


@pytest.mark.parametrize("damage", ["bomb", "pickle", "no array"])
def test_features_of_a_video_are_replaced(lake: Lake, damage: str):
    """Tries: features that a training reads: a small file that unpacks to any size, or a pickle.

    Stopped by: compressed or pickled features count as damaged; they are removed and made anew.
    """
    video = LabelledVideo("0" * 64, ("a",), "train", "extraction", "run")
    cache, file = FeatureCache(lake, "key"), io.BytesIO()
    if damage == "bomb":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("features.npy", b"\0" * 50_000_000)
    elif damage == "pickle":
        np.savez(file, features=np.array([Pickled()], dtype=object), windows=np.zeros((1, 4)))
    else:
        file.write(b"PK")
    uri = f"{layout.features_uri(lake.uri, 'key')}{video.video_id}/{video.extraction}.npz"
    lake.store.put(uri, file.getvalue())
    with pytest.raises(TemporaryError, match="was damaged and is removed"):
        cache.get(video)
    assert cache.missing([video]) == [video]
    assert not Pickled.ran


def test_a_picture_of_the_lake_is_huge(tmp_path: Path):
    """Tries: a frame of some hundred bytes that unpacks to 12 GB when a model looks at it.

    Stopped by: a limit of pixels, looked at in the header; the frame and its video are named.
    """
    small = jpeg(9)
    at = small.index(b"\xff\xc0") + 5  # height and width
    huge = small[:at] + b"\xff\xff\xff\xff" + small[at + 4 :]
    frames = table(tmp_path, frame("v", 7, 0.0, 1, jpeg=huge))
    with pytest.raises(BadInputError, match="Frame 7 of video v is no JPEG"):
        read_clips(frames, {"v": "w"}, SAMPLING, tmp_path / "clips.npy")


class Pickled:
    """Tells when it is unpickled."""

    ran = False

    def __setstate__(self, state: object) -> None:
        Pickled.ran = True


def test_a_file_is_larger_than_can_be_read(servers: StackState):
    """Tries: a file of any size, which costs nothing where it has holes, so that no listing of the
    bucket ends.

    Stopped by: the S3 server of one machine reads no file for a listing; a version is told by size
    and time.
    """
    (rclone,) = processes.find(servers.root)["s3"]
    file, uri = servers.root / "s3" / "videos" / "huge.mp4", "s3://videos/huge.mp4"
    with file.open("wb") as huge:
        huge.truncate(20 << 30)
    store, before = open_store(), rclone.io_counters().read_chars
    try:
        versions = [next(store.list(uri)).version, store.head(uri).version]
        assert versions[0] == versions[1] and store.head(uri).size_bytes == 20 << 30
        assert rclone.io_counters().read_chars - before < 1 << 30
    finally:
        file.unlink()
    store.put(uri, b"another")
    with pytest.raises(NotFoundError, match="was replaced since it was listed"):
        next(store.stream(uri, version=versions[0]))
    assert b"".join(store.stream(uri, version=store.head(uri).version)) == b"another"
    store.delete(uri)


def test_links_end_with_the_store(servers: StackState):
    """Tries: to read or list the buckets of a stack without its key.

    Stopped by: the S3 server wants every request signed.
    """
    store = open_store()
    store.put("s3://vidpipe-lake/secret.txt", b"very secret")
    url = servers.url("s3")
    for path in ("/", "/vidpipe-lake", "/vidpipe-lake/secret.txt", "/videos/?list-type=2"):
        answer = requests.get(url + path, timeout=60)
        assert not answer.ok and "secret" not in answer.text.replace("secret.txt", "")
    answer = requests.put(f"{url}/videos/evil.mp4", data=b"x", timeout=60)
    assert not answer.ok
