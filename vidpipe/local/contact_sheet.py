"""A picture of labelled videos: a few frames of each, with what was found in it."""

from __future__ import annotations

import importlib.util
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

TILE = 96
FRAMES = 4
GAP = 4
CAPTION = 20
MARGIN = 16
# Most of the world's letters; Pillow's own font has those of Western Europe. Matplotlib, which
# brings it, is not imported: that takes a second, and complains where no home can be written.
FONT = (
    Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"
)
INK, FAINT, RIGHT, WRONG = "#1d2733", "#7a8794", "#1a7f4b", "#c0392b"


@dataclass(frozen=True)
class Strip:
    """One video of the sheet.

    Attributes:
        jpegs: Some of its frames, in order.
        name: The video's.
        label: What was found.
        score: How sure the model is, 0 to 1.
        truth: What people say; None where nobody did.
    """

    jpegs: Sequence[bytes]
    name: str
    label: str
    score: float
    truth: str | None = None


def draw_contact_sheet(path: Path, title: str, strips: Sequence[Strip], columns: int = 3) -> None:
    """Writes a PNG with one strip of frames a video, `columns` beside each other."""
    strip_width = FRAMES * (TILE + GAP)
    rows = -(-len(strips) // columns)
    width = columns * (strip_width + MARGIN) + MARGIN
    top = MARGIN + 34
    sheet = Image.new("RGB", (width, top + rows * (TILE + CAPTION + MARGIN)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 2), title, INK, ImageFont.truetype(FONT, 19))
    font = ImageFont.truetype(FONT, 12)
    for number, strip in enumerate(strips):
        left = MARGIN + (number % columns) * (strip_width + MARGIN)
        upper = top + (number // columns) * (TILE + CAPTION + MARGIN)
        for place, jpeg in enumerate(_spread(strip.jpegs)):
            sheet.paste(_tile(jpeg), (left + place * (TILE + GAP), upper + CAPTION))
        known = strip.truth is not None
        right = strip.truth == strip.label
        color = (RIGHT if right else WRONG) if known else INK
        half = (strip_width - GAP) // 2
        score = f"  {strip.score:.2f}"
        label = _fit(strip.label, font, half - font.getlength(score)) + score
        draw.text((left, upper), label, color, font)
        note = f"truth: {strip.truth}, {strip.name}" if known and not right else strip.name
        draw.text((left + half, upper), _fit(note, font, half), FAINT, font)
    sheet.save(path)


def _fit(text: str, font: ImageFont.ImageFont, width: float) -> str:
    """As much of a text as has room, on one line."""
    line = unicodedata.normalize("NFC", " ".join(text.split()))
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"


def _spread(jpegs: Sequence[bytes]) -> list[bytes]:
    if len(jpegs) <= FRAMES:
        return list(jpegs)
    return [jpegs[round(n * (len(jpegs) - 1) / (FRAMES - 1))] for n in range(FRAMES)]


def _tile(jpeg: bytes) -> Image.Image:
    with Image.open(io.BytesIO(jpeg)) as image:
        image.thumbnail((TILE, TILE))
        tile = Image.new("RGB", (TILE, TILE), "#eef1f4")
        tile.paste(image, ((TILE - image.width) // 2, (TILE - image.height) // 2))
        return tile
