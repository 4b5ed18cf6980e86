"""Several devices and several workers learn what one device does, and end together."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from vidpipe.datasets.pipeline import Part, row_weight
from vidpipe.errors import StoppedError, TemporaryError, UsageError
from vidpipe.training import distribution
from vidpipe.training.distribution import HOSTS, INDEX, Workers

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


def result(process: subprocess.Popen, output: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Weights, and the metrics of each epoch, of a process that ends well."""
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    with np.load(output) as kept:
        history = [
            [epoch[name] for name in sorted(epoch)] for epoch in json.loads(str(kept["history"]))
        ]
        return [kept[name] for name in kept.files if name != "history"], np.array(history)


def assert_same(one, other, *, exactly: bool) -> None:
    tolerance = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-3, "atol": 2e-3}
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_allclose(a, b, **tolerance)
    np.testing.assert_allclose(one[1], other[1], **tolerance)


def test_two_workers_and_three_devices_learn_what_one_device_does(tmp_path):
    # With batch normalization, and a batch of fewer clips than devices at the end of each epoch.
    addresses = hosts(2)
    outputs = [tmp_path / f"{name}.npz" for name in ("one", "first", "second", "three")]
    pair = [start(outputs[1 + n], workers=addresses, index=n) for n in range(2)]
    first, second = (result(p, o) for p, o in zip(pair, outputs[1:3], strict=True))
    assert_same(first, second, exactly=True)
    one = result(start(outputs[0]), outputs[0])
    assert_same(one, first, exactly=False)
    assert_same(one, result(start(outputs[3], "--devices", "3"), outputs[3]), exactly=False)
