"""MCP servers that were set up for the agent group: started when their tools are first asked for, then kept.

Invariant: a server that fails, hangs or talks nonsense costs its own tools and nothing else. Its tools are called
`<server>__<tool>`. The configuration comes from the host with the session's context; an agent cannot change it. What is
behind a URL is reached through the gateway, under every runtime.

A client must be left in the task that entered it, so each server has a task of its own, which does nothing but keep it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from container_agent import connections
from container_agent.tools.environment import for_programs
from container_agent.tools.foreign import result_text, tool_name
from container_agent.tools.tool import Arguments, Definition, Tool, ToolRefused
from shared_schema import tool_servers
from shared_schema.errors import InvalidValue
from shared_schema.pages import PageCursors
from shared_schema.tool_servers import ToolServer

if TYPE_CHECKING:
    import httpx2
    from mcp import Client

log = logging.getLogger("container_agent")

START_SECONDS = 20.0
_CALL_SECONDS = 120.0
_STOP_SECONDS = 3.0
_MAX_TOOLS = 100  # of one server
_MAX_PAGES = 20  # of its list
_MAX_SCHEMA = 20_000


def configurations(text: str) -> tuple[list[ToolServer], dict[str, str]]:
    """The servers of the stored configuration that are to run, and what is wrong with others, by their names."""
    problems: dict[str, str] = {}
    try:
        found = tool_servers.servers_of(text or "{}")
    except InvalidValue as error:
        return [], {"*": error.what}
    chosen = []
    for name in sorted(found):
        try:
            chosen.append(tool_servers.server(name, found[name]))
        except InvalidValue as error:
            problems[name] = error.what
    return [one for one in chosen if not one.disabled], problems


class Servers:
    """The servers of one agent process. `close` ends them.

    `notified` hears of what they notify: the server's name, the method, and the parameters.
    """

    def __init__(
        self,
        chosen: Sequence[ToolServer],
        problems: Mapping[str, str] | None = None,
        *,
        workspace: Path,
        environment: Mapping[str, str],
        notified: Callable[[str, str, object], None] = lambda server, method, parameters: None,
    ) -> None:
        self._problems = dict(problems or {})  # of those that are not even tried
        self._servers = [_Server(each, workspace, environment, notified) for each in chosen]

    async def tools(self) -> list[Tool]:
        """The tools of all servers that work, in an order that stays the same. Starts what does not run."""
        found = await asyncio.gather(*(server.tools() for server in self._servers))
        by_name: dict[str, Tool] = {}
        for tool in (tool for tools in found for tool in tools):
            by_name.setdefault(tool.name, tool)  # `a__b` with `c` and `a` with `b__c` come to the same
        return list(by_name.values())

    @property
    def problems(self) -> dict[str, str]:
        """Why a server has no tools, in a few words, by its name."""
        return self._problems | {server.name: server.problem for server in self._servers if server.problem}

    async def close(self) -> None:
        """End all servers."""
        await asyncio.gather(*(server.close() for server in self._servers))


class _Server:
    def __init__(
        self,
        chosen: ToolServer,
        workspace: Path,
        environment: Mapping[str, str],
        notified: Callable[[str, str, object], None],
    ) -> None:
        self.name = chosen.name
        self._notified = notified
        self.problem = ""
        self._refusal = ""  # by the gateway, the last one
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
        self._refusal = ""
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
            self.problem = f"it cannot be used: {self._refusal or _cause(error)}"
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
                self._tools = await _listed(client, self._chosen)
                if not ready.done():
                    ready.set_result(client)
                await self._leave.wait()
        except asyncio.CancelledError:
            if not ready.done():
                ready.cancel()
            raise
        except BaseException as error:  # a server and its library raise anything; it costs this server alone
            if not ready.done():
                ready.set_exception(RuntimeError(connections.why_refused(error, self._chosen.url) or _cause(error)))
        finally:
            self._client = None

    async def _made(self, stack: AsyncExitStack) -> Client:
        from mcp import StdioServerParameters

        chosen = self._chosen
        if chosen.command:
            parameters = StdioServerParameters(
                command=chosen.command[0],
                args=list(chosen.command[1:]),
                env={**for_programs(self._environment), **chosen.environment},
                cwd=self._workspace / chosen.cwd,
            )
            return self._client_of(parameters)
        return self._client_of(await self._transport(stack))

    def _client_of(self, server: Any) -> Client:
        from mcp import Client

        return Client(server, mode="legacy", read_timeout_seconds=_CALL_SECONDS, message_handler=self._heard)

    async def _heard(self, message: Any) -> None:
        """A notification of the server, or a fault of the way to it."""
        if isinstance(method := getattr(message, "method", None), str):
            parameters = getattr(message, "params", None)
            said = None if parameters is None else parameters.model_dump(mode="json", by_alias=True, exclude_none=True)
            self._notified(self.name, method, said)

    async def _transport(self, stack: AsyncExitStack) -> Any:
        """The way to a server behind a URL. Its client is ours, and so goes through the gateway."""
        import httpx2
        from mcp.client.sse import sse_client
        from mcp.client.streamable_http import streamable_http_client

        chosen, environment = self._chosen, self._environment
        headers = dict(chosen.headers)
        await asyncio.to_thread(connections.warm_up)

        def client(
            headers: dict[str, Any] | None = None,
            timeout: httpx2.Timeout | None = None,
            auth: httpx2.Auth | None = None,
        ) -> httpx2.AsyncClient:
            made = connections.outward(environment, headers=headers, timeout=timeout, auth=auth)
            made.event_hooks["response"].append(self._note_refusal)
            return made

        if chosen.transport == "sse":
            return sse_client(
                chosen.url, headers, START_SECONDS, sse_read_timeout=_CALL_SECONDS, httpx_client_factory=client
            )
        timeout = httpx2.Timeout(START_SECONDS, read=_CALL_SECONDS)
        http = await stack.enter_async_context(client(headers, timeout))
        return streamable_http_client(chosen.url, http_client=http)

    async def _note_refusal(self, response: httpx2.Response) -> None:
        """Keep why the gateway lets nothing through: the library only says that something failed."""
        if response.headers.get(connections.REFUSED_HEADER):
            said = (await response.aread())[:2_000].decode("utf-8", "replace")  # in no charset that a server names
            self._refusal = " ".join(said.split())[:300]

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
            raise ToolRefused(f"the server '{self.name}' failed: {self._refusal or _cause(error)}") from error
        text = result_text(result)
        if result.is_error:
            raise ToolRefused(text)
        return text


async def _listed(client: Client, server: ToolServer) -> list[Definition]:
    """What a server offers, as far as it can be told to a model."""
    found: dict[str, Definition] = {}
    cursor: str | None = None
    cursors = PageCursors(_MAX_PAGES)
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        for tool in page.tools:
            parameters: dict[str, Any] = {"type": "object", **tool.input_schema}
            if server.offers(tool.name) and _is_proper(parameters) and len(found) < _MAX_TOOLS:
                found.setdefault(
                    tool_name(server.name, tool.name),
                    Definition(tool.name, (tool.description or "")[:2_000], parameters),
                )
        if (cursor := cursors.next(page.next_cursor)) is None:
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
