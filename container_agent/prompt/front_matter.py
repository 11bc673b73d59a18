"""What stands above the text of a skill, between two lines of `---`: YAML, as skills are published. Pure.

The only module that knows of the YAML library, which is imported when a skill is there. Every value is read as the text
it is written as: `no`, `1.10` and `2026-01-01` are names like others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MAX_CHARACTERS = 4_000
_MAX_BRACKETS = 100  # the library's time grows with the square of how deep they stand
_ENDS = ("---", "...")


def split(text: str) -> tuple[Mapping[str, str], str]:
    """The texts of the front matter by their names, and what follows; lists and nested values are left out.

    What is no YAML is read line by line, `name: value`: a description with a colon in it is common, and means itself.
    """
    lines = text.split("\n")
    if lines[0].strip() != "---":
        return {}, text
    end = next((place for place, line in enumerate(lines[1:], 1) if line.rstrip() in _ENDS), None)
    if end is None:
        return {}, text
    head, body = "\n".join(lines[1:end]), "\n".join(lines[end + 1 :]).strip()
    is_usual = len(head) <= _MAX_CHARACTERS and head.count("[") <= _MAX_BRACKETS
    found = _yaml(head) if is_usual else None
    if not isinstance(found, dict):
        return _plain(lines[1:end]), body
    return {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, str)}, body


def _yaml(text: str) -> Any:
    """The value of a YAML document in which every scalar is a text; None for what is no YAML."""
    import yaml

    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # makes texts, lists and dictionaries, and nothing else
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def _plain(lines: list[str]) -> dict[str, str]:
    head: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and not line[:1].isspace():
            head.setdefault(name.strip(), value.strip().strip("\"'"))
    return head
