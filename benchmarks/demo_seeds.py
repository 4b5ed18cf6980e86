"""How often the demo's models learn: many seeds, oneDNN on and off, one to four threads.

For each seed the videos, the split and the first weights are those of `make demo SEED=…`, or, with
`--videos n`, the videos are those of the seed modulo n. Each architecture is trained with its
defaults. A result is a line of `results.jsonl` in
the folder: what is there is not trained again, so that an interrupted benchmark continues.

    PYTHONPATH=. python benchmarks/demo_seeds.py --folder /tmp/demo-seeds --seeds 20

Trainings run in a process for each setting of TF_ENABLE_ONEDNN_OPTS and of the threads of an
operation, because TensorFlow reads both once.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from vidpipe.datasets.splits import NEAR_DUPLICATE_BITS, TEST, TRAIN, VALIDATION, split_videos
from vidpipe.models.architectures import Network, Sampling, chosen
from vidpipe.training.settings import FitSettings, complete

CLIPS = 240
THREADS = 1, 2, 4
TASK_OF = {"cnn": "appearance", "cnn_rnn": "motion", "attention": "motion"}
RESULTS = "results.jsonl"


def prepare_videos(folder: Path, seed: int, samplings: list[Sampling]) -> None:
    """Makes and extracts the videos of a seed; keeps arrays of clips, labels and near pairs."""
    import pyarrow.dataset as ds

    from vidpipe.datasets.clips import read_clips
    from vidpipe.datasets.near_duplicates import find_near_pairs, read_fingerprints
    from vidpipe.local.demo import EXTRACT
    from vidpipe.local.demo_data import make_demo_videos

    missing = {s for s in samplings if not _clips_path(folder, seed, s).exists()}
    if not missing:
        return
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    data = make_demo_videos(scratch / "videos", clips=CLIPS, seed=seed)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in EXTRACT.items()]
    command = ["vidpipe", "extract", scratch / "videos", "--output", scratch / "out", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = ds.dataset(scratch / "out/videos").to_table(["source_uri", "video_id", "work_key"])
    rows = sorted(rows.to_pylist(), key=lambda row: row["video_id"])
    extractions = {row["video_id"]: row["work_key"] for row in rows}
    frames = ds.dataset(scratch / "out/frames")
    fingerprints = read_fingerprints(frames, extractions, scratch, lambda done, of: None)
    facts = {"near_pairs": list(find_near_pairs(fingerprints, NEAR_DUPLICATE_BITS))}
    for task, file in (("motion", data.motion_csv), ("appearance", data.appearance_csv)):
        with file.open(newline="", encoding="utf-8") as opened:
            label_of = {row["video"]: row["label"] for row in csv.DictReader(opened)}
        facts[task] = {row["video_id"]: label_of[Path(row["source_uri"]).name] for row in rows}
    _facts_path(folder, seed).write_text(json.dumps(facts))
    for sampling in missing:
        path = _clips_path(folder, seed, sampling)
        read_clips(frames, extractions, sampling, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    shutil.rmtree(scratch)


def _facts_path(folder: Path, seed: int) -> Path:
    return folder / f"videos-{seed}.json"


def _clips_path(folder: Path, seed: int, sampling: Sampling) -> Path:
    shape = "x".join(map(str, sampling.shape[:3]))
    return folder / f"videos-{seed}-{shape}.npy"


def train(folder: Path, videos: int, task: str, config: dict) -> dict:
    """Trains one model and returns what it reached on the test videos."""
    import keras

    from vidpipe.models.classification import build_model
    from vidpipe.training.fit import fit, kept_epoch, prepare

    sampling, settings = chosen(Sampling, config), chosen(FitSettings, config)
    clips = np.load(_clips_path(folder, videos, sampling), mmap_mode="r")
    facts = json.loads(_facts_path(folder, videos).read_text())
    labels = facts[task]
    split = split_videos(
        {video: [label] for video, label in labels.items()},
        seed=settings.seed,
        near_pairs=map(tuple, facts["near_pairs"]),
    )
    classes = sorted(set(labels.values()))
    truth = np.array([classes.index(label) for label in labels.values()])
    splits = np.array([split.splits.get(video, "") for video in labels])
    rows = {name: np.flatnonzero(splits == name) for name in (TRAIN, VALIDATION, TEST)}
    keras.utils.clear_session()
    began_s, cpu_s = time.monotonic(), time.process_time()
    prepare(settings)
    model = build_model(chosen(Network, config), sampling, len(classes))
    history = fit(
        model,
        clips,
        np.eye(len(classes), dtype=np.float32)[truth],
        train=rows[TRAIN],
        validation=rows[VALIDATION],
        settings=settings,
        on_epoch=lambda epoch: None,
    )
    scores = np.concatenate([model.predict_on_batch(clips[[row]]) for row in rows[TEST]])
    right = scores.argmax(axis=1) == truth[rows[TEST]]
    return {
        "right": int(right.sum()),
        "of": len(right),
        "seconds": round(time.monotonic() - began_s, 1),
        "cpu_seconds": round(time.process_time() - cpu_s, 1),
        "kept_epoch": 1 + kept_epoch(history, settings),
        "epochs": len(history),
        "train_accuracy": round(history[-1]["train_accuracy"], 3),
        "train_loss": round(history[-1]["train_loss"], 4),
        "validation_accuracy": round(max(epoch["validation_accuracy"] for epoch in history), 3),
    }


def main() -> None:
    """Prepares the seeds, trains what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20, help="seeds 0 to this less one")
    parser.add_argument("--videos", type=int, default=20, help="seeds of videos, in turn")
    parser.add_argument("--architectures", nargs="+", default=["cnn_rnn", "attention"])
    parser.add_argument("--task", help="default: motion, or appearance of cnn")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="other settings")
    parser.add_argument("--onednn", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    results = args.folder / RESULTS
    if args.onednn is None:
        samplings = [chosen(Sampling, _config(args, name, 0)) for name in args.architectures]
        for videos in range(min(args.videos, args.seeds)):
            prepare_videos(args.folder, videos, samplings)
        for onednn, threads in itertools.product("01", THREADS):
            environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}
            command = [sys.executable, *sys.argv, "--onednn", onednn, "--threads", str(threads)]
            subprocess.run(command, check=True, env=environment)
        show(_read(results), args)
        return

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    for seed in range(args.seeds):
        if THREADS[(seed + int(args.onednn)) % len(THREADS)] != args.threads:
            continue
        for architecture in args.architectures:
            config = _config(args, architecture, seed)
            row = {
                "task": args.task or TASK_OF[architecture],
                "videos": seed % args.videos,
                "onednn": args.onednn,
                "threads": args.threads,
                "config": config,
            }
            if any(row.items() <= known.items() for known in _read(results)):
                continue
            row |= train(args.folder, row["videos"], row["task"], config)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def _config(args: argparse.Namespace, architecture: str, seed: int) -> dict:
    chosen_values = {name: json.loads(value) for name, value in (s.split("=", 1) for s in args.set)}
    return complete({"architecture": architecture, "seed": seed, **chosen_values})


def _read(results: Path) -> list[dict]:
    return (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )


def show(rows: list[dict], args: argparse.Namespace) -> None:
    """Prints a table of the runs of each architecture, and how many reach 0.95 and 0.90."""
    for architecture in args.architectures:
        task = args.task or TASK_OF[architecture]
        configs = [_config(args, architecture, seed) for seed in range(args.seeds)]
        of = [row for row in rows if row["task"] == task and row["config"] in configs]
        accuracies = [row["right"] / row["of"] for row in of]
        print(f"\n{architecture} on {task}: {len(of)} trainings,", end=" ")
        print(f"{sum(a >= 0.95 for a in accuracies)} at 0.95 or more,", end=" ")
        print(
            f"{sum(a >= 0.90 for a in accuracies)} at 0.90 or more, lowest {min(accuracies):.3f},"
        )
        print(f"CPU {np.median([row['cpu_seconds'] for row in of]):.0f} s (median)\n")
        print(
            "| seed | oneDNN off | threads | oneDNN on | threads |\n| --- | --- | --- | --- | --- |"
        )
        by = {(row["config"]["seed"], row["onednn"]): row for row in of}
        for seed in sorted({seed for seed, _ in by}):
            cells = [
                (f"{r['right'] / r['of']:.3f}", str(r["threads"])) if r else ("", "")
                for r in (by.get((seed, "0")), by.get((seed, "1")))
            ]
            print(f"| {seed} | " + " | ".join(itertools.chain(*cells)) + " |")


if __name__ == "__main__":
    main()
