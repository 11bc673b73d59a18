"""Which agents of an engine live, asked for all of them with one question.

Hundreds of agents at rest are asked about every few seconds. An engine lists all that live as quickly as it says how
one of them is, so the answer is kept for a moment and holds for everyone who takes one of that age. It says who lives
and nothing else: an agent that is not in it is asked about alone, and only that says how an agent ended.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Set

from host.runtime.protocol import RuntimeUnavailable


class LivingAgents:
    """The last answer of one engine. `ask` returns the references of all agents that live; raises as `Runtime`."""

    def __init__(self, ask: Callable[[], Awaitable[Set[str]]]) -> None:
        self._ask = ask
        self._answer: asyncio.Task[Set[str] | RuntimeUnavailable] | None = None
        self._asked = -math.inf

    async def have(self, reference: str, max_age: float) -> bool:
        """Whether an agent lived `max_age` seconds ago at the earliest. False: that is to be asked about it alone.

        Who comes while the engine is asked waits for that answer: one that hangs is asked once. Raises
        `RuntimeUnavailable`.
        """
        now = asyncio.get_running_loop().time()
        if max_age <= 0:
            return False
        if self._answer is None or (self._answer.done() and now - self._asked > max_age):
            self._asked = now
            self._answer = asyncio.create_task(self._asked_now(), name="which agents live")
        answer = await asyncio.shield(self._answer)  # one who waits no more takes it from no other
        if isinstance(answer, RuntimeUnavailable):
            raise answer
        return reference in answer

    def close(self) -> None:
        """Wait for no answer any more."""
        if self._answer is not None:
            self._answer.cancel()

    async def _asked_now(self) -> Set[str] | RuntimeUnavailable:
        try:
            return await self._ask()
        except RuntimeUnavailable as error:  # returned: it is raised by each who asks
            return error
