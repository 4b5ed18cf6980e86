"""The work of a stage on files at hand, with no stack: for trying, and for notebooks."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vidpipe.config import load_settings
from vidpipe.console import Console
from vidpipe.errors import BadInputError, MediaError, UsageError
from vidpipe.media import DecodeLimit, ExtractOptions, decoder_version
from vidpipe.schemas import TABLES
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.extract import Extraction
from vidpipe.stages.manifest import Manifest, now
from vidpipe.stages.scratch import remove_left
from vidpipe.version import code_version

TABLES_MADE = {"audio", "frames", "outcomes", "videos"}
_S3 = re.compile("s3:/")


def extract(files: list[Path], output: Path, options: ExtractOptions, *, workers: int) -> None:
    """Extracts files at hand into a folder of Parquet files, without object store and catalog.

    Below the folder are `frames`, `audio`, `videos` and `outcomes`, with the columns of the tables
    of these names. A file that cannot be used is an outcome with its reason. They come all at
    once, at the end: what is cut off leaves nothing.

    Args:
        files: Videos, or folders of them.
        output: A folder that is empty or not there yet.
        options: What to keep.
        workers: How many videos are decoded at a time; 0: as many as there are cores.

    Raises:
        UsageError: There is no such file, or the folder is not empty.
        BadInputError: The decoder itself does not work as it should.
    """
    for path in (*files, output):
        if _S3.match(str(path)):
            raise UsageError(f"Only files at hand are extracted so; {path} is for the DAG ingest.")
    remove_left(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} must be an empty folder, or not be there. Name another.")
    found = _files_in(files)
    paths = {_name_of(path): path for path in found}
    if len(paths) < len(found):
        raise UsageError("Two files differ only in bytes that are no UTF-8: rename one of them.")
    manifest = Manifest(
        run_key="by-hand",
        stage="extract",
        config={
            "options": dataclasses.asdict(options),
            "decoder": decoder_version(),
            "deadline": None,
        },
        items=[_item_of(name, path) for name, path in paths.items()],
        planned_at=now().isoformat(),
        code_version=code_version(),
    )

    limit = DecodeLimit(load_settings().extract.max_decode_s)

    @contextlib.contextmanager
    def fetch(item: dict[str, Any]) -> Iterator[tuple[Path, str]]:
        path = paths[item["item"]]
        try:
            with path.open("rb") as file:
                video_id = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise MediaError("denied", f"It cannot be read: {error.strerror}.") from error
        yield path, video_id

    console = Console(stderr=True)
    counts: collections.Counter[str] = collections.Counter()
    with (
        _output_folder(output),
        # On the disk that has to hold it all in the end.
        Attempt(manifest, scratch_in=output) as attempt,
        Extraction(
            manifest, attempt, fetch, workers, threading.Event(), limit=lambda _item: limit
        ) as extraction,
        _progress(console) as progress,
    ):
        if problems := extraction.check():
            raise BadInputError(f"The decoder does not work as it should: {problems[0]}")
        task = progress.add_task("extract", total=len(paths))
        for item, outcome in extraction.work():
            counts[outcome["status"]] += 1
            progress.advance(task)
            if outcome["status"] != "done":
                told = f"{item['item']}: {outcome['reason']}. {outcome['message']}"
                progress.console.print(told, soft_wrap=True)
        attempt.end_items()
        merged = list(attempt.merge())
        for table in TABLES_MADE - {table for table, _ in merged}:
            merged.append((table, attempt.scratch / table))
            pq.write_table(TABLES[table].schema.empty_table(), attempt.scratch / table)
        for number, (table, path) in enumerate(merged):
            (output / table).mkdir(exist_ok=True)
            path.rename(output / table / f"{number:05d}.parquet")
    told = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    tables = ", ".join(sorted(TABLES_MADE))
    console.print(f"{told}. {output} holds {tables}.")


def _files_in(named: list[Path]) -> list[Path]:
    """The files named, and those below the folders named, each once."""
    found: dict[Path, None] = {}
    for path in named:
        if path.is_dir():
            # A link to nowhere gets an outcome as well.
            below = (p for p in path.rglob("*") if p.is_file() or not p.exists())
            found |= dict.fromkeys(sorted(below))
        elif path.is_file():
            found[path] = None
        else:
            raise UsageError(f"There is no file {str(path)!r}.")
    if not found:
        raise UsageError(f"There is no file in {', '.join(map(str, named))}.")
    return list(found)


def _name_of(path: Path) -> str:
    """A path as text: names are bytes, and need be none."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _item_of(name: str, path: Path) -> dict[str, Any]:
    try:
        stat = path.stat()
        version, size_bytes = str(stat.st_mtime_ns), stat.st_size
    except OSError:
        version, size_bytes = None, 0  # opening it will tell
    return {
        "item": name,
        "source_uri": path.resolve().as_uri(),
        "source_version": version,
        "size_bytes": size_bytes,
        "published": [],
    }


@contextlib.contextmanager
def _output_folder(output: Path) -> Iterator[None]:
    """Makes a folder, and leaves none behind where nothing came into it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{output} cannot be made: {error.strerror}.") from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            output.rmdir()
        raise


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos"),
        TimeElapsedColumn(),
        console=console,
    )
