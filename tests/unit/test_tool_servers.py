"""MCP servers as other programs' files say them: taken, or refused with a sentence that names what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared_schema.errors import InvalidValue
from shared_schema.tool_servers import server, servers_of, stored

NPX = {"command": ["npx", "-y", "mcp-mermaid"]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"mcpServers": {"mermaid": {"command": "npx", "args": ["-y", "mcp-mermaid"]}}}, {"mermaid": NPX}),
        ({"servers": {"mermaid": {"type": "stdio", **NPX}}, "inputs": []}, {"mermaid": NPX}),
        ({"mcp": {"servers": {"mermaid": NPX}}}, {"mermaid": NPX}),
        ({"mermaid": {"command": "npx", "args": ["-y", "mcp-mermaid"], "env": {}}}, {"mermaid": NPX}),
        ({"servers": NPX}, {"servers": NPX}),
        ({"Brave_Search": NPX}, {"Brave_Search": NPX}),
        ({"github.com/a/b": NPX, "a__b": NPX}, {"github.com/a/b": NPX, "a__b": NPX}),
        (
            {"a": {**NPX, "env": {"A": 1, "B": True, "C": "x"}}},
            {"a": {**NPX, "environment": {"A": "1", "B": "true", "C": "x"}}},
        ),
        ({"a": {**NPX, "env": {"A": "${HOME_PAGE:-http://x}"}}}, {"a": {**NPX, "environment": {"A": "http://x"}}}),
        ({"a": {**NPX, "disabled": True, "autoApprove": ["x"]}}, {"a": {**NPX, "disabled": True}}),
        ({"a": {**NPX, "enabled": False, "cwd": "sub"}}, {"a": {**NPX, "cwd": "sub", "disabled": True}}),
        ({"a": {**NPX, "excludeTools": ["x"], "includeTools": ["y"]}}, {"a": {**NPX, "only": ["y"], "without": ["x"]}}),
        (
            {"w": {"type": "http", "url": "http://x/mcp", "headers": {"X": "1"}}},
            {"w": {"url": "http://x/mcp", "headers": {"X": "1"}}},
        ),
        ({"w": {"type": "streamable-http", "url": "http://x/mcp"}}, {"w": {"url": "http://x/mcp"}}),
        ({"w": {"type": "sse", "url": "http://x/mcp"}}, {"w": {"url": "http://x/mcp", "transport": "sse"}}),
        ({"w": {"url": "https://x/sse"}}, {"w": {"url": "https://x/sse", "transport": "sse"}}),
        ({"w": {"serverUrl": "https://x/mcp"}}, {"w": {"url": "https://x/mcp"}}),
        ({"w": {"httpUrl": "https://x/mcp", "timeout": 5000}}, {"w": {"url": "https://x/mcp"}}),
        ({"mcpServers": {}}, {}),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_other_programs_write_is_taken(document: Any, expected: Any, mark: str) -> None:
    once = stored(mark + json.dumps(document))
    assert json.loads(once) == expected
    assert stored(once) == once  # the stored form is read like any other


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"a": {"enviroment": {}, **NPX}}, "the server 'a' has 'enviroment', which is not known here"),
        ({"a": {}}, "the server 'a' has neither a command nor a url"),
        ({"a": {**NPX, "url": "http://x"}}, "the server 'a' has both a command and a url"),
        ({"a": {"url": "ftp://x"}}, "the url of the server 'a' is not http or https"),
        ({"a": {"type": "ws", "url": "http://x"}}, "the server 'a' has the type 'ws'"),
        ({"a": {"type": "http", **NPX}}, "the server 'a' is of the type 'http', and has a command"),
        ({"a": {"url": "http://x", "env": {"A": "1"}}}, "the server 'a' has a url, and so cannot have 'env'"),
        (
            {"a": {"url": "http://x", "headers": {"A": "${TOKEN}"}}},
            "the field 'headers' of the server 'a' asks for ${TOKEN}",
        ),
        (
            {"a": {**NPX, "env": {"A": "${input:key}"}}},
            "the field 'environment' of the server 'a' asks for ${input:key}",
        ),
        ({"a": {**NPX, "env": {"A": []}}}, "the field 'environment' of the server 'a' has a value that is not a text"),
        ({"a": {"command": "npx -y mcp-mermaid"}}, "the field 'command' of the server 'a' has several words"),
        ({"a": {"command": 5}}, "the field 'command' of the server 'a' is neither a text nor a list of texts"),
        ({"a": {"command": "npx", "args": "x"}}, "the field 'args' of the server 'a' is not a list of texts"),
        ({"a": []}, "the server 'a' is not an object"),
        ({" ": NPX}, "' ' cannot be the name of a server"),
        ([], "tool servers are a JSON object of at most 20 servers"),
        ({str(number): NPX for number in range(21)}, "tool servers are a JSON object of at most 20 servers"),
    ],
)
def test_what_is_wrong_is_named(document: Any, sentence: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        stored(json.dumps(document))
    assert refused.value.what.startswith(sentence)


def test_what_is_no_json_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidValue, match=r"not JSON: .* in line 2, column 1"):
        servers_of("{\n")


def test_a_server_offers_what_is_not_left_out() -> None:
    one = server("a", {**NPX, "only": ["x", "y"], "without": ["y"]})
    assert [one.offers(tool) for tool in ("x", "y", "z")] == [True, False, False]
