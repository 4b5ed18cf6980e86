"""Daft: a query over the frames, written as Parquet. Without audio."""

from __future__ import annotations

import common
import daft


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    frames = daft.read_video_frames(
        str(source),
        image_height=common.HEIGHT,
        image_width=common.WIDTH,
        sample_interval_seconds=common.INTERVAL_S,
    )
    jpeg = daft.functions.encode_image(frames["data"], "jpeg")
    frames.select("frame_index", "frame_time", jpeg.alias("jpeg")).write_parquet(str(output))


if __name__ == "__main__":
    main()
