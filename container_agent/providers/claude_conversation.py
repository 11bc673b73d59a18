"""One conversation with the SDK's program, from its start to its end.

Invariant: when `ask` has returned or was cancelled, nothing that it has started lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from container_agent.providers import claude_failures
from container_agent.providers.claude_sdk import missing
from container_agent.providers.claude_transcript import Transcript
from container_agent.providers.model_names import ModelChoice
from shared_schema import processes

_MARK = "DUMBWAITER_TURN_MARK"
INTERRUPTED_SECONDS = 0.6  # what an interrupted program gets to say what it has said; the agent waits for a second
_KILLED_SECONDS = 0.2
_LEAVE_SECONDS = 4.0  # what one gets that has said everything

Blocks = Sequence[dict[str, Any]]
"""The content of a message, in the format of Anthropic Messages."""


class NeverBegan(Exception):
    """The program ended before it took the message."""


class ClaudeConversation:
    """Asks once. `mark` is what its processes are known by."""

    def __init__(self, library: Any, options: Any, choice: ModelChoice, *, mark: str) -> None:
        options.env[_MARK] = mark
        self._library = library
        self._client = library.ClaudeSDKClient(options)
        self._choice = choice
        self._mark = mark
        self._began = False

    async def ask(self, content: Blocks, heard: Transcript) -> None:
        """Say something, and listen until all is said. Raises `ProviderError`, or `NeverBegan`."""
        work = asyncio.create_task(self._converse(content, heard))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._end_after(INTERRUPTED_SECONDS)
            if self._began:
                with suppress(Exception):  # it may be dying as well
                    await self._client.interrupt()
            else:
                await self._end()
            await asyncio.wait({work}, timeout=INTERRUPTED_SECONDS + _KILLED_SECONDS)
            work.cancel()
            raise

    async def _converse(self, content: Blocks, heard: Transcript) -> None:
        errors = self._library
        try:
            await self._client.connect()
            self._began = True
            await self._client.query(_one(content))
            async for message in self._client.receive_response():
                heard.hear(message)
        except errors.CLINotFoundError as error:
            raise missing() from error
        except errors.ClaudeSDKError as error:
            if not heard.session_id:
                raise NeverBegan from error
            if heard.result is None:
                raise claude_failures.ProgramDied() from error
        finally:
            await self._leave()
        if heard.result is None:
            raise claude_failures.ProgramDied()
        if heard.result.is_error or heard.result.stop_reason == "refusal":
            raise claude_failures.of_transcript(heard, self._choice.service, self._choice.name)

    async def _leave(self) -> None:
        """End the program, which first writes down what it has to; then all that is left of what it started."""
        end = self._end_after(_LEAVE_SECONDS)
        try:
            await self._client.disconnect()
        finally:
            end.cancel()
            await self._end()

    def _end_after(self, seconds: float) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(seconds, loop.run_in_executor, None, processes.end_marked, _MARK, self._mark)

    async def _end(self) -> None:
        """Kill the program and all that it has started, also when the caller is cancelled meanwhile."""
        await asyncio.to_thread(processes.end_marked, _MARK, self._mark)


async def _one(content: Blocks) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "user", "message": {"role": "user", "content": list(content)}, "parent_tool_use_id": None}
