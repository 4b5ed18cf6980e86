"""PyAV: the loop of its documentation, over both streams."""

from __future__ import annotations

import av
import common


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    kept = 0
    with av.open(source) as container, common.open_sound(output) as sound:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.thread_count = 1
        resampler = av.AudioResampler("s16", "mono", common.SAMPLE_RATE_HZ)
        for frame in container.decode(video, audio):
            if isinstance(frame, av.VideoFrame):
                if frame.time + common.ROUNDING_S >= kept * common.INTERVAL_S:
                    image = frame.to_image(width=common.WIDTH, height=common.HEIGHT)
                    image.save(common.frame_path(output, kept), quality=common.JPEG_QUALITY)
                    kept += 1
            else:
                for resampled in resampler.resample(frame):
                    sound.writeframes(resampled.to_ndarray().tobytes())
        for resampled in resampler.resample(None):
            sound.writeframes(resampled.to_ndarray().tobytes())


if __name__ == "__main__":
    main()
