"""Arguments against the JSON schema of a tool. Pure.

The words it knows are those that the tools use: `type`, `properties`, `required`, `enum`, `items`, `default`, and the
bounds of numbers, texts and lists. Properties that are not named are refused: a model that invents one should hear it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from container_agent.tools.tool import ToolRefused
from shared_schema.text import without_lone_surrogates

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def form(required: Mapping[str, Any] | None = None, optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The schema of an object with these properties."""
    return {
        "type": "object",
        "properties": {**(required or {}), **(optional or {})},
        "required": list(required or ()),
        "additionalProperties": False,
    }


def text(description: str, most: int, *, least: int = 1, **others: Any) -> dict[str, Any]:
    """The schema of a text of `least` to `most` characters."""
    return {"type": "string", "description": description, "minLength": least, "maxLength": most, **others}


def number(description: str, least: float, most: float, default: float, *, kind: str = "integer") -> dict[str, Any]:
    """The schema of a number with bounds and a default."""
    return {"type": kind, "description": description, "minimum": least, "maximum": most, "default": default}


def checked(schema: Mapping[str, Any], given: object) -> dict[str, Any]:
    """The arguments as they fit the schema, with its defaults; `given` is an object or its JSON text.

    Raises `ToolRefused`, saying which argument is wrong and how.
    """
    found: dict[str, Any] = _checked(schema, parsed(given), "")
    return found


def parsed(given: object) -> dict[str, Any]:
    """The object that the arguments of a call are. Raises `ToolRefused`."""
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.strip() else {}
        except (ValueError, RecursionError) as error:
            raise ToolRefused("the arguments are not JSON") from error
    if not isinstance(given, Mapping):
        raise ToolRefused("the arguments are not an object")
    return dict(given)


def _checked(schema: Mapping[str, Any], value: Any, name: str) -> Any:
    called = f"the argument '{name}'" if name else "the arguments"
    kind = schema["type"]
    if kind in ("integer", "number") and isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise ToolRefused(f"{called} must be of the type {kind}")
    if "enum" in schema and value not in schema["enum"]:
        raise ToolRefused(f"{called} must be one of: {', '.join(map(str, schema['enum']))}")
    match value:
        case dict():
            return _object(schema, value, name)
        case list():
            _bounded(schema, len(value), called, "minItems", "maxItems", "items")
            return [_checked(schema["items"], item, f"{name}[{place}]") for place, item in enumerate(value)]
        case str():
            _bounded(schema, len(value), called, "minLength", "maxLength", "characters")
            return without_lone_surrogates(value)
        case _:
            if isinstance(value, float) and not math.isfinite(value):
                raise ToolRefused(f"{called} must be a finite number")
            _bounded(schema, value, called, "minimum", "maximum", "")
            return value


def _object(schema: Mapping[str, Any], value: dict[str, Any], name: str) -> dict[str, Any]:
    properties = schema["properties"]
    prefix = f"{name}." if name else ""
    if unknown := sorted(str(key) for key in value if key not in properties):
        raise ToolRefused(f"there is no argument '{prefix}{unknown[0][:80]}'")
    found = {}
    for key, described in properties.items():
        if value.get(key) is not None:
            found[key] = _checked(described, value[key], f"{prefix}{key}")
        elif key in schema["required"]:
            raise ToolRefused(f"the argument '{prefix}{key}' is missing")
        elif "default" in described:
            found[key] = described["default"]
    return found


def _bounded(schema: Mapping[str, Any], size: Any, called: str, least: str, most: str, of: str) -> None:
    low, high = schema.get(least, -math.inf), schema.get(most, math.inf)
    if not low <= size <= high:
        bounds = (
            f"at least {low}" if high == math.inf else f"at most {high}" if low == -math.inf else f"{low} to {high}"
        )
        raise ToolRefused(f"{called} must {'have' if of else 'be'} {bounds} {of}".rstrip())
