"""Fields of the form of `annotate`: which file, how it is read, and what is done with it."""

from __future__ import annotations

from airflow.sdk import Param

from vidpipe.datasets.formats import AUTO, NAMES


def annotation_params() -> dict[str, Param]:
    """The annotation file and how it is imported."""
    return {
        "file": Param(
            type="string",
            pattern="^s3://[^/]+/.+",
            title="File",
            description="Where the labels are: s3://bucket/labels.csv, or a folder s3://bucket/yolo/.",
        ),
        "format": Param(
            AUTO,
            type="string",
            enum=[AUTO, *NAMES],
            title="Format",
            description="What kind of file it is; auto: as it is recognised.",
        ),
        "several": Param(
            False,
            type="boolean",
            title="Several labels",
            description="A video may have several labels at once, by the same annotator.",
        ),
        "video": Param(
            None,
            type=["null", "string"],
            title="Video of the file",
            description=(
                "The video that the whole file is about: URI, key, file name or id. Set it for the"
                " export of a CVAT job, or for frames whose names have no video. Empty: the file"
                " names its videos."
            ),
        ),
        "first_frame": Param(
            0,
            type="integer",
            enum=[0, 1],
            title="First frame number",
            description=(
                "The number of a video's first frame in COCO and YOLO files. Set 1 for files made"
                " from MOT Challenge data. Default: 0."
            ),
        ),
        "skip_faulty": Param(
            False,
            type="boolean",
            title="Skip faulty entries",
            description=(
                "Import the rest of a file that has faulty entries, and list these in the log."
                " Default: the file is refused as a whole."
            ),
        ),
        "diff": Param(
            False,
            type="boolean",
            title="Only show",
            description="Only show in the log what would change; import nothing.",
        ),
    }
