"""Several devices and several workers learn what one device does, and end together."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.training.together import learnt, train
from vidpipe.datasets.pipeline import Part, row_weight
from vidpipe.errors import TemporaryError, UsageError
from vidpipe.training.distribution import HOSTS, INDEX, WAIT_S, Replicas, Workers

ROOT = Path(__file__).parents[2]


def hosts(count: int) -> tuple[str, ...]:
    """Addresses at which nobody listens."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in with_ports)
    for server in with_ports:
        server.close()
    return found


def start(output: Path, *options: str, workers: tuple[str, ...] = (), index: int = 0):
    return subprocess.Popen(
        [sys.executable, ROOT / "tests/training/together.py", output, *options],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_CPP_MIN_LOG_LEVEL": "1",
            HOSTS: ",".join(workers),
            INDEX: str(index),
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen, output: Path) -> dict[str, np.ndarray]:
    """What a process kept that ends well."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    with np.load(output) as kept:
        return {name: kept[name] for name in kept.files}


@functools.cache
def of_one_device() -> dict[str, np.ndarray]:
    return learnt(*train(Replicas()))


def assert_same(one: dict, other: dict, *, tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=tolerance, atol=tolerance)


# With batch normalization, and a batch of fewer clips than devices at the end of each epoch.
@pytest.mark.long
def test_two_workers_learn_what_one_device_does(tmp_path):
    addresses = hosts(2)
    outputs = [tmp_path / "first.npz", tmp_path / "second.npz"]
    workers = [start(output, workers=addresses, index=n) for n, output in enumerate(outputs)]
    first, second = (result(*each) for each in zip(workers, outputs, strict=True))
    assert_same(first, second, tolerance=0)
    assert_same(of_one_device(), first, tolerance=2e-3)


@pytest.mark.slow
def test_three_devices_learn_what_one_does(tmp_path):
    output = tmp_path / "three.npz"
    three = result(start(output, "--devices", "3"), output)
    seeds = three.pop("seeds")
    assert_same(of_one_device(), three, tolerance=2e-3)
    # No two of them leave out the same.
    assert all(len({tuple(state) for state in of_layer}) == 3 for of_layer in seeds)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8])
def test_parts_hold_every_row_and_count_as_the_whole(rows):
    batch = tf.range(rows)
    taken = [Part(number, 3).take(batch).numpy() for number in range(3)]
    assert all(len(part) for part in taken)
    counted = sum(len(part) for part in taken) * row_weight(rows, 3).numpy()
    assert counted == pytest.approx(rows)
    if rows >= 3:
        np.testing.assert_array_equal(np.concatenate(taken), batch)
        assert max(map(len, taken)) - min(map(len, taken)) <= 1


def meet(workers: list[Workers], train: bool = True) -> list[bool | str]:
    """What each of these was told, or the error."""
    told: list[bool | str] = [""] * len(workers)

    def one(number: int, worker: Workers) -> None:
        try:
            told[number] = worker.meet(train if worker.first else True)
        except TemporaryError as error:
            told[number] = str(error)

    threads = [threading.Thread(target=one, args=each) for each in enumerate(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    return told


@pytest.mark.parametrize("train", [True, False])
def test_workers_wait_for_each_other_and_hear_the_first(train):
    addresses = hosts(3)
    knocking = threading.Event()

    def knock() -> None:
        while not knocking.is_set():
            with contextlib.suppress(OSError):
                host, _, port = addresses[0].rpartition(":")
                with socket.create_connection((host, int(port)), 1) as connection:
                    connection.sendall(b"GET / HTTP/1.1\n")
            time.sleep(0.05)

    stranger = threading.Thread(target=knock)
    stranger.start()
    try:
        told = meet([Workers(number, addresses) for number in (2, 1, 0)], train)
    finally:
        knocking.set()
        stranger.join()
    assert told == [train] * 3


@pytest.mark.long
def test_a_worker_that_does_not_come_is_named():
    addresses = hosts(3)
    first, second = meet([Workers(0, addresses, 10.0), Workers(1, addresses, 10.0)])
    assert first == f"Of 3 workers these did not come within 10 s: 2 ({addresses[2]})."
    assert second.startswith(f"The first of 3 workers ({addresses[0]}) did not call")


def test_who_the_workers_are_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv(HOSTS, raising=False)
    monkeypatch.setenv(INDEX, "0")
    assert Workers.from_environment() == Workers() and Workers().meet()
    monkeypatch.setenv(HOSTS, "a.b:1, c.d:2")
    monkeypatch.setenv(INDEX, "1")
    assert Workers.from_environment() == Workers(1, ("a.b:1", "c.d:2"))
    monkeypatch.setenv(WAIT_S, "3600")
    assert Workers.from_environment().wait_s == 3600
    for index in ("", "2", "-1", "one"):
        monkeypatch.setenv(INDEX, index)
        with pytest.raises(UsageError, match=f"from 0 to 1.*Received: {index!r}"):
            Workers.from_environment()
    monkeypatch.setenv(HOSTS, "a.b:1,c.d")
    with pytest.raises(UsageError, match="HOST:PORT of each worker. Received: 'c.d'"):
        Workers.from_environment()
