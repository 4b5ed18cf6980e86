"""Imports go down only, and Airflow stays where it belongs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidpipe

PACKAGE = Path(vidpipe.__file__).parent
LAYERS = (
    {"__main__"},
    {"cli"},
    {"orchestration"},
    {"local"},
    {"stages"},
    {"datasets", "models", "training", "evaluation"},
    {"media", "lake", "tracking"},
    {
        "arrays",
        "config",
        "console",
        "errors",
        "memory",
        "mlflow_login",
        "mlflow_pages",
        "reasons",
        "schemas",
        "text",
        "version",
    },
)
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from vidpipe import tracking` names the module behind the word import.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        top, _, rest = name.partition(".")
        imported = rest.partition(".")[0]
        if top == "airflow":
            assert part == "orchestration"
        elif top == "vidpipe" and imported and not imported.startswith("__version"):
            assert layer(imported) >= layer(part), name
            # Tasks run on a cluster, where there is no stack on one machine.
            assert (part, imported) != ("orchestration", "local")


def test_every_part_has_its_layer():
    for path in FILES:
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        assert part == "__init__" or layer(part) >= 0
