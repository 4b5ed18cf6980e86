"""Builds the container images, and pushes them where REGISTRY says.

Run by `make images`, with what it is told in the environment: TAG, REGISTRY, GPU, BASE_IMAGE,
UNPINNED_BASE, DOCKER_BUILD_FLAGS. Needs docker, and nothing beside the standard library.

A tag of another's image may be moved to another content, a digest cannot. `make lock-images` pulls
the images that are named in docker/ and records their digests in docker/images.lock. A base image
is built upon by the digest recorded there; without one no image is pushed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("airflow", "worker")
DOCKERFILE = ROOT / "docker" / "Dockerfile"
OVERLAY = ROOT / "docker" / "kubernetes" / "overlays" / "try" / "kustomization.yaml"
LOCK = ROOT / "docker" / "images.lock"
LOCK_HEAD = (
    "# Digests of the images of others that are used in docker/. Written by make lock-images.\n"
)


def main(command: str = "build") -> None:
    if trouble := docker_trouble():
        sys.exit(f"Images cannot be built: {trouble}")
    if command == "lock":
        lock_images()
    else:
        build_images()


def build_images() -> None:
    tag, registry = os.environ.get("TAG") or default_tag(), os.environ.get("REGISTRY")
    base = base_image()
    if not is_pinned(base):
        if registry and os.environ.get("UNPINNED_BASE") != "1":
            sys.exit(
                f"Images on a base without a digest are not pushed. Received: {base}. Record its"
                " digest where its registry is reached (make lock-images), or name it with its"
                " digest: BASE_IMAGE=name:tag@sha256:…. UNPINNED_BASE=1 pushes all the same."
            )
        print(f"{base} has no digest: its tag may be moved to another content.", flush=True)
    for target in (*TARGETS, *(["worker-gpu"] if os.environ.get("GPU") == "1" else [])):
        image = image_name(target, tag)
        print(f"Building {image}", flush=True)
        docker("build", *build_flags(base), "--target", target, "--tag", image, ".")
        if registry:
            there = f"{registry.rstrip('/')}/{image}"
            docker("tag", image, there)
            docker("push", there)
            print(f"Pushed: {digest_of(there)}", flush=True)
        size = docker("image", "inspect", "--format", "{{.Size}}", image, capture=True)
        print(f"{image}: {int(size) / 1e9:.2f} GB", flush=True)


def base_image() -> str:
    """The base image, with its digest where one is known."""
    base = os.environ.get("BASE_IMAGE") or default_base()
    return base if is_pinned(base) else recorded_digests().get(base, base)


def is_pinned(image: str) -> bool:
    """Whether an image is named by its content."""
    return re.search(r"@sha256:[0-9a-f]{64}$", image) is not None


def default_base() -> str:
    """The base image of docker/Dockerfile."""
    return re.search(r"^ARG BASE_IMAGE=(\S+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)[1]


def foreign_images() -> list[str]:
    """The images of others in docker/, as `name:tag`."""
    named = re.findall(r'name: (\S+), newTag: "(\S+?)"', OVERLAY.read_text("utf-8"))
    return [default_base(), *(f"{name}:{tag}" for name, tag in named)]


def recorded_digests() -> dict[str, str]:
    """By `name:tag`, the name with tag and digest."""
    lines = LOCK.read_text("utf-8").splitlines() if LOCK.is_file() else []
    return {line.partition("@")[0]: line for line in lines if is_pinned(line)}


def lock_images() -> None:
    """Records the digests of the images of others."""
    pinned = []
    for image in foreign_images():
        docker("pull", "--quiet", image)
        pinned.append(f"{image}@{digest_of(image).partition('@')[2]}")
        print(pinned[-1], flush=True)
    LOCK.write_text(LOCK_HEAD + "".join(f"{line}\n" for line in pinned), "utf-8")
    text = OVERLAY.read_text("utf-8")
    for line in pinned[1:]:
        name, tag, digest = re.fullmatch(r"(.+):(.+)@(.+)", line).groups()
        entry = f'{{name: {name}, newTag: "{tag}"'
        text = re.sub(re.escape(entry) + "[^}]*}", f"{entry}, digest: {digest}}}", text)
    OVERLAY.write_text(text, "utf-8")


def digest_of(image: str) -> str:
    """`name@sha256:…` of an image that was pulled or pushed; it is the same on all platforms."""
    inspected = docker("image", "inspect", "--format", "{{json .RepoDigests}}", image, capture=True)
    name = image.rpartition("/")[0] + "/" + image.rpartition("/")[2].partition(":")[0]
    for digest in json.loads(inspected) or []:
        if digest.partition("@")[0] in (name, name.removeprefix("/")) and is_pinned(digest):
            return digest
    sys.exit(f"The registry tells no digest of an image. Received: {image}")


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


def build_flags(base: str) -> list[str]:
    values = {
        "VIDPIPE_CODE_VERSION": code_version(),
        "REVISION": revision(),
        "BASE_IMAGE": base,
    }
    # What is said twice holds as said last: BASE_IMAGE is the one that was looked at.
    flags = [*shlex.split(os.environ.get("DOCKER_BUILD_FLAGS", "")), "--file", "docker/Dockerfile"]
    for name, value in values.items():
        flags += ["--build-arg", f"{name}={value}"]
    return flags


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
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("Building was interrupted; running it again goes on from here.")
