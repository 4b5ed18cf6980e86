"""Whatever people say is the same after it was written in any format and read again."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.datasets.formats.labelled import PLAIN, VIDEOS, current
from vidpipe.datasets.annotations import Annotation
from vidpipe.datasets.formats import NAMES
from vidpipe.datasets.formats.exporting import Exported, export_annotations, in_order
from vidpipe.datasets.formats.given import SIDECAR, Given, make_zip, of_file, of_folder
from vidpipe.datasets.formats.importing import parse_annotations
from vidpipe.datasets.formats.table import FORMATS

ENDINGS = {
    "csv": "csv",
    "jsonl": "jsonl",
    "kinetics": "csv",
    "activitynet": "json",
    "coco": "json",
    "cvat": "xml",
    "label-studio": "json",
}


def given_again(name: str, exported: Exported, *, sidecar: bool, zipped: bool = False) -> Given:
    """What was written, as it is given to be read."""
    beside = exported.sidecar if sidecar else None
    if isinstance(exported.content, bytes):
        return of_file(f"labels.{ENDINGS[name]}", exported.content, beside)
    files = {**exported.content} | ({SIDECAR: beside} if beside else {})
    if zipped:
        return of_file("labels.zip", make_zip(files))
    return of_folder("labels", files.items())


def said(annotations: list[Annotation]) -> set:
    return {(a.key, a.said) for a in annotations}


@pytest.mark.parametrize("name", NAMES)
@given(current(), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_lost_with_the_sidecar(name, holds, zipped):
    assume(holds)
    exported = export_annotations(holds, FORMATS[name], VIDEOS)
    read = parse_annotations(given_again(name, exported, sidecar=True, zipped=zipped), VIDEOS)
    assert read.format == name or exported.sidecar is None
    assert said(read.annotations) == {(key, one) for key, all_ in holds.items() for one in all_}


@pytest.mark.parametrize("name", NAMES)
@given(current())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_without_it_what_is_held_is_read(name, holds):
    format_ = FORMATS[name]
    holds = PLAIN | holds
    held = [h for h in format_.hold(in_order(holds), VIDEOS) if isinstance(h, Annotation)]
    assume(held)
    exported = export_annotations(holds, format_, VIDEOS)
    given_ = given_again(name, exported, sidecar=False)
    read = parse_annotations(given_, VIDEOS, several=True)
    assert read.format == name
    assert said(read.annotations) == said(held)
    assert bool(exported.lost) == (exported.sidecar is not None)
