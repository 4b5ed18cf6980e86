"""What pods may take, and what they took."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.airflow_runs import Run, run_dag
from tests.kubernetes.cluster import TestCluster
from tests.kubernetes.conftest import PodStages
from vidpipe.config import load_settings
from vidpipe.lake import layout
from vidpipe.lake.store import open_store
from vidpipe.lake.usage import Ledger, Spent, Use, spent

pytestmark = pytest.mark.kubernetes

TINY = 0.0001  # hours: any pod takes longer


@pytest.fixture
def configure(pod_stages: PodStages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Sets values of [kubernetes], and what the pods of stages get."""

    def set_all(*, gpus: dict[str, int] | None = None, **settings: float) -> None:
        resources = Path(__file__).with_name("resources.toml").read_text()
        resources += 'tolerations = [{ key = "nvidia.com/gpu", operator = "Exists" }]\n'
        resources += "".join(f"[{stage}]\ngpus = {n}\n" for stage, n in (gpus or {}).items())
        (tmp_path / "resources.toml").write_text(resources)
        settings["resources_file"] = tmp_path / "resources.toml"
        for name, value in settings.items():
            monkeypatch.setenv(f"VIDPIPE_KUBERNETES_{name.upper()}", str(value))
        load_settings.cache_clear()

    return set_all


@pytest.fixture
def ledger(pod_stages: PodStages) -> Ledger:
    """What is noted in the lake of the test."""
    settings = load_settings()
    return Ledger(open_store(settings), settings.lake.uri)


def took(ledger: Ledger, dag_id: str, run: Run) -> Spent:
    uses = list(ledger.of_run(layout.make_run_key("tests", dag_id, run.run_id)))
    assert len(uses) == 2 * len({use.name for use in uses}), "each has begun and ended"
    return spent(uses, datetime.now(UTC))


def test_a_run_that_spent_enough_begins_no_shard_and_ends_well(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    ledger: Ledger,
    capfd: pytest.CaptureFixture[str],
):
    """By its form; what is at an end is audited."""
    pod_stages.tell(discover=[[["sleep", 2], ["plan", ["extract", "extract"]]]])

    run = run_dag(airflow_home, "ingest", max_pod_hours_run=TINY)

    assert run.tasks["discover"] == run.tasks["audit"] == "success"
    for name in ("extract[0]", "extract[1]"):
        assert (run.tasks[name], run.tries[name]) == ("failed", 1)
    assert pod_stages.calls("extract") == []
    told = capfd.readouterr().out
    assert "The ceiling of 0.0001 pod hours a run is reached: this run spent 0.00" in told
    assert "may spend more with a higher max_pod_hours_run in its form" in told
    settings = load_settings()
    run_key = layout.make_run_key("tests", "ingest", run.run_id)
    store = open_store(settings)
    given_up = list(store.list(layout.given_up_uri(settings.lake.uri, run_key)))
    assert [found.uri.rpartition("/")[2] for found in given_up] == ["00000.json", "00001.json"]
    assert {store.get_json(found.uri)["reason"] for found in given_up} == {"out_of_budget"}
    namespace.wait_until_empty()
    spent_by_run = took(ledger, "ingest", run)
    assert spent_by_run.pods == len(pod_stages.calls())
    assert 2 / 3600 < spent_by_run.pod_hours < 120 / 3600
    assert spent_by_run.gpu_hours == 0


def test_a_shard_that_began_after_all_is_refused_no_longer(
    airflow_home: Path, pod_stages: PodStages, namespace: TestCluster
):
    """Else the audit would take its failure for the ceiling's."""
    pod_stages.tell(
        discover=[[["plan", ["extract"]], ["refuse", "extract/00000"]]],
        **{"extract/00000": [[["exit", 75]], [["exit", 65]]]},
    )

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["work[0]"], run.tries["work[0]"]) == ("failed", 2)
    settings = load_settings()
    run_key = layout.make_run_key("tests", "probe", run.run_id)
    store = open_store(settings)
    (given_up,) = store.list(layout.given_up_uri(settings.lake.uri, run_key))
    assert store.get_json(given_up.uri) == {
        "reason": "stage_failed",
        "message": "extract ended with 65: extract/00000 ends with 65",
    }


def test_a_day_counts_all_runs(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    configure,
    capfd: pytest.CaptureFixture[str],
):
    pod_stages.tell(discover=[[["sleep", 2], ["report"]]])
    configure(max_pod_hours_day=1)
    assert run_dag(airflow_home, "probe").tasks["plan"] == "success"
    configure(max_pod_hours_day=TINY)

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["plan"], run.tries["plan"]) == ("failed", 1)
    assert len(pod_stages.calls("discover")) == 1
    told = capfd.readouterr().out
    assert "The ceiling of 0.0001 pod hours a day is reached: all runs together spent" in told
    assert "Wait for the next day, or raise [kubernetes] max_pod_hours_day" in told


def test_gpu_hours_are_a_matter_of_pods_with_gpus(
    airflow_home: Path, pod_stages: PodStages, namespace: TestCluster, ledger: Ledger, configure
):
    pod_stages.tell(
        discover=[[["sleep", 2], ["plan", ["extract", "label"]]]],
        **{"extract/00000": [[["report"]]], "label/00001": [[["report"]]]},
    )
    configure(max_gpu_hours_run=TINY, gpus={"discover": 2})

    run = run_dag(airflow_home, "probe")

    assert run.tasks["work[0]"] == "success"
    spent_by_run = took(ledger, "probe", run)
    uses = ledger.of_run(layout.make_run_key("tests", "probe", run.run_id))
    (discover,) = (use for use in uses if use.gpus and use.ended)
    seconds = discover.until_s - discover.since_s
    assert spent_by_run.gpu_hours == pytest.approx(2 * seconds / 3600)
    assert spent_by_run.gpu_hours > TINY

    configure(gpus={"discover": 2, "extract": 1})
    again = run_dag(airflow_home, "probe")
    assert (again.tasks["work[0]"], again.tries["work[0]"]) == ("failed", 1)


@pytest.mark.parametrize(
    ("is_there", "minutes", "starts"),
    [
        (True, 30, True),  # it waits for a node, and takes none
        (False, 30, False),  # it was removed while nobody looked
        (False, 5, False),  # it is on its way
    ],
)
def test_pods_without_an_end_count_as_the_cluster_has_them(
    airflow_home: Path,
    pod_stages: PodStages,
    namespace: TestCluster,
    ledger: Ledger,
    configure,
    is_there: bool,
    minutes: int,
    starts: bool,
):
    from vidpipe.orchestration.accounts import USE
    from vidpipe.orchestration.pods import DEPLOYMENT, label

    configure(max_pod_hours_day=0.01)
    begun = datetime.now(UTC) - timedelta(minutes=minutes)
    since_s = int(begun.timestamp())
    use = Use(f"{begun:%F}", "tests.dag.run.0", "pod-of-another-run", since_s, since_s + 36000)
    ledger.note(use)
    if is_there:
        namespace.create_waiting_pod(
            use.name, {DEPLOYMENT: label("tests")}, annotations={USE: use.path}
        )

    run = run_dag(airflow_home, "probe")

    assert (run.tasks["plan"] == "success") is starts
    ends = [noted for noted in ledger.of_run(use.run_key) if noted.ended]
    assert len(ends) == (not is_there and minutes > 10), "then it is gone for good"
