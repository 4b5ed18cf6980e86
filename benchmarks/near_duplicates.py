"""What it takes to find the near duplicates among many videos, on one core.

Eight random frames of each, and some copies: more pairs that are alike take more.

    PYTHONPATH=. python benchmarks/near_duplicates.py --videos 20000
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from vidpipe.datasets.near_duplicates import SAMPLING, find_near_pairs
from vidpipe.datasets.splits import NEAR_DUPLICATE_BITS

COPIES = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=20_000)
    videos = parser.parse_args().videos
    random = np.random.default_rng(0)
    fingerprints = {
        f"{n:08}": " ".join(random.bytes(10).hex() for _ in range(SAMPLING.frames))
        for n in range(videos)
    }
    fingerprints |= {f"copy {n}": fingerprints[f"{n:08}"] for n in range(COPIES)}
    started_s = time.perf_counter()
    pairs = find_near_pairs(fingerprints, NEAR_DUPLICATE_BITS)
    seconds = time.perf_counter() - started_s
    assert len(pairs) == COPIES
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(fingerprints)} videos: {seconds:.1f} s, {memory_mb:.0f} MB, {len(pairs)} pairs")


if __name__ == "__main__":
    main()
