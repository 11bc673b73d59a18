"""Socket Mode: the connection over which Slack sends events, and the proof that it hears.

Slack greets a connection (`hello`) and answers pings; where either does not come in time the connection is deaf, and is
given up. Slack ends each connection after some hours and says so before (`disconnect`): then a new one is made before
the old one ends, so that nothing falls in between. An envelope is acknowledged by `acknowledge`, which is called when
its event is on the disk.

The SDK's own client is not used: it acknowledges by a timetable of its own, connects again without end and without
telling, and takes a connection for a live one whose session is closed (docs/decisions).
Source: docs.slack.dev/apis/events-api/using-socket-mode.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp

from host.channels.protocol import ChannelRefused, ChannelUnavailable, TokenRefused
from host.channels.slack.client import APP_PAGE, SlackApi, SlackError
from shared_schema.json_text import parse

log = logging.getLogger(__name__)

HELLO_SECONDS = 15.0
PING_SECONDS = 10.0
DEAF_SECONDS = 30.0
_RETIRED_SECONDS = 60.0
_MAX_BYTES = 4 * 1024**2

Envelope = Mapping[str, Any]


async def address_of(api: SlackApi) -> str:
    """Where a socket can be opened; the app-level token is asked for it. Raises the errors of the protocol."""
    try:
        answer = await api.call("apps.connections.open")
    except SlackError as error:
        told = error.told()
        what = f"the app-level token does not open a socket: {told.what}"
        if isinstance(told, ChannelUnavailable):
            raise ChannelUnavailable(what) from None
        if error.code in ("socket_mode_not_enabled", "forbidden_app", "access_denied"):
            raise ChannelRefused(what, hint=f"switch Socket Mode on at {APP_PAGE} under 'Socket Mode'") from None
        hint = f"make one with the scope connections:write at {APP_PAGE} under 'Basic Information'"
        raise TokenRefused(what, setting="app_token", hint=hint) from None
    url = answer.get("url")
    if not isinstance(url, str) or not url.startswith(("wss://", "ws://")):
        raise ChannelUnavailable("Slack gives no address for a socket")
    return url


class Socket:
    """One connection. `heard` is called at everything that comes."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        heard: Callable[[], None],
        *,
        ping_seconds: float = PING_SECONDS,
        deaf_seconds: float = DEAF_SECONDS,
    ) -> None:
        self._socket = socket
        self._heard = heard
        self._ping_seconds = ping_seconds
        self._deaf_seconds = deaf_seconds
        self._last = time.monotonic()

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, url: str, heard: Callable[[], None], **times: float) -> Socket:
        """Connect, and wait for the greeting. Raises `ChannelUnavailable`."""
        hello_seconds = times.pop("hello_seconds", HELLO_SECONDS)
        try:
            async with asyncio.timeout(hello_seconds):
                found = await session.ws_connect(url, autoping=False, max_msg_size=_MAX_BYTES)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise ChannelUnavailable(f"the socket of Slack cannot be opened ({type(error).__name__})") from None
        socket = cls(found, heard, **times)
        try:
            async with asyncio.timeout(hello_seconds):
                greeting = await socket.receive()
            if greeting.get("type") != "hello":
                raise ChannelUnavailable("Slack opened a socket and did not greet")
        except TimeoutError:
            await socket.close()
            raise ChannelUnavailable(f"Slack opened a socket and did not greet in {hello_seconds:g} s") from None
        except BaseException:
            await socket.close()
            raise
        if isinstance(count := greeting.get("num_connections"), int) and count > 1:
            log.warning("another program uses the same app-level token: it gets part of the events")
        return socket

    async def receive(self) -> Envelope:
        """The next envelope. Raises `ChannelUnavailable` when the connection ends or is deaf."""
        while True:
            message = await self._next()
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    self._note()
                    try:
                        envelope = parse(message.data)
                    except ValueError:
                        log.warning("Slack sent what is no JSON", extra={"bytes": len(message.data)})
                        continue
                    if isinstance(envelope, dict):
                        return envelope
                case aiohttp.WSMsgType.PING:
                    self._note()
                    await self._send(self._socket.pong(message.data))
                case aiohttp.WSMsgType.PONG | aiohttp.WSMsgType.BINARY:
                    self._note()
                case aiohttp.WSMsgType.ERROR:
                    raise ChannelUnavailable(f"the socket of Slack broke ({type(message.data).__name__})")
                case _:
                    raise ChannelUnavailable("Slack closed the socket")

    async def acknowledge(self, envelope: Envelope) -> None:
        """Tell Slack that an envelope was received. Where that fails Slack sends it again, and it is known then."""
        if isinstance(envelope_id := envelope.get("envelope_id"), str):
            await self._send(self._socket.send_str(json.dumps({"envelope_id": envelope_id})))

    async def close(self) -> None:
        """Close the connection. May be called twice."""
        await self._socket.close()

    async def _next(self) -> aiohttp.WSMessage:
        while True:
            silent = time.monotonic() - self._last
            if silent > self._deaf_seconds:
                raise ChannelUnavailable(
                    f"nothing was heard from Slack for {silent:.0f} s, not even an answer to pings"
                )
            try:
                return await self._socket.receive(timeout=self._ping_seconds)
            except TimeoutError:
                await self._send(self._socket.ping())

    async def _send(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except (aiohttp.ClientError, OSError) as error:
            raise ChannelUnavailable(f"the socket of Slack broke ({type(error).__name__})") from None

    def _note(self) -> None:
        self._last = time.monotonic()
        self._heard()


class Sockets:
    """The connection that is used, and those that are about to end. `handle` takes each envelope with its socket."""

    def __init__(self, open_one: Callable[[], Awaitable[Socket]], handle: Callable[[Socket, Envelope], None]) -> None:
        self._open = open_one
        self._handle = handle
        self._current: Socket | None = None
        self._retired: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect. Raises as `Socket.open`."""
        self._current = await self._open()

    async def serve(self) -> None:
        """Read until the connection is lost or deaf. Raises `ChannelUnavailable`, `ChannelRefused`."""
        while True:
            assert self._current is not None, "it has been opened"
            current = self._current
            envelope = await current.receive()
            if envelope.get("type") == "disconnect":
                if envelope.get("reason") == "link_disabled":
                    hint = f"switch it on at {APP_PAGE} under 'Socket Mode'"
                    raise ChannelRefused("Socket Mode was switched off for the app", hint=hint)
                self._current = await self._open()  # the old one is still read meanwhile
                task = asyncio.create_task(self._finish(current))
                self._retired.add(task)
                task.add_done_callback(self._retired.discard)
            else:
                self._handle(current, envelope)

    async def close(self) -> None:
        """Close all connections."""
        for task in self._retired:
            task.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)
        if self._current is not None:
            await self._current.close()
            self._current = None

    async def _finish(self, socket: Socket) -> None:
        """Read what still comes over a connection until Slack ends it."""
        try:
            async with asyncio.timeout(_RETIRED_SECONDS):
                while True:
                    envelope = await socket.receive()
                    if envelope.get("type") != "disconnect":
                        self._handle(socket, envelope)
        except (ChannelUnavailable, TimeoutError):
            pass
        finally:
            await socket.close()
