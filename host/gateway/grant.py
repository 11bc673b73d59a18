"""What one session's agent may do through the gateway, and what the gateway allows itself for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import TypeAlias

from host.gateway.limits import CallLimits
from host.gateway.policy import Rule
from host.gateway.reservations import Release
from host.gateway.upstreams import Upstream
from host.gateway.usage import CallUsage
from shared_schema.dataclass import dataclass


async def _unlimited() -> str | None:
    return None


async def _for_nothing(upstream: Upstream, expected: CallUsage) -> Release:
    return lambda: None


@dataclass(frozen=True, slots=True)
class Grant:
    """Looked up for every request, so that a change counts at once.

    `exhausted` says in a sentence why the agent group's budget allows no further model call, or None. `reserve` keeps
    what a call can use free for it, and waits until that is possible; it raises `Refused`. With `has_budget` only calls
    are let through whose use can be counted.
    """

    agent_group_id: str
    allow: tuple[Rule, ...] = ()
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    limits: CallLimits = field(default_factory=CallLimits)
    exhausted: Callable[[], Awaitable[str | None]] = _unlimited
    has_budget: bool = False
    reserve: Callable[[Upstream, CallUsage], Awaitable[Release]] = _for_nothing


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds after which something is given up."""

    head: float = 10.0
    """for the whole head of a request"""
    resolve: float = 5.0
    connect: float = 10.0
    silent: float = 600.0
    """in which an upstream sends nothing, a client takes nothing, or a tunnel is not used"""
    linger: float = 2.0
    """in which a client that was refused may go on sending"""
    between_tries: float = 0.1
    """before a model call is tried for the second time; four times as long before the third"""


GrantOf: TypeAlias = Callable[[str], Awaitable[Grant | None]]
"""The grant of a session by its id; None when there is no such session any more."""

Tell: TypeAlias = Callable[[str, str, str], None]
"""Told of a refusal: the session's id, what was asked for, and the reason in a sentence."""

Used: TypeAlias = Callable[[str, str, CallUsage], "asyncio.Future[None] | None"]
"""Told of a model call that is over: the session's id, the name of the upstream, and what the call used. It may return
what is done once that was counted; until then the call's part of the budget is kept free."""
