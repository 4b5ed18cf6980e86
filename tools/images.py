"""Builds the container images, and pushes them where REGISTRY says.

Run by `make images`, with what it is told in the environment: TAG, REGISTRY, GPU, BASE_IMAGE,
DOCKER_BUILD_FLAGS. Needs docker, and nothing beside the standard library.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("airflow", "worker")


def main() -> None:
    if trouble := docker_trouble():
        sys.exit(f"Images cannot be built: {trouble}")
    tag, registry = os.environ.get("TAG") or default_tag(), os.environ.get("REGISTRY")
    for target in (*TARGETS, *(["worker-gpu"] if os.environ.get("GPU") == "1" else [])):
        image = image_name(target, tag)
        print(f"Building {image}", flush=True)
        docker("build", *build_flags(), "--target", target, "--tag", image, ".")
        if registry:
            there = f"{registry.rstrip('/')}/{image}"
            docker("tag", image, there)
            docker("push", there)
        size = docker("image", "inspect", "--format", "{{.Size}}", image, capture=True)
        print(f"{image}: {int(size) / 1e9:.2f} GB", flush=True)


def docker_trouble() -> str:
    """Why docker cannot be used here, in one line; empty where it can."""
    if not shutil.which("docker"):
        return "there is no docker command. Install Docker, or put it on the PATH."
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True
    )
    if not asked.returncode:
        return ""
    return f"the docker daemon does not answer: {' '.join(asked.stderr.split())}"


def image_name(target: str, tag: str) -> str:
    """The name of the image of a target of docker/Dockerfile."""
    return f"vidpipe-{target}:{tag}"


def default_tag() -> str:
    """The code version, in letters that a tag may have."""
    return re.sub(r"[^\w.-]", "-", code_version())


def code_version() -> str:
    """As vidpipe/version.py names a checkout; it also tells that files differ from the commit."""
    source = (ROOT / "vidpipe" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"', source, re.MULTILINE)[1]
    commit = revision()
    if not commit:
        return version
    return f"{version}+{commit[:12]}" + (".changed" if git("status", "--porcelain") else "")


def revision() -> str:
    """The commit, or nothing where there is no checkout."""
    return git("rev-parse", "HEAD")


def git(*arguments: str) -> str:
    if not shutil.which("git"):
        return ""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def build_flags() -> list[str]:
    values = {"VIDPIPE_CODE_VERSION": code_version(), "REVISION": revision()}
    if base := os.environ.get("BASE_IMAGE"):
        values["BASE_IMAGE"] = base
    flags = ["--file", "docker/Dockerfile"]
    for name, value in values.items():
        flags += ["--build-arg", f"{name}={value}"]
    return [*flags, *shlex.split(os.environ.get("DOCKER_BUILD_FLAGS", ""))]


def docker(*arguments: str, capture: bool = False) -> str:
    done = subprocess.run(
        ["docker", *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE if capture else None
    )
    if done.returncode:
        sys.exit(
            f"`docker {arguments[0]}` ended with {done.returncode}; its own words stand above."
        )
    return done.stdout or ""


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Building was interrupted; running it again goes on from here.")
