"""One run of a provider over one batch.

Invariant: whatever a provider does, its turn ends as a result or as a failure with one sentence. Only cancellation and
the end of the process pass through, and those leave the turn as it stands in `outbound.db`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, TypeVar

from container_agent import attachments
from container_agent.outbox import Outbox, RunningTurn, TurnFailure
from container_agent.providers.protocol import (
    FailureReason,
    Provider,
    ProviderError,
    Reply,
    Step,
    TurnRequest,
    TurnResult,
    Usage,
)
from shared_schema.ids import Prefix, new_id

log = logging.getLogger("container_agent")

T = TypeVar("T", Reply, Step)

_LARGEST = 2**63 - 1


class Output:
    """The `TurnOutput` of one running turn."""

    def __init__(self, outbox: Outbox, turn: RunningTurn, folder: Path) -> None:
        self._outbox = outbox
        self._turn = turn
        self._folder = folder

    async def prepare(self, reply: Reply) -> str:
        """A new message id, with the reply's files in their place."""
        message_id = new_id(Prefix.MESSAGE)
        if reply.files:
            await asyncio.to_thread(attachments.place, self._folder, message_id, reply.files)
        return message_id

    async def send(self, reply: Reply) -> str:
        message_id = await self.prepare(reply)
        self._outbox.append_message(self._turn, message_id, _storable(reply))
        return message_id

    def append_steps(self, steps: Sequence[Step]) -> None:
        self._outbox.append_steps(self._turn, [_storable(step) for step in steps])

    def set_tool(self, name: str | None, seconds: float | None = None) -> None:
        self._outbox.set_tool(self._turn, name, seconds)


async def run(
    load: Callable[[str], Provider], request: TurnRequest, output: Output
) -> tuple[TurnResult, list[str]] | TurnFailure:
    """Run the provider that the context names, within `turn_seconds`.

    Returns its result with the ids of the replies, whose files are in place; or why there is none.
    """
    seconds = request.context.turn_seconds
    try:
        async with asyncio.timeout(seconds) as limit:
            result = _storable_result(await load(request.context.provider).run(request, output))
            return result, [await output.prepare(reply) for reply in result.replies]
    except ProviderError as error:
        return TurnFailure(error.reason, _whole(error.what))
    except Exception as error:  # the boundary of one turn
        if limit.expired():
            return TurnFailure(FailureReason.TIMEOUT, f"the turn took longer than {seconds:g} seconds")
        log.exception("the provider %s failed", request.context.provider)
        return TurnFailure(FailureReason.PROVIDER_ERROR, f"the provider failed: {type(error).__name__}")


def _storable_result(result: TurnResult) -> TurnResult:
    """A result as SQLite can store it, whatever the provider made of it."""
    numbers = (number if number is None or 0 <= number <= _LARGEST else None for number in astuple(result.usage))
    pointer = result.provider_session_id
    return TurnResult(
        replies=[_storable(reply) for reply in result.replies],
        steps=[_storable(step) for step in result.steps],
        usage=Usage(*numbers),
        provider_session_id=None if pointer is None else _whole(pointer),
    )


def _storable(said: T) -> T:
    """The same with all its texts whole."""
    values = {name: getattr(said, name) for name in said.__match_args__}
    foreign: dict[str, Any] = {
        name: _whole(value) for name, value in values.items() if isinstance(value, str) and not value.isascii()
    }
    return replace(said, **foreign) if foreign else said


def _whole(text: str) -> str:
    """The text with question marks for half characters, which JSON can say and UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")
