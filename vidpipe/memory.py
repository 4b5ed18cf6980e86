"""Memory of the machine and of its processes, as Linux counts it; elsewhere nothing is known.

Pages of files, such as memory-mapped arrays, are not counted: the kernel takes them back.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vidpipe.config import MemorySettings

if TYPE_CHECKING:
    import numpy as np  # which Airflow's tasks do without

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
LEAST_LIMIT_BYTES = 1e9  # Python, Arrow and TensorFlow take so much before there is any work
# Of a process that the kernel is to take first, and all of its children, where memory runs out.
STAGE_OOM_SCORE = 600


def free_bytes() -> float:
    """What the processes of this machine, or of the container, can still take; inf: not known."""
    return min(_free_of_machine(), *_free_of_cgroups())


def total_bytes() -> float:
    """The memory of the machine; inf: not known."""
    return _fields(PROC / "meminfo").get("MemTotal", math.inf)


def stage_limit_bytes(settings: MemorySettings) -> float:
    """What a stage that starts now may take on this machine."""
    if settings.stage_gb:
        return settings.stage_gb * 1e9
    return max(settings.stage_share * free_bytes(), LEAST_LIMIT_BYTES)


def used_bytes(pid: int | str = "self") -> int:
    """What a process takes, swapped or not; 0 where it has ended."""
    fields = _fields(PROC / str(pid) / "status")
    return sum(fields.get(name, 0) for name in ("RssAnon", "RssShmem", "VmSwap"))


def used_by_tree(pid: int) -> int:
    """What a process takes together with its children, and theirs."""
    parents = _parents()
    return sum(used_bytes(child) for child in parents if pid in _line(child, parents))


def used_by_stages() -> dict[int, int]:
    """What each stage on this machine takes together with its children, by its process id."""
    parents, used = _parents(), {}
    stages = {pid for pid in parents if _oom_score(pid) == STAGE_OOM_SCORE}
    for pid in stages:
        root = [ancestor for ancestor in _line(pid, parents) if ancestor in stages][-1]
        used[root] = used.get(root, 0) + used_bytes(pid)
    return used


def mark_stage(pid: int) -> None:
    """Has the kernel take a process first, with the children that it will have."""
    with contextlib.suppress(OSError):
        (PROC / str(pid) / "oom_score_adj").write_text(str(STAGE_OOM_SCORE))


def limit_growth(share: float) -> None:
    """Has allocations of this process fail, on Linux, beyond a share of what is free now."""
    free, fields = free_bytes(), _fields(PROC / "self" / "status")
    if math.isfinite(free) and "VmData" in fields:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = fields["VmData"] + int(share * free)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def kernel_kills() -> int:
    """How many processes the kernel ended for want of memory since the machine started."""
    with contextlib.suppress(OSError):
        for line in (PROC / "vmstat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


class PeakMeter:
    """Measures by how much this process grows at most while a context lasts.

    Attributes:
        growth_bytes: Of its resident memory; 0 where nothing is known.
    """

    growth_bytes = 0

    def __enter__(self) -> PeakMeter:
        self._before = 0
        with contextlib.suppress(OSError):
            (PROC / "self" / "clear_refs").write_text("5")  # the peak begins anew
            self._before = _fields(PROC / "self" / "status").get("VmRSS", 0)
        return self

    def __exit__(self, *_exc_info) -> None:
        if self._before:
            peak = _fields(PROC / "self" / "status").get("VmHWM", 0)
            self.growth_bytes = max(0, peak - self._before)


def release_pages(array: np.ndarray) -> None:
    """Gives back the memory that a memory-mapped array took by being read or written.

    What was written stays: the kernel keeps it until it is on the disk.
    """
    base: object = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def _free_of_machine() -> float:
    return _fields(PROC / "meminfo").get("MemAvailable", math.inf)


def _free_of_cgroups() -> Iterator[float]:
    """Of each control group with a limit that this process is in; versions 2 and 1."""
    yield math.inf
    with contextlib.suppress(OSError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                folder, names = CGROUPS, ("memory.max", "memory.current", "inactive_file")
            elif controllers == "memory":
                names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
                folder = CGROUPS / "memory"
            else:
                continue
            parts = Path(path.lstrip("/")).parts
            # In a container the path may be that of the machine, and its files at the root.
            for depth in range(len(parts) + 1):
                yield _free_of_cgroup(folder.joinpath(*parts[:depth]), *names)


def _free_of_cgroup(folder: Path, limit: str, usage: str, cached: str) -> float:
    try:
        at_most, used = ((folder / name).read_text().strip() for name in (limit, usage))
        statistics = dict(
            line.split() for line in (folder / "memory.stat").read_text().splitlines()
        )
        if at_most == "max":
            return math.inf
        return int(at_most) - int(used) + int(statistics.get(cached, 0))
    except (OSError, ValueError):
        return math.inf


def _fields(path: Path) -> dict[str, int]:
    """Sizes in bytes by name, of a file that has lines such as `VmRSS: 12 kB`."""
    fields = {}
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            number, _, unit = value.strip().partition(" ")
            if unit == "kB":
                fields[name] = int(number) * 1024
    return fields


def _parents() -> dict[int, int]:
    """The parent of each process."""
    parents = {}
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir(PROC)):
            with contextlib.suppress(OSError, ValueError, IndexError):
                # The name of the program, in brackets, may hold anything.
                facts = (PROC / name / "stat").read_text().rpartition(")")[2].split()
                parents[int(name)] = int(facts[1])
    return parents


def _line(pid: int, parents: dict[int, int]) -> Iterator[int]:
    """A process, its parent, the parent of that, and so on."""
    while pid in parents:
        yield pid
        pid = parents[pid]


def _oom_score(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int((PROC / str(pid) / "oom_score_adj").read_text())
    return None
