"""Attacks through files that lie where vidpipe looks for its own."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vidpipe.config import find_config, find_stack, load_settings, read_config
from vidpipe.errors import UsageError
from vidpipe.local import stack
from vidpipe.local.parts import write_files
from vidpipe.local.state import StackState, make_private_folder, write_private

OTHER_USER = 54_321


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIDPIPE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    load_settings.cache_clear()


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a file another user's: really where that is allowed, else by making us another."""
    if os.geteuid() == 0:
        os.chown(path, OTHER_USER, OTHER_USER, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER)


def vidpipe(folder: Path, *arguments: str) -> tuple[int, str]:
    """Runs `vidpipe …` in a folder; returns its exit code, and all that it said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VIDPIPE_")}
    ended = subprocess.run(
        [sys.executable, "-m", "vidpipe", *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(Path(stack.__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("name", ["vidpipe.toml", ".vidpipe/vidpipe.toml"])
def test_a_folder_names_a_program(tmp_path: Path, name: str):
    """Tries: a folder, such as one that was cloned, whose configuration names a program.

    Stopped by: no file names a program; only the environment does.
    """
    program, ran = tmp_path / "evil", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    (tmp_path / ".vidpipe").mkdir(mode=0o700)
    (tmp_path / name).write_text(f'[extract]\nffmpeg_path = "{program}"\n')
    exit_code, out = vidpipe(tmp_path, "doctor")
    assert "names a program, which a file must not choose" in out
    assert exit_code == 1 and not ran.exists()


def test_a_program_is_handed_on_by_the_stack(tmp_path: Path):
    """Tries: the same through `vidpipe up`, which copies the folder's settings for its tasks.

    Stopped by: what is copied is checked as what is read.
    """
    (tmp_path / "vidpipe.toml").write_text('[extract]\nffmpeg_path = "/tmp/evil"\n')
    state = StackState(tmp_path / ".vidpipe", ports={"s3": 1, "mlflow": 2, "airflow": 3})
    make_private_folder(state.root)
    with pytest.raises(UsageError, match="names a program"):
        write_files(state, tmp_path)
    assert not (state.root / "vidpipe.toml").exists()


@pytest.mark.parametrize("name", ["vidpipe.toml", ".vidpipe", ".vidpipe/vidpipe.toml"])
def test_another_user_leaves_a_configuration(tmp_path: Path, monkeypatch, name: str):
    """Tries: a configuration, or a stack, of another user in this folder or one above it.

    Stopped by: only files of this user and of root are read.
    """
    (tmp_path / ".vidpipe").mkdir(mode=0o700)
    (tmp_path / ".vidpipe" / "vidpipe.toml").touch()
    (tmp_path / "vidpipe.toml").touch()
    if name == "vidpipe.toml":
        (tmp_path / ".vidpipe" / "vidpipe.toml").unlink()
        (tmp_path / ".vidpipe").rmdir()
    (tmp_path / "below").mkdir()
    give_away(tmp_path / name, monkeypatch)
    for folder in (tmp_path, tmp_path / "below"):
        monkeypatch.chdir(folder)
        with pytest.raises(UsageError, match="belongs to another user.*VIDPIPE_CONFIG"):
            find_config()
    if name == ".vidpipe":
        with pytest.raises(UsageError, match="belongs to another user"):
            find_stack()


@pytest.mark.parametrize("name", ["vidpipe.toml", ".vidpipe", ".vidpipe/vidpipe.toml"])
def test_others_can_write_the_configuration(tmp_path: Path, monkeypatch, name: str):
    """Tries: to write into a configuration whose owner left it open.

    Stopped by: a file that others can write is not read.
    """
    (tmp_path / "vidpipe.toml").touch()
    if name != "vidpipe.toml":
        (tmp_path / ".vidpipe").mkdir(mode=0o700)
        (tmp_path / ".vidpipe" / "vidpipe.toml").touch()
    (tmp_path / name).chmod((tmp_path / name).stat().st_mode | stat.S_IWOTH)
    with pytest.raises(UsageError, match="can be written by other users.*chmod go-w") as caught:
        find_config()
    # What the message advises to whoever trusts it helps.
    named = str(caught.value).rpartition("VIDPIPE_CONFIG=")[2]
    monkeypatch.setenv("VIDPIPE_CONFIG", named)
    assert load_settings().deployment == "vidpipe"


def test_a_group_can_write_the_configuration(tmp_path: Path):
    """Tries: the same by a group that the file is open to.

    Stopped by: only the group of the user alone, which many systems have, may write it.
    """
    file = tmp_path / "vidpipe.toml"
    file.touch()
    if os.geteuid() == 0:
        os.chown(file, -1, OTHER_USER)  # a group without a name
        file.chmod(0o664)
        with pytest.raises(UsageError, match="can be written by other users"):
            find_config()
        os.chown(file, -1, 0)  # that of root, of which nobody else is a member
    file.chmod(0o664)
    assert find_config() == Path("vidpipe.toml")


def test_a_link_of_another_user_leads_to_a_file_of_this_one(tmp_path: Path, monkeypatch):
    """Tries: a link by which one of the victim's own files becomes the configuration.

    Stopped by: the owner of the link counts, too.
    """
    (tmp_path / "notes.toml").touch()
    (tmp_path / "vidpipe.toml").symlink_to("notes.toml")
    assert find_config() == Path("vidpipe.toml")
    give_away(tmp_path / "vidpipe.toml", monkeypatch)
    with pytest.raises(UsageError, match="belongs to another user"):
        find_config()


def test_the_configuration_is_exchanged_after_the_look(tmp_path: Path, monkeypatch):
    """Tries: to put another file in place between the check of the configuration and its reading.

    Stopped by: the file that was opened is checked once more.
    """
    file = tmp_path / "vidpipe.toml"
    file.touch()
    assert find_config() is not None
    file.unlink()
    file.write_text('[lake]\nuri = "s3://evil"\n')
    give_away(file, monkeypatch)
    with pytest.raises(UsageError, match="belongs to another user"):
        read_config(file)


@pytest.mark.parametrize("how", ["another's", "open to all", "a link of another user"])
def test_the_folder_of_the_stack_is_prepared(tmp_path: Path, monkeypatch, how: str):
    """Tries: a `.vidpipe` that is there before `vidpipe up`, with files that the parts trust.

    Stopped by: the folder must belong to this user, and nobody else may write it.
    """
    root = tmp_path / ".vidpipe"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if how == "a link of another user":
        root.symlink_to("elsewhere")
    else:
        root.mkdir(mode=0o700)
    if how == "open to all":
        root.chmod(0o777)
    else:
        give_away(root, monkeypatch)
    with pytest.raises(UsageError, match="another user|other users"):
        stack.up(root)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_lies_where_the_folder_of_the_stack_will_be(tmp_path: Path):
    """Tries: a file or a broken link called `.vidpipe`, so that `vidpipe up` fails obscurely.

    Stopped by: one line that says what to do.
    """
    root = tmp_path / ".vidpipe"
    for make in (root.touch, lambda: root.symlink_to("nowhere")):
        make()
        with pytest.raises(UsageError, match="is no folder. Move it away"):
            stack.up(root)
        root.unlink()


def test_the_folder_of_the_stack_is_readable(tmp_path: Path):
    """Tries: to read what the stack keeps in a `.vidpipe` that was made before it, readable.

    Stopped by: `vidpipe up` closes the folder before it writes anything into it.
    """
    root = tmp_path / ".vidpipe"
    root.mkdir(mode=0o755)
    make_private_folder(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_link_lies_where_a_secret_will_be_written(tmp_path: Path, monkeypatch):
    """Tries: a link under the name of the temporary file, so that a victim's file is overwritten
    or the secret comes to lie elsewhere.

    Stopped by: the name cannot be guessed, and the file must be a new one (O_EXCL, O_NOFOLLOW).
    """
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("vidpipe.local.state.secrets.token_hex", lambda size: "guessed")
    (tmp_path / ".stack.json.guessed").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "stack.json", "secret")
    monkeypatch.undo()
    (tmp_path / "stack.json").symlink_to(victim)
    write_private(tmp_path / "stack.json", "secret")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "stack.json").is_symlink()
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600


def test_the_lock_is_a_link(tmp_path: Path):
    """Tries: a link under the name of the lock, so that `vidpipe down` empties the victim's file.

    Stopped by: the lock is opened without following links.
    """
    victim, root = tmp_path / "victim", tmp_path / ".vidpipe"
    victim.write_text("precious")
    root.mkdir(mode=0o700)
    (root / "lock").symlink_to(victim)
    with pytest.raises(OSError):
        stack.down(root)
    assert victim.read_text() == "precious"
