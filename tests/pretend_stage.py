"""Stands in for `vidpipe STAGE …`: does what a script says, and tells what it was given.

The script is a JSON file: for a stage, or for `STAGE/SHARD`, how to end (`exits`: one code a call,
the last for all further ones), in which calls to be at work on which items and to take 2 GB of
memory (`eats`: for each a list of numbers, or null), what to say, what result to report, how many
shards to plan, which of them tasks are mapped over (`mapped`, by their numbers; the last comes
after these), which of them is the preview, and whether to leave a child behind or to be stopped by
the parent.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vidpipe.config import load_settings
from vidpipe.lake import layout
from vidpipe.lake.store import open_store
from vidpipe.stages.manifest import PLAN, Manifest, Report, now


def run(folder: Path, arguments: Sequence[str]) -> int:
    """Does what the script in a folder says of a stage; returns how it ends.

    Args:
        folder: Where the script is, and the file that calls are added to.
        arguments: What follows `vidpipe`.
    """
    stage, option, uri = arguments
    assert option == "--shard"
    settings = load_settings()
    store = open_store(settings)
    manifest = Manifest.read(store, uri)
    name = stage if manifest.shard == PLAN else f"{stage}/{manifest.shard}"
    script = json.loads((folder / "script.json").read_text())
    told = script.get(name, script.get(stage, {}))
    calls = folder / "calls.jsonl"
    environment = {name: value for name, value in os.environ.items() if name.startswith("VIDPIPE_")}
    before = [c for c in map(json.loads, calls.open()) if c["name"] == name]
    with calls.open("a") as file:
        call = {"name": name, "config": manifest.config, "pid": os.getpid()}
        file.write(json.dumps({**call, "environment": environment}) + "\n")
    print(told.get("say", f"{name} says hello"), flush=True)
    if told.get("stopped"):
        _leave_child(folder)
        os.kill(os.getppid(), signal.SIGTERM)
        while True:
            # Python sees a signal that comes in the very moment before a read after that read.
            time.sleep(1)
            print("still here", flush=True)
    eats = dict(enumerate(told.get("eats", [])))
    if (items := eats.get(len(before))) is not None:
        Path(os.environ["VIDPIPE_WORKING_FILE"]).write_text(json.dumps(items))
        eaten = bytearray(2_000_000_000)
        while eaten:
            time.sleep(1)
    exits = told.get("exits", [0])
    code = exits[min(len(before), len(exits) - 1)]
    if code == 0:
        _report(manifest, store, settings.lake.uri, told)
    return code


def _leave_child(folder: Path) -> None:
    child = subprocess.Popen(["sleep", "600"])
    (folder / "child.pid").write_text(str(child.pid))


def _report(manifest: Manifest, store, lake_uri: str, told: dict) -> None:
    result = dict(told.get("result", {}))
    if "shards" in told:
        result["shards"] = []
        for number, stage in enumerate(told["shards"]):
            shard = f"{number:05d}"
            uri = layout.manifest_uri(lake_uri, manifest.run_key, stage, "A", shard)
            items = [{"item": f"{shard}-{i}"} for i in range(number + 1)]
            dataclasses.replace(manifest, stage=stage, shard=shard, items=items).write(store, uri)
            result["shards"].append(uri)
        if "mapped" in told:
            uris = result["shards"]
            result["mapped"] = [
                uris[of] if isinstance(of, int) else {k: uris[n] for k, n in of.items()}
                for of in told["mapped"]
            ]
            result["last"] = uris[-1]
        if "preview" in told:
            result["preview"] = result["shards"][told["preview"]]
    uri = layout.reports_uri(lake_uri, manifest.run_key, manifest.stage, manifest.shard) + "A.json"
    report = Report(
        manifest.run_key, manifest.stage, manifest.shard, manifest.hash, "A", [], {}, result, 0.0,
        now().isoformat(), uri,
    )  # fmt: skip
    store.put_json(uri, dataclasses.asdict(report))


if __name__ == "__main__":
    sys.exit(run(Path(os.environ["PRETEND_FOLDER"]), sys.argv[3:]))  # python -m vidpipe …
