"""What a pod costs beside the stage in it, and what that comes to.

Two parts, on a real cluster (that of KUBECONFIG; docker builds the image for it) and a whole
platform of this machine: Airflow, S3, PostgreSQL, MLflow. CPU is that of the whole machine, from
/proc/stat, so that nothing is left out and nothing else may run.

    shards   `vidpipe extract` of one clip as a process, one after the other, and as pods of a
             mapped task, four at a time, more and more of them
    clips    the DAG `ingest` over the same clips with the runtimes local and kubernetes

    PYTHONPATH=. python benchmarks/pods.py --shards 1 10 50 200 --clips 1000
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.overhead import make_clips
from tests import runs
from tests.kubernetes.cluster import connect
from tests.kubernetes.platform import Platform, serve_platform, serve_postgres
from tests.mlflow_server import serve_mlflow
from tests.servers import S3Server
from vidpipe.lake import layout
from vidpipe.stages.manifest import Manifest

AT_A_TIME = 4
BARE = 6
IDLE_S = 30
CLIP_S = 10
# As many as run at a time fit a small cluster.
RESOURCES = '[default]\ncpu = "100m"\nmemory = "1Gi"\n'
# Maps a stage over the shards that its run names.
DAG = """
from airflow.sdk import DAG, Param, task
from vidpipe.orchestration.common import shard_settings
from vidpipe.orchestration.operator import StageOperator

with DAG("shards", params={"shards": Param([], type="array")}, schedule=None):
    @task
    def shards(params=None):
        return params["shards"]
    StageOperator.partial(task_id="extract", stage="extract", retries=0,
                          **shard_settings()).expand(shard=shards())
"""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of CPU."""

    clock_s: float
    cpu_s: float


def busy_s() -> float:
    """CPU seconds of this machine since it began."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


@contextlib.contextmanager
def costing() -> Iterator[list[Cost]]:
    """Measures what happens while it lasts; the list holds it afterwards."""
    found: list[Cost] = []
    clock_s, cpu_s = time.monotonic(), busy_s()
    yield found
    found.append(Cost(time.monotonic() - clock_s, busy_s() - cpu_s))


def plan_shards(platform: Platform, name: str, number: int) -> list[str]:
    """Writes the manifests of so many shards of a clip each, which are extracted alike."""
    lake = platform.lake
    plan = runs.stage(lake, f"plan-{name}", "discover", prefix="shards/", fps=2)
    planned = Manifest.read(lake.store, plan.result["shards"][0])
    uris = []
    for shard in range(number):
        item = planned.items[shard % len(planned.items)]
        uri = layout.manifest_uri(lake.uri, f"bench-{name}", "extract", "plan", f"{shard:05d}")
        one = dataclasses.replace(
            planned, run_key=f"bench-{name}", shard=f"{shard:05d}", items=[item]
        )
        one.write(lake.store, uri)
        uris.append(uri)
    return uris


def measure_shards(platform: Platform, numbers: list[int]) -> None:
    """Prints what pods add to a stage that does the work of one clip."""
    with costing() as idle:
        time.sleep(IDLE_S)
    idle_share = idle[0].cpu_s / idle[0].clock_s
    print(f"while nothing runs: {idle_share:.2f} cores", flush=True)
    shards = plan_shards(platform, "bare", BARE)
    with costing() as bare:
        for uri in shards:
            command = [sys.executable, "-m", "vidpipe", "extract", "--shard", uri]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    each = Cost(bare[0].clock_s / BARE, bare[0].cpu_s / BARE - idle_share * bare[0].clock_s / BARE)
    print(f"a process: {each.clock_s:.1f} s, {each.cpu_s:.1f} s of CPU", flush=True)
    for number in numbers:
        shards = plan_shards(platform, str(number), number)
        with costing() as pods:
            run = platform.begin("shards", shards=shards)
            assert run.wait(within_s=7200) == "success"
        took = pods[0]
        cpu_s = (took.cpu_s - idle_share * took.clock_s) / number
        print(
            f"{number} pods: {took.clock_s:.0f} s; of each {took.clock_s / number:.1f} s,"
            f" {cpu_s:.1f} s of CPU, {cpu_s - each.cpu_s:.1f} s more than a process",
            flush=True,
        )


def measure_clips(platform: Platform, folder: Path, number: int) -> None:
    """Prints what an ingest costs with either runtime."""
    costs = {}
    for runtime in ("local", "kubernetes"):
        clips = folder / runtime / "clips"
        clips.parent.mkdir()
        make_clips(clips, number, CLIP_S)
        for clip in sorted(clips.iterdir()):
            # Other bytes than those of the other runtime.
            content = clip.read_bytes() + b"\0\0\0\x10free" + runtime[:8].ljust(8).encode()
            platform.lake.store.put(f"s3://videos/{runtime}/{clip.name}", content)
            clip.unlink()
        with costing() as found:
            run = platform.begin("ingest", prefix=f"{runtime}/", runtime=runtime)
            assert run.wait(within_s=7200) == "success"
        costs[runtime] = found[0]
        print(f"{runtime}: {found[0].clock_s:.0f} s, {found[0].cpu_s:.0f} s of CPU", flush=True)
    more = costs["kubernetes"].cpu_s / costs["local"].cpu_s - 1
    print(f"pods take {more:+.0%} of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=int, nargs="*", default=[1, 10, 50, 200])
    parser.add_argument("--clips", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, cluster = Path(name), connect()
        s3 = S3Server(folder / "s3", host=cluster.address)
        s3.start()
        stack.callback(s3.stop)
        catalog_uri = stack.enter_context(serve_postgres(cluster))
        (folder / "mlflow").mkdir()
        mlflow = stack.enter_context(serve_mlflow(folder / "mlflow", cluster.address))
        (folder / "platform").mkdir()
        os.environ["VIDPIPE_KUBERNETES_MAX_ACTIVE"] = str(AT_A_TIME)
        platform = stack.enter_context(
            serve_platform(
                folder / "platform", cluster, s3, catalog_uri, mlflow.uri, more_dags=[DAG]
            )
        )
        platform.resources.write_text(RESOURCES)
        if asked.shards:
            make_clips(folder / "one", BARE, CLIP_S)
            for clip in (folder / "one").iterdir():
                platform.lake.store.upload(clip, f"s3://videos/shards/{clip.name}")
            measure_shards(platform, asked.shards)
        if asked.clips:
            measure_clips(platform, folder, asked.clips)


if __name__ == "__main__":
    main()
