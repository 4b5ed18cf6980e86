"""video2dataset: its own reading and subsampling; then pictures of the video that it makes.

What it writes is a small video, so a loop over that follows. Without audio, for which it asks
ffprobe, which the ffmpeg of the benchmark comes without.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import common
import cv2
from video2dataset import video2dataset
from video2dataset.subsamplers import NoOpSubsampler, ResolutionSubsampler

# The release asks its subsamplers for what they lack, and goes through keys while it changes them;
# both are mended here, where the processes that it spawns come by, too.
ResolutionSubsampler.encode_formats = {"video": "mp4"}


class Streams(dict):
    """Bears that its keys change while one goes through them."""

    def __iter__(self) -> Iterator:
        return iter(list(self.keys()))


NoOpSubsampler.__call__ = lambda self, streams, metadata: (Streams(streams), [metadata], None)


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    # It calls `ffmpeg`, by this name.
    (output / "bin").mkdir()
    (output / "bin" / "ffmpeg").symlink_to(os.environ["FFMPEG"])
    os.environ["PATH"] = f"{output / 'bin'}:{os.environ['PATH']}"
    urls = output / "urls.csv"
    urls.write_text(f"url\n{source}\n")
    video2dataset(
        url_list=str(urls),
        output_folder=str(output / "dataset"),
        output_format="files",
        input_format="csv",
        encode_formats={"video": "mp4"},
        config={
            "subsampling": {
                "FrameSubsampler": {"args": {"frame_rate": common.FPS}},
                "ResolutionSubsampler": {
                    "args": {"resize_mode": "scale", "height": common.SHORT_SIDE}
                },
            },
            "reading": {
                "yt_args": {"yt_metadata_args": {}},
                "timeout": 600,
                "sampler": None,
            },
            "storage": {
                "number_sample_per_shard": 1,
                "oom_shard_count": 5,
                "captions_are_subtitles": False,
            },
            "distribution": {
                "processes_count": 1,
                "thread_count": 1,
                "subjob_size": 1,
                "distributor": "multiprocessing",
            },
        },
    )
    made = next((output / "dataset").rglob("*.mp4"))
    write_pictures(made, output)


def write_pictures(made: Path, output: Path) -> None:
    """Makes JPEG files of each frame of a video."""
    video = cv2.VideoCapture(str(made))
    number = 0
    while True:
        there, frame = video.read()
        if not there:
            return
        quality = [cv2.IMWRITE_JPEG_QUALITY, common.JPEG_QUALITY]
        cv2.imwrite(str(common.frame_path(output, number)), frame, quality)
        number += 1


if __name__ == "__main__":
    main()
