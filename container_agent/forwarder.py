"""The way out of a container: a port of its own loopback, behind which the host's gateway is.

SDKs and tools know proxies and URLs, not Unix sockets. Every connection to the port is carried, byte by byte, to
`gateway.sock` in the session folder; or, where that takes no sockets, to the port that `gateway.json` names, with its
token in the first line. Nothing is started before a provider or tool asks for the port. No key is in here: the host
adds it.

Invariant: at most 64 KiB wait in either direction of a connection; then the sender waits.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

from shared_schema.errors import DumbwaiterError, NotFound
from shared_schema.layout import GATEWAY_ALIVE, SessionLayout

_LOOPBACK = "127.0.0.1"
_CHUNK = 64 * 1024
_HOST_AWAY_SECONDS = 60.0  # a host that restarts is not a service that fails: SDKs and programs only see a slow one
_BETWEEN_TRIES = 0.2
_ALIVE_SECONDS = 3.0
_ALIVE = f"GET {GATEWAY_ALIVE} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n".encode()
_LONGEST_ID = 4096
_NO_MARK = "a gateway of an older version"
_FLUSH_SECONDS = 10.0
_AWAY = b"The host's gateway does not answer: the host may be restarting.\n"
_NO_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\nRetry-After: 5\r\n"
    b"X-Dumbwaiter-Refused: host_away\r\nContent-Length: %d\r\n\r\n%b" % (len(_AWAY), _AWAY)
)

E = TypeVar("E", "_End", "_Answer")


class Forwarder:
    """The port of one agent process. `port` opens it, `aclose` ends it and every connection.

    For `away_seconds` a connection waits for a host that is away; then the forwarder answers for it.
    """

    def __init__(self, session: SessionLayout, away_seconds: float = _HOST_AWAY_SECONDS) -> None:
        self._session = session
        self._away_seconds = away_seconds
        self._server: asyncio.Server | None = None
        self._starting = asyncio.Lock()
        self._connections: set[asyncio.Task[None]] = set()

    async def port(self) -> int:
        """The number of the port on 127.0.0.1. Raises `NotFound` when the host gives this agent no way out."""
        async with self._starting:
            if self._server is None:
                if not _is_there(self._session):
                    raise NotFound("this agent has no gateway, and so no way out", where=self._session.gateway)
                self._server = await asyncio.get_running_loop().create_server(lambda: _End(self._forward), _LOOPBACK, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def mark(self) -> str | None:
        """Which gateway answers now: a text that every restart of the host changes. None when none does."""
        try:
            async with asyncio.timeout(_ALIVE_SECONDS):
                gateway = await _connect_once(self._session, _Answer)
                try:
                    gateway.transport.write(_ALIVE)
                    return await gateway.text()
                finally:
                    gateway.transport.abort()
        except (OSError, DumbwaiterError):  # a TimeoutError is an OSError
            return None

    async def back(self, seconds: float) -> str | None:
        """Wait for a gateway that answers; its mark, or None when none came in time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (mark := await self.mark()) is None:
            if asyncio.get_running_loop().time() >= deadline:
                return None
            await asyncio.sleep(_BETWEEN_TRIES)
        return mark

    async def aclose(self) -> None:
        """Take no more connections and end those there are."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _forward(self, client: _End) -> None:
        task = asyncio.create_task(self._carry(client))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, client: _End) -> None:
        gateway: _End | None = None
        try:
            gateway = await _connect(self._session, self._away_seconds)
            client.join(gateway)
            await client.over.wait()
        except (OSError, DumbwaiterError):
            client.transport.write(_NO_ANSWER)
        finally:
            client.close()
            if gateway is not None:
                gateway.close()


def environment(port: int) -> dict[str, str]:
    """What to set for child processes and SDKs so that they take this way. The keys are none: SDKs only want some."""
    here = f"http://{_LOOPBACK}:{port}"
    proxies = {name: here for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), f"{_LOOPBACK},localhost,::1")
    keys = dict.fromkeys(("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY", "OLLAMA_API_KEY"), "none")
    return {
        **proxies,
        **direct,
        **keys,
        "NODE_USE_ENV_PROXY": "1",
        "ANTHROPIC_BASE_URL": f"{here}/upstream/anthropic",
        "OPENAI_BASE_URL": f"{here}/upstream/openai",
        "GOOGLE_GEMINI_BASE_URL": f"{here}/upstream/google",
        "OLLAMA_HOST": f"{here}/upstream/ollama",
        "OLLAMA_BASE_URL": f"{here}/upstream/ollama/v1",
    }


class _Answer(asyncio.Protocol):
    """A connection on which one short answer is heard, to its end."""

    def __init__(self) -> None:
        self._heard = b""
        self._over = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if len(self._heard) > _LONGEST_ID:
            self._over.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._over.set()

    async def text(self) -> str:
        """The mark in the answer. Raises `OSError` when there was none."""
        await self._over.wait()
        head, end, body = self._heard.partition(b"\r\n\r\n")
        if end and head.startswith(b"HTTP/1.1 200 "):
            return body.decode("latin-1")
        if end and head.startswith(b"HTTP/1.1 400 "):
            return _NO_MARK
        raise ConnectionResetError


class _End(asyncio.BufferedProtocol):
    """One end of a connection. Before it is joined to another it keeps the first thing it hears, and hears no more."""

    def __init__(self, opened: Callable[[_End], None] | None = None) -> None:
        self._opened = opened
        self._buffer = bytearray(_CHUNK)
        self._early = b""
        self._other: _End | None = None
        self._ended = self.is_full = False
        self.over = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)
        if self._opened is not None:
            self._opened(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        data = bytes(memoryview(self._buffer)[:count])
        if self._other is None:
            self._early = data
            self.transport.pause_reading()
        elif not self._other.transport.is_closing():
            self._other.transport.write(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self._other is not None:
            self._other.end()
            self._look()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.over.set()
        if self._other is not None:
            self._other.over.set()

    def pause_writing(self) -> None:
        self.is_full = True
        if self._other is not None:
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.is_full = False
        if self._other is not None and not self._other.transport.is_closing():
            self._other.transport.resume_reading()

    def join(self, other: _End) -> None:
        """Carry what either hears to the other."""
        self._other, other._other = other, self
        for one, to in ((self, other), (other, self)):
            if one._early and not to.transport.is_closing():
                to.transport.write(one._early)
                one._early = b""
            if one._ended:
                to.end()
            elif not to.is_full:
                to.resume_writing()
        self._look()

    def end(self) -> None:
        """No more is sent from here."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    def close(self) -> None:
        """Send what waits to be sent, for a while, and end."""
        self.transport.close()
        asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.transport.abort)

    def _look(self) -> None:
        if self._other is not None and self._ended and self._other._ended:
            self.over.set()
            self._other.over.set()


def _is_there(session: SessionLayout) -> bool:
    with suppress(OSError):
        if stat.S_ISSOCK(session.gateway.stat().st_mode):
            return True
    return session.gateway_port.is_file()


async def _connect(session: SessionLayout, away_seconds: float) -> _End:
    """A connection to the gateway. A host that restarts is waited for. Raises `OSError`, `NotFound`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + away_seconds
    while True:
        try:
            return await _connect_once(session, _End)
        except (OSError, NotFound):
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(_BETWEEN_TRIES)


def _connected(path: str) -> socket.socket:
    """A Unix socket is connected at once or not at all; asyncio takes a full queue (EAGAIN) for one to wait for."""
    connecting = socket.socket(socket.AF_UNIX)
    try:
        connecting.setblocking(False)
        connecting.connect(path)
    except OSError:
        connecting.close()
        raise
    return connecting


async def _connect_once(session: SessionLayout, make: Callable[[], E]) -> E:
    loop = asyncio.get_running_loop()
    file = session.gateway_port
    if not file.exists():
        folder = os.open(session.gateway.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # a socket's path is short, and a session folder may lie deep
            short = Path("/proc/self/fd") / str(folder)
            path = (short if short.exists() else session.gateway.parent) / session.gateway.name
            connected = _connected(str(path))
        finally:
            os.close(folder)
        _, end = await loop.create_unix_connection(make, sock=connected)
        return end
    try:
        told = json.loads(file.read_bytes())
        host, port, token = str(told["host"]), int(told["port"]), str(told["token"]).encode()
        _, end = await loop.create_connection(make, host, port)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise NotFound("the file that names the gateway is not of the expected form", where=file) from error
    end.transport.write(token + b"\n")
    return end
