"""torchcodec: frames by their times, in batches, scaled while they are decoded; sound in one piece.

It brings no FFmpeg of its own: the script that starts this one lets it find PyAV's.
"""

from __future__ import annotations

import common
import torch
from torchcodec.decoders import AudioDecoder, VideoDecoder
from torchcodec.encoders import JpegEncoder
from torchcodec.transforms import Resize

BATCH = 32


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    torch.set_num_threads(1)
    resize = Resize((common.HEIGHT, common.WIDTH))
    video = VideoDecoder(source, num_ffmpeg_threads=1, transforms=[resize])
    times_s = torch.arange(0, video.metadata.duration_seconds, common.INTERVAL_S).tolist()
    for start in range(0, len(times_s), BATCH):
        frames = video.get_frames_played_at(times_s[start : start + BATCH]).data
        for offset, frame in enumerate(frames):
            path = common.frame_path(output, start + offset)
            JpegEncoder(frame).to_file(path, quality=common.JPEG_QUALITY)
    sound = AudioDecoder(source, sample_rate=common.SAMPLE_RATE_HZ, num_channels=1)
    samples = sound.get_all_samples().data[0].clamp(-1, 1)
    with common.open_sound(output) as file:
        file.writeframes((samples * 32767).to(torch.int16).numpy().tobytes())


if __name__ == "__main__":
    main()
