"""decord: frames by their numbers, in batches, scaled by the reader; sound by its `AudioReader`."""

from __future__ import annotations

import common
import decord
import numpy as np
from PIL import Image

BATCH = 32


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    size = {"width": common.WIDTH, "height": common.HEIGHT}
    video = decord.VideoReader(str(source), num_threads=1, **size)
    every = video.get_avg_fps() / common.FPS
    numbers = np.arange(0, len(video), every).round().astype(int)
    for start in range(0, len(numbers), BATCH):
        batch = video.get_batch(numbers[start : start + BATCH]).asnumpy()
        for offset, frame in enumerate(batch):
            path = common.frame_path(output, start + offset)
            Image.fromarray(frame).save(path, quality=common.JPEG_QUALITY)
    sound = decord.AudioReader(str(source), sample_rate=common.SAMPLE_RATE_HZ, mono=True)
    samples = sound[:].asnumpy()
    with common.open_sound(output) as file:
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
