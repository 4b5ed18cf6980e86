"""audit: proves that a run may be published, and pins what is.

By key and not by count: every planned item has exactly one outcome; every row belongs to an item
that is done; no key occurs twice; canaries came out as they should; failures are within budget.
The budget is for faults of the machine. An item that fails by itself keeps no other from being
published: it counts only when it is tried for the first time and the run could read no item at all.
A shard that left no report gives its items the outcome `failed`, with what its last try said; one
that was refused because a ceiling was reached gives them `skipped`, and later runs take them.

Where stages are pods, it tells what they took so far, its own included.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from typing import Any, NamedTuple

import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidpipe.errors import BadInputError, VidpipeError
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.lake.usage import Ledger, spent
from vidpipe.reasons import REASONS, STATUSES
from vidpipe.schemas import TABLES
from vidpipe.stages.attempt import Attempt
from vidpipe.stages.manifest import Manifest, Report, find_given_up, find_report, now
from vidpipe.text import printable

ITEMS_SHOWN = 5
LEARNING = ("train", "trial")  # stages that have a run in MLflow
# Why an item is skipped whose bytes were read.
READ_AND_SKIPPED = ("duplicate", "forgotten")
# Of what left neither report nor reason.
FAILED = {
    "reason": "stage_failed",
    "message": "Its task was not begun, as one before it failed, or was ended from outside.",
}


def run(manifest: Manifest, attempt: Attempt, lake: Lake) -> None:
    """Audits the run that `config["plan"]`, a report's URI, planned.

    Config: `plan`, and `max_failed_share` (the budget, a share of the items given to shards; null:
    as configured) or, in its place, `needed`: the stage whose items must be done, whatever became
    of others.

    Raises:
        BadInputError: A proof failed; nothing may be published.
    """
    plan = Report(**lake.store.get_json(manifest.config["plan"]))
    shards = [Manifest.read(lake.store, uri) for uri in plan.result.get("shards", [])]
    files = list(plan.files)
    checked = _check(lake, plan, None)
    done, not_usable, any_was_read = checked.done, checked.not_usable, False
    counts: collections.Counter[str] = collections.Counter()
    suspects: list[dict[str, Any]] = []  # items that failed by themselves, when tried first
    lost, first_failure, lacks_needed = 0, "", False
    killed: list[str] = []  # trainings that did not end by themselves
    for number, shard in enumerate(shards, 1):
        report = find_report(lake.store, lake.uri, shard)
        if report is None:
            why = find_given_up(lake.store, lake.uri, shard) or FAILED
            if shard.stage in LEARNING:
                killed.append(shard.hash)
            status = REASONS[why["reason"]]
            given_up = [_outcome(shard, item, attempt.name, status, why) for item in shard.items]
            attempt.write("outcomes", given_up)
            counts[status] += len(given_up)
            lacks_needed |= shard.stage == manifest.config.get("needed")
            if status == "failed":
                lost += len(given_up)
            if status != "skipped":
                first_failure = first_failure or f" {shard.stage} {shard.shard}: {why['message']}"
            continue
        checked = _check(lake, report, {item["item"] for item in shard.items})
        if twice := done & checked.done:
            raise BadInputError(f"Two items of this run did the same work: {twice.pop()}.")
        done |= checked.done
        not_usable += checked.not_usable
        any_was_read |= checked.any_was_read
        tried_before = {item["item"] for item in shard.items if item.get("failures")}
        suspects += [
            outcome
            for outcome in checked.not_usable
            if outcome["status"] == "failed" and outcome["item"] not in tried_before
        ]
        counts.update(report.counts)
        files += report.files
        attempt.progress(number, len(shards), f"{counts['done']} done, {counts['failed']} failed")
    if killed:
        _end_in_mlflow(killed)
    files += attempt.upload()
    given = sum(counts.values())
    if given != sum(len(shard.items) for shard in shards):
        raise BadInputError(f"{given} outcomes for another number of items: reports contradict.")
    failure = ""
    if suspects and not any_was_read:
        lost += len(suspects)
        first_failure = first_failure or f" {_named(suspects[0])}: {suspects[0]['message']}"
    share = lost / given if given else 0.0
    budget = manifest.config.get("max_failed_share")
    if budget is None:
        budget = lake.settings.extract.max_failed_share
    needed = manifest.config.get("needed")
    if lacks_needed if needed else share > budget:
        beyond = (
            f"that of {needed} among them" if needed else f"more than the budget of {budget:.0%}"
        )
        failure = (
            f"{counts['failed'] if needed else lost} of {given} items failed, {beyond};"
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
        + _unusable_items(not_usable, manifest.run_key)
    )
    attempt.result |= {
        "publication": uri,
        "spent": dataclasses.asdict(took),
        "rows": dict(rows),
        "counts": dict(counts),
        "failure": failure,
    }


def _end_in_mlflow(works: list[str]) -> None:
    """Ends the runs of trainings in MLflow that were killed before they could do so themselves."""
    from vidpipe import tracking

    with contextlib.suppress(VidpipeError):  # the outcomes matter more
        tracking.give_up(works)


def _unusable_items(outcomes: list[dict[str, Any]], run_key: str) -> str:
    """Names the first items that are quarantined or failed, and where all are, in their lines."""
    lines = ""
    for status in ("quarantined", "failed"):
        of_status = [outcome for outcome in outcomes if outcome["status"] == status]
        if not of_status:
            continue
        shown = [f"{_named(o)} ({o['reason']})" for o in of_status[:ITEMS_SHOWN]]
        if len(of_status) > ITEMS_SHOWN:
            shown.append("…")
        lines += (
            f'\n{status}: {", ".join(shown)}\nall of them: vidpipe query "select source_uri, item,'
            f" reason, message from outcomes where status = '{status}' and run_key = '{run_key}'\""
        )
    return lines


def _named(outcome: dict[str, Any]) -> str:
    return printable(outcome["source_uri"] or outcome["item"])


class _Checked(NamedTuple):
    """A shard that was checked.

    Attributes:
        done: Work keys of the items that are done.
        not_usable: Outcomes of the items that are quarantined or failed.
        any_was_read: Whether an item was read, whatever came of it.
    """

    done: set[str]
    not_usable: list[dict[str, Any]]
    any_was_read: bool


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
    not_usable = [o for o in outcomes if o["status"] in ("quarantined", "failed")]
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
    any_was_read = any(
        o["status"] in ("done", "quarantined") or o["reason"] in READ_AND_SKIPPED for o in outcomes
    )
    return _Checked(done, not_usable, any_was_read)


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
