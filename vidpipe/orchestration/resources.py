"""What the pod of a stage gets: one file, a table for each stage."""

from __future__ import annotations

import dataclasses
import pkgutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidpipe import stages
from vidpipe.errors import UsageError

# Stages that can be at work in several pods at once.
DISTRIBUTED = ("train",)
DEFAULT_FILE = Path(__file__).with_name("resources.toml")
_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


@dataclass(frozen=True)
class Resources:
    """As in `resources.toml`, which tells what each is; quantities are texts of Kubernetes."""

    cpu: str
    cpu_limit: str
    memory: str
    memory_limit: str
    ephemeral_storage: str
    scratch: str
    gpus: int
    gpu_resource: str
    workers: int
    priority_class: str
    runtime_class: str
    service_account: str
    image: str
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]

    @property
    def whole_cpus(self) -> int:
        """How many processes it keeps busy, at least one."""
        return max(1, int(quantity(self.cpu_limit or self.cpu)))

    def doubled(self) -> Resources | None:
        """With twice the memory, at most `memory_limit`; None where it has that already."""
        now, most = quantity(self.memory), quantity(self.memory_limit)
        if now >= most:
            return None
        return dataclasses.replace(self, memory=f"{int(min(2 * now, most))}")


def load_resources(file: str, stage: str, asked: dict[str, Any] | None = None) -> Resources:
    """Reads what a stage gets.

    Args:
        file: Path of the file; empty: the one beside this module.
        stage: The stage.
        asked: What the form of this run asks for in place of it; what is null is as in the file.

    Raises:
        UsageError: The file is not there, or holds a name, a type or a quantity that is none, or
            several workers for a stage that can have but one.
    """
    path = Path(file or DEFAULT_FILE)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        defaults = tomllib.loads(DEFAULT_FILE.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"[kubernetes] resources_file {path} cannot be read: {error}") from error
    known = {"default", *(module.name for module in pkgutil.iter_modules(stages.__path__))}
    if unknown := tables.keys() - known:
        raise UsageError(f"{path}: there is no stage {min(unknown)!r}.")
    values: dict[str, Any] = {}
    for file_tables in (defaults, tables):
        values |= file_tables.get("default", {}) | file_tables.get(stage, {})
    values |= {name: value for name, value in (asked or {}).items() if value not in (None, "")}
    fields = {field.name for field in dataclasses.fields(Resources)}
    for name, value in values.items():
        default = defaults["default"].get(name)
        if name not in fields or not isinstance(value, type(default)):
            raise UsageError(
                f"{path}: {name} of {stage} is no resource of a pod, or no {type(default).__name__}"
                f". Received: {value!r}; there are: {', '.join(sorted(fields))}."
            )
    for name in ("cpu", "cpu_limit", "memory", "memory_limit", "ephemeral_storage", "scratch"):
        if values[name]:
            try:
                quantity(values[name])
            except ValueError as error:
                raise UsageError(f"{path}: {name} of {stage}: {error}") from error
    if values["cpu_limit"] and quantity(values["cpu"]) > quantity(values["cpu_limit"]):
        raise UsageError(
            f"{path}: cpu of {stage} must be at most its cpu_limit, {values['cpu_limit']}."
            f" Received: {values['cpu']}"
        )
    workers = values["workers"]
    if workers < 1 or (workers > 1 and stage not in DISTRIBUTED):
        raise UsageError(
            f"{path}: workers of {stage} must be 1, or more for {', '.join(DISTRIBUTED)}."
            f" Received: {workers}"
        )
    return Resources(**values)


def quantity(text: str) -> float:
    """The number that a quantity of Kubernetes stands for, such as 500m or 4Gi.

    Raises:
        ValueError: It is none.
    """
    digits = text.rstrip("kKMGTim")
    try:
        return float(digits) * _UNITS[text[len(digits) :]]
    except (KeyError, ValueError):
        raise ValueError(f"A quantity looks like 500m or 4Gi. Received: {text!r}") from None
