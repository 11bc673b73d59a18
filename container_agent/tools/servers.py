"""MCP servers that were set up for the agent group: started when their tools are first asked for, then kept.

Invariant: a server that fails, hangs or talks nonsense costs its own tools and nothing else. Its tools are called
`<server>__<tool>`. The configuration comes from the host with the session's context; an agent cannot change it.

A client must be left in the task that entered it, so each server has a task of its own, which does nothing but keep it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from container_agent.tools.environment import for_programs
from container_agent.tools.foreign import result_text, tool_name
from container_agent.tools.tool import Arguments, Definition, Tool, ToolRefused

if TYPE_CHECKING:
    from mcp import Client

log = logging.getLogger("container_agent")

START_SECONDS = 20.0
_CALL_SECONDS = 120.0
_STOP_SECONDS = 3.0
_MAX_TOOLS = 100  # of one server
_MAX_PAGES = 20  # of its list
_MAX_SERVERS = 20
_MAX_SCHEMA = 20_000
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class Configuration:
    """One server: a command to start, or a URL to go to."""

    name: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def configurations(text: str) -> list[Configuration]:
    """The servers of a JSON object `{name: {"command": [...], "environment": {...}} | {"url": …, "headers": {...}}}`.

    What is wrong with one is logged, and leaves it out.
    """
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        log.warning("the configuration of MCP servers is no JSON object")
        return []
    chosen = []
    for name, said in sorted(found.items())[:_MAX_SERVERS]:
        problem = _problem(name, said)
        if problem is not None:
            log.warning("an MCP server is left out: %s", problem)
            continue
        chosen.append(
            Configuration(
                name,
                tuple(said.get("command", ())),
                dict(said.get("environment", {})),
                said.get("url", ""),
                dict(said.get("headers", {})),
            )
        )
    return chosen


def _problem(name: str, said: object) -> str | None:
    if not _NAME.fullmatch(name) or "__" in name:
        return f"'{name[:50]}' is not a name of small letters, digits and hyphens"
    if not isinstance(said, dict) or ("command" in said) == ("url" in said):
        return f"'{name}' has not either a command or a url"
    command, url = said.get("command", ["-"]), said.get("url", "http://")
    if not isinstance(command, list) or not command or not all(isinstance(part, str) for part in command):
        return f"the command of '{name}' is not a list of texts"
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return f"the url of '{name}' is not http or https"
    for key in ("environment", "headers"):
        values = said.get(key, {})
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            return f"the {key} of '{name}' is not an object of texts"
    return None


class Servers:
    """The servers of one agent process. `close` ends them."""

    def __init__(self, chosen: Sequence[Configuration], *, workspace: Path, environment: Mapping[str, str]) -> None:
        self.chosen = tuple(chosen)
        self._servers = [_Server(each, workspace, for_programs(environment)) for each in chosen]

    async def tools(self) -> list[Tool]:
        """The tools of all servers that work, in an order that stays the same. Starts what does not run."""
        found = await asyncio.gather(*(server.tools() for server in self._servers))
        return [tool for tools in found for tool in tools]

    @property
    def problems(self) -> dict[str, str]:
        """Why a server has no tools, in a few words, by its name."""
        return {server.name: server.problem for server in self._servers if server.problem}

    async def close(self) -> None:
        """End all servers."""
        await asyncio.gather(*(server.close() for server in self._servers))


class _Server:
    def __init__(self, chosen: Configuration, workspace: Path, environment: Mapping[str, str]) -> None:
        self.name = chosen.name
        self.problem = ""
        self._chosen = chosen
        self._workspace = workspace
        self._environment = environment
        self._changing = asyncio.Lock()  # starting it, and ending it because it has failed
        self._keeping: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._client: Client | None = None
        self._tools: list[Definition] = []

    async def tools(self) -> list[Tool]:
        """What it offers; nothing when it fails, which is tried again the next time."""
        try:
            await self._connect()
        except ToolRefused:
            return []
        return [self._tool(definition) for definition in self._tools]

    async def close(self) -> None:
        self._leave.set()
        if self._keeping is not None:
            await asyncio.wait({self._keeping}, timeout=_STOP_SECONDS)
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        self._keeping = self._client = None

    async def _connect(self) -> Client:
        """The client of a server that runs. Raises `ToolRefused`."""
        async with self._changing:
            if self._client is not None and self._keeping is not None and not self._keeping.done():
                return self._client
            return await self._start()

    async def _start(self) -> Client:
        await self.close()
        self._leave = asyncio.Event()
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._keeping = asyncio.create_task(self._keep(ready), name=f"mcp {self.name}")
        await asyncio.wait({ready}, timeout=START_SECONDS)
        if not ready.done():
            self.problem = f"it did not start within {START_SECONDS:g} seconds"
            await self.close()
        elif ready.cancelled():
            self.problem = "it was ended while it started"
        elif (error := ready.exception()) is not None:
            self.problem = f"it cannot be used: {_cause(error)}"
        else:
            self.problem = ""
            self._client = ready.result()
            return self._client
        log.warning("an MCP server failed: server=%s: %s", self.name, self.problem)
        raise ToolRefused(f"the server '{self.name}' failed: {self.problem}")

    async def _give_up(self, client: Client) -> None:
        """End a client that has failed, unless another call has done so, and maybe started the next."""
        async with self._changing:
            if self._client is client:
                await self.close()

    async def _keep(self, ready: asyncio.Future[Client]) -> None:
        """Enter the client, list its tools, and stay until it is to be left."""
        try:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(await self._made(stack))
                self._tools = await _listed(client, self.name)
                if not ready.done():
                    ready.set_result(client)
                await self._leave.wait()
        except asyncio.CancelledError:
            if not ready.done():
                ready.cancel()
            raise
        except BaseException as error:  # whatever a server and its library come up with
            if not ready.done():
                ready.set_exception(RuntimeError(_cause(error)))
        finally:
            self._client = None

    async def _made(self, stack: AsyncExitStack) -> Client:
        from mcp import Client, StdioServerParameters

        chosen = self._chosen
        if chosen.command:
            parameters = StdioServerParameters(
                command=chosen.command[0],
                args=list(chosen.command[1:]),
                env={**self._environment, **chosen.environment},
                cwd=self._workspace,
            )
            return Client(parameters, mode="legacy", read_timeout_seconds=_CALL_SECONDS)
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        http = await stack.enter_async_context(
            httpx2.AsyncClient(headers=dict(chosen.headers), timeout=httpx2.Timeout(START_SECONDS, read=_CALL_SECONDS))
        )
        return Client(
            streamable_http_client(chosen.url, http_client=http), mode="legacy", read_timeout_seconds=_CALL_SECONDS
        )

    def _tool(self, definition: Definition) -> Tool:
        async def run(arguments: Arguments) -> str:
            return await self._call(definition.name, arguments)

        return Tool(
            tool_name(self.name, definition.name),
            definition.description,
            definition.parameters,
            run,
            seconds=_CALL_SECONDS + START_SECONDS,
            is_foreign=True,
        )

    async def _call(self, name: str, arguments: Arguments) -> str:
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        client = await self._connect()
        try:
            result = await client.call_tool(name, dict(arguments), read_timeout_seconds=_CALL_SECONDS)
        except Exception as error:  # a foreign server, through a foreign library
            if not isinstance(error, MCPError) or error.code == CONNECTION_CLOSED:
                await self._give_up(client)  # it is started again with the next call
            raise ToolRefused(f"the server '{self.name}' failed: {_cause(error)}") from error
        text = result_text(result)
        if result.is_error:
            raise ToolRefused(text)
        return text


async def _listed(client: Client, server: str) -> list[Definition]:
    """What a server offers, as far as it can be told to a model."""
    found: dict[str, Definition] = {}
    cursor = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        for tool in page.tools:
            parameters: dict[str, Any] = {"type": "object", **tool.input_schema}
            if _is_proper(parameters) and len(found) < _MAX_TOOLS:
                found.setdefault(
                    tool_name(server, tool.name), Definition(tool.name, (tool.description or "")[:2_000], parameters)
                )
        cursor = page.next_cursor
        if cursor is None:
            break
    return [found[name] for name in sorted(found)]


def _is_proper(parameters: dict[str, Any]) -> bool:
    """Whether a schema is one that vendors take: they refuse the whole request for one that is not."""
    properties = parameters.get("properties", {})
    if parameters["type"] != "object" or not isinstance(properties, dict):
        return False
    try:
        return len(json.dumps(parameters, allow_nan=False)) <= _MAX_SCHEMA and all(
            isinstance(described, dict | bool) for described in properties.values()
        )
    except (ValueError, RecursionError):  # what is no number in JSON; what is nested without end
        return False


def _cause(error: BaseException) -> str:
    """One line about what went wrong, of the first of a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split())[:300] or type(error).__name__
