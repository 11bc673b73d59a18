"""Bringing changed wirings, destinations and settings to the sessions that live."""

from __future__ import annotations

import asyncio

from host.central import runs
from host.services import Services


async def push_to_agent_group(services: Services, agent_group_id: str) -> None:
    """Rewrite routing, destinations and context of an agent group's sessions with a running agent.

    The others are told before they wake.
    """
    for session in await services.central.read(lambda c: runs.living_of_agent_group(c, agent_group_id)):
        async with services.conductor.holding(session.id):
            await asyncio.to_thread(services.post.push, session)
