"""Lists what is installed, at the versions and with the hashes of constraints.txt.

    python tools/pinned.py requirements dev       the requirements of vidpipe[dev], with versions
    python tools/pinned.py hashes uv setuptools   the entries of these packages, with hashes

Needs nothing beside the standard library: it runs before anything is installed.
"""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What installs and builds all the rest.
BOOTSTRAP = ("uv", "setuptools")
_REQUIREMENT = re.compile(r"([\w.-]+)(\[[^]]*\])?[^;]*(?:;(.*))?")


@dataclass(frozen=True)
class Pin:
    """An entry of constraints.txt.

    Attributes:
        name: The package, as `normalize` writes it.
        version: Its version.
        marker: Where the entry applies; empty: everywhere.
        text: The entry, as it stands there.
    """

    name: str
    version: str
    marker: str
    text: str


def read_pins(path: Path = ROOT / "constraints.txt") -> list[Pin]:
    """Reads constraints.txt.

    Raises:
        ValueError: An entry has no hash.
    """
    pins = []
    for entry in re.findall(r"^[\w.-]+==(?:.*\\\n)*.*$", path.read_text("utf-8"), re.MULTILINE):
        first, *hashes = entry.replace("\\\n", "\n").splitlines()
        if not hashes or not all(re.fullmatch(r"\s+--hash=sha256:\w{64}\s*", h) for h in hashes):
            raise ValueError(f"{path.name} has no hash for an entry. Received: {first.strip()}")
        pinned, _, marker = map(str.strip, first.partition(";"))
        name, _, version = pinned.partition("==")
        pins.append(Pin(normalize(name), version, marker, entry))
    return pins


def list_hashes(names: Iterable[str]) -> list[str]:
    """Returns the entries of packages, with hashes.

    Raises:
        ValueError: A package has no entry.
    """
    wanted, pins = set(map(normalize, names)), read_pins()
    if missing := wanted - {pin.name for pin in pins}:
        raise ValueError(f"constraints.txt has no entry for {', '.join(sorted(missing))}")
    return [pin.text for pin in pins if pin.name in wanted]


def list_requirements(extra: str) -> list[str]:
    """Returns the direct requirements of vidpipe with an extra, with the versions pinned.

    Raises:
        ValueError: A requirement has no entry in constraints.txt.
    """
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    extras, pins, pinned = parser["options.extras_require"], read_pins(), {}

    def requirements_in(text: str) -> Iterator[tuple[str, str, str]]:
        for line in text.splitlines():
            if not (requirement := line.partition("#")[0].strip()):
                continue
            name, bracket, marker = _REQUIREMENT.fullmatch(requirement).groups("")
            if name == "vidpipe":
                for inner in bracket.strip("[]").split(","):
                    yield from requirements_in(extras[inner.strip()])
            else:
                yield normalize(name), bracket, marker.strip()

    for text in (parser["options"]["install_requires"], extras[extra]):
        for name, bracket, marker in requirements_in(text):
            entries = [pin for pin in pins if pin.name == name]
            if not entries:
                raise ValueError(f"constraints.txt has no entry for {name}. Renew it: make lock")
            for pin in entries:
                markers = " and ".join(f"({one})" for one in (marker, pin.marker) if one)
                line = f"{name}{bracket}=={pin.version}" + (f" ; {markers}" if markers else "")
                pinned[line] = None
    return list(pinned)


def normalize(name: str) -> str:
    """Returns the name of a package as all its spellings have it in common."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main(command: str, *names: str) -> None:
    lines = list_hashes(names) if command == "hashes" else list_requirements(*names)
    print("\n".join(lines))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
