"""The canary: well with a good ffmpeg, and told where one alters what comes out."""

from __future__ import annotations

import stat

import pytest

from vidpipe.config import load_settings
from vidpipe.media import ffmpeg_path
from vidpipe.stages.canary import extraction_problems


@pytest.fixture
def bad_ffmpeg(tmp_path, monkeypatch):
    """Configures an ffmpeg that mistakes one word of its arguments for another."""
    real = ffmpeg_path()

    def configure(word: str, instead: str) -> None:
        script = tmp_path / "ffmpeg"
        script.write_text(
            "#!/usr/bin/env python3\n"
            "import os, sys\n"
            f"given = [word.replace({word!r}, {instead!r}) for word in sys.argv[1:]]\n"
            f"os.execv({real!r}, [{real!r}, *given])\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        (tmp_path / "vidpipe.toml").write_text(f'[extract]\nffmpeg_path = "{script}"\n')
        monkeypatch.setenv("VIDPIPE_CONFIG", str(tmp_path / "vidpipe.toml"))
        load_settings.cache_clear()
        ffmpeg_path.cache_clear()

    yield configure
    load_settings.cache_clear()
    ffmpeg_path.cache_clear()


def test_a_good_ffmpeg_has_no_problems_and_leaves_nothing_behind(tmp_path):
    assert extraction_problems(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "instead", "problem"),
    [
        (")*5)", ")*4)", "frames at"),  # fewer frames
        (":r=10:", ":r=11:", "frames at"),  # shifted times
        ("+10*N", "+9*N", "of grey"),  # darker pictures
        ("out_range=full", "out_range=limited", "of grey"),
        ("=440", "=450", "a tone of 450 Hz"),
        ("aresample=16000", "aresample=15000", "samples instead of"),
    ],
)
def test_an_ffmpeg_that_alters_what_comes_out_is_told(tmp_path, bad_ffmpeg, word, instead, problem):
    bad_ffmpeg(word, instead)
    problems = extraction_problems(tmp_path)
    assert problem in problems[0]
