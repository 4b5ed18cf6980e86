"""ffmpeg itself: one run, its frames and its sound through pipes into one Parquet file each."""

from __future__ import annotations

import os
import subprocess
import threading

import common
import pyarrow as pa
import pyarrow.parquet as pq

READ_BYTES = 1 << 18
END = b"\xff\xd9"


def main() -> None:
    """Does the job."""
    source, output = common.arguments()
    filters = f"fps={common.FPS}:round=up,scale=-2:{common.SHORT_SIDE}"
    sound, sound_end = os.pipe()
    command = [
        os.environ["FFMPEG"],
        "-nostdin",
        "-loglevel",
        "error",
        "-threads",
        "1",
        "-i",
        source,
    ]
    command += ["-map", "0:v", "-vf", filters, "-q:v", str(common.FFMPEG_QUALITY)]
    command += ["-threads", "1", "-c:v", "mjpeg", "-f", "image2pipe", "pipe:1"]
    command += ["-map", "0:a", "-ac", "1", "-ar", str(common.SAMPLE_RATE_HZ)]
    command += ["-f", "s16le", f"pipe:{sound_end}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[sound_end])
    os.close(sound_end)
    samples: list[bytes] = []
    reader = threading.Thread(target=lambda: samples.append(os.fdopen(sound, "rb").read()))
    reader.start()
    write(output / "frames.parquet", "jpeg", pictures(process))
    reader.join()
    write(output / "audio.parquet", "samples", samples)
    if process.wait():
        raise SystemExit(process.returncode)


def pictures(process: subprocess.Popen[bytes]) -> list[bytes]:
    """Cuts what comes into JPEG files; within one, no marker of an end stands before the end."""
    found, held = [], bytearray()
    while content := os.read(process.stdout.fileno(), READ_BYTES):
        looked = max(0, len(held) - 1)
        held += content
        while (end := held.find(END, looked)) >= 0:
            found.append(bytes(held[: end + 2]))
            del held[: end + 2]
            looked = 0
    return found


def write(path: os.PathLike, column: str, values: list[bytes]) -> None:
    """Writes a table of one column."""
    pq.write_table(pa.table({column: values}), path, compression="none", use_dictionary=False)


if __name__ == "__main__":
    main()
