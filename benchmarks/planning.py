"""How long a night takes to plan, and in how much memory: `vidpipe discover` as a process.

The tables know `--known` objects, as so many runs of `ingest` left them; the bucket holds them and
`--new` more. An HTTP server here makes the pages of the bucket's listing up, for a folder of a
million files would be slower than what is measured; it hands all else on to rclone, which keeps the
lake in a temporary folder.

    python benchmarks/planning.py --known 1000000 --new 10000
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import http.client
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidpipe.config import LakeSettings, S3Settings, Settings, SourceSettings
from vidpipe.lake import layout
from vidpipe.lake.publication import publish
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES
from vidpipe.stages.work import extract_config, extract_work_key

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = 1000
RUNS, FILES = 20, 500  # publications, and files of each table that they added together
QUARANTINED_EVERY = 50


def columns(numbers: range) -> dict[str, list]:
    """What the bucket and the tables tell of the objects with these numbers."""
    return {
        "source_uri": [
            f"s3://videos/2026/{n // 10_000:04d}/camera-{n % 97:02d}/clip-{n:08d}.mp4"
            for n in numbers
        ],
        "source_version": [hashlib.md5(b"%d" % n).hexdigest() for n in numbers],
        "size_bytes": [20_000_000 + n * 7_919 % 500_000 for n in numbers],  # two of each
        "modified_at": [BEGIN + timedelta(seconds=n) for n in numbers],
    }


class Server(BaseHTTPRequestHandler):
    """Lists the bucket `videos`; what is asked of others is asked of rclone."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms
    objects: int
    rclone_port: int
    _rclone: http.client.HTTPConnection | None = None

    def _answer(self) -> None:
        path = urlsplit(self.path)
        if path.path.strip("/") == "videos":
            body = self._page(dict(parse_qsl(path.query))).encode()
            self._send(200, {"Content-Type": "application/xml"}, body)
            return
        if self._rclone is None:
            self._rclone = http.client.HTTPConnection("127.0.0.1", self.rclone_port)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._rclone.request(self.command, self.path, sent, dict(self.headers))
        told = self._rclone.getresponse()
        body = told.read()
        self._send(told.status, dict(told.getheaders()), body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    def _page(self, query: dict[str, str]) -> str:
        first = int(query.get("continuation-token", 0))
        end = min(first + PAGE, self.objects)
        found = "".join(
            f"<Contents><Key>{uri.removeprefix('s3://videos/')}</Key><ETag>&quot;{version}&quot;"
            f"</ETag><Size>{size}</Size><LastModified>{modified_at:%FT%T}.000Z</LastModified>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for uri, version, size, modified_at in zip(
                *columns(range(first, end)).values(), strict=True
            )
        )
        more = f"<NextContinuationToken>{end}</NextContinuationToken>" * (end < self.objects)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>videos</Name>'
            f"<KeyCount>{end - first}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
            f"<EncodingType>url</EncodingType><IsTruncated>{str(bool(more)).lower()}</IsTruncated>"
            f"{more}{found}</ListBucketResult>"
        )

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        for key, value in {**headers, "Content-Length": length}.items():
            if key != "Transfer-Encoding":
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def served(folder: Path, objects: int) -> Iterator[str]:
    """Serves `folder` and the made-up bucket; yields the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "lake").mkdir()
    program = Path(sysconfig.get_path("scripts")) / "rclone"
    rclone = subprocess.Popen(
        [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", folder],
        env={"PATH": os.environ["PATH"], "RCLONE_CONFIG": "", "RCLONE_CACHE_DIR": f"{folder}/.c"},
        stderr=subprocess.DEVNULL,
    )
    handler = type("Handler", (Server,), {"objects": objects, "rclone_port": port})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        rclone.terminate()
        rclone.wait()


def fill(lake: Lake, known: int) -> None:
    """Publishes so many objects, in runs as `ingest` leaves them."""
    config = extract_config({}, lake.settings.extract)
    parts = [range(known * i // FILES, known * (i + 1) // FILES) for i in range(FILES)]
    for run in range(RUNS):
        key, planned_at = f"run-{run}", BEGIN + timedelta(days=100 + run)
        files = collections.defaultdict(list)
        for shard, part in enumerate(parts[run::RUNS]):
            for table, rows in tables(part, key, planned_at, config).items():
                uri = layout.data_uri(lake.uri, table, key, "extract", f"{shard:05d}", "A")
                files[table].append(f"{uri}/00000.parquet")
                path = files[table][-1].removeprefix("s3://")
                pq.write_table(rows, path, filesystem=lake.filesystem, compression="zstd")
        uri = f"{layout.run_uri(lake.uri, key)}/publish/A.json"
        lake.store.put_json(uri, {"run_key": key, "base": lake.published(), "tables": files})
        publish(lake, uri)


def tables(part: range, run_key: str, planned_at: datetime, config: dict) -> dict[str, pa.Table]:
    """What the extraction of these objects makes of each table."""
    ids = [hashlib.sha256(b"%d" % n).hexdigest() for n in part]
    done = pa.array(n % QUARANTINED_EVERY > 0 for n in part)
    known = columns(part) | {
        "video_id": ids,
        "work_key": [extract_work_key(video_id, config) for video_id in ids],
        "run_key": [run_key] * len(ids),
        "seen_at": [planned_at] * len(ids),
        "finished_at": [planned_at + timedelta(minutes=1)] * len(ids),
        "stage": ["extract"] * len(ids),
        "status": pc.if_else(done, "done", "quarantined"),
        "reason": pc.if_else(done, None, "truncated"),
    }
    versions = zip(known["source_uri"], known["source_version"], strict=True)
    known["item"] = list(map("@".join, versions))
    made = {}
    for table in ("sources", "videos", "outcomes"):
        schema = TABLES[table].schema
        nothing = {f.name: [None if f.nullable else _zero(f)] * len(ids) for f in schema}
        filled = nothing | {name: known[name] for name in schema.names if name in known}
        made[table] = pa.table(filled, schema)
    return made | {"videos": made["videos"].filter(done)}


def _zero(field: pa.Field) -> Any:
    return pa.scalar(0).cast(field.type).as_py()


def measured(title: str, *command: str, **environment: str) -> None:
    """Runs a command, and prints what it said and took."""
    started_s = time.monotonic()
    process = subprocess.Popen(command, env=os.environ | environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    print(
        f"{title}: {time.monotonic() - started_s:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s of"
        f" CPU, {usage.ru_maxrss * 1024 / 1e9:.2f} GB at most, exit code {process.returncode}",
        flush=True,
    )


def main() -> None:
    """Fills a lake, and plans a night."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--known", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=10_000)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="vidpipe-") as made,
        served(Path(made), chosen.known + chosen.new) as url,
    ):
        lake = Lake(
            Settings(
                lake=LakeSettings("s3://lake", f"sqlite:///{made}/catalog.db?timeout=60"),
                s3=S3Settings(url, "us-east-1", "any", "any"),
                sources=SourceSettings(("s3://videos",)),
            )
        )
        started_s = time.monotonic()
        fill(lake, chosen.known)
        print(f"{chosen.known} objects published in {time.monotonic() - started_s:.0f} s")
        settings = {
            "VIDPIPE_LAKE_URI": lake.uri,
            "VIDPIPE_LAKE_CATALOG_URI": lake.settings.lake.catalog_uri,
            "VIDPIPE_S3_ENDPOINT_URL": url,
            "VIDPIPE_S3_ACCESS_KEY_ID": "any",
            "VIDPIPE_S3_SECRET_ACCESS_KEY": "any",
            "VIDPIPE_SOURCES_URIS": "s3://videos",
        }
        listing = (
            "import collections; from vidpipe.lake.store import open_store;"
            "collections.deque(open_store().list('s3://videos'), 0)"
        )
        measured("Listing alone", sys.executable, "-c", listing, **settings)
        discover = ("-m", "vidpipe", "discover", "--run-key", "benchmark")
        measured("Planning, listing included", sys.executable, *discover, **settings)


if __name__ == "__main__":
    main()
