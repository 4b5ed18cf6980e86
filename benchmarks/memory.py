"""How much memory labelling takes beside the model, by the size of the frames, and how fast it is.

    python benchmarks/memory.py --clips 100 --sizes 224x224 512x640 1080x1920

Each size is a process of its own: `attention` behind ResNet-50 with random weights, eight frames a
clip, clips on the local disk as labelling has them. With `--batch-gb` batches are as large as that
allows, to see what larger ones would gain; a process that takes more than `--most-gb` is ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FRAMES = 8


def measure(height: int, width: int, clips: int, backbone: str) -> dict[str, float]:
    """Labels clips; returns seconds a clip and what that took."""
    import keras
    import numpy as np

    from vidpipe.memory import used_bytes
    from vidpipe.models.architectures import Network, Sampling
    from vidpipe.models.classification import build_model
    from vidpipe.models.prediction import Predictor

    keras.utils.set_random_seed(0)
    model = build_model(
        Network("attention", backbone=backbone), Sampling(FRAMES, height, width), classes=4
    )
    with tempfile.TemporaryDirectory() as folder:
        array = np.lib.format.open_memmap(
            Path(folder) / "clips.npy", "w+", np.uint8, (clips, FRAMES, height, width, 3)
        )
        for number in range(clips):
            array[number] = number
        del array
        array = np.load(Path(folder) / "clips.npy", mmap_mode="r")
        model_bytes = used_bytes()
        Path("/proc/self/clear_refs").write_text("5")
        started_s, cpu_s = time.monotonic(), time.process_time()
        Predictor(model).predict((array,))
        seconds, cpu_s = time.monotonic() - started_s, time.process_time() - cpu_s
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak_bytes = int(status["VmHWM"].split()[0]) * 1024
    return {
        "model_gb": model_bytes / 1e9,
        "more_gb": (peak_bytes - model_bytes) / 1e9,
        "seconds_per_clip": seconds / clips,
        "cpu_seconds_per_clip": cpu_s / clips,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--sizes", nargs="+", default=["224x224", "512x640", "1080x1920"])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--batch-gb", type=float)
    parser.add_argument("--most-gb", type=float, default=8.0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        height, width = map(int, given.sizes[0].split("x"))
        print(json.dumps(measure(height, width, given.clips, given.backbone)))
        return
    from vidpipe.orchestration.memory_watch import MemoryWatch

    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if given.batch_gb:
        environment["VIDPIPE_MEMORY_BATCH_GB"] = str(given.batch_gb)
    print("| size | clips | beside the model | seconds a clip | CPU seconds a clip |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for size in given.sizes:
        command = [sys.executable, __file__, "--child", "--sizes", size]
        command += ["--clips", str(given.clips), "--backbone", given.backbone]
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        watch = MemoryWatch(process, given.most_gb * 1e9)
        output = process.communicate()[0]
        watch.close()
        if process.returncode:
            print(f"| {size} | {given.clips} | {watch.why or process.returncode} | | |", flush=True)
            continue
        of = json.loads(output.splitlines()[-1])
        print(
            f"| {size} | {given.clips} | {of['more_gb']:.2f} GB | {of['seconds_per_clip']:.2f}"
            f" | {of['cpu_seconds_per_clip']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
