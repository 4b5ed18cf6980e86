"""How long a night takes to plan, and in how much memory: `vidpipe discover` as a process.

The tables know `--known` objects, as so many runs of `ingest` left them; the bucket holds them and
`--new` more. An HTTP server here makes the pages of the bucket's listing up, for a folder of a
million files would be slower than what is measured; it hands all else on to rclone, which keeps the
lake in a temporary folder.

    python benchmarks/planning.py --known 1000000 --new 10000
"""

from __future__ import annotations

import argparse
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
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from vidpipe.config import LakeSettings, S3Settings, Settings, SourceSettings
from vidpipe.lake import layout
from vidpipe.lake.publication import publish
from vidpipe.lake.tables import Lake
from vidpipe.schemas import TABLES
from vidpipe.stages.work import extract_config, extract_work_key

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = 1000
RUNS, SHARDS = 20, 25  # publications, and files that each adds to a table
QUARANTINED_EVERY = 50


def name(number: int) -> str:
    """Key of an object."""
    return f"2026/{number // 10_000:04d}/camera-{number % 97:02d}/clip-{number:08d}.mp4"


def etag(number: int) -> str:
    """Its ETag."""
    return hashlib.md5(b"%d" % number).hexdigest()


def size(number: int) -> int:
    """Its bytes: few are equal."""
    return 20_000_000 + number * 7_919 % 10_000_000


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
            f"<Contents><Key>{name(n)}</Key><LastModified>{_modified(n):%FT%T}.000Z</LastModified>"
            f"<ETag>&quot;{etag(n)}&quot;</ETag><Size>{size(n)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for n in range(first, end)
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


def _modified(number: int) -> datetime:
    return BEGIN + timedelta(seconds=number)


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
    """Publishes runs that know so many objects."""
    config = extract_config({}, lake.settings.extract)
    for run in range(RUNS):
        numbers = range(known * run // RUNS, known * (run + 1) // RUNS)
        tables: dict[str, list[str]] = {"sources": [], "videos": [], "outcomes": []}
        for shard in range(SHARDS):
            part = numbers[len(numbers) * shard // SHARDS : len(numbers) * (shard + 1) // SHARDS]
            rows = _rows(part, f"run-{run}", BEGIN + timedelta(days=100 + run), config)
            for table, columns in rows.items():
                uri = layout.data_uri(lake.uri, table, f"run-{run}", "extract", f"{shard:05d}", "A")
                pq.write_table(
                    pa.table(columns, TABLES[table].schema),
                    f"{uri.removeprefix('s3://')}/00000.parquet",
                    filesystem=lake.filesystem,
                    compression="zstd",
                )
                tables[table].append(f"{uri}/00000.parquet")
        uri = f"{lake.uri}/runs/run-{run}/publish/A.json"
        lake.store.put_json(
            uri, {"run_key": f"run-{run}", "base": lake.published(), "tables": tables}
        )
        publish(lake, uri)


def _rows(part: range, run: str, planned_at: datetime, config: dict) -> dict[str, dict[str, list]]:
    """The columns of each table that the extraction of these objects fills."""
    ids = [hashlib.sha256(b"%d" % n).hexdigest() for n in part]
    good = [n % QUARANTINED_EVERY > 0 for n in part]
    seen = {
        "source_uri": [f"s3://videos/{name(n)}" for n in part],
        "source_version": list(map(etag, part)),
        "size_bytes": list(map(size, part)),
        "modified_at": list(map(_modified, part)),
        "seen_at": [planned_at] * len(part),
        "video_id": ids,
        "deleted": [False] * len(part),
        "work_key": [extract_work_key(video_id, config) for video_id in ids],
        "run_key": [run] * len(part),
    }
    outcomes = seen | {
        "item": [
            f"{u}@{v}" for u, v in zip(seen["source_uri"], seen["source_version"], strict=True)
        ],
        "stage": ["extract"] * len(part),
        "status": ["done" if is_good else "quarantined" for is_good in good],
        "reason": [None if is_good else "truncated" for is_good in good],
        "finished_at": [planned_at + timedelta(minutes=1)] * len(part),
    }
    rows = {"sources": seen, "outcomes": outcomes, "videos": seen}
    for table, columns in rows.items():
        rows[table] = {
            f.name: columns.get(f.name)
            or [None if f.nullable else pa.scalar(0).cast(f.type).as_py()] * len(part)
            for f in TABLES[table].schema
        }
    rows["videos"] = {
        column: [value for value, is_good in zip(values, good, strict=True) if is_good]
        for column, values in rows["videos"].items()
    }
    return rows


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
