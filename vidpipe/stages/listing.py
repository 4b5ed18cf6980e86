"""What is in the watched buckets, beside what the tables know of it.

In Arrow's columns from the listing on: of a million objects a few thousand are new, and only those
become Python objects.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import operator
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import compute as pc
from pyarrow.compute import field

from vidpipe.errors import DeniedError, NotFoundError, UsageError
from vidpipe.lake.newest import newest
from vidpipe.lake.store import split_uri
from vidpipe.lake.tables import Lake
from vidpipe.lake.times import parse_iso_time
from vidpipe.lake.tombstones import Forgotten, read_forgotten
from vidpipe.reasons import RETRY_REASONS
from vidpipe.schemas import TABLES
from vidpipe.stages.work import extract_config, extract_work_key

OBJECT = ["source_uri", "source_version"]
SOURCE = [TABLES["sources"].schema.field(name) for name in (*OBJECT, "size_bytes", "modified_at")]
LISTED = pa.schema([*SOURCE, ("archived", pa.bool_()), ("storage_class", pa.string())])
BATCH_OBJECTS = 10_000
# Archived objects of which a run asks one by one whether they are restored.
ASKED_OBJECTS = 1_000
ASKERS = 10
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Listing:
    """The objects of the watched buckets, beside what is known of them.

    Attributes:
        chosen: Objects to be extracted, most urgent first: those that were asked for, then the
            newest. Columns: source_uri, source_version, size_bytes, modified_at, failures (how many
            of its tries failed).
        archived: Objects that are found to be archived for the first time: source_uri,
            source_version, storage_class.
        gone: Known objects that are no longer there: source_uri, source_version.
        asked: How many of the chosen ones are tried again because they were asked for.
        counts: How many were listed, known (and left alone), new, retried, gone, given_up,
            forgotten, archived.
    """

    chosen: pa.Table
    archived: pa.Table
    gone: pa.Table
    asked: int
    counts: dict[str, int]


def list_sources(lake: Lake, snapshots: dict[str, int], config: dict[str, Any]) -> Listing:
    """Lists the sources that `config` chooses (all: `{}`) and compares them with the tables.

    New objects are chosen. One that is known is chosen again where its last try came to no end
    (it failed, or the night was over), where it is quarantined and was never tried as `config`
    says, or where `config` asks for it. What failed `max_tries` times is only chosen when asked
    for. What is archived is never chosen: it is when it was restored or has another storage class.

    Raises:
        UsageError: `config` names a source or a reason that does not exist, or a video that is not
            among those listed.
    """
    reasons, names = _asked(config)
    scopes = [_scope(uri, config.get("prefix") or "") for uri in _sources(lake, config)]
    listed = _listed(lake, scopes)
    known = _known(lake, snapshots)
    gone = _gone(known, listed, scopes)
    wanted = _wanted(listed, config)
    objects = _remembered(wanted, read_forgotten(lake))
    forgotten = wanted.num_rows - objects.num_rows
    objects = objects.join(known, OBJECT).join(_tries(lake, snapshots, config), OBJECT)
    _require(names, objects)
    judged = _judged(objects, reasons, names, lake.settings.extract.max_tries)
    judged = _readable(lake, judged)
    taken = field("new") | field("retried")
    counts = {
        "listed": wanted.num_rows,
        "known": judged.filter(field("known") & ~taken & ~field("unread")).num_rows,
        "gone": gone.num_rows,
        "given_up": judged.filter(~field("known") & ~taken & ~field("unread")).num_rows,
        "forgotten": forgotten,
        "archived": judged.filter(field("unread")).num_rows,
        "new": judged.filter(field("new")).num_rows,
        "retried": judged.filter(field("retried")).num_rows,
    }
    urgency = [(name, "descending") for name in ("asked", "modified_at", "source_uri")]
    columns = [*(column.name for column in SOURCE), "failures"]
    chosen = judged.filter(taken).sort_by(urgency).select(columns)
    asked = judged.filter(field("retried") & field("asked")).num_rows
    archived = judged.filter(field("unread") & ~field("was_archived"))
    return Listing(chosen, archived.select([*OBJECT, "storage_class"]), gone, asked, counts)


def _remembered(objects: pa.Table, forgotten: Forgotten) -> pa.Table:
    """The objects that are not forgotten, by their URIs or as these versions."""
    if not forgotten:
        return objects
    columns = (objects[name].to_pylist() for name in OBJECT)
    kept = [
        uri not in forgotten and f"{uri}@{version}" not in forgotten
        for uri, version in zip(*columns, strict=True)
    ]
    return objects.filter(pa.array(kept, pa.bool_()))


def _judged(objects: pa.Table, reasons: pa.Array, names: pa.Array, max_tries: int) -> pa.Table:
    """What is to become of each object: the columns known, new, retried, asked, was_archived."""
    known = field("seen_at").is_valid()
    # A try that ended before the object was last seen is over: a later one came to an end.
    is_last = ~pc.coalesce(field("finished_at") < field("seen_at"), False)
    status = pc.if_else(is_last, pc.coalesce(field("status"), ""), "")
    failures = pc.coalesce(field("failures"), 0)
    may_fail = failures < max_tries
    again = (
        (status == "skipped")
        | ((status == "failed") & may_fail)
        | ((status == "quarantined") & field("untried"))
    )
    asked = (
        field("source_uri").isin(names)
        | field("video_id").isin(names)
        | field("tried_video_id").isin(names)
        | (status.isin(["quarantined", "failed"]) & field("reason").isin(reasons))
    )
    new = ~known & may_fail
    retried = ~new & (again | asked)
    was_archived = (status == "skipped") & pc.coalesce(field("reason") == "archived", False)
    judgements = {
        "known": known,
        "new": new,
        "retried": retried,
        "asked": asked,
        "was_archived": was_archived,
        "failures": failures,
    }
    columns = {name: field(name) for name in LISTED.names}
    return ds.dataset(objects).to_table(columns=columns | judgements)


def _readable(lake: Lake, judged: pa.Table) -> pa.Table:
    """Takes out what is archived, and notes it in the column `unread`.

    A listing says what is archived, and Amazon's what is restored. Where it may be otherwise, the
    store is asked about some objects, drawn at random, so that each has its turn.
    """
    taken = field("new") | field("retried")
    archived = pc.coalesce(field("archived"), field("was_archived"))
    doubted = judged.filter(taken & archived)["source_uri"].to_pylist()
    asked = random.sample(doubted, min(len(doubted), ASKED_OBJECTS))
    with ThreadPoolExecutor(ASKERS) as pool:
        answers = pool.map(functools.partial(_is_readable, lake), asked)
        restored = [uri for uri, is_so in zip(asked, answers, strict=True) if is_so]
    unread = taken & archived & ~field("source_uri").isin(pa.array(restored, pa.string()))
    columns = {name: field(name) for name in judged.column_names}
    columns |= {name: field(name) & ~unread for name in ("new", "retried")}
    return ds.dataset(judged).to_table(columns=columns | {"unread": unread})


def _is_readable(lake: Lake, uri: str) -> bool:
    try:
        return not lake.store.head(uri).archived
    except (NotFoundError, DeniedError):
        return False


def _asked(config: dict[str, Any]) -> tuple[pa.Array, pa.Array]:
    """The reasons and the videos that are to be tried again."""
    reasons = config.get("retry_reasons") or []
    names = list(filter(None, config.get("retry_videos") or []))  # a form sends empty lines, too
    if wrong := sorted(set(reasons) - set(RETRY_REASONS)):
        raise UsageError(
            f"A reason to try again is one of {', '.join(RETRY_REASONS)}."
            f" Received: {', '.join(wrong)}"
        )
    return pa.array(reasons, pa.string()), pa.array(names, pa.string())


def _sources(lake: Lake, config: dict[str, Any]) -> list[str]:
    configured = lake.settings.sources.uris
    source = config.get("source")
    if not configured:
        raise UsageError("No bucket is configured to be watched: set [sources] uris.")
    if source and source not in configured:
        raise UsageError(
            f"{source!r} is not among the configured sources: {', '.join(configured)}."
        )
    return [source] if source else list(configured)


def _scope(source_uri: str, prefix: str) -> str:
    bucket, key = split_uri(source_uri)
    folder = f"{key.rstrip('/')}/" if key else ""
    return f"s3://{bucket}/{folder}{prefix}"


def _listed(lake: Lake, scopes: list[str]) -> pa.Table:
    """The objects below the scopes."""
    found = itertools.chain.from_iterable(map(lake.store.list, scopes))
    batches = []
    while objects := list(itertools.islice(found, BATCH_OBJECTS)):
        columns = zip(LISTED.names, zip(*objects, strict=True), strict=True)
        batches.append(pa.RecordBatch.from_pydict(dict(columns), LISTED))
    # Sources may overlap, and a listing may name an object twice that is being replaced.
    return newest(pa.Table.from_batches(batches, LISTED), ["source_uri"], "modified_at")


def _wanted(listed: pa.Table, config: dict[str, Any]) -> pa.Table:
    """Those of them that the parameters choose."""
    condition = ~pc.ends_with(field("source_uri"), "/")
    if after := config.get("modified_after"):
        condition &= field("modified_at") >= parse_iso_time(after)
    if before := config.get("modified_before"):
        condition &= field("modified_at") < parse_iso_time(before)
    wanted = listed.filter(condition)
    if pattern := config.get("pattern"):
        keys = (split_uri(uri)[1] for uri in wanted["source_uri"].to_pylist())
        fits = pa.array((fnmatch.fnmatchcase(key, pattern) for key in keys), pa.bool_())
        wanted = wanted.filter(fits)
    return wanted


def _known(lake: Lake, snapshots: dict[str, int]) -> pa.Table:
    """The objects that were seen and are not gone, as they were seen last."""
    columns = [*OBJECT, "video_id", "seen_at", "deleted"]
    rows = lake.dataset("sources", snapshots=snapshots).to_table(columns=columns)
    last = newest(rows, ["source_uri"], "seen_at")
    return last.filter(~field("deleted")).drop_columns("deleted")


def _gone(known: pa.Table, listed: pa.Table, scopes: list[str]) -> pa.Table:
    inside = (pc.starts_with(field("source_uri"), scope) for scope in scopes)
    known = known.select(OBJECT).filter(functools.reduce(operator.or_, inside))
    there = pc.is_in(known["source_uri"], value_set=listed["source_uri"])
    return known.filter(pc.invert(there))


def _tries(lake: Lake, snapshots: dict[str, int], config: dict[str, Any]) -> pa.Table:
    """The last try of each object, of the tries that made no video known.

    Columns: those of `OBJECT`, status, reason, finished_at, tried_video_id, failures (how many of
    its tries failed), untried (it was never quarantined as `config` would extract it).
    """
    columns = [*OBJECT, "status", "reason", "work_key", "video_id", "finished_at"]
    rows = lake.dataset("outcomes", snapshots=snapshots).to_table(
        columns=columns,
        filter=(field("stage") == "extract")
        & (field("status") != "done")
        & ~field("reason").isin(["duplicate"]),
    )
    failed = pc.equal(rows["status"], "failed").cast(pa.int64())
    failures = rows.append_column("failed", failed).group_by(OBJECT).aggregate([("failed", "sum")])
    last = newest(rows, OBJECT, "finished_at")
    extraction = extract_config(config, lake.settings.extract)
    work_keys = (
        video_id and extract_work_key(video_id, extraction)
        for video_id in last["video_id"].to_pylist()
    )
    untried = pc.invert(pc.is_in(pa.array(work_keys, pa.string()), value_set=rows["work_key"]))
    return (
        last.append_column("untried", untried)
        .drop_columns("work_key")
        .rename_columns({"video_id": "tried_video_id"})
        .join(failures.rename_columns({"failed_sum": "failures"}), OBJECT)
    )


def _require(names: pa.Array, objects: pa.Table) -> None:
    """Refuses names of videos that none of the objects has."""
    for column in ("source_uri", "video_id", "tried_video_id"):
        names = names.filter(pc.invert(pc.is_in(names, value_set=objects[column])))
    if len(names):
        shown = names[:NAMES_SHOWN].to_pylist() + ["…"] * (len(names) > NAMES_SHOWN)
        raise UsageError(
            "A video to try again is the video_id or the URI of an object that is in a watched"
            " bucket, that the other parameters choose, and that is not forgotten."
            f" Received: {', '.join(shown)}"
        )
