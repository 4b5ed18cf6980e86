"""Annotation files come from strangers: none of them hangs, fills the memory or reads elsewhere."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.formats.labelled import FACTS, VIDEOS
from tests.datasets.formats.reading import read, video
from tests.datasets.formats.test_boxes import CVAT, YOLO, choices, coco, rectangle, task
from tests.datasets.formats.test_lists import CLASSES, KINETICS, activitynet
from vidpipe.config import AnnotateSettings
from vidpipe.datasets.agreement import measure_agreement
from vidpipe.datasets.annotations import Box, Key, Statement
from vidpipe.datasets.formats import given as givens
from vidpipe.datasets.formats import reading
from vidpipe.datasets.formats.budget import Budget
from vidpipe.datasets.formats.given import SIDECAR, make_zip, of_file, read_zip
from vidpipe.datasets.formats.importing import mentions, parse_annotations
from vidpipe.datasets.formats.table import FORMATS
from vidpipe.datasets.video_names import VideoNames
from vidpipe.errors import BadInputError, UsageError
from vidpipe.lake import layout
from vidpipe.stages import by_hand
from vidpipe.stages.staged import staged_objects
from vidpipe.stages.subject import Subject
from vidpipe.text import near_texts

YOLO_BYTES = {p: c if isinstance(c, bytes) else c.encode() for p, c in YOLO.items()}
CPU_S = 60  # seconds of processor time: what is linear takes a few, what is not takes many minutes


@pytest.fixture(autouse=True)
def _little_processor_time() -> Iterator[None]:
    """Fails a test that computes for long, however busy the machine is."""

    def fail(*_signal: Any) -> None:
        pytest.fail(f"more than {CPU_S} s of processor time")

    before = signal.signal(signal.SIGPROF, fail)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def refused(name: str, content: Any, words: str, **options: Any) -> str:
    """Asserts that a file is refused in a line of those words; forgetting it ends as well."""
    as_bytes = content if isinstance(content, bytes) else _bytes(content)
    mentions(of_file(name, as_bytes), ["s3://videos/a/nope.mp4"])
    with pytest.raises(BadInputError, match=words) as error:
        parse_annotations(of_file(name, as_bytes), VIDEOS, **options)
    message = str(error.value)
    assert len(message) < 10_000 and message.count("\n") < 30
    return message


def _bytes(content: Any) -> bytes:
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def stored(name: str, content: bytes | str, mode: int = 0o644) -> bytes:
    """An archive of one file, which may be a link."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return target.getvalue()


def yolo(files: dict[str, str]) -> bytes:
    """An archive of a YOLO folder with other files in it."""
    return make_zip({**YOLO_BYTES, **{path: text.encode() for path, text in files.items()}})


# === As large as it can be made ===


@pytest.mark.parametrize("columns", ["video,label", KINETICS.strip()])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_a_hundred_thousand_columns(columns, separator):
    """Tries: a CSV of 100,000 columns, to have each compared with all others in every row.

    Stopped by: a limit of 1,000 columns; they are counted before any row is read.
    """
    names = [*columns.split(","), *(f"c{n}" for n in range(100_000))]
    rows = "".join(separator.join(["one"] * 1000) + "\n" for _ in range(100))
    words = "line 1: more than 1000 columns are not read. Received: 10000[25]"
    refused("labels.csv", f"{separator.join(names)}\n{rows}", words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "video,label\n" + "," * 20_000_000, "line 2: a row of more than 1048576 char"),
        ("a.csv", "," * 20_000_000, "line 1: a row of more than 1048576 characters"),
        ("a.csv", "video,label\n" + '"\n",' * 2_000_000, "a row of more than 1048576 characters"),
        ("a.csv", "video,label\n" + '"' + "x" * 200_000, "field larger than field limit"),
        ("a.jsonl", '{"video":[' + "[]," * 10_000_000, "line 1: a line of more than 1048576 ch"),
        ("trainlist01.txt", "x" * 20_000_000, "line 1: a line of more than 1048576 characters"),
    ],
)
def test_a_line_without_an_end(name, content, words):
    """Tries: one line or row of tens of millions of values, each of which becomes an object.

    Stopped by: a limit of 1 MiB for a line and for a row, which may have line breaks in quotes.
    """
    refused(name, content, words)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "trainlist01.txt"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_millions_of_empty_lines(name, end):
    """Tries: a file of nothing but line breaks, which no limit of rows ever counts.

    Stopped by: a limit of 4,000,000 lines, counted before the text is cut into them.
    """
    content = (KINETICS if name == "a.csv" else "") + end * 5_000_000
    refused(name, content, "more than 4000000 lines are not read at once; cut it by videos")


@pytest.mark.parametrize("part", ["[],", "{},", '{"a":1},'])
@pytest.mark.parametrize("name", ["a.json", "labels.csv"])
def test_a_document_of_millions_of_empty_parts(name, part):
    """Tries: a document, or a sidecar, of millions of objects,
    each twenty times as large in memory.

    Stopped by: a limit of 5,000,000 objects and lists, counted before the document is parsed.
    """
    document = f'{{"rows": [{part * 5_500_000}[]]}}'.encode()
    words = "a JSON document of more than 5000000 objects and lists is not read"
    if name == "a.json":
        refused(name, document, words)
    else:
        with pytest.raises(BadInputError, match=words):
            parse_annotations(of_file(name, b"video,label\none,x\n", document), VIDEOS)


@pytest.mark.parametrize("name", ["deep.json", "deep.jsonl", "deep.xml", "data.yaml"])
def test_what_is_nested_deeply(name):
    """Tries: a document nested 100,000 deep, to overflow the stack.

    Stopped by: the recursion limit of the parsers, told in words; XML: a limit of 100.
    """
    if name == "data.yaml":
        content = make_zip({name: b"[" * 100_000, "labels/one_1.txt": b""})
        refused("yolo.zip", content, "not YAML that can be read")
        return
    content = b"<annotations>" + b"<a>" * 100_000 if name.endswith("xml") else b"[" * 100_000
    refused(name, content, "nested too deeply")


def test_a_file_of_too_many_rows(monkeypatch):
    """Tries: two keyframes of a track, between which there are more boxes than fit in memory.

    Stopped by: the limit of rows of an import, which counts what is made of the file.
    """
    monkeypatch.setattr(reading, "MAX_ROWS", 100)
    moving = rectangle((1, True, 1), (200, False, 2))
    refused("p.json", [task(moving)], "^p.json: more than 100 rows")


def test_a_sidecar_of_too_many_rows(monkeypatch):
    """Tries: a sidecar that adds more rows than a file may have.

    Stopped by: the same limit, which counts the rows of both.
    """
    monkeypatch.setattr(reading, "MAX_ROWS", 100)
    also = [{"video": "one", "label": "x", "annotator": str(n)} for n in range(100)]
    with pytest.raises(BadInputError, match="labels.csv: more than 100 rows"):
        read("labels.csv", "video,label\none,y\n", {"also": also})


def test_a_track_through_frames_that_no_video_has():
    """Tries: keyframes at frame 0 and 2^53, to have every frame between them computed.

    Stopped by: the last frame of the video; a frame rate that no video has is refused.
    """
    huge = rectangle((1, True, 1), (2**52, True, 2), framesCount=2**52, duration=1.0)
    refused("p.json", [task(huge)], "frames in 1 s are no video")
    far = CVAT.replace('frame="6"', 'frame="9007199254740000"').replace('frame="9"', 'frame="5"')
    assert len(read("a.xml", far).annotations) < 1000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "video,label\none," + "x" * 100_000),
        ("a.jsonl", {"video": "one", "label": "x" * 1_000_000}),
        ("a.jsonl", {"video": "one", "label": "x", "annotator": "x" * 1_000_000}),
        ("a.jsonl", {"video": "one", "label": "x", "group": "x" * 1_000_000}),
        ("p.json", [task(choices("x" * 20_000_000))]),
        ("a.xml", CVAT.replace('label="car"', f'label="{"x" * 2_000_000}"')),
    ],
)
def test_a_label_of_megabytes(name, content):
    """Tries: a label of megabytes, which is in every row of a track, and in every message.

    Stopped by: a limit of 1,000 characters for each text of an annotation.
    """
    refused(name, content, r"is longer than 1000 characters. Received: 'x{50}'…; shorten it")


# === Slow by what it says ===


DIGITS = "9" * 1_000_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", f'{{"images": [], "annotations": [{{"id": {DIGITS}}}]}}'),
        ("a.jsonl", f'{{"video": "one", "label": "x", "start_s": {DIGITS}, "end_s": 1}}'),
        ("a.csv", f"video,label,start_s,end_s\none,x,{DIGITS[:100_000]},1\n"),
        ("a.xml", CVAT.replace('frame="4"', f'frame="{DIGITS}"')),
        (
            "yolo.zip",
            make_zip({**YOLO_BYTES, "data.yaml": f"names: {{{DIGITS[:200_000]}: a}}".encode()}),
        ),
        (
            "yolo.zip",
            make_zip({**YOLO_BYTES, "data.yaml": b"names: {" + b"1:" * 400_000 + b"1: a}"}),
        ),
        ("yolo.zip", make_zip({**YOLO_BYTES, "labels/one_5.txt": DIGITS.encode() + b" .5 .5 1 1"})),
        ("yolo.zip", make_zip({**YOLO_BYTES, f"labels/one_{'9' * 900}.txt": b"0 .5 .5 1"})),
    ],
)
def test_a_number_of_a_million_digits(name, content):
    """Tries: numbers of up to a million digits: to read one takes the square of that.

    Stopped by: limits of the digits, ours or Python's, looked at before a number is converted.
    """
    refused(name, content, r"nothing was imported|more than 1000 digits|many digits")


COLLIDING = [n * (2**61 - 1) for n in range(1, 100_001)]  # all have the hash 0


@pytest.mark.parametrize("name", ["coco.json", "studio.json", "yolo.zip"])
def test_ids_that_all_have_the_same_hash(name):
    """Tries: ids of images, regions or classes that all have the same hash, so that a dictionary
    of them takes the square of their number.

    Stopped by: ids are texts, or numbers of 64 bits, of which few have the same hash.
    """
    if name == "coco.json":
        images = [{"id": n, "file_name": "one_1.jpg"} for n in COLLIDING]
        refused(name, coco(images=images), r"images\[9\].id: .* Received: a number of many digits")
    elif name == "studio.json":
        regions = [{**choices("left"), "type": "labels", "value": {}, "id": n} for n in COLLIDING]
        refused(name, [task(*regions)], "a number of seconds is needed")
    else:
        names = ",".join(f"{n}: a" for n in COLLIDING[:30_000])
        content = make_zip({**YOLO_BYTES, "data.yaml": f"names: {{{names}}}".encode()})
        refused(name, content, "a number of many digits is not read")


ACCENTED = "a" + "\u0301\u0323" * 150_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"video": "' + ACCENTED + '", "label": "x"}'),
        ("coco.json", coco(images=[{"id": 1, "file_name": f"{ACCENTED}_000001.jpg"}])),
        ("studio.json", [{**task(choices("x")), "data": {"video": ACCENTED}}]),
        ("activity.json", activitynet(**{ACCENTED: {"annotations": [{"label": "x"}]}})),
        ("trainlist01.txt", f"x/{ACCENTED}.avi 1\n"),
    ],
)
def test_a_name_of_a_hundred_thousand_accents(name, content):
    """Tries: a name of 300,000 accents in the wrong order: to sort them takes the square of that.

    Stopped by: a name longer than any key is compared as it is written.
    """
    refused(name, content, "no video is called|is known|of more than 16384 characters")


@pytest.mark.parametrize(
    "stem",
    [
        "a" * 300_000,
        "1" * 300_000,
        "a_a" * 100_000,
        "_g1_c1" * 50_000 + "_g" + "1" * 100_000,
        "v_" + "_g1" * 100_000 + "_c",
        "_jpg.rf." * 40_000,
        "_frame_1" * 40_000 + "x",
        "0a1b2c3d-" * 30_000,
        "aB1_" * 80_000,
        "_aB34567" * 40_000 + ".",
        "_000000_000000" * 20_000 + "_",
    ],
    ids=lambda stem: stem[:12],
)
def test_names_made_for_regular_expressions(stem):
    """Tries: names of pictures, videos and addresses that expressions match in very many ways.

    Stopped by: expressions that have one way to match, on names of bounded length where they have
    more.
    """
    names = stem, f"{stem}.avi", f"{stem}_000001.jpg"
    refused("coco.json", coco(images=[{"id": n, "file_name": x} for n, x in enumerate(names)]), ".")
    refused("studio.json", [{**task(choices("x")), "data": {"video": n}} for n in names], ".")
    refused("trainlist01.txt", "".join(f"x/{name} 1\n" for name in names), "is known")
    refused("a.csv", KINETICS + "".join(f"x,{name[:99_000]},1,2,train\n" for name in names), ".")
    first_lines = ("1," * 2000, "1 " * 2000, "a,1" + ".1" * 2000, "0.0 " + "1" * 4000)
    for line in first_lines:
        refused("a.txt", f"{line}\n", ".")


def test_names_made_to_be_compared_for_long():
    """Tries: thousands of objects in the bucket whose names resemble each other so that each
    comparison takes the cube of their length, and a file that asks for near ones.

    Stopped by: a bounded comparison: the first 10,000 names, 100 characters, the 200 likeliest.
    """
    names = ["".join(f"aa{chr(0x800 + n + k)}a" for k in range(25)) for n in range(10_000)]
    sources = {f"s3://videos/{name}.mp4": str(number) for number, name in enumerate(names)}
    videos = VideoNames(sources, {})
    rows = ["".join(f"aa{chr(0x400 + n + k)}a" for k in range(25)) for n in range(5)]
    given = of_file("a.csv", "".join(["video,label\n", *(f"{n},x\n" for n in rows)]).encode())
    with pytest.raises(BadInputError, match="near names") as error:
        parse_annotations(given, videos)
    assert str(error.value).count("near names") == 5
    labels = [label * 10 for label in names]
    assert near_texts(labels[7][:-1], labels, 1) == [labels[7]]


def test_a_file_name_that_is_in_every_folder():
    """Tries: 20,000 videos of one file name, and a file of as many paths that end in it.

    Stopped by: an index of the folders above each name, so that a path is looked up and not
    compared with all others.
    """
    sources = {f"s3://videos/{n}/clip.mp4": f"{n:064}" for n in range(20_000)}
    videos = VideoNames(sources, {f"{n:064}": FACTS[video(1)] for n in range(20_000)})
    paths = [f"data/{n}/clip_000001.jpg" for n in range(20_000)]
    boxes = coco(
        images=[{"id": n, "file_name": path} for n, path in enumerate(paths)], annotations=[]
    )
    read_ = parse_annotations(of_file("coco.json", json.dumps(boxes).encode()), videos)
    assert [a.key.video_id for a in read_.annotations] == sorted(videos.videos)
    elsewhere = json.dumps(boxes).replace("data/", "x")
    with pytest.raises(BadInputError, match="20000 videos are called"):
        parse_annotations(of_file("coco.json", elsewhere.encode()), videos)


def test_a_list_of_a_folder_for_each_video():
    """Tries: a list of 100,000 videos, each in a folder of its own that might be a class.

    Stopped by: the folders are put into one form once, and not for each video.
    """
    lines = "".join(f"class{n}/two.mp4 1\n" for n in range(100_000))
    refused("trainlist01.txt", lines, "2 videos are called|is known")


def test_a_project_of_as_many_tasks_as_tracks():
    """Tries: CVAT's XML of 60,000 tasks and as many tracks, each of another task.

    Stopped by: tasks are found by their ids.
    """
    tasks = "".join(f"<task><id>{n}</id><name>x</name></task>" for n in range(60_000))
    box = '<box frame="0" xtl="0" ytl="0" xbr="9" ybr="9" outside="0" occluded="0"/>'
    tracks = "".join(
        f'<track id="0" task_id="{n}" label="x">{box}</track>' for n in range(59_999, -1, -1)
    )
    meta = f"<meta><project><tasks>{tasks}</tasks></project></meta>"
    refused("a.xml", f"<annotations>{meta}{tracks}</annotations>", "no video is called 'x'")


def _judged(annotators: int, statements: Callable[[int], frozenset], *span: float | None) -> dict:
    return {Key("v", *span, str(n)): statements(n) for n in range(annotators)}


@pytest.mark.parametrize(
    ("current", "annotators"),
    [
        (_judged(20_000, lambda n: frozenset({Statement(str(n))}), None, None), 20_000),
        (
            _judged(
                2,
                lambda n: frozenset(
                    Statement("x", Box(0, 0, 1 - k * 1e-6, 1 - n * 1e-6)) for k in range(20_000)
                ),
                1.0,
                1.0,
            ),
            2,
        ),
        (
            {
                Key("v", k * 1e-6, 100.0, str(n)): frozenset({Statement("x")})
                for n in range(2)
                for k in range(n, 40_000, 2)
            }
            | {Key("v", None, None, "0"): frozenset({Statement("x")})},
            2,
        ),
        (
            {
                Key("v", float(k), k + 1.0, str(n)): frozenset({Statement(f"{n}{k}")})
                for n in range(2)
                for k in range(20_000)
            },
            2,
        ),
    ],
    ids=["annotators", "boxes", "ranges", "labels"],
)
def test_annotations_that_are_all_compared_with_each_other(current, annotators):
    """Tries: 20,000 annotators of one video, boxes in one frame, ranges of one video, or labels,
    each of which the agreement compares with all others.

    Stopped by: a limit of comparisons; what has more is left out, which the message tells. Labels
    are looked up only where somebody saw them.
    """
    agreement = measure_agreement(current)
    if agreement.left_out:
        assert "left out, which have too many pairs to compare" in agreement.summary
    assert len(agreement.annotators) == annotators or agreement.summary == ""


# === The budget ===


FILES: dict[str, bytes] = {
    "labels.csv": b"video,label\n" + b"one,x\n" * 2000,
    "kinetics.csv": (KINETICS + "x,one,2,9,train\n" * 2000).encode(),
    "row.jsonl": b'{"video": "one", "label": "x"}\n' * 2000,
    "trainlist01.txt": b"Archery/one.avi 1\n" * 2000,
    "activitynet.json": _bytes(
        activitynet(**{f"one{n}": {"annotations": []} for n in range(2000)})
    ),
    "coco.json": _bytes(coco(annotations=[{"image_id": 7}] * 2000)),
    "studio.json": _bytes([task(choices("left"))] * 2000),
    "track.xml": CVAT.replace("<track", "<version/>" * 2000 + "<track", 1).encode(),
    "yolo.zip": make_zip({**{f"labels/one_{n}.txt": b"" for n in range(100)}, "classes.txt": b"a"}),
    "ucf.zip": make_zip(
        {"classInd.txt": CLASSES.encode(), "testlist01.txt": b"Archery/one.avi\n" * 2000}
    ),
}


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (AnnotateSettings(max_s=0.0), r"takes more than 0 s of processor time\. Cut it by videos"),
        (AnnotateSettings(max_gb=-1.0), r"takes more than -1 GB of memory\. Cut it by videos"),
    ],
    ids=["time", "memory"],
)
def test_a_file_that_takes_longer_or_more_than_an_import_may(name, limits, words):
    """Tries: a file of any format that has found another way to be slow or large.

    Stopped by: a budget of processor time and memory, looked at with every entry; forgetting takes
    the file for one that names the video.
    """
    given = of_file(name, FILES[name])
    with pytest.raises(BadInputError, match=rf"^{name}: reading it {words}") as error:
        parse_annotations(given, VIDEOS, budget=Budget(limits), skip_faulty=True)
    assert "\n" not in str(error.value)
    assert not mentions(given, ["s3://videos/a/nope.mp4"])
    assert mentions(given, ["s3://videos/a/nope.mp4"], Budget(limits))


# === Archives ===


def test_an_archive_that_unpacks_to_gigabytes(monkeypatch):
    """Tries: an archive of a few kilobytes that unpacks to 200 MB.

    Stopped by: a limit of what is unpacked, all files of the archive together.
    """
    monkeypatch.setattr(givens, "MAX_BYTES", 1_000_000)
    bomb = BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"labels/one_{number}.txt", bytes(50_000_000))
    content = bomb.getvalue()
    assert len(content) < 1_000_000
    tracemalloc.start()
    with pytest.raises(BadInputError, match="are not read at once"):
        of_file("labels.zip", content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_an_archive_whose_files_share_their_bytes(monkeypatch):
    """Tries: an archive whose directory names the same compressed bytes thousands of times.

    Stopped by: the limit counts what comes out, whatever the directory tells of it.
    """
    monkeypatch.setattr(givens, "MAX_BYTES", 2_000_000)
    one = BytesIO()
    with zipfile.ZipFile(one, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.txt", bytes(100_000))
    content = one.getvalue()
    begin = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entries = content[begin:end] * 1000
    tail = bytearray(content[end:])
    struct.pack_into("<HHL", tail, 8, 1000, 1000, len(entries))
    with pytest.raises(BadInputError, match="are not read at once|twice|broken"):
        of_file("labels.zip", content[:begin] + entries + bytes(tail))


def test_an_archive_of_too_many_files(monkeypatch):
    """Tries: an archive of millions of empty files, whose directory alone fills the memory.

    Stopped by: its entries are counted before the directory is read.
    """
    monkeypatch.setattr(givens, "MAX_FILES", 20)
    content = make_zip({f"{number}.txt": b"" for number in range(21)})
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(BadInputError, match="are not read at once"):
        of_file("labels.zip", content)


def test_a_path_of_an_archive_that_every_row_repeats():
    """Tries: a file in an archive whose path has 60,000 characters: every row tells its place.

    Stopped by: a limit of 1,024 characters for a path.
    """
    path = f"labels/{'x' * 60_000}_1.txt"
    content = make_zip({**YOLO_BYTES, path: b"0 .5 .5 1 1\n" * 100_000})
    with pytest.raises(BadInputError, match="is longer than 1024 characters. Received: 'labels/x"):
        of_file("yolo.zip", content)


def test_names_in_an_archive_that_lead_out_of_it(tmp_path, monkeypatch):
    """Tries: an archive whose files are called ../x, /x or ..\\x, to be written elsewhere.

    Stopped by: nothing is written: names in an archive are only compared.
    """
    monkeypatch.chdir(tmp_path)
    outside = {
        "../labels/one_1.txt": b"0 .5 .5 1 1",
        "/labels/one_2.txt": b"",
        "..\\labels\\one_3.txt": b"",
        "data.yaml": b"names: [car]",
    }
    archive = make_zip(outside)
    assert len(parse_annotations(of_file("x.zip", archive), VIDEOS).annotations) == 3
    assert not any(tmp_path.iterdir())


def test_a_link_in_an_archive(tmp_path):
    """Tries: an archive with a symbolic link to a file of the machine, to have that imported.

    Stopped by: a link is read as the text that it is, and led nowhere.
    """
    secret = tmp_path / "secret.csv"
    secret.write_text("video,label\none,secret\n")
    link = stored("labels.csv", str(secret), stat.S_IFLNK | 0o777)
    assert "secret" not in refused("x.zip", link, "columns video and label").replace("secret.c", "")


def test_an_archive_in_an_archive():
    """Tries: archives in an archive, each a thousand times as large as the one around it.

    Stopped by: an archive in an archive is no file of labels, and is not read.
    """
    inner = make_zip({"labels.csv": b"video,label\none,x\n"})
    refused("x.zip", make_zip({"inner.zip": inner, "notes.pdf": b""}), "of no format|no row|holds")


@pytest.mark.parametrize("kind", ["broken", "twice", "lzma", "encrypted"])
def test_what_an_archive_must_not_hold(kind):
    """Tries: an archive that is broken, encrypted, compressed in a rare way, or names a file twice.

    Stopped by: each is refused, so that two programs never read two things of one archive.
    """
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA if kind == "lzma" else 0) as archive:
        archive.writestr("a.txt", "1")
        if kind == "twice":
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("a.txt", "2")
    content = bytearray(packed.getvalue())
    if kind == "encrypted":
        content[content.index(b"PK\x01\x02") + 8] |= 1
    if kind == "broken":
        content = b"PK\x03\x04 no archive"
    words = {"broken": "the archive is broken", "twice": "holds 'a.txt' twice"}
    with pytest.raises(BadInputError, match=words.get(kind, "compressed in an unusual way")):
        list(of_file("x.zip", bytes(content)).files) and list(read_zip("x.zip", bytes(content)))


# === Documents ===


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "doctype",
    [
        f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]>',
        f'<!DOCTYPE a [<!ENTITY l9 "{"x" * 100_000}">]>',
        '<!DOCTYPE a [<!ENTITY l9 SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p;]>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
        "<!DOCTYPE a>",
    ],
    ids=["laughs", "blowup", "external", "parameter", "dtd", "plain"],
)
def test_entities(doctype):
    """Tries: XML whose entities grow to gigabytes, or stand for a file or an address.

    Stopped by: a document type, where entities are made, is refused; nothing is fetched.
    """
    document = f"{doctype}<annotations><meta><source>{'&l9;' * 20}</source></meta></annotations>"
    refused("a.xml", document, "line 1: a document type .* is refused")


@pytest.mark.parametrize(
    "content",
    [
        "<annotations><!--" + "x" * 100_000_000,
        "<annotations><a b='" + "x" * 100_000_000,
        "<annotations><a " + " ".join(f"a{n}='1'" for n in range(2_000_000)),
    ],
    ids=["comment", "attribute", "attributes"],
)
def test_a_tag_without_an_end(content):
    """Tries: XML of one tag or comment of 100 MB, which is read anew with each further piece.

    Stopped by: a limit of 4 MiB for a tag or comment.
    """
    refused("a.xml", content, "a tag or comment of more than 4 MiB is not read")


@pytest.mark.parametrize("bomb", ["aliases", "tag", "merge"])
def test_yaml_that_grows_or_makes_objects(bomb, tmp_path):
    """Tries: YAML whose aliases grow to gigabytes, or whose tags run a command.

    Stopped by: aliases are refused, and only plain values are made.
    """
    lists = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    content = {
        "aliases": f"a0: &a0 [x]\n{lists}names: *a8\n",
        "tag": f"names: !!python/object/apply:os.system ['touch {tmp_path}/made']\n",
        "merge": "a: &a {0: x}\nnames: {<<: *a}\n",
    }[bomb]
    refused(
        "x.zip", make_zip({**YOLO_BYTES, "data.yaml": content.encode()}), "data.yaml: .*not YAML"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(value):
    """Tries: times and boxes that are no numbers, which no comparison refuses.

    Stopped by: every number must be finite.
    """
    row = f'{{"video": "one", "label": "x", "start_s": {value}, "end_s": {value}}}'
    refused("a.jsonl", row, "is no number|must be seconds")
    refused("a.csv", f"video,label,start_s,end_s\none,x,{value},{value}\n", "must be seconds")
    boxes = _bytes(coco(annotations=[{"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 2]}]))
    refused("c.json", boxes.replace(b"[0, 0, 1, 2]", f"[0, 0, {value}, 2]".encode()), "number")
    refused("a.xml", CVAT.replace('xtl="512"', f'xtl="{value}"'), "xtl is a number of pixels")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"video": "one", "label": "left", "label": "right"}'),
        ("a.json", '{"database": {"one": {"annotations": []}}, "database": {}}'),
        ("a.json", '{"images": [], "annotations": [{"id": 1, "id": 2}]}'),
    ],
)
def test_a_member_that_is_there_twice(name, content):
    """Tries: a document that says two things, of which a review shows the other one.

    Stopped by: a member that is twice in an object is refused.
    """
    refused(name, content, r"the member '\w+' is twice in one object")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-7", "utf-32", "cp037"])
def test_other_encodings(encoding):
    """Tries: a file in another encoding, which other programs read as something else.

    Stopped by: only UTF-8 is read.
    """
    refused("a.csv", "video,label\none,\u00e9\nnope\u00e9,x\n".encode(encoding), "nothing was imp")
    refused("a.json", '[{"data": "\u00e9", "annotations": []}]'.encode(encoding), "a.json: ")


def test_texts_that_are_no_unicode():
    """Tries: halves of surrogates in names and labels, which break whoever writes them.

    Stopped by: each text of an annotation must be valid Unicode; messages can be printed.
    """
    label = refused("a.jsonl", r'{"video": "one", "label": "\ud800"}', "is no valid Unicode")
    name = refused("a.jsonl", r'{"video": "\ud800", "label": "x"}', "no video is called")
    assert (label + name).encode()


HOSTILE = "\x1b]0;x\x07\x1b[2J\u202egnp.\u2028\x00\r\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", {"video": HOSTILE, "label": "x"}),
        ("a.jsonl", {"video": "one", "label": "x", HOSTILE: 1}),
        ("a.jsonl", {"video": "one", "label": "x", "split": HOSTILE}),
        ("coco.json", coco(images=[{"id": 1, "file_name": HOSTILE}])),
        ("studio.json", [{**task(choices("x")), "data": {"video": HOSTILE}}]),
        ("kinetics.json", {HOSTILE: {"annotations": {"label": "x", "segment": [0, 1]}}}),
        ("a.csv", f'video,label,"{HOSTILE}"\none,x,1\n'),
        ("x.zip", make_zip({"classes.txt": b"car", f"labels/{HOSTILE[:-3]}1.txt": b"x"})),
    ],
)
def test_escape_codes_in_names(name, content):
    """Tries: names with escape codes and directions, which a terminal obeys when they are shown.

    Stopped by: whatever is printed of a file is escaped.
    """
    message = refused(name, content, ".")
    assert message.replace("\n", "").isprintable()
    noted = read("p.json", [task(choices("x"), {"type": HOSTILE, "value": {}})]).told
    assert len(noted) == 2 and all(line.isprintable() for line in noted)


@pytest.mark.parametrize("format", ["csv", "kinetics"])
@pytest.mark.parametrize("label", ["=cmd|' /C calc'!A0", "@SUM(A1)", "+1+1", "-1+1", "'=1+1", "'x"])
def test_a_label_that_is_a_formula(format, label):
    """Tries: a label that a spreadsheet runs as a formula when somebody opens what was exported.

    Stopped by: an apostrophe before it, which an import takes away again.
    """
    rows = read("a.jsonl", {"video": "one", "label": label, "start_s": 1, "end_s": 2}).annotations
    written = FORMATS[format].write(FORMATS[format].hold(rows, VIDEOS), VIDEOS)
    cells = [cell for row in csv.reader(StringIO(written.decode())) for cell in row]
    assert not any(cell.startswith(("=", "@", "+", "-")) for cell in cells)
    assert [a.said.label for a in read("a.csv", written).annotations] == [label]


def test_a_file_that_says_it_is_about_another_video():
    """Tries: a file that is given as one about a video, and names another.

    Stopped by: what it names must be the video that it is said to be about.
    """
    with pytest.raises(BadInputError, match="names 'one.mp4', which is another video than 'clip'"):
        read("a.xml", CVAT, video="clip")
    with pytest.raises(UsageError, match="--video: 2 videos are called 'two'"):
        read("a.xml", CVAT, video="two")


# === Folders of this machine ===


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file of labels, beside a private key."""
    (tmp_path / "id.txt").write_text("PRIVATE KEY")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "labels.csv").write_text("video,label\none,x\n")
    return tmp_path / "set"


def test_links_out_of_a_folder(lake, folder, tmp_path, capsys):
    """Tries: a folder with links to a private key, by itself or by its folder, to have it uploaded.

    Stopped by: a link is followed only to a file of the same folder; others are left out and told.
    """
    (folder / "notes.txt").symlink_to(tmp_path / "id.txt")
    (folder / "relative.txt").symlink_to("../id.txt")
    (folder / "below").symlink_to(tmp_path)
    (folder / "chain.txt").symlink_to("notes.txt")
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "same.csv").symlink_to("labels.csv")
    uploaded = lake.store.get(by_hand.upload_annotations(lake, folder))
    assert b"PRIVATE KEY" not in b"".join(dict(read_zip("x.zip", uploaded)).values())
    assert sorted(dict(read_zip("x.zip", uploaded))) == ["labels.csv", "same.csv"]
    assert capsys.readouterr().out.count("left out, it links to a file outside") == 3


def test_a_sidecar_that_links_elsewhere(lake, folder, tmp_path, capsys):
    """Tries: a link beside a file of labels, called as its sidecar, that leads to a private key.

    Stopped by: the same; the file is uploaded without a sidecar.
    """
    (folder / f"labels.csv.{SIDECAR}").symlink_to(tmp_path / "id.txt")
    uri = by_hand.upload_annotations(lake, folder / "labels.csv")
    assert [stored.uri for stored in lake.store.list(uri.rpartition("/")[0])] == [uri]
    assert "left out" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file(lake, folder, kind):
    """Tries: a pipe, a socket or a device, the reading of which never ends.

    Stopped by: only regular files are read; in a folder others are left out.
    """
    path = folder / "endless.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        os.mknod(path, stat.S_IFSOCK | 0o600)
    with pytest.raises(UsageError, match="is no file: a device|cannot be read"):
        by_hand.upload_annotations(lake, path)
    uploaded = lake.store.get(by_hand.upload_annotations(lake, folder))
    assert sorted(dict(read_zip("x.zip", uploaded))) == ["labels.csv"]


def test_a_file_that_grows_while_it_is_read(lake, folder, monkeypatch):
    """Tries: a file that tells a small size and has more to be read.

    Stopped by: no more is read than the limit, whatever the size was.
    """
    monkeypatch.setattr(by_hand, "MAX_BYTES", 1000)
    file = folder / "labels.csv"
    small = file.stat()
    file.write_bytes(bytes(2000))
    monkeypatch.setattr(Path, "stat", lambda *_, **__: small)
    with pytest.raises(BadInputError, match="are not read at once"):
        by_hand.upload_annotations(lake, file)


# === Forgetting ===


def names_of(lake: Any) -> set[str]:
    """Files of labels that forgetting `anna.mp4` deletes."""
    subject = Subject("a" * 64, {"a" * 64}, {"s3://videos/anna.mp4"})
    leftovers = staged_objects(lake, subject, lambda _: None)
    return {uri.rpartition("/")[2] for uri in leftovers}


ESCAPED = rb'{"video": "\u0061nna", "label": "x"}'


def test_hostile_files_of_long_ago_do_not_keep_a_video_from_being_forgotten(lake):
    """Tries: files that were never imported, slow or broken, left in the lake by a stranger, to
    have a deletion hang or fail, or to keep a name that is only found by reading them.

    Stopped by: the budget and the limits of an import. What cannot be read to its end may name the
    video, and is deleted with it; what can be read and does not name it stays.
    """
    files = {
        "columns.csv": b",".join(b"c%d" % n for n in range(100_000)),
        "deep.json": b"[" * 100_000,
        "broken.json": ESCAPED + b"]",
        "colliding.json": _bytes(
            coco(images=[{"id": n, "file_name": "x_1.jpg"} for n in COLLIDING[:50_000]])
        ),
        "entities.xml": b"<!DOCTYPE a><annotations/>",
        "bomb.zip": stored("a.csv", b"video,label\n" + b"," * 2_000_000),
        f"a.csv.{SIDECAR}": b'{"rows": [' + b"[" * 100_000,
        "escaped.jsonl": ESCAPED,
        "other.jsonl": ESCAPED.replace(b"nna", b"nnabel"),
        "other.csv": b"video,label\nberta,left\n",
    }
    for name, content in files.items():
        lake.store.put(f"{layout.annotations_uri(lake.uri)}x/{name}", content)
    assert names_of(lake) == set(files) - {"other.jsonl", "other.csv", "colliding.json"}


def test_a_file_that_cannot_be_read_in_time_is_forgotten_too(lake, monkeypatch):
    """Tries: a file that names a video in escaped letters behind so much else that a deletion gives
    up before it comes to it.

    Stopped by: a file that is not read to its end within the budget goes with the video.
    """
    content = b'{"video": "berta", "label": "x"}\n' * 3000
    lake.store.put(f"{layout.annotations_uri(lake.uri)}x/rows.jsonl", content + ESCAPED)
    lake.store.put(f"{layout.annotations_uri(lake.uri)}y/rest.jsonl", content)
    assert names_of(lake) == {"rows.jsonl"}
    limits = AnnotateSettings(max_s=0.0)
    monkeypatch.setattr(lake, "settings", replace(lake.settings, annotate=limits))
    assert names_of(lake) == {"rows.jsonl", "rest.jsonl"}
