"""The gateway's server: for every session with a living agent a place to connect to.

Invariant: a session has no more than its share of connections, so that one that opens thousands leaves the
descriptors of the others alone. Connections are taken one by one, each in its session's turn.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import secrets
import socket
from contextlib import suppress
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from host.gateway import listening
from host.gateway.call_span import CallSpans
from host.gateway.connection import Connection
from host.gateway.grant import GrantOf, Patience, Tell, Used
from host.gateway.pace import Paced
from host.gateway.proxies import Proxies
from host.gateway.tls_front import TlsFront
from host.sessions.folder import Owner
from shared_schema.clock import Clock
from shared_schema.layout import SessionLayout

if TYPE_CHECKING:
    from host.gateway.handler import GatewaySession, RequestHandler

log = logging.getLogger(__name__)

_FEWEST = 8
_AGAIN_SECONDS = 1.0
"""After which connections are taken again when the process had no file left for one."""


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
        front: TlsFront | None = None,
        spans: CallSpans | None = None,
    ) -> None:
        self.front = front
        self._spans = spans
        self._grant_of = grant_of
        self._clock = clock
        self._patience = patience
        self._refused = refused
        self._used = used
        self._proxies = proxies
        self._owner = owner
        self._transport = transport
        self._most = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] if descriptors is None else descriptors) // 4
        self._sessions: dict[str, GatewaySession] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @cached_property
    def _handler(self) -> RequestHandler:
        """Made for the first session: it brings aiohttp with it, which a command without a host has no use for."""
        from host.gateway.handler import RequestHandler

        return RequestHandler(
            self._grant_of,
            self._clock,
            self._patience,
            refused=self._refused,
            used=self._used,
            proxies=self._proxies,
            spans=self._spans,
        )

    async def open(self, session_id: str, layout: SessionLayout, run_id: str = "") -> None:
        """Let the agent of a session connect; what an earlier host left is replaced. Raises `DumbwaiterError`.

        `run_id` is that of an agent on another machine, which comes to the front.
        """
        async with self._turn(session_id):
            if self.front is not None and run_id:
                self.front.admit(session_id, run_id, layout)
            if session_id in self._sessions:
                return
            session = self._sessions[session_id] = self._handler.session(session_id, layout)
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
            self._handler.forget(session_id)
            if self.front is not None:
                self.front.forget(session_id)
            await session.stop_taking()
            with suppress(OSError):  # the folder may be gone, or the disk
                await asyncio.to_thread(listening.remove, session.layout)
            tasks = list(session.wires.values())
            for task in tasks:
                task.cancel()
            for connection in list(session.wires):
                connection.abort()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def aclose(self) -> None:
        """End everything."""
        if self.front is not None:
            await self.front.aclose()
        for session_id in list(self._sessions):
            await self.close(session_id)
        if "_handler" in vars(self):
            await self._handler.aclose()

    def _turn(self, session_id: str) -> asyncio.Lock:
        """One opens or closes a session at a time: who closes removes no socket that another has just made."""
        return self._turns.setdefault(session_id, asyncio.Lock())

    async def _listen(self, session: GatewaySession) -> None:
        if self._transport is Transport.TCP:
            session.token = secrets.token_urlsafe(32)
            bound = await asyncio.to_thread(listening.tcp_socket, session.layout, self._owner, session.token)
        else:
            bound = await asyncio.to_thread(listening.unix_socket, session.layout, self._owner)
        session.bound = bound
        session.taking = asyncio.create_task(Paced(self._take(session, bound), session.pace))

    async def _take(self, session: GatewaySession, bound: socket.socket) -> None:
        """Take what connects, until cancelled."""
        loop = asyncio.get_running_loop()

        def make() -> Connection:
            return Connection(
                lambda connection: self._opened(session, connection),
                lambda connection: self._lost(session, connection),
                session.pace,
                session.memory,
            )

        while True:
            try:
                connection, _ = bound.accept()
            except (BlockingIOError, InterruptedError):
                await _until_one_waits(loop, bound)
                continue
            except OSError as error:
                extra = {"session_id": session.id, "error": error.strerror}
                log.error("a connection to the gateway cannot be taken", extra=extra)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            connection.setblocking(False)
            try:
                await loop.connect_accepted_socket(make, connection)
            except OSError:
                connection.close()
            await session.pace.turn()  # also where each was there at once, and nothing was waited for

    def _opened(self, session: GatewaySession, connection: Connection) -> None:
        if self._sessions.get(session.id) is not session:  # accepted a moment before it was closed
            connection.abort()
            return
        share = max(_FEWEST, self._most // max(1, len(self._sessions)))
        if len(session.wires) >= min(session.most, share) or session.memory.is_full:
            self._handler.turn_away(session, connection)
            return
        session.wires[connection] = asyncio.create_task(Paced(self._handler.serve(session, connection), session.pace))

    def _lost(self, session: GatewaySession, connection: Connection) -> None:
        task = session.wires.pop(connection, None)
        if task is not None:
            task.cancel()


async def _until_one_waits(loop: asyncio.AbstractEventLoop, bound: socket.socket) -> None:
    """Wait until a connection can be taken. `loop.sock_accept` takes it at once: cancelled a moment later, while this
    task waits for its session's turn, it would lose an open socket."""
    waits = loop.create_future()

    def tell() -> None:
        loop.remove_reader(bound)  # at once: the turn may be long in coming
        if not waits.done():
            waits.set_result(None)

    loop.add_reader(bound, tell)
    try:
        await waits
    finally:
        loop.remove_reader(bound)
