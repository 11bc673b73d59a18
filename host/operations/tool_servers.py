"""The MCP servers that somebody sets up for an agent group. Pure; the agent looks once more before it starts one."""

from __future__ import annotations

import json
import re

from shared_schema import json_text
from shared_schema.errors import InvalidValue

_MAX_CHARACTERS = 20_000
_MAX_SERVERS = 20
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_HINT = "docs/tools.md shows what it should look like"


def valid_servers(text: str) -> str:
    """The JSON object in a text, as it is stored. Raises `InvalidValue`, naming the server."""
    try:
        found = json_text.parse(text) if len(text) <= _MAX_CHARACTERS else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or len(found) > _MAX_SERVERS:
        raise InvalidValue(f"tool servers are a JSON object of at most {_MAX_SERVERS} servers", hint=_HINT)
    for name, said in found.items():
        if not _NAME.fullmatch(name):
            raise InvalidValue(f"'{name[:50]}' is not a name of small letters, digits and hyphens", hint=_HINT)
        if not isinstance(said, dict) or not (_is_program(said) or _is_service(said)):
            raise InvalidValue(f"the server '{name}' has not either a command or a url as it should be", hint=_HINT)
    return json.dumps(found, ensure_ascii=False)


def _is_program(said: dict[str, object]) -> bool:
    command = said.get("command")
    is_command = isinstance(command, list) and bool(command) and all(isinstance(part, str) for part in command)
    return is_command and said.keys() <= {"command", "environment"} and _is_texts(said.get("environment", {}))


def _is_service(said: dict[str, object]) -> bool:
    url = said.get("url")
    is_url = isinstance(url, str) and url.startswith(("http://", "https://"))
    return is_url and said.keys() <= {"url", "headers"} and _is_texts(said.get("headers", {}))


def _is_texts(values: object) -> bool:
    return isinstance(values, dict) and all(isinstance(value, str) for value in values.values())
