"""Which configuration file applies."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidpipe.config import find_config, find_stack, load_settings
from vidpipe.errors import UsageError


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with a stack and, two levels below it, the current folder."""
    monkeypatch.delenv("VIDPIPE_CONFIG", raising=False)
    below = tmp_path / "clips" / "new"
    below.mkdir(parents=True)
    (tmp_path / ".vidpipe").mkdir()
    (tmp_path / ".vidpipe" / "vidpipe.toml").touch()
    monkeypatch.chdir(below)
    return tmp_path


def test_the_nearest_folder_above_applies(project):
    assert find_config() == project / ".vidpipe" / "vidpipe.toml"
    assert find_stack() == project / ".vidpipe"
    (project / "vidpipe.toml").touch()
    assert find_config() == project / ".vidpipe" / "vidpipe.toml"
    (project / "clips" / "vidpipe.toml").touch()
    assert find_config() == project / "clips" / "vidpipe.toml"
    assert find_stack() == project / ".vidpipe"
    Path(".vidpipe").mkdir()
    assert find_stack() == Path(".vidpipe")
    Path("vidpipe.toml").touch()
    assert find_config() == Path("vidpipe.toml")


def test_where_there_is_none_the_stack_is_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("VIDPIPE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert find_config() is None and find_stack() == Path(".vidpipe")


def test_the_variable_comes_first(project, monkeypatch):
    named = project / "team" / "vidpipe.toml"
    named.parent.mkdir()
    named.touch()
    monkeypatch.setenv("VIDPIPE_CONFIG", str(named))
    # A file that is no stack's says nothing of the stack.
    assert find_config() == named and find_stack() == project / ".vidpipe"
    other = project / "other" / ".vidpipe" / "vidpipe.toml"
    other.parent.mkdir(parents=True)
    other.touch()
    monkeypatch.setenv("VIDPIPE_CONFIG", str(other))
    assert find_config() == other and find_stack() == other.parent
    monkeypatch.setenv("VIDPIPE_CONFIG", str(other.with_name("none.toml")))
    for find in (find_config, find_stack):
        with pytest.raises(UsageError, match="VIDPIPE_CONFIG names"):
            find()


def test_a_current_folder_that_was_deleted_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("VIDPIPE_CONFIG", raising=False)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="current folder was deleted"):
        find_config()


@pytest.fixture
def fresh_settings():
    """Settings are read anew, here and afterwards."""
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def test_a_folder_has_the_limit_of_the_longest_entry_it_is_in(project, monkeypatch, fresh_settings):
    (project / ".vidpipe" / "vidpipe.toml").write_text(
        '[sources]\nmax_decode_s = ["s3://a=900", "s3://a/uploads/=300", "s3://a/b=c=1.5"]\n'
    )
    sources = load_settings().sources
    limits = {
        uri: sources.decode_limit_s(uri)
        for uri in ("s3://a/x.mp4", "s3://a/uploads/x.mp4", "s3://a/uploads2/x", "s3://a/b=c/d/e")
    }
    assert list(limits.values()) == [900, 300, 900, 1.5]
    assert sources.decode_limit_s("s3://ab/x.mp4") is None
    monkeypatch.setenv("VIDPIPE_SOURCES_MAX_DECODE_S", "s3://a/x=1, s3://b=2")
    load_settings.cache_clear()
    assert load_settings().sources.decode_limit_s("s3://b/x.mp4") == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VIDPIPE_SOURCES_MAX_DECODE_S", "s3://a"),
        ("VIDPIPE_SOURCES_MAX_DECODE_S", "s3://a=soon"),
        ("VIDPIPE_SOURCES_MAX_DECODE_S", "s3://a=0"),
        ("VIDPIPE_SOURCES_MAX_DECODE_S", "s3://a=nan"),
        ("VIDPIPE_SOURCES_MAX_DECODE_S", "/a=300"),
        ("VIDPIPE_EXTRACT_MAX_DECODE_S", "0"),
        ("VIDPIPE_EXTRACT_MAX_DECODE_S", "nan"),
    ],
)
def test_limits_of_decoding_that_make_no_sense_are_refused(
    project, monkeypatch, fresh_settings, variable, value
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match="max_decode_s .*Received: "):
        load_settings()
