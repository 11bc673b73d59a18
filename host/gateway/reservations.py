"""What the calls that are under way can use together, so that they do not use more than a budget has left.

Invariant: a call is under way only when what it can use is free beside all others that are, or when no other is: the
last call may go past what is left, and no second one with it. A reservation ends with its call, after what it used was
counted; it is kept in memory alone, so that nothing is left of it when the host dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import TypeAlias

from host.gateway.refusal import Reason, Refused
from shared_schema.dataclass import dataclass

WAIT_SECONDS = 60.0
_RETRY_AFTER = 10


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """What is left of a budget, in tokens and US dollars; None where there is no limit. A sentence when nothing is."""

    tokens: int | None = None
    usd: float | None = None
    exhausted: str | None = None


Release: TypeAlias = Callable[[], None]
"""Gives a reservation back."""


@dataclass(slots=True)
class _Group:
    first: asyncio.Lock = field(default_factory=asyncio.Lock)  # one looks at a time, in the order of asking
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    changes: int = 0
    calls: int = 0
    users: int = 0
    tokens: int = 0
    usd: float = 0.0


class Reservations:
    """By agent group: what is under way."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self._groups: dict[str, _Group] = {}
        self._wait_seconds = wait_seconds

    async def reserve(
        self, group_id: str, tokens: int, usd: float, left: Callable[[], Awaitable[BudgetLeft]]
    ) -> Release:
        """Wait until a call that can use so much may begin. Raises `Refused` when it may not, or not for long."""
        group = self._groups.setdefault(group_id, _Group())
        group.users += 1
        try:
            async with asyncio.timeout(self._wait_seconds), group.first:
                await self._until_free(group, tokens, usd, left)
                # No await from here on: who is cancelled has either nothing or the release.
                group.calls += 1
                group.tokens += tokens
                group.usd += usd
        except TimeoutError as error:
            self._gone(group_id, group)
            raise Refused(
                Reason.BUDGET,
                "The calls that are under way may use up what is left of the budget; try again when they are over.",
                status=429,
                retry_after=_RETRY_AFTER,
            ) from error
        except BaseException:
            self._gone(group_id, group)
            raise
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                group.calls -= 1
                group.tokens -= tokens
                group.usd = group.usd - usd if group.calls else 0.0
                group.changes += 1
                group.changed.set()
                self._gone(group_id, group)

        return release

    async def _until_free(
        self, group: _Group, tokens: int, usd: float, left: Callable[[], Awaitable[BudgetLeft]]
    ) -> None:
        while True:
            changes = group.changes
            group.changed.clear()
            free = await left()
            if changes != group.changes:  # a call ended meanwhile, and what it used may not be in what was read
                continue
            if free.exhausted is not None:
                raise Refused(Reason.BUDGET, free.exhausted)
            fits = (free.tokens is None or group.tokens + tokens <= free.tokens) and (
                free.usd is None or group.usd + usd <= free.usd
            )
            if fits or not group.calls:
                return
            await group.changed.wait()

    def _gone(self, group_id: str, group: _Group) -> None:
        group.users -= 1
        if not group.users:
            self._groups.pop(group_id, None)
