"""extract: reads each source once, and turns it into a video with its frames and its audio."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from vidpipe.errors import MediaError, TemporaryError
from vidpipe.lake import layout
from vidpipe.lake.store import DeniedError, NotFoundError
from vidpipe.lake.tables import Lake
from vidpipe.lake.tombstones import Forgotten, read_forgotten, tombstone_row
from vidpipe.media import AudioChunk, ExtractOptions, Frame, Summary, decode, probe
from vidpipe.stages.attempt import Attempt, ItemRows
from vidpipe.stages.canary import extraction_problems
from vidpipe.stages.manifest import Manifest, now

SPARE_BYTES = 200_000_000  # left free on the local disk beside the video


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Extracts the sources of a shard.

    Config: `options` (of `ExtractOptions`), `decoder` (its version), `deadline` (null or the time
    after which no further video is begun).
    """
    options = ExtractOptions(**manifest.config["options"])
    attempt.result["canary_problems"] = extraction_problems(attempt.scratch)
    forgotten = read_forgotten(lake)
    done: set[str] = set()
    seen: list[dict[str, Any]] = []
    for number, item in enumerate(manifest.items, 1):
        with attempt.item(item) as rows:
            _extract(manifest, item, options, done, forgotten, rows, attempt, lake)
        if rows.outcome["status"] == "done":
            done.add(rows.outcome["work_key"])
        if rows.outcome["reason"] in (None, "duplicate") or rows.outcome["status"] == "quarantined":
            seen.append(_source_row(manifest, item, rows.outcome["video_id"]))
        attempt.progress(number, len(manifest.items), _shown(item["source_uri"]))
    attempt.write("sources", seen)


def _shown(uri: str) -> str:
    """The last part of a URI for a line of progress, without the control codes it may hold."""
    return ascii(uri.rpartition("/")[2])[1:-1][:60]


def _extract(
    manifest: Manifest,
    item: dict[str, Any],
    options: ExtractOptions,
    done: set[str],
    forgotten: Forgotten,
    rows: ItemRows,
    attempt: Attempt,
    lake: Lake,
) -> None:
    deadline = manifest.config["deadline"]
    if deadline and now() > datetime.fromisoformat(deadline):
        rows.skip("out_of_budget", f"The run was to begin nothing after {deadline}.")
        return
    path = attempt.scratch / "video"
    try:
        try:
            video_id = _download(lake, item, path)
        except NotFoundError as error:
            rows.skip("vanished", str(error))
            return
        except DeniedError as error:
            raise MediaError("denied", str(error)) from error
        if video_id in forgotten:
            # Under another name: the outcome does not say whose bytes they are, and they are not
            # read again.
            stone = {"kind": "object", "belongs_to": video_id}
            row = tombstone_row(manifest.run_key, manifest.planned_time, item["item"], **stone)
            attempt.write("forgotten", [row])
            rows.skip(
                "forgotten", "These bytes are forgotten; `vidpipe forget --lift` lets them in."
            )
            return
        work_key = layout.make_work_key(video_id, "extract", _work_config(manifest))
        rows.identify(work_key, video_id)
        if work_key in done or work_key in item["published"]:
            rows.skip("duplicate", "The same bytes are extracted already.")
            return
        _decode(manifest, item, path, options, video_id, work_key, rows)
        rows.done(work_key, video_id=video_id)
    finally:
        path.unlink(missing_ok=True)


def _work_config(manifest: Manifest) -> str:
    config = manifest.config
    return f"{config['decoder']} {sorted(config['options'].items())}"


def _download(lake: Lake, item: dict[str, Any], path: Path) -> str:
    """Streams a source to local disk, hashing it on the way; returns the video id."""
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < item["size_bytes"] + SPARE_BYTES:
        raise TemporaryError(
            f"{free_bytes / 1e9:.1f} GB free in {path.parent} are too few for a video of"
            f" {item['size_bytes'] / 1e9:.1f} GB. Free some, or set TMPDIR to a larger disk."
        )
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in lake.store.stream(item["source_uri"], version=item["source_version"]):
            digest.update(chunk)
            file.write(chunk)
        size_bytes = file.tell()
    if size_bytes != item["size_bytes"]:
        raise TemporaryError(
            f"{item['source_uri']} broke off after {size_bytes} of {item['size_bytes']} bytes."
        )
    return digest.hexdigest()


def _decode(
    manifest: Manifest,
    item: dict[str, Any],
    path: Path,
    options: ExtractOptions,
    video_id: str,
    work_key: str,
    rows: ItemRows,
) -> None:
    keys = {"work_key": work_key, "run_key": manifest.run_key}
    common = {"video_id": video_id, "ingested_at": manifest.planned_time, **keys}
    info = probe(path)
    with contextlib.closing(decode(path, info, options)) as parts:
        for part in parts:
            match part:
                case Frame():
                    table = "frames"
                    row = {
                        "frame_index": part.index,
                        "pts": part.pts,
                        "time_s": part.time_s,
                        "key_frame": part.key_frame,
                        "width": part.width,
                        "height": part.height,
                        "jpeg": part.jpeg,
                    }
                case AudioChunk():
                    table = "audio"
                    row = dataclasses.asdict(part)
                case Summary():
                    table = "videos"
                    row = {
                        "source_uri": item["source_uri"],
                        "source_version": item["source_version"],
                        "size_bytes": item["size_bytes"],
                        "extracted_frames": part.frames,
                        "extracted_audio_s": part.audio_s,
                        "decode_errors": part.decode_errors,
                        **dataclasses.asdict(info),
                    }
            rows.write(table, [{**row, **common}])


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
