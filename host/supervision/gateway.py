"""What each session's agent may do through the gateway, out of registry and settings; and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping

from host.central import agent_groups, sessions, turns, usage
from host.central.database import Central
from host.gateway.grant import Grant
from host.gateway.limits import Limits
from host.gateway.policy import parse_rule
from host.gateway.server import Gateway, Transport
from host.gateway.upstreams import Upstream
from host.gateway.usage import Usage
from host.sessions.folder import Owner
from host.settings import Settings
from shared_schema.clock import Clock, to_text
from shared_schema.errors import FileTrouble

log = logging.getLogger(__name__)


def gateway_for(
    central: Central, settings: Settings, owner: Owner, clock: Clock, upstreams: Mapping[str, Upstream]
) -> Gateway:
    """The gateway of a host."""
    limits = Limits(settings.calls_per_minute, settings.tokens_per_minute)
    tasks: set[asyncio.Task[None]] = set()

    async def grant_of(session_id: str) -> Grant | None:
        def look(connection: sqlite3.Connection) -> agent_groups.AgentGroup | None:
            session = sessions.lookup(connection, session_id)
            return None if session is None else agent_groups.by_id(connection, session.agent_group_id)

        group = await central.read(look)
        if group is None:
            return None
        group_id = group.id

        async def exhausted() -> str | None:
            now = to_text(clock.now())
            return await central.read(lambda c: usage.exhausted(c, group_id, now))

        allow = tuple(parse_rule(entry) for entry in group.allowed_hosts)
        return Grant(group.id, allow, upstreams, limits, exhausted)

    def write(store: Callable[[sqlite3.Connection], None]) -> None:
        task = asyncio.create_task(_note(central, store))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def refused(session_id: str, what: str, reason: str) -> None:
        now = to_text(clock.now())
        write(lambda c: turns.refuse(c, session_id, what, reason, now))

    def called(session_id: str, upstream: str, used: Usage) -> None:
        log.info(
            "a model call",
            extra={"session": session_id, "upstream": upstream, "model": used.model, "tokens": used.tokens},
        )
        now = to_text(clock.now())
        write(lambda c: usage.count_call(c, session_id, used.tokens, now))

    return Gateway(grant_of, owner, clock, refused=refused, used=called, transport=Transport(settings.gateway))


async def _note(central: Central, store: Callable[[sqlite3.Connection], None]) -> None:
    try:
        await central.write(store)
    except FileTrouble as error:
        log.error("what went through the gateway cannot be noted", extra={"error": str(error)})
