"""The gateway's server: for every session with a living agent a place to connect to.

Invariant: a session has no more than its share of connections, so that one that opens thousands leaves the
descriptors of the others alone.
"""

from __future__ import annotations

import asyncio
import resource
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import StrEnum
from weakref import WeakValueDictionary

from host.gateway import listening
from host.gateway.exchange import Exchanges, Session
from host.gateway.grant import GrantOf, Patience, Tell, Used
from host.gateway.proxies import Proxies
from host.gateway.wire import Wire
from host.sessions.folder import Owner
from shared_schema.clock import Clock
from shared_schema.layout import SessionLayout

_FEWEST = 8
_AT_A_TIME = 1
"""Connections that asyncio accepts before it does anything else; it calls that the backlog. With more, a burst takes
the files of the whole process before any of it is refused, and nobody else is served meanwhile."""


class Transport(StrEnum):
    """How agents reach the gateway: a socket in the session folder, or a loopback port where that takes none."""

    UNIX = "unix"
    TCP = "tcp"


class Gateway:
    """Serves the agents of all sessions that were opened, until closed.

    `refused` and `used` are told in the loop and must not block. `descriptors` is how many files the process may have
    open, by default its limit. `proxies` are what the host itself has to go through.
    """

    def __init__(
        self,
        grant_of: GrantOf,
        owner: Owner,
        clock: Clock,
        *,
        refused: Tell,
        used: Used,
        transport: Transport = Transport.UNIX,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        descriptors: int | None = None,
        proxies: Proxies = Proxies(),  # noqa: B008 - frozen
    ) -> None:
        self._exchanges = Exchanges(grant_of, clock, patience, refused=refused, used=used, proxies=proxies)
        self._owner = owner
        self._transport = transport
        self._most = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] if descriptors is None else descriptors) // 4
        self._sessions: dict[str, Session] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def open(self, session_id: str, layout: SessionLayout) -> None:
        """Let the agent of a session connect; what an earlier host left is replaced. Raises `DumbwaiterError`."""
        async with self._turn(session_id):
            if session_id in self._sessions:
                return
            session = self._sessions[session_id] = Session(session_id, layout)
            try:
                await self._listen(session)
            except BaseException:
                del self._sessions[session_id]
                raise

    async def close(self, session_id: str) -> None:
        """End a session's connections and take no more."""
        async with self._turn(session_id):
            session = self._sessions.pop(session_id, None)
            if session is None:
                return
            self._exchanges.forget(session_id)
            if session.server is not None:
                session.server.close()
            with suppress(OSError):  # the folder may be gone, or the disk
                await asyncio.to_thread(listening.remove, session.layout)
            tasks = list(session.wires.values())
            for task in tasks:
                task.cancel()
            for wire in list(session.wires):
                wire.abort()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """End everything."""
        for session_id in list(self._sessions):
            await self.close(session_id)
        await self._exchanges.aclose()

    def _turn(self, session_id: str) -> asyncio.Lock:
        """One opens or closes a session at a time: who closes removes no socket that another has just made."""
        return self._turns.setdefault(session_id, asyncio.Lock())

    async def _listen(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        create: Callable[..., Awaitable[asyncio.Server]]
        if self._transport is Transport.TCP:
            session.token = secrets.token_urlsafe(32)
            bound = await asyncio.to_thread(listening.tcp_socket, session.layout, self._owner, session.token)
            create = loop.create_server
        else:
            bound = await asyncio.to_thread(listening.unix_socket, session.layout, self._owner)
            create = loop.create_unix_server

        def make() -> Wire:
            return Wire(lambda wire: self._opened(session, wire), lambda wire: self._lost(session, wire))

        try:
            session.server = await create(make, sock=bound, backlog=_AT_A_TIME)
        except BaseException:
            bound.close()
            raise
        bound.listen(listening.BACKLOG)

    def _opened(self, session: Session, wire: Wire) -> None:
        if self._sessions.get(session.id) is not session:  # accepted a moment before it was closed
            wire.abort()
            return
        share = max(_FEWEST, self._most // max(1, len(self._sessions)))
        if len(session.wires) >= min(session.most, share):
            self._exchanges.turn_away(session, wire)
            return
        session.wires[wire] = asyncio.create_task(self._exchanges.serve(session, wire))

    def _lost(self, session: Session, wire: Wire) -> None:
        task = session.wires.pop(wire, None)
        if task is not None:
            task.cancel()
