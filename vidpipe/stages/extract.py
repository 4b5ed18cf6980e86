"""extract: reads each source once, and turns it into a video with its frames and its audio."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidpipe import memory
from vidpipe.config import Settings
from vidpipe.console import echo
from vidpipe.errors import (
    ArchivedError,
    DeniedError,
    MediaError,
    NotFoundError,
    StoppedError,
    TemporaryError,
)
from vidpipe.lake import layout
from vidpipe.media import (
    AudioChunk,
    DecodeLimit,
    Decoder,
    DecoderKilledError,
    ExtractOptions,
    Frame,
    Summary,
    VideoInfo,
    check_sandbox,
)
from vidpipe.stages.attempt import Attempt, ItemRows
from vidpipe.stages.canary import extraction_problems
from vidpipe.stages.manifest import Manifest, now
from vidpipe.stages.work import extract_work_key

if TYPE_CHECKING:
    # The tables, which files at hand do not need, take longer to import than a clip to extract.
    from vidpipe.lake.tables import Lake

# One object that breaks off is no reason to begin its whole shard anew.
DOWNLOAD_AGAIN_S = (1.0, 4.0)
DECODER_BYTES = 500_000_000  # of memory, which a decoder of large pictures takes
SPARE_BYTES = 200_000_000  # left free on the local disk beside the video

# Gives an item as a local file, together with the hash of its bytes.
Fetch = Callable[[dict[str, Any]], AbstractContextManager[tuple[Path, str]]]


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Extracts the sources of a shard.

    Config: `options` (of `ExtractOptions`), `decoder` (its version), `deadline` (null or the time
    after which no further video is begun).
    """
    stopped = threading.Event()

    @contextlib.contextmanager
    def fetch(item: dict[str, Any]) -> Iterator[tuple[Path, str]]:
        with contextlib.ExitStack() as stack:
            folder = attempt.scratch / hashlib.sha256(item["item"].encode()).hexdigest()
            folder.mkdir()
            stack.callback(shutil.rmtree, folder)
            yield folder / "video", _download(lake, item, folder / "video", stopped)

    # Here, for files at hand need neither it nor the tables, which take long to import.
    from vidpipe.lake.tombstones import read_forgotten, tombstone_row

    echo(f"decoder sandbox: {check_sandbox()}")
    seen: list[dict[str, Any]] = []
    workers = 1 if attempt.alone else lake.settings.extract.workers
    with Extraction(
        manifest,
        attempt,
        fetch,
        workers,
        stopped,
        read_forgotten(lake),
        lambda item: _decode_limit(lake.settings, item["source_uri"]),
    ) as extraction:
        attempt.result["canary_problems"] = extraction.check()
        for number, (item, outcome) in enumerate(extraction.work(), 1):
            duplicate = outcome["reason"] == "duplicate"
            if outcome["status"] in ("done", "quarantined") or duplicate:
                seen.append(_source_row(manifest, item, outcome["video_id"]))
            attempt.progress(number, len(manifest.items), _shown(item["source_uri"]))
    attempt.write("sources", seen)
    attempt.write(
        "forgotten",
        (
            # The outcome does not say whose bytes they are, and they are not read again.
            tombstone_row(
                manifest.run_key, manifest.planned_time, name, kind=kind, belongs_to=video_id
            )
            for item, video_id in extraction.forgotten.items()
            for kind, name in (("object", item), ("place", item.rpartition("@")[0]))
        ),
    )


class Extraction:
    """Works on the items of a manifest side by side.

    Args:
        manifest: What is to be done.
        attempt: Takes the rows and the outcomes.
        fetch: Gives an item as a local file.
        workers: How many videos are decoded at a time; 0: as many as there are cores, or as many
            as memory allows.
        stopped: Set when the work is given up, for those who fetch.
        not_again: Ids of videos that are never to be ingested again.
        limit: How long decoding an item may take.

    Attributes:
        forgotten: The items that turned out to be such videos, with their ids.
    """

    def __init__(
        self,
        manifest: Manifest,
        attempt: Attempt,
        fetch: Fetch,
        workers: int,
        stopped: threading.Event,
        not_again: Container[str] = (),
        limit: Callable[[dict[str, Any]], DecodeLimit] = lambda _item: DecodeLimit(),
    ):
        self._manifest = manifest
        self._attempt = attempt
        self._fetch = fetch
        self._stopped = stopped
        self._not_again = not_again
        self._limit = limit
        self.forgotten: dict[str, str] = {}
        self._options = ExtractOptions(**manifest.config["options"])
        self._done: set[str] = set()
        self._decoders = [Decoder() for _ in range(workers or _most_workers())]
        self._idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)
        # Twice as many threads as decoders: while one video is decoded, the next is fetched.
        self._pool = concurrent.futures.ThreadPoolExecutor(2 * len(self._decoders))
        self._futures: list[concurrent.futures.Future] = []

    def __enter__(self) -> Extraction:
        return self

    def __exit__(self, *_exc_info) -> None:
        """Gives up what is not done yet."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in self._futures):
            for decoder in self._decoders:
                decoder.interrupt()
            time.sleep(0.02)
        for decoder in self._decoders:
            decoder.close()

    def check(self) -> list[str]:
        """Extracts a made clip; returns what did not come out as it always did."""
        try:
            return extraction_problems(self._attempt.scratch, self._decoders[0])
        except DecoderKilledError as error:
            raise TemporaryError(f"While the canary was decoded: {error}") from error
        except MediaError as error:
            return [f"it did not decode: {error}"]

    def work(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yields each item with its outcome, as it ends."""
        # Equal bytes have equal sizes: one after the other, so that one of them is extracted.
        lanes: dict[int, list[dict[str, Any]]] = {}
        for item in self._manifest.items:
            lanes.setdefault(item["size_bytes"], []).append(item)
        self._futures = [self._pool.submit(self._work_on, lane) for lane in lanes.values()]
        for future in concurrent.futures.as_completed(self._futures):
            yield from future.result()

    def _work_on(self, lane: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        ended = []
        for item in lane:
            with self._attempt.item(item) as rows:
                self._extract(item, rows)
            if rows.outcome["status"] == "done":
                self._done.add(rows.outcome["work_key"])
            ended.append((item, rows.outcome))
        return ended

    def _extract(self, item: dict[str, Any], rows: ItemRows) -> None:
        self._require_going()
        deadline = self._manifest.config["deadline"]
        if deadline and now() > datetime.fromisoformat(deadline):
            rows.skip("out_of_budget", f"The run was to begin nothing after {deadline}.")
            return
        try:
            with self._fetch(item) as (path, video_id):
                if video_id in self._not_again:
                    self.forgotten[item["item"]] = video_id
                    told = "These bytes are forgotten; `vidpipe forget --lift` lets them in."
                    rows.skip("forgotten", told)
                    return
                work_key = extract_work_key(video_id, self._manifest.config)
                rows.identify(work_key, video_id)
                if work_key in self._done or work_key in item["published"]:
                    rows.skip("duplicate", "The same bytes are extracted already.")
                    return
                common = {
                    "video_id": video_id,
                    "ingested_at": self._manifest.planned_time,
                    "work_key": work_key,
                    "run_key": self._manifest.run_key,
                }
                try:
                    self._decode(item, path, common, rows)
                except DecoderKilledError:
                    # A video that takes too much memory does so again; one whose decoder was killed
                    # for the memory of somebody else, or by a person, is not at fault.
                    rows.clear()
                    self._decode(item, path, common, rows)
                rows.done(work_key, video_id=video_id)
        except NotFoundError as error:
            rows.skip("vanished", str(error))
        except ArchivedError as error:
            rows.skip("archived", str(error))
        except DeniedError as error:  # such as an object whose key the store was not given
            raise MediaError("denied", str(error)) from error

    def _require_going(self) -> None:
        if self._stopped.is_set():
            raise StoppedError("Stopped; the work at hand was dropped.")

    def _decode(
        self, item: dict[str, Any], path: Path, common: dict[str, Any], rows: ItemRows
    ) -> None:
        self._attempt.require_fits(item)
        info: dict[str, Any] = {}
        decoder = self._idle.get()
        try:
            self._require_going()
            with (
                self._attempt.working(item),
                contextlib.closing(decoder.decode(path, self._options, self._limit(item))) as parts,
            ):
                for part in parts:
                    columns = dict(vars(part))
                    match part:
                        case VideoInfo():
                            info = columns
                            continue
                        case Frame():
                            table = "frames"
                            columns["frame_index"] = columns.pop("index")
                            columns["sampling"] = self._options.label
                        case AudioChunk():
                            table = "audio"
                        case Summary():
                            table = "videos"
                            columns["extracted_frames"] = columns.pop("frames")
                            columns["extracted_audio_s"] = columns.pop("audio_s")
                            columns["decoder_words"] = columns.pop("told")
                            for name in ("source_uri", "source_version", "size_bytes"):
                                columns[name] = item[name]
                            # What was read knows better than the header.
                            columns = info | columns
                    rows.write(table, [columns | common])
        finally:
            self._idle.put(decoder)


def _decode_limit(settings: Settings, source_uri: str) -> DecodeLimit:
    of_folder = settings.sources.decode_limit_s(source_uri)
    if of_folder is None:
        return DecodeLimit(settings.extract.max_decode_s)
    return DecodeLimit(of_folder, "[sources] max_decode_s")


def _most_workers() -> int:
    """One for each core, unless their memory would be too little."""
    return int(max(1, min(_cores(), memory.free_bytes() // DECODER_BYTES)))


def _cores() -> int:
    """Those that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _shown(uri: str) -> str:
    """The last part of a URI for a line of progress, without the control codes it may hold."""
    return ascii(uri.rpartition("/")[2])[1:-1][:60]


def _download(lake: Lake, item: dict[str, Any], path: Path, stopped: threading.Event) -> str:
    """Brings a source to local disk; returns the video id.

    Raises:
        MediaError: The store answers, but never gives this object; or no disk here can hold it.
        TemporaryError: The store is away, or the disk is full.
    """
    _require_space(item, path.parent)
    for wait_s in DOWNLOAD_AGAIN_S:
        with contextlib.suppress(TemporaryError):
            return _stream(lake, item, path, stopped)
        stopped.wait(wait_s)
    try:
        return _stream(lake, item, path, stopped)
    except TemporaryError as error:
        # Unless that fails, too, one object is damaged in the store.
        next(lake.store.list(item["source_uri"]), None)
        raise MediaError("unavailable", str(error)) from error


def _require_space(item: dict[str, Any], folder: Path) -> None:
    disk = shutil.disk_usage(folder)
    needed_bytes = item["size_bytes"] + SPARE_BYTES
    if disk.free < needed_bytes:
        message = (
            f"A video of {item['size_bytes'] / 1e9:.1f} GB does not fit in {folder}:"
            f" {disk.free / 1e9:.1f} GB are free. Free some, or set TMPDIR to a larger disk."
        )
        # Where the disk as a whole is too small, waiting does not help.
        if disk.total < needed_bytes:
            raise MediaError("unavailable", message)
        raise TemporaryError(message)


def _stream(lake: Lake, item: dict[str, Any], path: Path, stopped: threading.Event) -> str:
    """Writes a source to a file, hashing it on the way; returns the hash."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in lake.store.stream(item["source_uri"], version=item["source_version"]):
            if stopped.is_set():
                raise StoppedError("Stopped; the work at hand was dropped.")
            digest.update(chunk)
            file.write(chunk)
            if file.tell() > item["size_bytes"]:
                break  # another object by now, of any size
        size_bytes = file.tell()
    if size_bytes != item["size_bytes"]:
        raise TemporaryError(
            f"{item['source_uri']} is not as it was listed: {size_bytes} bytes were read of"
            f" {item['size_bytes']}."
        )
    return digest.hexdigest()


def _source_row(manifest: Manifest, item: dict[str, Any], video_id: str) -> dict[str, Any]:
    return {
        "source_uri": item["source_uri"],
        "source_version": item["source_version"],
        "size_bytes": item["size_bytes"],
        "modified_at": datetime.fromisoformat(item["modified_at"]),
        "seen_at": manifest.planned_time,
        "video_id": video_id,
        "deleted": False,
        "work_key": layout.make_work_key(item["item"], "seen", manifest.run_key),
        "run_key": manifest.run_key,
    }
