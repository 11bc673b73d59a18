"""Bringing changed wirings, destinations and settings to the sessions that live."""

from __future__ import annotations

import asyncio
import logging

from host.central import runs
from host.runtime.protocol import RuntimeUnavailable
from host.services import Services
from host.supervision.decide import StopReason
from shared_schema.errors import FileTrouble

log = logging.getLogger(__name__)


async def push_to_agent_group(services: Services, agent_group_id: str) -> None:
    """Rewrite routing, destinations and context of an agent group's sessions with a running agent.

    The others are told before they wake. So is one whose file cannot be written now: an agent that keeps its file
    locked fails neither the operation nor the sessions after it.
    """
    for session in await services.central.read(runs.living_of_agent_group, agent_group_id):
        async with services.supervisor.holding(session.id):
            try:
                await asyncio.to_thread(services.inbox_sync.push, session)
            except FileTrouble as error:
                log.warning("a session could not be told", extra={"session_id": session.id, "error": str(error)})


async def stop_agents(services: Services, agent_group_id: str) -> None:
    """Stop the running agents of an agent group, which give back their turns: the next ones start as it is now.

    What cannot be stopped now (its node is away) fails neither the operation nor those after it: its session waits for
    the node anyway, and has no other agent before that one is over.
    """
    for session in await services.central.read(runs.living_of_agent_group, agent_group_id):
        async with services.supervisor.holding(session.id):
            try:
                await services.supervisor.termination.end(session, StopReason.CHANGED)
            except RuntimeUnavailable as error:
                what = {"session_id": session.id, "node": session.node, "error": str(error)}
                log.warning("an agent could not be stopped, and goes on as it was started until it rests", extra=what)
