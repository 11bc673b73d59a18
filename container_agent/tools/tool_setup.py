"""The prompt and the tools of a turn, put together from its files when it begins."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Protocol, runtime_checkable

from container_agent.prompt.compose import Prompt, compose
from container_agent.providers.model_seams import TurnSetup
from container_agent.providers.protocol import Reply, TurnOutput, TurnRequest
from container_agent.tools.background import BackgroundProcesses
from container_agent.tools.choose import toolbox
from container_agent.tools.notifications import Notifications
from container_agent.tools.servers import Servers, configurations
from container_agent.tools.tool_context import ToolContext
from container_agent.tools.toolbox import Toolbox
from container_agent.tools.turn_inbox import TurnInbox
from shared_schema.clock import Clock
from shared_schema.rows import MessageOutKind

_MAX_PROBLEM = 500  # characters: what the host takes


@runtime_checkable
class InteractiveOutput(Protocol):
    """A `TurnOutput` that also sees what comes in, and knows when the turn must end and what is to be done then."""

    turn_inbox: TurnInbox
    deadline: float
    at_end: AsyncExitStack


class ToolSetup:
    """Sets up the prompt and tools of every turn of one agent process; keeps its MCP servers.

    `environment` is the agent's own, and so are its background `processes`; what its servers notify of goes to
    `notifications`.
    """

    def __init__(
        self,
        clock: Clock,
        environment: Mapping[str, str],
        processes: BackgroundProcesses,
        notifications: Notifications,
        *,
        brings_own: bool = False,
    ) -> None:
        self._clock = clock
        self._processes = processes
        self._notifications = notifications
        self._environment = environment
        self._brings_own = brings_own
        self._servers: tuple[str, Servers] | None = None  # with the configuration they were made from
        self._reported: dict[str, str] | None = None  # what the host was told of them

    async def set_up(self, request: TurnRequest, out: TurnOutput) -> TurnSetup:
        """Prompt and tools as the model provider takes them."""
        prompt, tools = await self.prompt_and_tools(request, out)
        return TurnSetup(prompt.stable, prompt.changing, tools)

    async def prompt_and_tools(self, request: TurnRequest, out: TurnOutput) -> tuple[Prompt, Toolbox]:
        """Prompt and tools of a turn."""
        assert isinstance(out, InteractiveOutput)
        servers = await self._set_up(request)
        foreign = await servers.tools()  # before the prompt says which of them do not work
        await self._report(request, out, servers)
        prompt = await asyncio.to_thread(
            compose,
            request.workspace,
            kind=request.context.kind,
            context=request.context.context,
            reset_note=request.note,
            problems=[f"The tools of '{name}' are not there: {why}." for name, why in servers.problems.items()],
            brings_own=self._brings_own,
        )
        box = toolbox(
            ToolContext(request, out, out.turn_inbox, out.deadline, out.at_end),
            self._clock,
            environment_of_turn(self._environment, request),
            self._processes,
            skills=prompt.skills,
            foreign=foreign,
            brings_own=self._brings_own,
        )
        return prompt, box

    async def _report(self, request: TurnRequest, out: TurnOutput, servers: Servers) -> None:
        """Tell the host which servers do not work, when that is new to it."""
        problems = {name: why[:_MAX_PROBLEM] for name, why in servers.problems.items()}
        if not request.context.tool_servers or problems == self._reported:
            return
        self._reported = problems
        details = {"request": "report_tool_servers", "arguments": {"problems": problems}}
        await out.send(Reply("", kind=MessageOutKind.SYSTEM, details=details))

    async def close(self) -> None:
        """End the MCP servers."""
        if self._servers is not None:
            await self._servers[1].close()
            self._servers = None

    async def _set_up(self, request: TurnRequest) -> Servers:
        said = request.context.tool_servers
        if self._servers is None or self._servers[0] != said:
            await self.close()
            self._reported = None
            chosen, problems = configurations(said)
            servers = Servers(
                chosen,
                problems,
                workspace=request.workspace,
                environment=self._environment,
                notified=self._notifications.take,
            )
            self._servers = (said, servers)
        return self._servers[1]


def environment_of_turn(environment: Mapping[str, str], request: TurnRequest) -> Mapping[str, str]:
    """The agent's environment with the place of the turn in its trace, which programs that are traced go on from."""
    for message in request.triggering:
        if message.traceparent is not None:
            return {**environment, "TRACEPARENT": message.traceparent}
    return environment
