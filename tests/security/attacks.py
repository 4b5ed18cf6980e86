"""Lists the attacks that are tests: `python tests/security/attacks.py`.

An attack is a test in this folder. Its docstring has two parts: `Tries: …` says what the attacker
does, `Stopped by: …` what stops it.
"""

from __future__ import annotations

import ast
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

_FORM = re.compile(r"Tries: (?P<tries>.+?)\s+Stopped by: (?P<stopped_by>.+)", re.DOTALL)


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        test: Name of the test, with its file.
        tries: What the attacker does; empty where the docstring has another form.
        stopped_by: What stops the attack.
    """

    test: str
    tries: str
    stopped_by: str


def list_attacks() -> list[Attack]:
    """Returns the attacks by file, in the order in which they stand there."""
    attacks = []
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        if file.name == "test_attacks.py":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                match = _FORM.fullmatch(ast.get_docstring(node) or "")
                parts = match.groupdict() if match else {"tries": "", "stopped_by": ""}
                words = {name: " ".join(text.split()) for name, text in parts.items()}
                attacks.append(Attack(f"{file.name}::{node.name}", **words))
    return attacks


if __name__ == "__main__":
    number = itertools.count(1)
    for file, attacks in itertools.groupby(list_attacks(), lambda a: a.test.partition("::")[0]):
        print(f"\n## {file}\n")
        for attack in attacks:
            print(f"{next(number)}. {attack.tries}\n   Stopped by: {attack.stopped_by}")
