"""The gateway for agents on other machines: TLS on one address, in front of the sessions' own sockets.

A connection begins with the token of a run, on a line of its own. One that has it is carried, byte by byte, to the
socket of that session: so policy, limits, counts and refusals are those of an agent on this machine, because it is the
same gateway that hears it. Without a token nothing is answered.

Invariant: connections that have shown no token, and those that have not even finished their handshake, are few and do
not last; at most 64 KiB wait in either direction, and not for ever.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from contextlib import suppress

from host.gateway.certificate import InstallCertificate
from host.runtime.protocol import RelayTarget
from shared_schema.errors import DumbwaiterError
from shared_schema.layout import SessionLayout
from shared_schema.system_errors import words_of

log = logging.getLogger(__name__)

_TOKEN_LINE = 128
_TOKEN_SECONDS = 10.0
_MOST_STRANGERS = 64
_CHUNK = 64 * 1024
_BACKLOG = 256
_AGAIN_SECONDS = 1.0
"""After which connections are taken again when the process had no file left for one."""
_SILENT_SECONDS = 900.0
"""In which either side may take nothing: longer than the gateway itself has patience (`Patience.silent`)."""


class TlsFront:
    """Listens from `start` until `aclose`: on `listen`, or else on `address` (`host:port`), which relays are given.

    A side that takes nothing for `silent_seconds` is given up.
    """

    def __init__(
        self,
        address: str,
        certificate: InstallCertificate,
        listen: str | None = None,
        *,
        silent_seconds: float = _SILENT_SECONDS,
    ) -> None:
        self.address = address
        self._listen = listen
        self._certificate = certificate
        self._silent_seconds = silent_seconds
        self._context: ssl.SSLContext | None = None
        self._listening: list[socket.socket] = []
        self._sessions: dict[str, tuple[str, SessionLayout]] = {}  # by token
        self._strangers: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._tasks: dict[asyncio.Task[None], str | None] = {}  # with the session, once it is known

    async def start(self) -> None:
        """Begin to listen. Raises `DumbwaiterError`."""
        host, port = _parted(self._listen or self.address)
        self._context = await asyncio.to_thread(self._certificate.context)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, place in dict.fromkeys((each[0], each[4]) for each in found):
                self._listening.append(socket.create_server(place, family=family, backlog=_BACKLOG))
        except OSError as error:
            self._stop_listening()
            raise DumbwaiterError(
                f"the gateway cannot listen on {host}:{port}: {words_of(error)}",
                hint="set gateway_address (or gateway_listen) to an address of this machine and a free port",
            ) from error
        for listening in self._listening:
            listening.setblocking(False)
            loop.add_reader(listening, self._take, listening)
        if self._listen is None:
            self.address = f"{host}:{self._listening[0].getsockname()[1]}"

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
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening)
        self._stop_listening()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop_listening(self) -> None:
        while self._listening:
            self._listening.pop().close()

    def _take(self, listening: socket.socket) -> None:
        """Take one connection. Of too many strangers the oldest goes: one that has a token shows it at once."""
        loop = asyncio.get_running_loop()
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            log.error("a connection to the gateway cannot be taken", extra={"error": error.strerror})
            loop.remove_reader(listening)
            loop.call_later(_AGAIN_SECONDS, self._take_again, listening)
            return
        connection.setblocking(False)
        if len(self._strangers) >= _MOST_STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.cancel()
        task = asyncio.create_task(self._serve(connection))
        self._tasks[task] = None
        self._strangers[task] = None
        task.add_done_callback(lambda task: self._over(task, connection))

    def _take_again(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._take, listening)

    def _over(self, task: asyncio.Task[None], connection: socket.socket) -> None:
        self._tasks.pop(task, None)
        self._strangers.pop(task, None)
        connection.close()  # also of one that was cancelled before it began

    async def _serve(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_TOKEN_SECONDS):
                reader, writer = await self._encrypted(connection)
                found = await self._known(reader)
            self._strangers.pop(task, None)
            if found is not None:
                self._tasks[task] = found[0]
                await _carry(reader, writer, found[1], self._silent_seconds)
        except (OSError, DumbwaiterError, EOFError):
            pass  # either end is gone, or says nothing
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _encrypted(self, connection: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The streams of a connection, once its handshake is done."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._context)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _known(self, reader: asyncio.StreamReader) -> tuple[str, SessionLayout] | None:
        """The session whose token a connection begins with."""
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            return None
        if len(line) > _TOKEN_LINE:
            return None
        found = self._sessions.get(line.strip().decode("ascii", "replace"))  # 256 random bits: no time tells anything
        if found is None:
            log.warning("a connection to the gateway has no token that is known")
        return found


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, layout: SessionLayout, silent_seconds: float
) -> None:
    """Carry what either side says to the other, until one of them ends."""
    here_reader, here_writer = await _connected(layout)
    try:
        await asyncio.gather(_pour(reader, here_writer, silent_seconds), _pour(here_reader, writer, silent_seconds))
    finally:
        here_writer.transport.abort()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent_seconds: float) -> None:
    """Carry one direction to its end. Raises `OSError`, also `TimeoutError` where the other side takes nothing."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        async with asyncio.timeout(silent_seconds):
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
