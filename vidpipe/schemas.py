"""The tables: their columns, what makes a row unique, and how they are partitioned.

Every table that a stage produces has `work_key` (what the work was) and `run_key` (which DAG run
did it). Tables only grow: a correction, a withdrawal or a promotion is a newer row, and the
`current_…` views (`vidpipe/lake/views.py`) give what holds now. Only what is forgotten leaves them:
by which columns is told here, so that a table that is added here is one that forgets.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Table:
    """One table of the lake.

    Attributes:
        schema: Columns; the order is that of the files.
        key: Columns that together are unique.
        sort: Columns by which the rows of a file are sorted.
        names: What names a video in a row, or the object that it was read from: columns that hold a
            video id or a URI, or `uri@version`, the values of two columns. A row leaves the table
            when what one of them names is forgotten. Nothing has to be said as `()`.
        partition: Columns whose value is one per file: a timestamp partitions by day, a string by
            identity.
        row_group_rows: Rows a row group holds at most; small where one video's rows are read alone.
    """

    schema: pa.Schema
    key: tuple[str, ...]
    sort: tuple[str, ...]
    names: tuple[str, ...]
    partition: tuple[str, ...] = ()
    row_group_rows: int = 100_000


def _schema(*columns: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    """Columns are required unless their third member is True (may be null)."""
    return pa.schema([pa.field(c[0], c[1], nullable=len(c) == 3 and c[2]) for c in columns])


_KEYS = (("work_key", pa.string()), ("run_key", pa.string()))
_OBJECT = ("source_uri", "source_uri@source_version")

TABLES: dict[str, Table] = {
    # A change seen in a bucket: an object that appeared, was replaced, or is gone.
    "sources": Table(
        _schema(
            ("source_uri", pa.string()),
            ("source_version", pa.string()),  # the ETag, without quotes
            ("size_bytes", pa.int64()),
            ("modified_at", TIMESTAMP),
            ("seen_at", TIMESTAMP),
            ("video_id", pa.string(), True),  # null where the bytes were never read whole
            ("deleted", pa.bool_()),
            *_KEYS,
        ),
        key=("source_uri", "source_version", "deleted", "run_key"),
        sort=("source_uri",),
        names=("video_id", *_OBJECT),
    ),
    "videos": Table(
        _schema(
            ("video_id", pa.string()),  # hex SHA-256 of the bytes
            ("source_uri", pa.string()),  # where first seen
            ("source_version", pa.string()),
            ("size_bytes", pa.int64()),
            ("container", pa.string()),
            ("video_codec", pa.string()),
            ("audio_codec", pa.string(), True),  # null: no audio
            ("width", pa.int32()),  # as shown: rotation applied
            ("height", pa.int32()),
            ("rotation_deg", pa.int32()),
            # These three: as the container states them, unless what was read contradicts it.
            ("fps", pa.float64(), True),  # average rate
            ("frame_count", pa.int64(), True),
            ("duration_s", pa.float64()),
            ("bit_rate", pa.int64(), True),
            ("transfer", pa.string(), True),  # transfer characteristics, such as bt709, smpte2084
            ("primaries", pa.string(), True),  # colour primaries, such as bt709, bt2020
            ("video_track", pa.int32(), True),  # which one was read, from 1
            ("video_tracks", pa.int32(), True),  # of how many
            ("audio_track", pa.int32(), True),  # null: no audio
            ("audio_tracks", pa.int32(), True),
            ("audio_language", pa.string(), True),  # as the container states it
            ("extracted_frames", pa.int64()),
            ("extracted_audio_s", pa.float64()),
            ("decode_errors", pa.int64()),  # pictures and packets lost or spoilt; 0: it is whole
            ("missing_frames", pa.int64(), True),  # that should have been kept and did not decode
            ("dropped_frames", pa.int64(), True),  # of the missing ones: left out
            ("repeated_frames", pa.int64(), True),  # … replaced by the last good one
            ("interpolated_frames", pa.int64(), True),  # … replaced by a blend of their neighbours
            ("missing_audio_s", pa.float64(), True),  # late starts, gaps, sound that did not decode
            ("truncated", pa.bool_(), True),  # the file ends before its end
            ("decoder_words", pa.string(), True),  # what FFmpeg said first of what is wrong
            ("ingested_at", TIMESTAMP),
            *_KEYS,
        ),
        key=("work_key",),
        sort=("video_id",),
        names=("video_id", *_OBJECT),
    ),
    "frames": Table(
        _schema(
            ("video_id", pa.string()),
            ("frame_index", pa.int32()),  # 0, 1, 2 … among the frames kept
            ("pts", pa.int64(), True),  # presentation time in the stream's own time base
            ("time_s", pa.float64()),  # presentation time since the start of the container
            ("key_frame", pa.bool_()),
            ("sampling", pa.string(), True),  # why it is kept, such as fps=2
            ("damaged", pa.bool_(), True),  # something since the last key frame did not decode
            ("imputed_by", pa.string(), True),  # repeat, interpolate; null: it was decoded
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("jpeg", pa.binary()),
            ("ingested_at", TIMESTAMP),
            *_KEYS,
        ),
        key=("work_key", "frame_index"),
        sort=("video_id", "time_s"),
        names=("video_id",),
        partition=("ingested_at",),
        row_group_rows=256,
    ),
    "audio": Table(
        _schema(
            ("video_id", pa.string()),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("imputed_by", pa.string(), True),  # silence; null: it was decoded
            ("samples", pa.binary()),  # 16 kHz, mono, signed 16 bit, little endian
            ("ingested_at", TIMESTAMP),
            *_KEYS,
        ),
        key=("work_key", "start_s"),
        sort=("video_id", "start_s"),
        names=("video_id",),
        partition=("ingested_at",),
        row_group_rows=16,
    ),
    "annotations": Table(
        _schema(
            ("task", pa.string()),
            ("video_id", pa.string()),
            ("start_s", pa.float64(), True),  # null: the whole video; equal to end_s: one frame
            ("end_s", pa.float64(), True),
            # Null: somebody looked, and there is nothing of this task. (Tables that were made when
            # it was required evolve: what is read of them is never null.)
            ("label", pa.string(), True),
            ("box_x", pa.float64(), True),  # of the top left corner, in shares of the picture
            ("box_y", pa.float64(), True),  # as shown, 0 to 1; null: no box
            ("box_width", pa.float64(), True),
            ("box_height", pa.float64(), True),
            ("track", pa.string(), True),  # which thing it is, within the video and annotator
            ("occluded", pa.bool_(), True),  # something is before it; null: not told
            ("group", pa.string(), True),  # what the video belongs to: a scene, a camera, a flight
            ("split", pa.string(), True),  # train, validation, test, as an official list has it
            ("annotator", pa.string()),  # "" where the file names none
            ("source", pa.string()),  # file and line
            # The rows of the newest import of (task, video, range, annotator) hold, as a set.
            ("annotated_at", TIMESTAMP),
            ("withdrawn", pa.bool_()),
            *_KEYS,
        ),
        key=("work_key", "source"),
        sort=("video_id", "start_s"),
        names=("video_id",),
        partition=("task",),
    ),
    # How a video looks, to find near duplicates: made once for each extraction.
    "fingerprints": Table(
        _schema(
            ("video_id", pa.string()),
            ("extraction", pa.string()),  # work key of the frames
            ("method", pa.string()),
            # Of each of some frames 16 hexadecimal digits of hash and 4 of colour; - : no hash.
            ("fingerprint", pa.string()),
            *_KEYS,
        ),
        key=("work_key", "video_id"),
        sort=("video_id",),
        names=("video_id",),
    ),
    "splits": Table(
        _schema(
            ("dataset", pa.string()),  # the task it is for
            ("version", pa.string()),  # hash of what is in it
            ("video_id", pa.string()),
            ("label", pa.string(), True),  # null where a video may have several
            ("labels", pa.string(), True),  # these, as a JSON list; null where it has one
            ("split", pa.string()),  # train, validation or test
            ("group", pa.string()),  # its unit: what belongs together and is in one split
            ("weight", pa.float64()),
            ("pseudo_label_of", pa.string(), True),  # the model version it is of; null: people's
            ("seed", pa.int64(), True),  # what the split was drawn by, and how
            ("test_share", pa.float64(), True),
            ("validation_share", pa.float64(), True),
            ("proof", pa.string(), True),  # what proves it, as JSON; one for all rows of a version
            ("split_at", TIMESTAMP, True),  # of these columns, null: made before there were any
            *_KEYS,
        ),
        key=("work_key", "video_id"),
        sort=("video_id",),
        names=("video_id", "group"),
        partition=("dataset",),
    ),
    "labels": Table(
        _schema(
            ("task", pa.string()),
            ("video_id", pa.string()),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("label", pa.string()),
            ("score", pa.float64()),
            ("accepted", pa.bool_()),  # its score reached the threshold
            ("model", pa.string()),
            ("model_version", pa.string()),
            ("labelled_at", TIMESTAMP),
            *_KEYS,
        ),
        key=("work_key", "start_s", "label"),
        sort=("video_id", "start_s"),
        names=("video_id",),
        partition=("task",),
    ),
    # What was picked for people to look at, and what the champion had said of it by then. A review
    # is a run; what people answered is in `annotations`, and `current_reviews` joins the two.
    "reviews": Table(
        _schema(
            ("task", pa.string()),
            ("video_id", pa.string()),
            ("picked_for", pa.string()),  # random (to measure on), disagreeing, uncertain
            ("label", pa.string()),
            ("score", pa.float64()),
            ("accepted", pa.bool_()),
            ("model", pa.string()),
            ("model_version", pa.string()),
            ("challenger_version", pa.string(), True),  # null: it did not judge this video
            ("challenger_label", pa.string(), True),
            ("picked_at", TIMESTAMP),
            ("links_until", TIMESTAMP),  # when the links to the videos end
            ("files_uri", pa.string()),  # folder of the tasks for other tools
            *_KEYS,
        ),
        key=("work_key", "label"),
        sort=("video_id", "label"),
        names=("video_id",),
        partition=("task",),
    ),
    "promotions": Table(
        _schema(
            ("task", pa.string()),
            ("model", pa.string()),
            ("model_version", pa.string()),
            ("promoted_at", TIMESTAMP),
            ("promoted_by", pa.string()),  # run key or person
            ("replaced_version", pa.string(), True),
            ("why", pa.string()),
            *_KEYS,
        ),
        key=("work_key",),
        sort=("promoted_at",),
        names=(),
    ),
    # What is never ingested again. The newest row of (tombstone, belongs_to) holds.
    "forgotten": Table(
        _schema(
            # Hex SHA-256 of what is not to be seen again: it tells it when it comes back, and
            # names nothing until then.
            ("tombstone", pa.string()),
            # video (its id), source (URI), object (URI@version), place (URI of one) or run (key)
            ("kind", pa.string()),
            ("belongs_to", pa.string()),  # tombstone of what it is lifted with; its own: by itself
            ("lifted", pa.bool_()),
            ("forgotten_at", TIMESTAMP),  # of a lifted one: when it was lifted
            ("why", pa.string()),
            *_KEYS,
        ),
        key=("work_key",),
        sort=("tombstone",),
        names=(),
    ),
    # One row for each item that a stage was given. Published last: a run is visible when they are.
    "outcomes": Table(
        _schema(
            ("stage", pa.string()),
            ("item", pa.string()),
            ("work_key", pa.string(), True),  # null until the bytes are known
            ("run_key", pa.string()),
            ("source_uri", pa.string(), True),
            ("source_version", pa.string(), True),
            ("video_id", pa.string(), True),
            ("status", pa.string()),  # done, skipped, quarantined, failed
            ("reason", pa.string(), True),  # a word of REASONS; null when done
            ("message", pa.string(), True),
            ("attempt", pa.string()),
            ("seconds", pa.float64()),
            ("shard", pa.string()),
            ("code_version", pa.string()),
            ("finished_at", TIMESTAMP),
        ),
        key=("run_key", "stage", "item"),
        sort=("stage", "item"),
        names=("video_id", "source_uri", "item"),
        partition=("stage",),
    ),
}
