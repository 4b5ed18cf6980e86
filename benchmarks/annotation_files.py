"""How long the worst file of each format takes to be read, and how much memory, at its limits.

Each file is read in a process of its own, as an import reads it, and as a deletion does that looks
for a name. `tests/security/test_annotation_files.py` shows that what is beyond a limit is refused.

    PYTHONPATH=. python benchmarks/annotation_files.py [NAME …]
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator

from vidpipe.datasets.formats.given import (
    MAX_BYTES,
    MAX_FILES,
    MAX_JSON_BYTES,
    MAX_JSON_PARTS,
    MAX_LINES,
    Given,
    make_zip,
    of_file,
)
from vidpipe.datasets.formats.importing import mentions, parse_annotations
from vidpipe.datasets.formats.reading import MAX_ROWS
from vidpipe.datasets.video_names import VideoFacts, VideoNames
from vidpipe.errors import BadInputError

VIDEO = "f" * 64
FACTS = VideoFacts(6 * 3600.0, 60.0, 1920, 1080)
VIDEOS = VideoNames({"s3://videos/one.mp4": VIDEO}, {VIDEO: FACTS})
BOX = '"x":1,"y":1,"width":1,"height":1'


def lines(head: str, line: Callable[[int], str], count: int) -> bytes:
    """A text of many lines, as large as it may be."""
    return "\n".join([head, *map(line, range(count))]).encode()[:MAX_BYTES]


def document(begin: str, part: Callable[[int], str], end: str, parts: int = 1) -> bytes:
    """A JSON document that repeats a part, which consists of some objects and lists."""
    size = len(part(MAX_JSON_PARTS)) + 1
    count = min(MAX_JSON_PARTS // parts, (MAX_JSON_BYTES - 1000) // size) - 10
    return (begin + ",".join(map(part, range(count))) + end).encode()


def track(number: int) -> str:
    """A track of CVAT through the whole video, which is outside of the picture everywhere."""
    box = '<box frame="{}" xtl="-9" ytl="-9" xbr="-8" ybr="-8" outside="0" occluded="0"/>'
    return f'<track id="{number}" label="x">{box.format(0)}{box.format(1_290_000)}</track>'


def worst() -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Name, file name and content of each."""
    row = "one,label,{0}.5,{0}.75,somebody,0.1,0.1,0.2,0.2,track {0},true,group,train"
    columns = "video,label,start_s,end_s,annotator,box_x,box_y,box_width,box_height,track,occluded"
    columns += ",group,split"
    yield (
        "csv, rows",
        "a.csv",
        lambda: lines(columns, lambda n: row.format(n % 20000), MAX_ROWS),
    )
    yield "csv, unknown names", "a.csv", lambda: lines("video,label", "{0},x".format, MAX_LINES - 2)
    yield "csv, accents", "a.csv", lambda: lines("video,label", accents, 60_000)
    yield (
        "jsonl, rows",
        "a.jsonl",
        lambda: lines("", lambda n: json.dumps({"video": "one", "label": f"{n}"}), MAX_ROWS),
    )
    yield "jsonl, faults", "a.jsonl", lambda: lines("", lambda n: '{"label": 1}', MAX_LINES - 2)
    kinetics = "label,youtube_id,time_start,time_end,split"
    yield "kinetics", "a.csv", lambda: lines(kinetics, "x,{0},1,2,train".format, MAX_LINES - 2)
    yield "ucf101", "trainlist01.txt", lambda: lines("", "a{0}/{0}.avi 1".format, MAX_LINES - 2)
    yield (
        "activitynet",
        "a.json",
        lambda: document('{"database":{', lambda n: f'"{n}":{{"annotations":[]}}', "}}", 2),
    )
    image = '{{"id":{0},"file_name":"one_{0}.jpg"}}'
    yield (
        "coco, images",
        "a.json",
        lambda: document('{"annotations":[],"images":[', image.format, "]}"),
    )
    yield (
        "coco, parts",
        "a.json",
        lambda: document('{"annotations":[],"images":[', lambda n: "{}", "]}"),
    )
    yield (
        "coco, texts",
        "a.json",
        lambda: (
            document('{"annotations":[],"images":[', lambda n: '"ab"', "]}")[: 20 << 20].rpartition(
                b","
            )[0]
            + b',"ab"' * 8_000_000
            + b"]}"
        ),
    )
    result = (
        f'{{"type":"videorectangle","value":{{"labels":["x"],"sequence":[{{"frame":1,{BOX}}}]}}}}'
    )
    studio = '[{"data":{"video":"one"},"annotations":[{"result":['
    yield "label-studio", "a.json", lambda: document(studio, lambda n: result, "]}]}]", 5)
    yield "cvat", "a.xml", lambda: cvat()
    yield (
        "yolo, files",
        "a.zip",
        lambda: make_zip(
            {"classes.txt": b"x"}
            | {f"labels/no{n}_{n}.txt": b"0 .5 .5 1 1" for n in range(MAX_FILES - 10)}
        ),
    )
    yield (
        "yolo, rows",
        "a.zip",
        lambda: make_zip({"classes.txt": b"x", "labels/one_1.txt": b"0 2 2 1 1\n" * 3_999_999}),
    )
    yield "zip of zeros", "a.zip", lambda: make_zip({"a.csv": bytes(MAX_BYTES - 1)})


def accents(number: int) -> str:
    """A name that takes long to be put into one form."""
    return f"{number}" + "\u0301\u0323" * 1000 + ",x"


def cvat() -> bytes:
    """Tracks, as many as fit."""
    meta = "<annotations><meta><source>one</source></meta>"
    tracks = "".join(map(track, range((120 << 20) // len(track(1_000_000)))))
    return f"{meta}{tracks}</annotations>".encode()


def imported(given: Given) -> str:
    """Reads it as an import does."""
    try:
        return f"{len(parse_annotations(given, VIDEOS).annotations)} rows"
    except BadInputError as error:
        lines = str(error).splitlines()
        return f"{lines[0].partition(': ')[2]} {lines[1].strip() if lines[1:] else ''}"[:110]


def forgotten(given: Given) -> str:
    """Reads it as a deletion does."""
    return str(mentions(given, ["s3://videos/nope.mp4"]))


def measure(name: str, content: bytes, read: Callable[[Given], str], answer) -> None:
    """Sends processor time, peak memory and what came of it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s = time.process_time()
    try:
        result = read(of_file(name, content))
    except BadInputError as error:
        result = str(error)[:110]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.send((time.process_time() - started_s, (peak - before) / 1e6, result))


def main() -> None:
    """Prints a table."""
    print("| file | MB | import | GB | deletion | GB | outcome |")
    print("| --- | --: | --: | --: | --: | --: | --- |")
    processes = multiprocessing.get_context("fork")
    for title, name, make in worst():
        if sys.argv[1:] and title not in sys.argv[1:]:
            continue
        content = make()
        figures = []
        for read in (imported, forgotten):
            here, there = processes.Pipe()
            process = processes.Process(target=measure, args=(name, content, read, there))
            process.start()
            figures.append(here.recv())
            process.join()
        (import_s, import_gb, outcome), (forget_s, forget_gb, _) = figures
        print(
            f"| {title} | {len(content) / 1e6:.0f} | {import_s:.0f} s | {import_gb:.1f} |"
            f" {forget_s:.0f} s | {forget_gb:.1f} | {outcome} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
