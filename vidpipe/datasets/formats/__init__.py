"""Formats of annotations: one module each, of the same shape; `table.py` lists them.

Light on purpose: the form of the DAG `annotate` offers the names.
"""

NAMES = (
    "csv",
    "jsonl",
    "kinetics",
    "ucf101",
    "activitynet",
    "coco",
    "yolo",
    "cvat",
    "label-studio",
)
AUTO = "auto"
