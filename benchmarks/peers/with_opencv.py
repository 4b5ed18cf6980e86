"""OpenCV: `grab` decodes every frame, `retrieve` converts the kept ones only. Without audio."""

from __future__ import annotations

import common
import cv2


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    cv2.setNumThreads(1)
    video = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    every = video.get(cv2.CAP_PROP_FPS) / common.FPS
    number = kept = 0
    while video.grab():
        if number >= kept * every:
            _, frame = video.retrieve()
            size = (common.WIDTH, common.HEIGHT)
            small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            quality = [cv2.IMWRITE_JPEG_QUALITY, common.JPEG_QUALITY]
            cv2.imwrite(str(common.frame_path(output, kept)), small, quality)
            kept += 1
        number += 1


if __name__ == "__main__":
    main()
