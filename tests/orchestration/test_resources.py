"""What the pod of a stage gets, from the file of resources and the form of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidpipe.errors import UsageError
from vidpipe.orchestration.resources import load_resources, quantity


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str) -> str:
        (tmp_path / "resources.toml").write_text(text)
        return str(tmp_path / "resources.toml")

    return write


def test_own_file_tells_only_what_is_different(file):
    usual = load_resources("", "extract")
    own = load_resources(file('[extract]\ncpu = "4"\ncpu_limit = "4"\n'), "extract")
    assert (own.cpu, own.cpu_limit) == ("4", "4")
    assert (own.memory, own.scratch) == (usual.memory, usual.scratch)


def test_own_default_comes_before_what_vidpipe_has_for_a_stage(file):
    path = file('[default]\nmemory = "2Gi"\n[label]\nmemory = "5Gi"\n')
    memory = {stage: load_resources(path, stage).memory for stage in ("extract", "label", "audit")}
    assert memory == {"extract": "2Gi", "label": "5Gi", "audit": "2Gi"}


def test_form_comes_before_the_file(file):
    path = file('[train]\nmemory = "2Gi"\ngpus = 1\n')
    asked = {"memory": "6Gi", "gpus": None, "workers": 2}
    resources = load_resources(path, "train", asked)
    assert (resources.memory, resources.gpus, resources.workers) == ("6Gi", 1, 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[extrct]\n", "there is no stage 'extrct'."),
        ('[extract]\nmemmory = "1Gi"\n', "memmory of extract is no resource of a pod"),
        ("[extract]\nmemory = 4\n", "memory of extract is no resource of a pod, or no str"),
        ('[extract]\nmemory = "4 GB"\n', "A quantity looks like 500m or 4Gi. Received: '4 GB'"),
        ('[extract]\ncpu = "4"\n', "cpu of extract must be at most its cpu_limit, 2. Received: 4"),
        ("[extract]\nworkers = 2\n", "workers of extract must be 1, or more for train."),
        ("[extract\n", "resources_file"),
    ],
)
def test_mistakes_in_the_file(file, text: str, told: str):
    with pytest.raises(UsageError) as caught:
        load_resources(file(text), "extract")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ('cpu = "4"\ncpu_limit = "4"', 4),
        ('cpu = "1"\ncpu_limit = "2500m"', 2),
        ('cpu = "3"\ncpu_limit = ""', 3),
        ('cpu = "200m"\ncpu_limit = "500m"', 1),
    ],
)
def test_processes_that_its_cpus_keep_busy(file, limits: str, expected: int):
    assert load_resources(file(f"[extract]\n{limits}\n"), "extract").whole_cpus == expected


def test_memory_is_doubled_up_to_its_limit(file):
    path = file('[label]\nmemory = "3Gi"\nmemory_limit = "8Gi"\n')
    more, seen = load_resources(path, "label"), []
    while more := more.doubled():
        seen.append(quantity(more.memory) / 2**30)
    assert seen == [6, 8]


@given(
    st.integers(0, 10**6),
    st.sampled_from([("", 1), ("k", 10**3), ("Ki", 2**10), ("Mi", 2**20), ("G", 10**9)]),
)
def test_quantities(number: int, unit: tuple[str, int]):
    assert quantity(f"{number}{unit[0]}") == number * unit[1]


def test_thousandths():
    assert quantity("500m") == 0.5
