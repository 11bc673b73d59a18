"""Templates: texts with `{{include:_name}}` and `{{name}}`. Pure over a function that gives the text of a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from shared_schema.errors import InvalidValue

_FOLDER = Path(__file__).parent / "templates"
_INCLUDE = re.compile(r"\{\{include:(_[a-z_]+)\}\}")
_VALUE = re.compile(r"\{\{([a-z_]+)\}\}")
_BLANK_LINES = re.compile(r"\n{3,}")
_MAX_DEPTH = 5


def shipped(name: str) -> str | None:
    """The text of a template of ours; None when there is none of that name."""
    path = _FOLDER / f"{name}.md"
    return path.read_text("utf-8") if path.is_file() else None


def filled(name: str, values: Mapping[str, str], source: Callable[[str], str | None] = shipped) -> str:
    """A template with its includes, and `values` in their places; values are never looked into.

    Raises `InvalidValue` for a template that is not there, includes itself, or has a place that nothing is known for.
    """

    def value(place: re.Match[str]) -> str:
        if place[1] not in values:
            raise InvalidValue(f"the template '{name}' asks for '{place[1]}', which nothing is known of")
        return values[place[1]]

    return _BLANK_LINES.sub("\n\n", _VALUE.sub(value, _whole(name, source, ()))).strip() + "\n"


def _whole(name: str, source: Callable[[str], str | None], around: tuple[str, ...]) -> str:
    text = source(name)
    if text is None:
        raise InvalidValue(f"there is no template '{name}'")
    if name in around or len(around) >= _MAX_DEPTH:
        raise InvalidValue(f"the template '{name}' includes itself", where=" > ".join((*around, name)))
    return _INCLUDE.sub(lambda found: _whole(found[1], source, (*around, name)).strip(), text)
