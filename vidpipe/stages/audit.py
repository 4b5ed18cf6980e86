"""audit: proves that a run may be published, and pins what is.

By key and not by count: every planned item has exactly one outcome; every row belongs to an item
that is done; no key occurs twice; canaries came out as they should; failures are within budget.
A shard that left no report gives its items the outcome `failed`, with what its last try said; one
that was refused because a ceiling was reached gives them `skipped`, and later runs take them.

Where stages are pods, it tells what they took so far, its own included.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidpipe.errors import BadInputError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.lake.usage import Ledger, spent
from vidpipe.reasons import REASONS, STATUSES
from vidpipe.schemas import TABLES
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, Report, find_given_up, find_report, now
from vidpipe.text import printable

QUARANTINED_SHOWN = 5
# Of what left neither report nor reason.
FAILED = {
    "reason": "stage_failed",
    "message": "Its task was not begun, as one before it failed, or was ended from outside.",
}


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Audits the run that `config["plan"]`, a report's URI, planned.

    Config: `plan`, and `max_failed_share` (of the items given to shards; null: as configured) or,
    in its place, `needed`: the stage whose items must be done, whatever became of others.

    Raises:
        BadInputError: A proof failed; nothing may be published.
    """
    plan = Report(**lake.store.get_json(manifest.config["plan"]))
    shards = [Manifest.read(lake.store, uri) for uri in plan.result.get("shards", [])]
    files = list(plan.files)
    done, quarantined = _check(lake, plan, None)
    counts: collections.Counter[str] = collections.Counter()
    first_failure, lacks_needed = "", False
    for number, shard in enumerate(shards, 1):
        report = find_report(lake.store, lake.uri, shard)
        if report is None:
            why = find_given_up(lake.store, lake.uri, shard) or FAILED
            status = REASONS[why["reason"]]
            given_up = [_outcome(shard, item, attempt.name, status, why) for item in shard.items]
            attempt.write("outcomes", given_up)
            counts[status] += len(given_up)
            lacks_needed |= shard.stage == manifest.config.get("needed")
            if status == "failed" and not first_failure:
                first_failure = f" {shard.stage} {shard.shard}: {why['message']}"
            continue
        checked = _check(lake, report, {item["item"] for item in shard.items})
        if twice := done & checked.done:
            raise BadInputError(f"Two items of this run did the same work: {twice.pop()}.")
        done |= checked.done
        quarantined += checked.quarantined
        counts.update(report.counts)
        files += report.files
        attempt.progress(number, len(shards), f"{counts['done']} done, {counts['failed']} failed")
    files += attempt.upload()
    given = sum(counts.values())
    if given != sum(len(shard.items) for shard in shards):
        raise BadInputError(f"{given} outcomes for another number of items: reports contradict.")
    failure = ""
    share = counts["failed"] / given if given else 0.0
    budget = manifest.config.get("max_failed_share")
    if budget is None:
        budget = lake.settings.extract.max_failed_share
    needed = manifest.config.get("needed")
    if lacks_needed if needed else share > budget:
        beyond = (
            f"that of {needed} among them" if needed else f"more than the budget of {budget:.0%}"
        )
        failure = (
            f"{counts['failed']} of {given} items failed, {beyond};"
            " nothing but their outcomes was published. `vidpipe changes --since today` tells why."
            + first_failure
        )
        files = [file for file in files if file["table"] == "outcomes"]
    tables, rows = collections.defaultdict(list), collections.Counter()
    for file in files:
        tables[file["table"]].append(file["uri"])
        rows[file["table"]] += file["rows"]
    uri = f"{layout.run_uri(lake.uri, manifest.run_key)}/publish/{attempt.name}.json"
    publication = {
        "run_key": manifest.run_key,
        "base": plan.result.get("base", {}),
        "tables": tables,
        "rows": rows,
        "counts": counts,
        "failure": failure,
    }
    lake.store.put_json(uri, publication)
    # Some stages end items while they plan, such as those that lie beyond the budget.
    ended = counts + collections.Counter(plan.counts)
    told = ", ".join(f"{n} {status}" for status, n in sorted(ended.items()))
    uses = list(Ledger(lake.store, lake.uri).of_run(manifest.run_key))
    took = spent(uses, now())
    attempt.conclude(
        (told or "nothing was planned")
        + (f"; so far {took}" if uses else "")
        + _told_of_quarantined(quarantined, manifest.run_key)
    )
    attempt.result |= {
        "publication": uri,
        "spent": dataclasses.asdict(took),
        "rows": dict(rows),
        "counts": dict(counts),
        "failure": failure,
    }


def _told_of_quarantined(quarantined: list[str], run_key: str) -> str:
    """Names the first, and where all are, in lines of their own."""
    if not quarantined:
        return ""
    shown = quarantined[:QUARANTINED_SHOWN]
    if len(quarantined) > len(shown):
        shown.append("…")
    return (
        f'\nquarantined: {", ".join(shown)}\nall of them: vidpipe query "select source_uri, item,'
        f" reason, message from outcomes where status = 'quarantined' and run_key = '{run_key}'\""
    )


class _Checked(NamedTuple):
    """Of a shard: the work keys that are done, and what is quarantined, for people."""

    done: set[str]
    quarantined: list[str]


def _check(lake: Lake, report: Report, planned: set[str] | None) -> _Checked:
    """Checks one attempt's files."""
    name = f"{report.stage} {report.shard}, attempt {report.attempt}"
    outcomes: list[dict[str, Any]] = []
    for file in report.files:
        if lake.store.head(file["uri"]).size_bytes != file["size_bytes"]:
            raise BadInputError(f"{name}: {file['uri']} is not as it was reported.")
        if file["table"] == "outcomes":
            outcomes += _read(lake, file, TABLES["outcomes"].schema.names).to_pylist()
    items = [outcome["item"] for outcome in outcomes]
    if len(items) != len(set(items)) or (planned is not None and set(items) != planned):
        raise BadInputError(f"{name}: its outcomes are not one for each planned item.")
    if wrong := {outcome["status"] for outcome in outcomes} - set(STATUSES):
        raise BadInputError(f"{name}: there is no outcome {wrong.pop()!r}.")
    done = {o["work_key"] for o in outcomes if o["status"] == "done"}
    quarantined = [
        f"{printable(o['source_uri'] or o['item'])} ({o['reason']})"
        for o in outcomes
        if o["status"] == "quarantined"
    ]
    for file in report.files:
        table = TABLES[file["table"]]
        if file["table"] == "outcomes":
            continue
        keys = _read(lake, file, sorted({*table.key, "work_key"}))
        if keys.num_rows != file["rows"]:
            raise BadInputError(f"{name}: {file['uri']} has not the rows that it reported.")
        if keys.group_by(list(table.key)).aggregate([]).num_rows != keys.num_rows:
            raise BadInputError(f"{name}: {file['uri']} holds a key twice.")
        # What was seen in a bucket is told of every item that was read, whatever came of it.
        if file["table"] not in ("sources", "forgotten") and (
            stray := set(pc.unique(keys["work_key"]).to_pylist()) - done
        ):
            raise BadInputError(
                f"{name}: {file['uri']} has rows of {stray.pop()}, which is not done."
            )
    for problem in report.result.get("canary_problems", []):
        raise BadInputError(f"{name}: a canary came out wrong: {problem}")
    return _Checked(done, quarantined)


def _read(lake: Lake, file: dict[str, Any], columns: list[str]):
    path = file["uri"].removeprefix("s3://")
    return pq.read_table(path, columns=columns, filesystem=lake.filesystem)


def _outcome(
    shard: Manifest, item: dict[str, Any], attempt: str, status: str, why: dict[str, str]
) -> dict[str, Any]:
    return {
        "stage": shard.stage,
        "item": item["item"],
        "work_key": item.get("work_key"),
        "run_key": shard.run_key,
        "source_uri": item.get("source_uri"),
        "source_version": item.get("source_version"),
        "video_id": item.get("video_id"),
        "status": status,
        **why,
        "attempt": attempt,
        "seconds": 0.0,
        "shard": shard.shard,
        "code_version": shard.code_version,
        "finished_at": now(),
    }
