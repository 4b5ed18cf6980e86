"""The picture of what was found: names as people write them."""

from __future__ import annotations

import pytest
from PIL import Image

from vidpipe.local.contact_sheet import Strip, draw_contact_sheet


def drawn(path, name: str) -> bytes:
    draw_contact_sheet(path, "labels", [Strip([], name, "wave", 0.9)])
    with Image.open(path) as image:
        return image.tobytes()


@pytest.mark.parametrize(
    ("one", "other"), [("відео", "видео"), ("βίντεο", "βιντεο"), ("a→b", "a←b")]
)
def test_letters_of_other_alphabets_are_drawn_and_not_boxes(tmp_path, one, other):
    assert drawn(tmp_path / "a.png", one) != drawn(tmp_path / "b.png", other)


def test_an_accent_written_in_either_way_looks_the_same(tmp_path):
    assert drawn(tmp_path / "a.png", "Caf\u00e9") == drawn(tmp_path / "b.png", "Cafe\u0301")


def test_a_long_name_is_cut_and_a_line_break_is_a_space(tmp_path):
    assert drawn(tmp_path / "a.png", "n" * 200) == drawn(tmp_path / "b.png", "n" * 300)
    assert drawn(tmp_path / "a.png", "one\ntwo") == drawn(tmp_path / "b.png", "one two")
