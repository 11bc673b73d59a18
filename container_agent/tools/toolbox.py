"""The tools of one turn, and the calling of them.

Invariant: a call ends as text, within the limits of its tool. Only cancellation passes through: it ends the call, and
every process that the call has started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from container_agent.tools import schema
from container_agent.tools.guard import Guard
from container_agent.tools.running import Running, SetTool
from container_agent.tools.tool import Arguments, Definition, Tool, ToolRefused, ToolResult, shortened
from shared_schema.text import without_lone_surrogates

log = logging.getLogger("container_agent")


class Toolbox:
    """Calls tools by name. `set_tool` is told which one runs, and for how long it may; `guard` is asked first."""

    def __init__(self, tools: Sequence[Tool], set_tool: SetTool, guard: Guard | None = None) -> None:
        self.guard = guard
        self._tools = {tool.name: tool for tool in tools}
        self._running = Running(set_tool)

    @property
    def definitions(self) -> list[Definition]:
        """What a model is told of the tools, in an order that stays the same."""
        return [Definition(tool.name, tool.description, tool.parameters) for tool in self._tools.values()]

    async def call(self, name: str, arguments: object, call_id: str = "") -> str:
        """The text of `answer`."""
        return (await self.answer(name, arguments, call_id)).text

    async def answer(self, name: str, arguments: object, call_id: str = "") -> ToolResult:
        """Carry out one call; what came of it, also when it is "Error: …". `arguments` is an object or JSON text.

        Calls may overlap. Raises nothing but `CancelledError`.
        """
        result = await self._result(name, arguments, call_id)
        return ToolResult(without_lone_surrogates(result.text), result.is_error)

    async def _result(self, name: str, arguments: object, call_id: str) -> ToolResult:
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(sorted(self._tools)) or "none"
            return _error(f"there is no tool '{name[:80]}'; the tools are: {known}")
        try:
            fitting = schema.parsed(arguments) if tool.is_foreign else schema.checked(tool.parameters, arguments)
            call = object()
            if self.guard is not None and self.guard.waits(name, fitting):
                await self._permitted(self.guard, call, name, fitting)
            seconds = tool.limit(fitting)
            self._running.begin(call, name, seconds)
            try:
                async with asyncio.timeout(seconds):
                    text = await tool.run(fitting)
            finally:
                self._running.end(call)
        except ToolRefused as refusal:
            return _error(str(refusal))
        except TimeoutError:
            return _error(f"{name} took longer than {seconds:g} seconds and was ended")
        except Exception as error:  # the boundary of one call: a broken tool must not end the turn
            log.exception("a tool failed: tool=%s call=%s", name, call_id)
            return _error(f"{name} failed: {type(error).__name__}")
        return ToolResult(shortened(text, tool.max_characters))

    async def _permitted(self, guard: Guard, call: object, name: str, arguments: Arguments) -> None:
        """Wait for a person's yes. Raises `ToolRefused`."""
        self._running.begin(call, f"waiting for a yes to {name}"[:80], guard.seconds)
        try:
            await guard.permit(name, arguments)
        finally:
            self._running.end(call)


def _error(sentence: str) -> ToolResult:
    return ToolResult(f"Error: {sentence}", is_error=True)
