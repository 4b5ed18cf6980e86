"""What is listed beside the tables, against a way that looks at every object by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpipe.config import ExtractSettings, Settings, SourceSettings
from vidpipe.lake.store import StoredObject
from vidpipe.lake.tombstones import tombstone_row
from vidpipe.schemas import TABLES
from vidpipe.stages.listing import list_sources
from vidpipe.stages.work import extract_config, extract_work_key

SETTINGS = Settings(
    sources=SourceSettings(("s3://b/x", "s3://b")), extract=ExtractSettings(max_tries=2)
)
NOW = extract_config({}, SETTINGS.extract)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
URIS = [f"s3://b/{key}" for key in ("x/1.mp4", "y/1.mp4", "y/2.avi", "y/")]
ENDS = [
    ("failed", "internal"),
    ("quarantined", "truncated"),
    ("done", None),
    ("skipped", "out_of_budget"),
    ("skipped", "duplicate"),
    ("skipped", "archived"),
]
objects = st.builds(
    StoredObject,
    st.sampled_from(URIS),
    st.sampled_from(["v1", "v1", "v2"]),
    st.integers(0, 9),
    st.integers(0, 9).map(lambda days: BEGIN + timedelta(days=days)),
    # What the listing says, and what the store says when it is asked for the one object.
    st.sampled_from([None, None, True, False]),
    st.sampled_from(["READABLE", "KEPT"]),
)
# Sources, and versions of them.
names = st.lists(st.sampled_from([URIS[0], f"{URIS[1]}@v1", f"{URIS[1]}@v2"]), max_size=2)
# What became of an object version in one run after the other; None: it was found to be gone.
history = st.lists(
    st.tuples(
        st.sampled_from(URIS[:2]),
        st.sampled_from(["v1", "v1", "v2"]),
        st.sampled_from([*ENDS, None]),
        st.booleans(),
    ),
    max_size=12,
)
configs = st.sampled_from(
    [
        {},
        {"retry_reasons": ["internal"]},
        {"retry_reasons": ["truncated"]},
        {"source": "s3://b/x"},
        {"source": "s3://b", "prefix": "x/"},
        {"pattern": "*.mp4", "modified_after": "2026-01-04"},
        {"pattern": "*/1*", "modified_before": "2026-01-06T00:00:00Z"},
    ]
)


class Tables:
    """A lake in memory, with what a history left in its tables."""

    def __init__(self, listed: list[StoredObject], past: list[tuple], forgotten: list[str]):
        self.settings = SETTINGS
        self.store = SimpleNamespace(
            list=lambda scope: (found for found in listed if found.uri.startswith(scope)),
            head=lambda uri: next(
                found._replace(archived=found.storage_class == "KEPT")
                for found in sorted(listed, key=lambda o: o.modified_at, reverse=True)
                if found.uri == uri
            ),
        )
        self.forgotten = [
            tombstone_row("run", BEGIN, name, kind="", belongs_to=name) for name in forgotten
        ]
        self.sources: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []
        for run, (uri, version, end, is_now) in enumerate(past):
            video_id = f"{uri}{version}"
            row = {
                "source_uri": uri,
                "source_version": version,
                "video_id": video_id,
                "seen_at": BEGIN + timedelta(minutes=2 * run),
                "finished_at": BEGIN + timedelta(minutes=2 * run + 1),
                "deleted": end is None,
                "stage": "extract",
                "work_key": extract_work_key(video_id, NOW) if is_now else "another",
            }
            if end is None or end[0] == "quarantined" or end[1] in (None, "duplicate"):
                self.sources.append(row)
            if end is not None:
                self.outcomes.append(row | {"status": end[0], "reason": end[1]})

    def dataset(self, name: str, snapshots: dict[str, int]) -> ds.Dataset:
        """One of its tables."""
        schema = TABLES[name].schema
        rows = [{f.name: row.get(f.name, _empty(f)) for f in schema} for row in getattr(self, name)]
        return ds.dataset(pa.Table.from_pylist(rows, schema))

    def dataset_now(self, name: str) -> ds.Dataset:
        """The same, for there is no publication under way."""
        return self.dataset(name, {})


def _empty(field: pa.Field) -> Any:
    return None if field.nullable else pa.scalar(0).cast(field.type).as_py()


def expected(
    lake: Tables, listed: list[StoredObject], config: dict[str, Any], forgotten: list[str]
):
    """Chosen URIs, newly archived URIs, gone URIs and counts."""
    scopes = [
        f"{uri}/{config.get('prefix', '')}"
        for uri in ([config["source"]] if "source" in config else SETTINGS.sources.uris)
    ]
    there: dict[str, StoredObject] = {}
    for found in listed:
        if any(found.uri.startswith(scope) for scope in scopes):
            there.setdefault(found.uri, found)
    known = {row["source_uri"]: row for row in lake.sources}
    known = {uri: row for uri, row in known.items() if not row["deleted"]}
    gone = {u for u in known if u not in there and any(u.startswith(s) for s in scopes)}
    counted = ("listed", "known", "gone", "given_up", "forgotten", "archived", "new", "retried")
    counts = dict.fromkeys(counted, 0)
    counts["gone"] = len(gone)
    order, archived = [], set()
    for uri, found in there.items():
        if not _wanted(found, config):
            continue
        counts["listed"] += 1
        if uri in forgotten or f"{uri}@{found.version}" in forgotten:
            counts["forgotten"] += 1
            continue
        seen = known.get(uri)
        seen = seen if seen and seen["source_version"] == found.version else None
        tries = [
            row
            for row in lake.outcomes
            if (row["source_uri"], row["source_version"]) == (uri, found.version)
            and row["status"] != "done"
            and row["reason"] != "duplicate"
        ]
        tired = sum(row["status"] == "failed" for row in tries) >= SETTINGS.extract.max_tries
        last = tries[-1] if tries else None
        if last and seen and seen["seen_at"] > last["finished_at"]:
            last = None
        match last and last["status"]:
            case "skipped":
                again = True
            case "failed":
                again = not tired
            case "quarantined":
                key = extract_work_key(last["video_id"], NOW)
                again = key not in {row["work_key"] for row in tries}
            case _:
                again = False
        asked = bool(
            last
            and last["status"] != "skipped"
            and last["reason"] in config.get("retry_reasons", [])
        )
        is_new = not seen and not tired
        if not (is_new or asked or again):
            counts["known" if seen else "given_up"] += 1
            continue
        was_archived = bool(last) and last["reason"] == "archived"
        if (was_archived if found.archived is None else found.archived) and (
            found.storage_class == "KEPT"
        ):
            counts["archived"] += 1
            archived |= set() if was_archived else {uri}
            continue
        counts["new" if is_new else "retried"] += 1
        order.append((asked, found.modified_at, uri))
    return [uri for *_, uri in sorted(order, reverse=True)], archived, gone, counts


def _wanted(found: StoredObject, config: dict[str, Any]) -> bool:
    fits = {"*.mp4": found.uri.endswith(".mp4"), "*/1*": "/1" in found.uri}
    days = (found.modified_at - BEGIN).days
    return (
        not found.uri.endswith("/")
        and ("pattern" not in config or fits[config["pattern"]])
        and ("modified_after" not in config or days >= 3)
        and ("modified_before" not in config or days < 5)
    )


@settings(max_examples=500, deadline=None)
@given(st.lists(objects, unique_by=lambda o: o.uri), history, configs, names)
def test_it_is_as_looking_at_each_object_tells(listed, past, config, forgotten):
    lake = Tables(listed, past, forgotten)
    found = list_sources(lake, {}, config)
    chosen, archived, gone, counts = expected(lake, listed, config, forgotten)
    assert found.chosen["source_uri"].to_pylist() == chosen
    assert set(found.archived["source_uri"].to_pylist()) == archived
    assert set(found.gone["source_uri"].to_pylist()) == gone
    assert found.counts == counts


@given(st.lists(objects.map(lambda found: found._replace(archived=None))))
def test_an_object_that_is_listed_twice_is_one(listed):
    found = list_sources(Tables(listed, [], []), {}, {})
    newest = {o.uri: o for o in sorted(listed, key=lambda o: o.modified_at)}
    assert set(found.chosen["source_uri"].to_pylist()) == {u for u in newest if u != URIS[-1]}
    for row in found.chosen.to_pylist():
        assert row["modified_at"] == newest[row["source_uri"]].modified_at
