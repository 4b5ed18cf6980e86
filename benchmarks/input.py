"""Images a CPU second from Parquet, from TFRecord, and from decoded clips on the local disk.

The same JPEGs, batches of the same size, in an order that is shuffled. Beside ours stand what
people would write with TFRecord: a record a clip, files and then a buffer shuffled, decoded by
TensorFlow at a fraction of the size where that is enough; and the same with the decoder that
vidpipe uses. In turns, each an epoch from the first to the last batch, CPU seconds of all threads.

    PYTHONPATH=. python benchmarks/input.py --rounds 5
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import tensorflow as tf
from PIL import Image

from vidpipe.datasets.clips import decode, read_clips
from vidpipe.datasets.pipeline import Order, training_batches
from vidpipe.datasets.presets import Augmentation
from vidpipe.datasets.streaming import StreamedClips
from vidpipe.models.architectures import Sampling
from vidpipe.schemas import TABLES

FRAMES, BATCH, FILES = 12, 16, 4
STORED = 298, 224  # width and height of the pictures
RANDOM = np.random.default_rng(0)


def pictures(videos: int) -> Iterator[list[bytes]]:
    """The JPEGs of each video: coarse shapes under fine noise, about as large as those of films."""
    for _ in range(videos):
        coarse = RANDOM.integers(0, 256, (FRAMES, 8, 10, 3), dtype=np.uint8)
        jpegs = []
        for frame in coarse:
            smooth = np.asarray(Image.fromarray(frame).resize(STORED, Image.Resampling.BICUBIC))
            noisy = smooth + RANDOM.normal(0, 6, smooth.shape)
            file = io.BytesIO()
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
            jpegs.append(file.getvalue())
        yield jpegs


class Inputs:
    """The same pictures as Parquet, as TFRecord, and decoded.

    Args:
        folder: For the files.
        videos: How many.
        side: Pixels of what a network is given.
    """

    def __init__(self, folder: Path, videos: int, side: int):
        self.sampling = Sampling(FRAMES, side, side)
        self.videos = videos
        made = list(pictures(videos))
        self.bytes_each = sum(map(len, made[0])) / FRAMES
        for number in range(FILES):
            self._write(folder, number, made[number::FILES])
        self.frames = ds.dataset(sorted(folder.glob("*.parquet")))
        self.records = [str(path) for path in sorted(folder.glob("*.tfrecord"))]
        names = self.frames.to_table(columns=["video_id"])["video_id"].unique().to_pylist()
        self.extractions = dict.fromkeys(names, "w")
        path = folder / "clips.npy"
        self.stored = read_clips(self.frames, self.extractions, self.sampling, path).array
        self.labels = np.ones((videos, 1), np.float32)

    @staticmethod
    def _write(folder: Path, number: int, videos: list[list[bytes]]) -> None:
        spec = TABLES["frames"]
        rows = [
            {
                **dict.fromkeys(spec.schema.names),
                "video_id": f"{number}-{video:05d}",
                "frame_index": index,
                "time_s": index / 2,
                "key_frame": False,
                "width": STORED[0],
                "height": STORED[1],
                "jpeg": jpeg,
                "ingested_at": datetime.now(UTC),
                "work_key": "w",
                "run_key": "r",
            }
            for video, jpegs in enumerate(videos)
            for index, jpeg in enumerate(jpegs)
        ]
        table = pa.Table.from_pylist(rows, schema=spec.schema)
        # As stages write them (vidpipe/lake/files.py).
        pq.write_table(
            table,
            folder / f"{number}.parquet",
            row_group_size=spec.row_group_rows,
            compression="zstd",
            use_dictionary=[field.name for field in spec.schema if pa.types.is_string(field.type)],
        )
        with tf.io.TFRecordWriter(str(folder / f"{number}.tfrecord")) as writer:
            for jpegs in videos:
                of_clip = tf.train.Feature(bytes_list=tf.train.BytesList(value=jpegs))
                features = tf.train.Features(feature={"jpegs": of_clip})
                writer.write(tf.train.Example(features=features).SerializeToString())

    def streamed(self) -> tf.data.Dataset:
        """From the row groups of Parquet."""
        return self._ours(StreamedClips(self.frames, self.extractions, self.sampling))

    def cached(self) -> tf.data.Dataset:
        """From decoded clips."""
        return self._ours(self.stored)

    def _ours(self, clips) -> tf.data.Dataset:
        rows = np.arange(self.videos)
        return training_batches(
            clips,
            rows,
            self.labels,
            np.ones(self.videos),
            order=Order(clips, rows, batch_size=BATCH, seed=0),
            frames=FRAMES,
            augmentation=Augmentation(),
            seed=0,
            epochs=1,
        )

    def tfrecord(self) -> tf.data.Dataset:
        """From TFRecord, decoded by TensorFlow."""
        side = self.sampling.height
        # The largest fraction of the size at which nothing is lost.
        ratio = max(r for r in (1, 2, 4, 8) if min(STORED) // r >= side)

        def picture(jpeg: tf.Tensor) -> tf.Tensor:
            decoded = tf.io.decode_jpeg(jpeg, channels=3, ratio=ratio)
            return tf.image.resize(decoded, (side, side), antialias=True)

        def clip(jpegs: tf.Tensor) -> tf.Tensor:
            spec = tf.TensorSpec((side, side, 3), tf.float32)
            return tf.cast(tf.map_fn(picture, jpegs, fn_output_signature=spec), tf.uint8)

        return self._records(clip)

    def tfrecord_pillow(self) -> tf.data.Dataset:
        """From TFRecord, decoded by what vidpipe decodes with."""

        def decoded(jpegs: np.ndarray) -> np.ndarray:
            return np.stack([decode(jpeg, self.sampling, "", 0)[0] for jpeg in jpegs])

        return self._records(lambda jpegs: tf.numpy_function(decoded, [jpegs], tf.uint8))

    def _records(self, clip: Callable[[tf.Tensor], tf.Tensor]) -> tf.data.Dataset:
        features = {"jpegs": tf.io.FixedLenFeature((FRAMES,), tf.string)}
        return (
            tf.data.Dataset.from_tensor_slices(self.records)
            .shuffle(FILES, seed=0)
            .interleave(tf.data.TFRecordDataset, cycle_length=2)
            .shuffle(256, seed=0)
            .map(
                lambda record: clip(tf.io.parse_single_example(record, features)["jpegs"]),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            .batch(BATCH)
            .prefetch(2)
        )


def cpu_seconds(batches: tf.data.Dataset, videos: int) -> float:
    """Of an epoch."""
    started_s, seen = time.process_time(), 0
    for batch in batches:
        clips = batch[0] if isinstance(batch, tuple) else batch
        seen += clips.shape[0]
    assert seen == videos
    return time.process_time() - started_s


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=320)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    for side in chosen.sides:
        with tempfile.TemporaryDirectory() as name:
            inputs = Inputs(Path(name), chosen.videos, side)
            print(f"{side} pixels, {inputs.bytes_each / 1e3:.0f} kB a picture")
            kinds = ("streamed", "tfrecord", "tfrecord_pillow", "cached")
            rates: dict[str, list[float]] = {kind: [] for kind in kinds}
            for number in range(chosen.rounds + 1):
                for kind in kinds:
                    seconds = cpu_seconds(getattr(inputs, kind)(), chosen.videos)
                    if number:  # the first warms up
                        rates[kind].append(chosen.videos * FRAMES / seconds)
            for kind in kinds:
                shown = ", ".join(f"{rate:.0f}" for rate in rates[kind])
                print(f"  {kind}: {statistics.median(rates[kind]):.0f} images/CPU s ({shown})")
            for kind in kinds[1:]:
                ratios = [b / a for a, b in zip(rates[kind], rates["streamed"], strict=True)]
                print(f"  streamed / {kind}: {statistics.median(ratios):.2f}")
            ratios = [b / a for a, b in zip(rates["tfrecord"], rates["cached"], strict=True)]
            print(f"  cached / tfrecord: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
