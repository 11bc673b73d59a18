"""How many agents an engine has, for the choice of a node: asked once for all who look for one.

A hundred starts in a second on a hundred nodes would be ten thousand questions, and those who wait for a place ask
again and again. So the answer is kept for a moment, and what was placed since is added to it: at worst a node is taken
for fuller than it is, for as long.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from host.runtime.protocol import RuntimeUnavailable

KEPT_SECONDS = 0.5
"""Short, because a node that is cut off meanwhile still gets an agent, and the session of that one waits for it."""


class AgentCount:
    """The last answer of one engine. `ask` returns how many agents live there; raises as `Runtime`."""

    def __init__(self, ask: Callable[[], Awaitable[int]]) -> None:
        self._ask = ask
        self._answer: asyncio.Task[RuntimeUnavailable | None] | None = None
        self._living = 0
        self._answered = -math.inf
        self._starting = 0  # placed, and their start has not ended yet
        self._added = 0  # the engine may not have counted them in its last answer,
        self._to_add = 0  # nor these in the one that is on its way

    @property
    def agents(self) -> int:
        """How many there are by the last answer, with those that were placed since or were on their way then."""
        return self._living + self._added

    async def ask(self, max_age: float = 0.0) -> None:
        """Have an answer of `max_age` seconds ago at the earliest. Who comes while the engine is asked waits for that.

        Raises `RuntimeUnavailable`.
        """
        loop = asyncio.get_running_loop()
        if self._answer is None or (self._answer.done() and loop.time() - self._answered >= max_age):
            self._answer = asyncio.create_task(self._asked_now(), name="how many agents live")
        answer = await asyncio.shield(self._answer)  # one who waits no more takes it from no other
        if answer is not None:
            raise answer

    def placed(self) -> None:
        """One more is on its way there."""
        self._starting += 1
        self._added += 1
        self._to_add += 1

    def start_ended(self) -> None:
        """One that was placed has started there, or does not go there."""
        self._starting -= 1

    def forget(self) -> None:
        """It is another number now, or none is to be had: ask again."""
        self._answered = -math.inf

    def close(self) -> None:
        """Wait for no answer any more."""
        if self._answer is not None:
            self._answer.cancel()

    async def _asked_now(self) -> RuntimeUnavailable | None:
        self._to_add = self._starting
        try:
            self._living = await self._ask()
            self._added = self._to_add
            return None
        except RuntimeUnavailable as error:  # returned: it is raised by each who asks
            return error
        finally:
            self._answered = asyncio.get_running_loop().time()
