"""Publishing: once, whole, whoever publishes at the same time or was cut off before."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest

from tests.runs import label_rows, rows
from vidpipe.config import Settings
from vidpipe.lake import publication
from vidpipe.lake.tables import NAMESPACE, Lake

# As long and as alike as the run keys of Airflow's runs.
RUN = "vidpipe.label_nightly.manual__2026-11-22T22-33-39"
ROUNDS = 25  # of four processes publishing one run and four publishing a run each


def publish(settings: Settings, uri: str) -> None:
    publication.publish(Lake(settings), uri)


@pytest.fixture(scope="module")
def pool():
    with multiprocessing.get_context("spawn").Pool(8) as workers:
        yield workers


def published_videos(lake: Lake) -> list[str]:
    return [row["video_id"] for row in rows(lake, "labels")]


def test_publishing_twice_changes_nothing(lake):
    uri = label_rows(lake, f"{RUN}.one", ["a", "b"])
    for _ in range(2):
        publication.publish(lake, uri)
        assert sorted(published_videos(lake)) == ["a", "b"]
        assert len(rows(lake, "outcomes")) == 2


def test_a_table_is_created_with_its_first_rows(lake):
    assert lake.published() == {}
    publication.publish(lake, label_rows(lake, f"{RUN}.one", ["a"]))
    there = {name for _, name in lake.catalog.list_tables(NAMESPACE)}
    assert there == lake.published().keys() == {"labels", "outcomes"}
    assert lake.dataset("reviews").count_rows() == lake.dataset_now("reviews").count_rows() == 0


def test_work_that_another_run_published_meanwhile_is_left_out(lake):
    uris = [label_rows(lake, f"{RUN}.one", ["a", "b"]), label_rows(lake, f"{RUN}.two", ["b", "c"])]
    for uri in uris:
        publication.publish(lake, uri)
    assert {(r["video_id"], r["run_key"]) for r in rows(lake, "labels")} == {
        ("a", f"{RUN}.one"),
        ("b", f"{RUN}.one"),
        ("c", f"{RUN}.two"),
    }
    assert len(rows(lake, "outcomes")) == 4


@pytest.mark.long
@pytest.mark.parametrize("rounds", [2, pytest.param(ROUNDS, marks=pytest.mark.slow)])
def test_publishing_concurrently_leaves_exact_tables(lake, pool, rounds):
    expected: set[str] = set()
    outcomes = 0
    for number in range(rounds):
        same = [f"{number}-same-{n}" for n in range(5)]
        own = [[f"{number}-{run}-{n}" for n in range(5)] for run in range(4)]
        shared = f"{number}-shared"  # work that all four runs did
        uris = [label_rows(lake, f"{RUN}.{number}-same", same)] * 4
        uris += [
            label_rows(lake, f"{RUN}.{number}-{run}", [*names, shared])
            for run, names in enumerate(own)
        ]
        pool.starmap(publish, [(lake.settings, uri) for uri in uris])
        expected |= {*same, shared, *(name for names in own for name in names)}
        outcomes += len(same) + 4 * 6
        assert sorted(published_videos(lake)) == sorted(expected)
        assert len(rows(lake, "outcomes")) == outcomes


def publish_and_die(settings: Settings, uri: str, commits: int) -> None:
    """Publishes, and kills itself right after so many commits."""
    left = [commits]
    commit = publication.commits

    def counted(action):
        done = commit(action)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    publication.commits = counted
    publication.publish(Lake(settings), uri)


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_a_publication_that_was_killed_is_finished_by_the_next(lake, commits, monkeypatch):
    monkeypatch.setattr(publication, "_PATIENCE_S", 1.0)
    cut_off = label_rows(lake, f"{RUN}.cut-off", ["a", "b"])
    other = label_rows(lake, f"{RUN}.other", ["b", "c"])
    process = multiprocessing.get_context("spawn").Process(
        target=publish_and_die, args=(lake.settings, cut_off, commits)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    if commits < 3:
        # Intent and labels are committed, but nobody sees half a run.
        assert published_videos(lake) == []
    publication.publish(lake, other)
    assert {(r["video_id"], r["run_key"]) for r in rows(lake, "labels")} == {
        ("a", f"{RUN}.cut-off"),
        ("b", f"{RUN}.cut-off"),
        ("c", f"{RUN}.other"),
    }
    publication.publish(lake, cut_off)
    assert len(rows(lake, "outcomes")) == 4
