"""The tool `bash`: one command in the workspace.

Invariant: when the call is over by its time limit or by cancellation, so is every process that it has started; and what
a command has left in the background, when the turn is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from container_agent.tools.environment import for_programs
from container_agent.tools.program import Program
from container_agent.tools.schema import form, number, text
from container_agent.tools.tool import MAX_CHARACTERS, Arguments, Tool, ToolRefused
from container_agent.tools.tool_context import ToolContext

_ENDING_SECONDS = 3.0  # for the killing, before the tool's own limit
_LEFTOVER_SECONDS = 0.3  # for output after the command is over, which a program in the background may hold open
_DEFAULT_SECONDS, _MAX_SECONDS = 120, 1800


def tool(tool_context: ToolContext, environment: Mapping[str, str]) -> Tool:
    """The tool for one turn. `environment` is the agent's own; programs get what they may have of it."""
    commands = _Commands(tool_context.request.workspace, for_programs(environment))
    tool_context.at_end.push_async_callback(commands.end)

    async def run(arguments: Arguments) -> str:
        seconds = tool_context.granted(arguments["seconds"])
        why = "" if seconds == arguments["seconds"] else ": the turn has no more time"
        return await commands.run(arguments["command"], seconds, f"[killed after {seconds} seconds{why}]")

    return Tool(
        "bash",
        "Run a shell command in the workspace; standard output and standard error come back together. There is no "
        "terminal and no input. What runs longer than `seconds` is killed with all it has started. What a command "
        "leaves running in the background goes on until your turn ends, and is killed then.",
        form(
            {"command": text("The command.", 100_000)},
            {"seconds": number("How long it may take.", 1, _MAX_SECONDS, _DEFAULT_SECONDS)},
        ),
        run,
        seconds_of=lambda arguments: tool_context.granted(arguments["seconds"]) + _ENDING_SECONDS,
    )


class Excerpt:
    """The beginning and the end of a stream of bytes, in bounded memory."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    def add(self, data: bytes) -> None:
        """Take what came next."""
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:] if room > 0 else data
        surplus = len(self._tail) - self._half
        if surplus > 0:
            self._left_out += surplus
            del self._tail[:surplus]

    def text(self) -> str:
        """What is kept, with a note of what is not."""
        note = f"\n[… {self._left_out:,} bytes left out …]\n".encode() if self._left_out else b""
        return (bytes(self._head) + note + bytes(self._tail)).decode("utf-8", "replace").replace("\0", "\ufffd")


class _Commands:
    """The commands of one turn."""

    def __init__(self, workspace: Path, environment: Mapping[str, str]) -> None:
        self._workspace = workspace
        self._environment = environment
        self._started: list[Program] = []

    async def run(self, command: str, seconds: float, killed: str) -> str:
        """What a command says, and how it ended if not well; `killed` is what to say of one that takes longer.

        Raises `ToolRefused`.
        """
        excerpt = Excerpt(MAX_CHARACTERS - 200)
        shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
        try:
            program = Program([shell, "-c", command], self._workspace, self._environment, excerpt.add)
        except OSError as error:
            raise ToolRefused(f"the command cannot be started: {(error.strerror or 'unknown').lower()}") from error
        self._started.append(program)
        try:
            async with asyncio.timeout(seconds):
                await program.over.wait()
            ended = _status(program.status)
            if program.status is None:
                await program.end()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEFTOVER_SECONDS):
                    await program.output.closed.wait()
        except TimeoutError:
            await program.end()
            ended = killed
        except BaseException:
            program.kill()
            raise
        said = excerpt.text()
        return "\n".join(part for part in (said.rstrip("\n"), ended) if part) or "[no output]"

    async def end(self) -> None:
        """Kill what is left."""
        for program in self._started:
            program.kill()
        await asyncio.gather(*(program.end() for program in self._started))


def _status(code: int | None) -> str:
    if code is None:
        return "[broke off: the process that keeps the command was killed]"
    if code < 0:
        return f"[ended by signal {-code}]"
    return f"[exit status {code}]" if code else ""
