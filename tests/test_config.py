"""Which configuration file applies."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidpipe.config import find_config, find_stack
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
