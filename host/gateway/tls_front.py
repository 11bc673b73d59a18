"""The gateway for agents on other machines: TLS on one address, in front of the sessions' own sockets.

A connection begins with the token of a run, on a line of its own. One that has it is carried, byte by byte, to the
socket of that session: so policy, limits, counts and refusals are those of an agent on this machine, because it is the
same gateway that hears it. Without a token nothing is answered.

Invariant: connections that have shown no token are few and do not last; at most 64 KiB wait in either direction.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress

from host.gateway.certificate import InstallCertificate
from host.runtime.protocol import RelayTarget
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import SessionLayout

log = logging.getLogger(__name__)

_TOKEN_LINE = 128
_TOKEN_SECONDS = 10.0
_MOST_STRANGERS = 64
_CHUNK = 64 * 1024


class TlsFront:
    """Listens from `start` until `aclose`: on `listen`, or else on `address` (`host:port`), which relays are given."""

    def __init__(self, address: str, certificate: InstallCertificate, listen: str | None = None) -> None:
        self.address = address
        self._listen = listen
        self._certificate = certificate
        self._server: asyncio.Server | None = None
        self._sessions: dict[str, tuple[str, SessionLayout]] = {}  # by token
        self._strangers = 0
        self._tasks: dict[asyncio.Task[None], str | None] = {}  # with the session, once it is known

    async def start(self) -> None:
        """Begin to listen. Raises `DumbwaiterError`."""
        host, port = _parted(self._listen or self.address)
        context = await asyncio.to_thread(self._certificate.context)
        try:
            self._server = await asyncio.start_server(
                self._opened,
                host,
                port,
                ssl=context,
                ssl_handshake_timeout=_TOKEN_SECONDS,
                limit=_CHUNK,
            )
        except OSError as error:
            raise DumbwaiterError(
                f"the gateway cannot listen on {host}:{port}: {error.strerror or error}",
                hint="set gateway_address (or gateway_listen) to an address of this machine and a free port",
            ) from error
        if self._listen is None:
            self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    def admit(self, session_id: str, run_id: str, layout: SessionLayout) -> None:
        """Let the agent of a run connect, and no earlier run of its session."""
        self.forget(session_id)
        self._sessions[self._certificate.token(run_id)] = (session_id, layout)

    def forget(self, session_id: str) -> None:
        """End the connections of a session's agent, and take no more."""
        self._sessions = {token: each for token, each in self._sessions.items() if each[0] != session_id}
        for task, of in self._tasks.items():
            if of == session_id:
                task.cancel()

    def way_out(self, run_id: str) -> RelayTarget:
        """What the relay of a run is given."""
        return RelayTarget(self.address, self._certificate.certificate, self._certificate.token(run_id))

    async def aclose(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _opened(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = None
        try:
            if self._strangers >= _MOST_STRANGERS:
                return
            found = await self._known(reader)
            if found is None:
                return
            self._tasks[task] = found[0]
            await _carry(reader, writer, found[1])
        except (OSError, DumbwaiterError, asyncio.IncompleteReadError):
            pass  # either end is gone
        finally:
            self._tasks.pop(task, None)
            writer.transport.abort()

    async def _known(self, reader: asyncio.StreamReader) -> tuple[str, SessionLayout] | None:
        """The session whose token a connection begins with."""
        self._strangers += 1
        try:
            async with asyncio.timeout(_TOKEN_SECONDS):
                line = await reader.readuntil(b"\n")
        except (TimeoutError, asyncio.LimitOverrunError):
            return None
        finally:
            self._strangers -= 1
        if len(line) > _TOKEN_LINE:
            return None
        found = self._sessions.get(line.strip().decode("ascii", "replace"))  # 256 random bits: no time tells anything
        if found is None:
            log.warning("a connection to the gateway has no token that is known")
        return found


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, layout: SessionLayout) -> None:
    """Carry what either side says to the other, until one of them ends."""
    here_reader, here_writer = await _connected(layout)
    try:
        await asyncio.gather(_pour(reader, here_writer), _pour(here_reader, writer))
    finally:
        here_writer.transport.abort()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:  # TLS has no half that ends alone
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _connected(layout: SessionLayout) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    folder = os.open(layout.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    connecting = socket.socket(socket.AF_UNIX)
    try:  # a socket's path is short, and a session folder may lie deep
        connecting.setblocking(False)
        connecting.connect(f"/proc/self/fd/{folder}/{layout.gateway.name}")
    except OSError:
        connecting.close()
        raise
    finally:
        os.close(folder)
    return await asyncio.open_unix_connection(sock=connecting, limit=_CHUNK)


def _parted(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise DumbwaiterError(f"'{address}' is no address", hint='write gateway_address = "10.0.0.1:8443"')
    return host.strip("[]"), int(port)
