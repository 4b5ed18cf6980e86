"""A run that is disturbed in any way, and then run again, leaves what an undisturbed one does."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.chaos import FAULTS, ChaosProxy, Request
from tests.runs import audit_and_publish, ingest, rows, shards, stage
from tests.servers import config_file, new_lake
from vidpipe.lake import layout
from vidpipe.lake.tables import Lake
from vidpipe.stages.manifest import Manifest, Report

# What a run without a disturbance would have otherwise, too.
DIFFERS = (
    *("run_key", "attempt", "seconds", "finished_at", "ingested_at", "seen_at", "work_key"),
    "code_version",
)
OPTIONS = {"fps": 4.0, "short_side": 64}
TABLES = ("sources", "videos", "frames", "audio", "outcomes")
RUN = "run"
# Exit codes after which Airflow runs a task again; a killed one has the signal's.
AGAIN = (1, 75, -signal.SIGKILL)
TRIES = 100


@pytest.fixture
def chaos(s3_server) -> Iterator[ChaosProxy]:
    with ChaosProxy(s3_server.settings.endpoint_url) as proxy:
        yield proxy


class Disturbed:
    """Runs of the stages of `ingest` as processes of their own, as Airflow's tasks run them."""

    def __init__(self, lake: Lake, chaos: ChaosProxy, folder: Path):
        self.lake = lake
        self._chaos = chaos
        s3 = dataclasses.replace(lake.settings.s3, endpoint_url=chaos.url)
        settings = dataclasses.replace(lake.settings, s3=s3)
        config = config_file(Lake(settings), folder / "vidpipe.toml")
        self._environment = os.environ | {"VIDPIPE_CONFIG": str(config)}
        self.killed = 0

    def start(self, *arguments: str) -> subprocess.Popen:
        """Starts a stage: a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "vidpipe", *arguments],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def persist(
        self, *arguments: str, disturb: Callable[[subprocess.Popen, int], None] | None = None
    ) -> None:
        """Runs a stage until it ends well; each try is disturbed."""
        for number in range(TRIES):
            self._chaos.begin()
            process = self.start(*arguments)
            if disturb:
                disturb(process, number)
            _, errors = process.communicate(timeout=300)
            self._chaos.befall = lambda request: None
            self._chaos.done = lambda request: None
            if process.returncode == 0:
                return
            self.killed += process.returncode == -signal.SIGKILL
            assert process.returncode in AGAIN, errors.decode()
        pytest.fail(f"{arguments[0]} did not end well in {TRIES} tries: {errors.decode()}")

    def ingest(self, disturb: Callable[[subprocess.Popen, int], None] | None = None) -> None:
        """A whole run."""
        self.persist("discover", *_params(**OPTIONS), disturb=disturb)
        for uri in self.report("discover").result["shards"]:
            self.persist("extract", "--shard", uri, disturb=disturb)
        self.persist("audit", *_params(plan=self.report("discover").uri), disturb=disturb)
        publication = self.report("audit").result["publication"]
        self.persist("publish", *_params(publication=publication), disturb=disturb)

    def report(self, name: str) -> Report:
        """What a stage that is one task left, the first of its attempts."""
        prefix = layout.reports_uri(self.lake.uri, RUN, name, "plan")
        found = next(iter(self.lake.store.list(prefix)))
        return Report(**self.lake.store.get_json(found.uri))


def _params(**params: object) -> tuple[str, ...]:
    return ("--run-key", RUN, "--params", json.dumps(params))


def tables_of(lake: Lake) -> dict[str, list]:
    return {name: rows(lake, name, ignore=DIFFERS) for name in TABLES}


@pytest.fixture
def undisturbed(s3_server, bucket, lake, media, tmp_path) -> dict[str, list]:
    """The tables after a run in which nothing happened."""
    for path in (*media.videos[:3], *media.broken):
        bucket.put(path.name, path)
    other = new_lake(s3_server.settings, tmp_path, f"undisturbed-{random.randrange(10**9)}")
    other.settings = dataclasses.replace(other.settings, sources=lake.settings.sources)
    ingest(other, RUN, **OPTIONS)
    return tables_of(other)


@pytest.fixture
def disturbed(lake, chaos, tmp_path, undisturbed) -> Disturbed:
    return Disturbed(lake, chaos, tmp_path)


# Killed


def kill_somebody(choice: random.Random, process: subprocess.Popen, within_s: float) -> None:
    """Kills a process of a stage with -9 at some moment: itself, or one that it started."""
    try:
        process.wait(choice.uniform(0.1, within_s))
        return
    except subprocess.TimeoutExpired:
        pass
    try:
        victims = [psutil.Process(process.pid)]
        # Twice as often the one that all hangs on.
        victims += [*victims, *victims[0].children(recursive=True)]
        choice.choice(victims).kill()
    except psutil.NoSuchProcess:
        pass


@pytest.mark.long
@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_random_moments(disturbed, undisturbed, lake, chaos, tmp_path, kills, s3_server):
    choice = random.Random(kills)
    tried, run = 0, 0

    def disturb(process: subprocess.Popen, number: int) -> None:
        nonlocal tried
        tried += 1
        if number < 8:  # in the end it is to end
            kill_somebody(choice, process, within_s=2.5)

    while tried < kills:
        run += 1
        other = new_lake(s3_server.settings, tmp_path, f"killed-{run}-{random.randrange(10**9)}")
        other.settings = dataclasses.replace(other.settings, sources=lake.settings.sources)
        Disturbed(other, chaos, tmp_path).ingest(disturb)
        assert tables_of(other) == undisturbed, f"after {tried} tries"


@pytest.mark.slow
@pytest.mark.parametrize("step", [12, 1])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_write(disturbed, undisturbed, lake, chaos, when, step):
    """Each try gets a step further; what it leaves behind must not matter to the next."""
    reached: list[str] = []

    def disturb(process: subprocess.Popen, number: int) -> None:
        def kill(request: Request) -> None:
            if request.writes and request.number == number * step + 1:
                reached.append(request.path)
                process.kill()
                process.wait()

        if when == "before":
            chaos.befall = lambda request: kill(request)
        else:
            chaos.done = kill

    disturbed.ingest(disturb)
    assert tables_of(lake) == undisturbed
    assert disturbed.killed == len(reached) > 24 / step
    if step == 1:
        for part in ("/shards/extract/", "/tables/frames/data/", "/reports/", "/publish/"):
            assert any(part in path for path in reached), part


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_publication_killed_at_each_write_of_a_whole_one(
    lake, chaos, undisturbed, tmp_path, when, s3_server
):
    """From the start each time: so each of its commits is cut off at each of its steps."""
    number = 0
    while True:
        number += 1
        other = new_lake(s3_server.settings, tmp_path, f"cut-{when}-{number}-{os.getpid()}")
        other.settings = dataclasses.replace(other.settings, sources=lake.settings.sources)
        plan = stage(other, RUN, "discover", **OPTIONS)
        shards(other, plan)
        publication = stage(other, RUN, "audit", plan=plan.uri).result["publication"]
        runs = Disturbed(other, chaos, tmp_path)

        def disturb(process: subprocess.Popen, tries: int, last: int = number) -> None:
            def kill(request: Request) -> None:
                if request.writes and request.number == last and not tries:
                    process.kill()
                    process.wait()

            chaos.befall = (lambda request: kill(request)) if when == "before" else chaos.befall
            chaos.done = kill if when == "after" else chaos.done

        runs.persist("publish", *_params(publication=publication), disturb=disturb)
        assert tables_of(other) == undisturbed, f"killed {when} write {number}"
        if not runs.killed:
            break
    assert number > 20


@pytest.mark.long
def test_half_a_publication_is_never_seen(disturbed, undisturbed, lake, chaos):
    plan = stage(lake, RUN, "discover", **OPTIONS)
    shards(lake, plan)
    publication = stage(lake, RUN, "audit", plan=plan.uri).result["publication"]

    def disturb(process: subprocess.Popen, number: int) -> None:
        seen = tables_of(lake)
        assert seen == undisturbed or not any(seen.values())

        def kill(request: Request) -> None:
            if request.writes and request.number == 6 * number + 4:
                process.kill()
                process.wait()

        chaos.done = kill

    disturbed.persist("publish", *_params(publication=publication), disturb=disturb)
    assert disturbed.killed >= 3
    assert tables_of(lake) == undisturbed


def test_a_decoder_that_is_killed_is_not_the_fault_of_its_video(
    disturbed, undisturbed, lake, chaos
):
    plan = stage(lake, RUN, "discover", **OPTIONS)
    (uri,) = plan.result["shards"]
    fetched = threading.Event()

    def done(request: Request) -> None:
        if "/clip_" in request.path:
            fetched.set()

    chaos.done = done
    process = disturbed.start("extract", "--shard", uri)
    assert fetched.wait(300)
    killed = 0
    while process.poll() is None and not killed:
        try:
            for child in psutil.Process(process.pid).children(recursive=True):
                if "vidpipe.media.worker" in child.cmdline():
                    child.kill()
                    killed += 1
                    break
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.002)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, killed) == (0, 1), errors.decode()
    audit_and_publish(lake, RUN, plan)
    assert tables_of(lake) == undisturbed


# A store that is not well


@pytest.mark.long
@pytest.mark.parametrize("share", [0.1, pytest.param(0.3, marks=pytest.mark.slow)])
def test_a_store_that_fails_by_turns(disturbed, undisturbed, lake, chaos, share):
    choice = random.Random(7)
    befallen: list[str] = []

    def befall(request: Request) -> str | None:
        if choice.random() >= share:
            return None
        befallen.append(choice.choice(FAULTS))
        return befallen[-1]

    def disturb(process: subprocess.Popen, number: int) -> None:
        chaos.befall = befall

    disturbed.ingest(disturb)
    assert tables_of(lake) == undisturbed
    assert len(befallen) >= 8


@pytest.mark.parametrize(
    "fault",
    [
        "lose",
        *(pytest.param(other, marks=pytest.mark.long) for other in ("refuse", "truncate", "busy")),
    ],
)
def test_a_video_that_breaks_off_while_it_is_read_is_read_again(
    disturbed, undisturbed, lake, chaos, bucket, fault
):
    plan = stage(lake, RUN, "discover", **OPTIONS)
    folder = bucket.uri.removeprefix("s3:/")
    seen: dict[str, int] = {}

    def befall(request: Request) -> str | None:
        if request.method != "GET" or not request.path.startswith(f"{folder}/clip"):
            return None
        seen[request.path] = seen.get(request.path, 0) + 1
        return fault if seen[request.path] == 1 else None

    def disturb(process: subprocess.Popen, number: int) -> None:
        assert number == 0, "the shard was begun anew"
        chaos.befall = befall

    (uri,) = plan.result["shards"]
    disturbed.persist("extract", "--shard", uri, disturb=disturb)
    assert len(seen) == 3 and set(seen.values()) == {2}
    audit_and_publish(lake, RUN, plan)
    assert tables_of(lake) == undisturbed


# Twice at once


@pytest.mark.long
def test_a_shard_that_is_retried_while_its_first_try_still_runs(disturbed, undisturbed, lake):
    plan = stage(lake, RUN, "discover", **OPTIONS)
    (uri,) = plan.result["shards"]
    both = [disturbed.start("extract", "--shard", uri) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
    shard = Manifest.read(lake.store, uri)
    reports = list(lake.store.list(layout.reports_uri(lake.uri, RUN, "extract", shard.shard)))
    assert len(reports) == 2, "one of them found the other's report"
    audit_and_publish(lake, RUN, plan)
    assert tables_of(lake) == undisturbed


@pytest.mark.long
def test_a_late_first_try_harms_nothing_that_is_published(disturbed, undisturbed, lake, chaos):
    """It hangs in its last write, is given up, tried again and published, and then goes on."""
    plan = stage(lake, RUN, "discover", **OPTIONS)
    (uri,) = plan.result["shards"]
    reported, go_on = threading.Event(), threading.Event()

    def befall(request: Request) -> None:
        if request.writes and "/reports/extract/" in request.path:
            reported.set()
            go_on.wait(300)

    chaos.befall = befall
    late = disturbed.start("extract", "--shard", uri)
    assert reported.wait(300)
    shards(lake, plan)
    audit_and_publish(lake, RUN, plan)
    assert tables_of(lake) == undisturbed
    go_on.set()
    _, errors = late.communicate(timeout=300)
    assert late.returncode == 0, errors.decode()
    assert tables_of(lake) == undisturbed
    audit_and_publish(lake, RUN, plan)
    assert tables_of(lake) == undisturbed
