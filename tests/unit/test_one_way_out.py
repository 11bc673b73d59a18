"""Nothing in the agent opens a connection but by the one module that makes clients: the gateway sees all of it.

FAILURES 55.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import container_agent

AGENT = Path(container_agent.__file__).parent
# The forwarder is the way out itself, the relay its other half in a container of its own. `connections` makes the
# clients; the others name types of theirs, and errors.
OPENS = {"forwarder.py", "relay.py", "connections.py"}
CLIENTS = {"AsyncClient", "Client", "AsyncHTTPTransport", "HTTPTransport", "open_connection", "create_connection",
           "open_unix_connection", "create_unix_connection", "urlopen", "ClientSession", "socket"}  # fmt: skip
MODULES = {"socket", "http.client", "urllib.request", "aiohttp", "requests", "httpx", "urllib3", "ftplib", "smtplib"}
GIVEN_A_CLIENT = {"streamable_http_client": "http_client", "sse_client": "httpx_client_factory",
                  "AnthropicProvider": "http_client", "OpenAIProvider": "http_client", "GoogleProvider": "http_client",
                  "OllamaProvider": "http_client", "OpenAICompatibleProvider": "http_client"}  # fmt: skip


def made(tree: ast.AST) -> Iterator[str]:
    """What a module does that opens a connection by itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            needed = GIVEN_A_CLIENT.get(name)
            if needed is not None and needed not in {keyword.arg for keyword in node.keywords}:
                yield f"{name} without {needed}"
            is_mcp = name == "Client" and any(isinstance(each, ast.Await | ast.Name) for each in node.args)
            if name in CLIENTS and not is_mcp:  # MCP's client is over a transport, and makes one for a URL alone
                yield name


def test_one_module_makes_the_clients() -> None:
    found = {path.name: names for path in AGENT.rglob("*.py") if (names := sorted(made(ast.parse(path.read_text()))))}
    assert set(found) <= OPENS, found
    assert found["connections.py"], "the module that is looked for is found"


def test_a_client_made_elsewhere_would_be_seen() -> None:
    for text in (
        "import socket", "from urllib.request import urlopen", "httpx2.AsyncClient()", "Client('http://x')",
        "sse_client(url)", "await asyncio.open_connection('x', 1)", "OpenAIProvider(api_key='x')",
    ):  # fmt: skip
        assert list(made(ast.parse(text))), text
