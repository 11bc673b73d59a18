"""Whether a call failed because something on our side died: the host, its gateway, the forwarder's connection to it.

What dies there is not the model's answer. So a turn waits for its way out to come back, and a call of which nothing
was used is made again. The gateway's mark is asked for before a call, and again when that has failed: another mark, or
none, says that it was our side, and the same mark that it was the service.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext

from container_agent.providers.model_seams import Pausing, WayOut
from container_agent.providers.protocol import ProviderError, TurnInterrupted, TurnOutput
from shared_schema.rows import FailureReason

log = logging.getLogger("container_agent")

WAITING = "waiting for the host"
LONGEST_AWAY_SECONDS = 900.0
MOST_REPEATS = 5
_MAY_BE_OURS = frozenset({FailureReason.NETWORK, FailureReason.PROVIDER_ERROR})


class OurSide:
    """Watches over the calls of one turn, one after the other."""

    def __init__(self, way_out: WayOut, out: TurnOutput, longest_away: float = LONGEST_AWAY_SECONDS) -> None:
        self._way_out = way_out
        self._out = out
        self._longest_away = longest_away
        self._mark: str | None = None
        self._repeats = 0

    async def ready(self) -> None:
        """Before a call: wait for the way out where it is away. Raises `TurnInterrupted` when it does not come back."""
        mark = await self._way_out.mark()
        self._mark = await self._until_back() if mark is None else mark

    async def has_died(self, error: ProviderError) -> bool:
        """After a call has failed: whether our side has died since `ready`, and lives again.

        Raises `TurnInterrupted` when it does not come back, or has died too often.
        """
        if error.reason not in _MAY_BE_OURS:
            return False
        before, now = self._mark, await self._way_out.mark()
        if now is None:
            now = await self._until_back()
        if now == before:
            return False
        log.warning("the host went away in the middle of a call: %s", error.what)
        self._repeats += 1
        if self._repeats > MOST_REPEATS:
            raise TurnInterrupted
        self._mark = now
        return True

    async def _until_back(self) -> str:
        log.warning("the host does not answer; waiting for it")
        out, seconds = self._out, self._longest_away
        with out.paused(WAITING, seconds) if isinstance(out, Pausing) else nullcontext():
            mark = await self._way_out.back(seconds)
        if mark is None:
            raise TurnInterrupted
        log.info("the host answers again")
        return mark
