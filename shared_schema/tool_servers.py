"""MCP servers that are set up for an agent group: what their files say, and the one form in which they are stored.

Such files are written for Claude, Cursor, VS Code, Gemini CLI and others, which agree on most of it: an object of
servers by name, often under `mcpServers` or `servers`; each with a `command`, `args` and `env`, or with a `url` and
`headers`. All of that is read; what is stored is

    {name: {"command": [program, argument, …], "environment": {…}, "cwd": path}
         | {"url": …, "headers": {…}, "transport": "sse"}}

each perhaps with `disabled`, `only` and `without` (lists of its tools). The stored form is read like any other. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from shared_schema import json_text
from shared_schema.dataclass import dataclass
from shared_schema.errors import InvalidValue
from shared_schema.foreign_text import without_mark
from shared_schema.text import is_all_shown

MAX_SERVERS = 20
MAX_CHARACTERS = 20_000
_MAX_NAME = 64
_HINT = "docs/tools.md shows what it should look like"
_WRAPPERS = ("mcpServers", "mcp_servers", "servers", "context_servers", "mcp")
_BESIDE_SERVERS = ("inputs", "$schema")

Transport = Literal["stdio", "http", "sse"]
_TRANSPORTS: Mapping[str, Transport] = {
    "stdio": "stdio", "local": "stdio", "http": "http", "streamable-http": "http", "streamablehttp": "http",
    "streamable_http": "http", "remote": "http", "sse": "sse",
}  # fmt: skip
_ENVIRONMENTS = ("environment", "env")
_URLS = ("url", "httpUrl", "serverUrl")
_TYPES = ("transport", "type")
_ONLY, _WITHOUT = ("only", "includeTools"), ("without", "excludeTools", "disabledTools")
# What only says how another program shows a server, or what it asks before it calls one.
_IGNORED = frozenset(
    {"description", "name", "title", "icon", "version", "timeout", "autoApprove", "alwaysAllow", "trust", "gallery",
     "tags", "homepage", "initTimeout", "note", "notes", "_comment"}
)  # fmt: skip
_OF_PROGRAM = frozenset({"command", "args", *_ENVIRONMENTS, "cwd"})
_OF_SERVICE = frozenset({*_URLS, "headers"})
_OF_BOTH = frozenset({*_TYPES, "disabled", "enabled", *_ONLY, *_WITHOUT})
_PLACEHOLDER = re.compile(r"\$\{(?:env:)?[A-Za-z_][\w:.-]*?(?::-(?P<default>[^}]*))?\}")


@dataclass(frozen=True, slots=True)
class ToolServer:
    """One server: a command to start, or a URL to go to. `only`, unless it is empty, are the tools it may offer."""

    name: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    transport: Transport = "stdio"
    disabled: bool = False
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def offers(self, tool: str) -> bool:
        """Whether a tool of the server is to be there."""
        return (not self.only or tool in self.only) and tool not in self.without


def servers_of(text: str) -> dict[str, Any]:
    """The servers of a file by their names, each as it is written there; for `server`. Raises `InvalidValue`."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidValue(f"tool servers have at most {MAX_CHARACTERS:,} characters", hint=_HINT)
    try:
        found = _unwrapped(json_text.parse(without_mark(text)))
    except json.JSONDecodeError as error:
        what = f"the tool servers are not JSON: {error.msg.lower()} in line {error.lineno}, column {error.colno}"
        raise InvalidValue(what, hint=_HINT) from error
    except ValueError as error:
        raise InvalidValue("the tool servers are not JSON", hint=_HINT) from error
    if not isinstance(found, dict) or len(found) > MAX_SERVERS:
        raise InvalidValue(f"tool servers are a JSON object of at most {MAX_SERVERS} servers", hint=_HINT)
    return found


def server(name: str, said: Any) -> ToolServer:
    """One server as a file says it. Raises `InvalidValue`, which names the server and what is wrong with it."""
    if not 0 < len(name) <= _MAX_NAME or not is_all_shown(name) or name != name.strip():
        what = f"'{name[:_MAX_NAME]}' cannot be the name of a server"
        raise InvalidValue(what, hint=f"use 1 to {_MAX_NAME} characters that can be seen")
    if not isinstance(said, dict):
        raise InvalidValue(f"the server '{name}' is not an object", hint=_HINT)
    if unknown := sorted(key for key in said if key not in _OF_PROGRAM | _OF_SERVICE | _OF_BOTH | _IGNORED):
        raise InvalidValue(f"the server '{name}' has '{unknown[0][:80]}', which is not known here", hint=_HINT)
    reader = _ConfigurationReader(name, said)
    url, has_command = reader.text(_URLS), bool(said.get("command"))
    if bool(url) == has_command:
        both = "both a command and" if url else "neither a command nor"
        raise InvalidValue(f"the server '{name}' has {both} a url", hint=_HINT)
    given = reader.text(_TYPES).lower()
    if given and given not in _TRANSPORTS:
        what = f"the server '{name}' has the type '{given[:40]}'"
        raise InvalidValue(what, hint="the types are stdio, http and sse")
    transport = _TRANSPORTS.get(given, "stdio" if has_command else _usual(url))
    if (transport == "stdio") != has_command:
        what = f"the server '{name}' is of the type '{given}', and has a {'command' if has_command else 'url'}"
        raise InvalidValue(what, hint=_HINT)
    for key in (_OF_PROGRAM if url else _OF_SERVICE) & {key for key in said if said[key]}:
        what = f"the server '{name}' has a {'url' if url else 'command'}, and so cannot have '{key}'"
        raise InvalidValue(what, hint=_HINT)
    if url and not url.startswith(("http://", "https://")):
        raise InvalidValue(f"the url of the server '{name}' is not http or https", hint=_HINT)
    return ToolServer(
        name,
        command=reader.command() if has_command else (),
        environment=reader.texts(_ENVIRONMENTS),
        cwd=reader.text(("cwd",)),
        url=url,
        headers=reader.texts(("headers",)),
        transport=transport,
        disabled=reader.flag("disabled", False) or not reader.flag("enabled", True),
        only=reader.names(_ONLY),
        without=reader.names(_WITHOUT),
    )


def stored(text: str) -> str:
    """The servers of a file in the form in which they are stored. Raises `InvalidValue`, naming the server."""
    found = {name: _stored(server(name, said)) for name, said in servers_of(text).items()}
    return json.dumps(found, ensure_ascii=False)


def _stored(one: ToolServer) -> dict[str, Any]:
    said: dict[str, Any] = {
        "command": list(one.command),
        "environment": dict(one.environment),
        "cwd": one.cwd,
        "url": one.url,
        "headers": dict(one.headers),
        "transport": one.transport if one.transport == "sse" else "",
        "disabled": one.disabled,
        "only": list(one.only),
        "without": list(one.without),
    }
    return {name: value for name, value in said.items() if value}


def _unwrapped(found: Any) -> Any:
    """The object of servers, out of what other programs put around it (VS Code: `mcp`, and `servers` in it)."""
    for _ in range(2):
        if not isinstance(found, dict):
            return found
        rest = [key for key in found if key not in _BESIDE_SERVERS]
        if len(rest) != 1 or rest[0] not in _WRAPPERS or not _holds_servers(found[rest[0]]):
            return found
        found = found[rest[0]]
    return found


def _holds_servers(inner: Any) -> bool:
    """Whether an object holds servers, and is not one itself: a server may be called `servers`."""
    return isinstance(inner, dict) and all(isinstance(value, dict) for value in inner.values())


def _usual(url: str) -> Transport:
    return "sse" if url.partition("?")[0].rstrip("/").endswith("/sse") else "http"


class _ConfigurationReader:
    """The fields of one server, which have several names."""

    def __init__(self, name: str, said: Mapping[str, Any]) -> None:
        self._name = name
        self._said = said

    def text(self, keys: tuple[str, ...]) -> str:
        value = self._value(keys)
        if value is not None and not isinstance(value, str):
            raise self._wrong(keys[0], "is not a text")
        return self._filled((value or "").strip(), keys[0])

    def texts(self, keys: tuple[str, ...]) -> dict[str, str]:
        value = {} if (given := self._value(keys)) is None else given
        if not isinstance(value, dict):
            raise self._wrong(keys[0], "is not an object of texts")
        return {key: self._filled(self._plain(each, keys[0]), keys[0]) for key, each in value.items()}

    def names(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        value = [] if (given := self._value(keys)) is None else given
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self._wrong(keys[0], "is not a list of texts")
        return tuple(value)

    def flag(self, key: str, otherwise: bool) -> bool:
        value = self._said.get(key, otherwise)
        if not isinstance(value, bool):
            raise self._wrong(key, "is neither true nor false")
        return value

    def command(self) -> tuple[str, ...]:
        """Program and arguments. No shell reads a command, so one of several words has its arguments in `args`."""
        command, arguments = self._said["command"], self._said.get("args")
        if isinstance(command, list) and not arguments:
            command, arguments = command[0], command[1:]
        elif isinstance(command, str) and arguments is None and len(command.split()) > 1:
            raise self._wrong("command", "has several words: the first is the program, the others belong into 'args'")
        if not isinstance(command, str) or not command.strip():
            raise self._wrong("command", "is neither a text nor a list of texts")
        if not isinstance(arguments or [], list):
            raise self._wrong("args", "is not a list of texts")
        return tuple(self._plain(each, "command") for each in [command, *(arguments or [])])

    def _value(self, keys: tuple[str, ...]) -> Any:
        given = [self._said[key] for key in keys if self._said.get(key) is not None]
        if any(each != given[0] for each in given):
            raise self._wrong(keys[0], "is given twice")
        return given[0] if given else None

    def _plain(self, value: Any, name: str) -> str:
        """A text, or what people write for one: a number, true, false."""
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return str(value)
        if not isinstance(value, str):
            raise self._wrong(name, "has a value that is not a text")
        return value

    def _filled(self, text: str, name: str) -> str:
        """The text with the defaults of its placeholders: nothing of the host's environment gets to an agent."""

        def value(found: re.Match[str]) -> str:
            if found["default"] is None:
                raise self._wrong(name, f"asks for {found[0][:80]}; write the value itself, which agents can read")
            return found["default"]

        return _PLACEHOLDER.sub(value, text)

    def _wrong(self, name: str, what: str) -> InvalidValue:
        return InvalidValue(f"the field '{name}' of the server '{self._name}' {what}", hint=_HINT)
