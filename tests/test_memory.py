"""What the kernel says of memory, and what is given back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vidpipe import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux")
SIZE_BYTES = 200_000_000


def test_memory_of_a_process_counts_its_children():
    code = f"x = bytearray({SIZE_BYTES}); print('there', flush=True); input()"
    before = memory.used_by_tree(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        assert memory.used_bytes(child.pid) > SIZE_BYTES
        assert memory.used_by_tree(os.getpid()) > before + SIZE_BYTES / 2
        memory.mark_stage(child.pid)
        assert memory.used_by_stages()[child.pid] > SIZE_BYTES
        child.stdin.close()
    assert memory.used_bytes(child.pid) == 0


def test_peak_is_measured_though_it_is_over():
    with memory.PeakMeter() as meter:
        bytearray(SIZE_BYTES)
    assert meter.growth_bytes > 0.9 * SIZE_BYTES


def test_memory_mapped_arrays_are_given_back_and_keep_what_is_in_them(tmp_path: Path):
    array = np.lib.format.open_memmap(
        tmp_path / "a.npy", mode="w+", dtype=np.uint8, shape=(20, SIZE_BYTES // 20)
    )
    with memory.PeakMeter() as meter:
        for row, values in enumerate(array):
            values[:] = row
            memory.release_pages(values)
    assert meter.growth_bytes < SIZE_BYTES / 2
    assert (array == np.arange(20)[:, None]).all()


@pytest.mark.parametrize("version", [1, 2])
def test_limit_of_a_container_is_known(tmp_path: Path, monkeypatch, version: int):
    """However deep it is, and without the files that the kernel can take back."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    line = {1: "4:memory:/pod/stage", 2: "0::/pod/stage"}[version]
    (proc / "self" / "cgroup").write_text(f"1:cpu:/\n{line}\n")
    folder = groups / ("memory" if version == 1 else "") / "pod"
    (folder / "stage").mkdir(parents=True)
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    for name, value in zip(names, ("3000000", "2000000"), strict=False):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} 500000\n")
    monkeypatch.setattr(memory, "PROC", proc)
    monkeypatch.setattr(memory, "CGROUPS", groups)
    assert memory.free_bytes() == 1_500_000
    (folder / names[0]).write_text("max\n")
    assert memory.free_bytes() == 8_000 * 1024
