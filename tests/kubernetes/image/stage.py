"""Stands in for `vidpipe STAGE …` in a pod: does what a script says, and tells that it was called.

The script, `pretend/script.json` in the lake, has its own folder of calls and, for a stage, for
`STAGE/SHARD`, or for `STAGE/worker-N` of several, steps: those of the first call, of the second,
and so on; the last hold for all further calls. A step is one of

    say N        lines 0 to N-1, numbered
    sleep S      seconds
    eat MB       megabytes of memory, which stay
    write MB     megabytes of its disk, which stay
    hold [N …]   the items that are at hand
    spawn MB     a child that eats and is killed
    plan STAGES  shards of these stages, the first of one item, the second of two, …
    refuse SHARD the mark of a shard that an earlier try was not allowed to begin
    report       what a stage leaves that ended well
    exit CODE
    meet         all workers find each other by name
    depend S     wait until a worker that was met is gone, and fail S seconds later
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time

from vidpipe.config import load_settings
from vidpipe.errors import EXIT_TEMPORARY
from vidpipe.lake import layout
from vidpipe.lake.store import open_store
from vidpipe.stages.manifest import PLAN, Manifest, Report, give_up, now


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TEMPORARY))
    stage, _, uri = sys.argv[1:]
    settings = load_settings()
    store, lake_uri = open_store(settings), settings.lake.uri
    manifest = Manifest.read(store, uri)
    name = stage if manifest.shard == PLAN else f"{stage}/{manifest.shard}"
    worker = os.environ.get("JOB_COMPLETION_INDEX")
    if worker is not None:
        name += f"/worker-{worker}"
    script = store.get_json(f"{lake_uri}/pretend/script.json")
    calls = f"{script['calls']}{name}/"
    number = len(list(store.list(calls)))
    told = {
        "name": name,
        "config": manifest.config,
        "pod": os.environ["HOSTNAME"],
        "environment": {k: v for k, v in os.environ.items() if k.startswith("VIDPIPE_")},
        "uid": os.getuid(),
        "limit_bytes": _memory_limit_bytes(),
    }
    store.put_json(f"{calls}{number:03d}-{secrets.token_hex(4)}.json", told)
    steps = script["stages"].get(name, script["stages"].get(stage, [[["report"]]]))
    eaten: list[bytearray] = []
    met: list[socket.socket] = []
    for verb, *words in steps[min(number, len(steps) - 1)]:
        match verb:
            case "say":
                for line in range(words[0]):
                    print(f"line {line}", flush=True)
            case "sleep":
                time.sleep(words[0])
            case "eat":
                for _ in range(words[0]):
                    eaten.append(bytearray(os.urandom(1 << 20)))
            case "write":
                with tempfile.NamedTemporaryFile(delete=False) as file:
                    for _ in range(words[0]):
                        file.write(os.urandom(1 << 20))
            case "spawn":
                hog = f"import os; x = [os.urandom(1 << 20) for _ in range({words[0]})]"
                subprocess.run([sys.executable, "-c", hog], check=False)
            case "hold":
                with open(os.environ["VIDPIPE_WORKING_FILE"], "w") as file:
                    json.dump(words[0], file)
            case "plan":
                _plan(manifest, store, lake_uri, words[0])
                _report(manifest, store, lake_uri, _uris(manifest, lake_uri, words[0]))
            case "refuse":
                stage, shard = words[0].split("/")
                refused = dataclasses.replace(manifest, stage=stage, shard=shard)
                give_up(store, lake_uri, refused, "out_of_budget", "The ceiling is reached.")
            case "report":
                _report(manifest, store, lake_uri, None)
            case "exit":
                print(f"vidpipe: {name} ends with {words[0]}", flush=True)
                sys.exit(words[0])
            case "meet":
                met = _meet(int(worker), os.environ["VIDPIPE_WORKER_HOSTS"].split(","))
                print(f"met {len(met)}", flush=True)
            case "depend":
                met[0].recv(1)
                time.sleep(words[0])
                print("vidpipe: another worker is gone", flush=True)
                sys.exit(1)
            case _:
                raise ValueError(f"there is no step {verb!r}")


def _meet(worker: int, hosts: list[str]) -> list[socket.socket]:
    """Connects the first worker with all others."""
    if worker == 0:
        port = int(hosts[0].rpartition(":")[2])
        with socket.create_server(("", port)) as server:
            return [server.accept()[0] for _ in hosts[1:]]
    name, _, port = hosts[0].rpartition(":")
    while True:
        try:
            return [socket.create_connection((name, int(port)))]
        except OSError as error:
            print(f"{hosts[0]}: {error}", flush=True)
            time.sleep(0.5)


def _uris(manifest: Manifest, lake_uri: str, stages: list[str]) -> list[str]:
    return [
        layout.manifest_uri(lake_uri, manifest.run_key, stage, "A", f"{number:05d}")
        for number, stage in enumerate(stages)
    ]


def _plan(manifest: Manifest, store, lake_uri: str, stages: list[str]) -> None:
    uris = _uris(manifest, lake_uri, stages)
    for number, (stage, uri) in enumerate(zip(stages, uris, strict=True)):
        items = [{"item": f"{number}-{i}"} for i in range(number + 1)]
        shard = dataclasses.replace(manifest, stage=stage, shard=f"{number:05d}", items=items)
        shard.write(store, uri)


def _report(manifest: Manifest, store, lake_uri: str, shards: list[str] | None) -> None:
    attempt = f"{now():%H%M%S}-{secrets.token_hex(4)}"
    folder = layout.reports_uri(lake_uri, manifest.run_key, manifest.stage, manifest.shard)
    result = {"summary": "done"} if shards is None else {"shards": shards}
    report = Report(
        manifest.run_key, manifest.stage, manifest.shard, manifest.hash, attempt, [], {}, result,
        0.0, now().isoformat(), f"{folder}{attempt}.json",
    )  # fmt: skip
    store.put_json(report.uri, dataclasses.asdict(report))


def _memory_limit_bytes() -> int:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                return int(file.read())
        except (OSError, ValueError):
            continue
    return 0


main()
