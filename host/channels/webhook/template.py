"""From JSON to text: JSON pointers (RFC 6901), and templates that have them in braces. Pure.

`"{/alert/title}: {/items/0/name}"` takes two values out of a document. `{}` is all of it, `{{` and `}}` are braces.
Text stands as it is, other values as JSON, and what is not there is empty.
"""

from __future__ import annotations

import json
from typing import Any

MAX_TEXT = 1_000_000
"""Characters that a template comes to at most: it may name one long value many times."""
_LONGEST_INDEX = 9
_MISSING = object()


def parse_pointer(text: str) -> tuple[str, ...]:
    """The steps of a JSON pointer. Raises `ValueError`."""
    if not text:
        return ()
    if not text.startswith("/"):
        raise ValueError(f"a JSON pointer begins with '/': '/{text[:40]}'")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def at(document: Any, pointer: str) -> Any:
    """The value at a pointer; None where there is none."""
    value = _at(document, parse_pointer(pointer))
    return None if value is _MISSING else value


def identifier(document: Any, pointer: str) -> str | None:
    """The value at a pointer, where it can be an identifier: text that is not empty, or a whole number."""
    value = at(document, pointer)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def parse_template(text: str) -> list[str | tuple[str, ...]]:
    """The parts of a template: text, and the steps of pointers. Raises `ValueError`."""
    parts: list[str | tuple[str, ...]] = []
    position = 0
    while position < len(text):
        character = text[position]
        if text[position : position + 2] in ("{{", "}}"):
            parts.append(character)
            position += 2
        elif character == "{":
            end = text.find("}", position)
            if end < 0:
                raise ValueError("a brace of the template is not closed; `{{` stands for one brace")
            parts.append(parse_pointer(text[position + 1 : end]))
            position = end + 1
        elif character == "}":
            raise ValueError("a brace of the template was not opened; `}}` stands for one brace")
        else:
            following = [found for found in (text.find("{", position), text.find("}", position)) if found >= 0]
            end = min(following, default=len(text))
            parts.append(text[position:end])
            position = end
    return parts


def filled(template: str, document: Any) -> str:
    """The text that a template makes of a document, at most `MAX_TEXT` characters."""
    shown: dict[tuple[str, ...], str] = {}
    parts: list[str] = []
    room = MAX_TEXT
    for part in parse_template(template):
        if isinstance(part, tuple):
            if part not in shown:
                shown[part] = as_text(_at(document, part))
            part = shown[part]
        parts.append(part[:room])
        room -= len(parts[-1])
        if room <= 0:
            break
    return "".join(parts)


def as_text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None or value is _MISSING:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _at(document: Any, steps: tuple[str, ...]) -> Any:
    value = document
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step, _MISSING)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) <= _LONGEST_INDEX:
            value = value[int(step)] if int(step) < len(value) else _MISSING
        else:
            return _MISSING
    return value
