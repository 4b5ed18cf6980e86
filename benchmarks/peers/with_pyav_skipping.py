"""PyAV, packet by packet: frames that nobody refers to and nobody keeps are not decoded."""

from __future__ import annotations

import math

import av
import common


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    kept = 0
    first_s: dict[int, float] = {}
    with av.open(source) as container, common.open_sound(output) as sound:
        video, audio = container.streams.video[0], container.streams.audio[0]
        video.thread_count = 1
        resampler = av.AudioResampler("s16", "mono", common.SAMPLE_RATE_HZ)
        for packet in container.demux(video, audio):
            if packet.stream is video and packet.pts is not None:
                time_s = float(packet.pts * packet.time_base)
                moment = math.floor((time_s + common.ROUNDING_S) * common.FPS)
                wanted = time_s < first_s.get(moment, math.inf)
                if wanted:
                    first_s[moment] = time_s
                video.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"
            for frame in packet.decode():
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
