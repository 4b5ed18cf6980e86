"""The parameters of DAGs as people type and read them: `--param NAME=VALUE` and `--params`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vidpipe.errors import UsageError

NAMES_SHOWN = 3

# JSON schema's types, in words.
_KINDS = {
    "array": "a JSON list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null for nothing",
    "number": "a number",
    "object": "a JSON object",
}


def show_params(known: dict[str, dict[str, Any]], dag_id: str, name: str = "") -> RenderableType:
    """Parameters by section, each with its default, its description and its choices.

    Args:
        known: The parameters of the DAG, as `AirflowClient.params` has them.
        dag_id: The DAG.
        name: Only this one, with a line for each choice; empty: all.

    Raises:
        UsageError: There is no such parameter.
    """
    if name and name not in known:
        raise _no_such(name, known, dag_id)
    shown: list[RenderableType] = []
    section = None
    for param_name, param in known.items():
        if name and name != param_name:
            continue
        schema = param.get("schema") or {}
        if not name and (found := schema.get("section") or "") != section:
            section = found
            shown += [Text(), Text(section, style="bold underline")] if section else []
        default = "must be given" if _is_required(param) else f"default {_as_typed(param['value'])}"
        shown.append(Text.assemble((param_name, "bold"), f"  ({default})"))
        title, description = schema.get("title"), _description(param_name, param)
        meaning = ". ".join(filter(None, (title, description)))
        shown += [_indented(text) for text in (meaning, _allowed(schema)) if text]
        if name:
            shown.append(Padding(_choices(schema), (0, 0, 0, 4)))
    return Group(*shown)


def _indented(text: str) -> Padding:
    return Padding(Text(" ".join(text.split())), (0, 0, 0, 4), expand=False)


def _allowed(schema: dict[str, Any]) -> str:
    """The values that a parameter takes, in words; empty: any text."""
    items = schema.get("items") or {}
    if choices := items.get("enum"):
        return f"One or more of {', '.join(map(str, choices))}, with commas between them."
    if choices := schema.get("enum"):
        return f"One of {', '.join(map(_as_typed, choices))}."
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    kinds = [_KINDS[kind] for kind in sorted(types, key="null".__eq__) if kind in _KINDS]
    if not set(types) - {"string", "null"}:
        return ""
    return f"{', or '.join(kinds)}{_bounds(schema)}.".capitalize()


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    told = [f"{text} {schema[key]:.10g}" for key, text in words.items() if key in schema]
    return f" ({', '.join(told)})" if told else ""


def _choices(schema: dict[str, Any]) -> Table:
    """What each choice means, where the form says it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    displays = schema.get("values_display") or {}
    for value, display in displays.items():
        table.add_row(Text(value), Text(display.removeprefix(f"{value}: ")))
    return table


def _as_typed(value: Any) -> str:
    """A value as `parse_params` reads it."""
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def parse_params(
    params: Iterable[str], known: dict[str, dict[str, Any]], dag_id: str
) -> dict[str, Any]:
    """Reads `NAME=VALUE` by the types that the DAG's parameters have.

    Args:
        params: As they were given.
        known: The parameters of the DAG, as `AirflowClient.params` has them.
        dag_id: The DAG.

    Raises:
        UsageError: No `=`, a name that the DAG does not have, a value that is no JSON where the
            parameter is no string, or none of a parameter that has no default.
    """
    conf = {}
    for param in params:
        name, equals, text = param.partition("=")
        if not (name and equals):
            raise UsageError(f"A parameter is given as NAME=VALUE. Received: {param!r}")
        if name not in known:
            raise _no_such(name, known, dag_id)
        conf[name] = _parse_value(name, text, known[name].get("schema") or {})
    if missing := [n for n, of in known.items() if n not in conf and _is_required(of)]:
        told = (f"{n}: {_description(n, known[n]) or 'no description'}" for n in missing)
        raise UsageError(
            f"A parameter is missing: add {' '.join(f'--param {n}=VALUE' for n in missing)}"
            f" ({' '.join(' '.join(told).split())})"
        )
    return conf


def _no_such(name: str, known: Iterable[str], dag_id: str) -> UsageError:
    near = ", ".join(_nearest(name, known))
    return UsageError(
        "There is no such parameter"
        + (f"; the nearest: {near}" if near else "")
        + f". All are listed by: vidpipe run {dag_id} --params. Received: {name}"
    )


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """Names that are like it, else those that it is a part of."""
    near = difflib.get_close_matches(name.lower(), known, NAMES_SHOWN)
    return near or [of for of in sorted(known) if name.lower() in of][:NAMES_SHOWN]


def _description(name: str, param: dict[str, Any]) -> str:
    """What is said of it, without its name, with which it begins in a form."""
    return (param.get("description") or "").removeprefix(f"{name}: ")


def _is_required(param: dict[str, Any]) -> bool:
    """Whether it has no default: Airflow has null for that, too, which its type does not allow."""
    types = (param.get("schema") or {}).get("type")
    return param["value"] is None and types is not None and "null" not in types


def _parse_value(name: str, text: str, schema: dict[str, Any]) -> Any:
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if not set(types) - {"string", "null"}:
        return None if text == "null" and "null" in types else text
    if "boolean" in types and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return json.loads(text)
    except ValueError as error:
        if "string" in types:
            return text
        if "array" in types and "enum" in (schema.get("items") or {}):
            return [word.strip() for word in text.split(",")]
        # Nothing comes last.
        kinds = ", or ".join(_KINDS.get(t, t) for t in sorted(types, key="null".__eq__))
        raise UsageError(f"{name} must be {kinds}. Received: {text!r}") from error
