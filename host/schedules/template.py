"""The prompt of a run that events start: a text in which `{text}` and `{count}` stand for them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared_schema.errors import InvalidValue

_FIELD = re.compile(r"\{(\w*)\}")
_KNOWN = ("text", "count")
MOST_EVENTS = 20
"""In one run."""
LONGEST_EVENT = 4_000
"""Characters of each that the agent is told."""


def require(template: str) -> None:
    """Raises `InvalidValue` for a template that cannot be filled in."""
    for found in _FIELD.finditer(template):
        if found[1] not in _KNOWN:
            raise InvalidValue(
                f"a template has no field '{found[0][:40]}'", hint="use {text} and {count}, such as 'Sort this: {text}'"
            )


def filled(template: str, events: Sequence[str]) -> str:
    """The template with its events; behind it where it does not say where."""
    texts = "\n\n".join(text[:LONGEST_EVENT] for text in events)
    values = {"text": texts, "count": str(len(events))}
    text = _FIELD.sub(lambda found: values.get(found[1], found[0]), template)
    return text if "{text}" in template else f"{text}\n\n{texts}"
