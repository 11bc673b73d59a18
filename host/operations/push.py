"""Bringing changed wirings, destinations and settings to the sessions that live."""

from __future__ import annotations

import sqlite3

from host.central import sessions
from host.services import Services

ACTIVE = "SELECT id FROM sessions WHERE agent_group_id = ? AND status = 'active' AND run_settled = 0"


async def push_to_agent_group(services: Services, agent_group_id: str) -> None:
    """Rewrite routing, destinations and context of an agent group's sessions with a running agent.

    The others are told before they wake.
    """

    def active(connection: sqlite3.Connection) -> list[sessions.Session]:
        return [sessions.get(connection, row["id"]) for row in connection.execute(ACTIVE, (agent_group_id,))]

    for session in await services.central.read(active):
        async with services.conductor.holding(session.id):
            await services.post.push(session)
