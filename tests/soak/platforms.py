"""Two chat platforms outside the host. They have bad days, and remember what they took whatever becomes of the host.

Events in: in each chat the next event is offered when the one before it was acknowledged. One that is not acknowledged
is offered again, for ever; one that was may be offered again all the same.

Messages out: a platform refuses connections, says "later" or "never", hangs up or hangs before or after it has taken
the message, answers with an error although it has. An idempotent one takes a key once and answers the same again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak import wire
from tests.soak.errands import Errand
from tests.soak.plan import DELIVERY_SECONDS, Kind

_OFFER_AGAIN_SECONDS = 3.0


@dataclass(slots=True)
class Offered:
    """An event. `messages` are the host's ids of it, None until it is acknowledged."""

    id: str
    chat: str
    thread: str | None
    sender: str
    errand: Errand
    messages: list[str] | None = None
    offers: int = 0
    offered_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as people in the chat see it; `at` is on the monotonic clock."""

    at: float
    key: str
    chat: str
    text: str
    in_reply_to: str | None
    from_host: bool
    files: dict[str, int]


@dataclass(slots=True)
class Weather:
    """How likely each trouble is, for one message; all zero on a fine day."""

    later: float = 0.0
    never: float = 0.0
    hang_up_before: float = 0.0
    hang_up_after: float = 0.0
    hang_before: float = 0.0
    hang_after: float = 0.0
    error_after: float = 0.0
    offer_twice: float = 0.0

    @classmethod
    def usual(cls, worse: float = 1.0) -> Weather:
        """As it is for most of a run, or so many times worse."""
        return cls(*(worse * chance for chance in (0.03, 0.005, 0.01, 0.02, 0.003, 0.005, 0.02, 0.15)))


@dataclass
class Platform:
    """One platform. `happened` counts what it did to the host; `broken` is what is wrong with the platform itself."""

    kind: Kind
    socket: Path
    source: random.Random
    weather: Weather = field(default_factory=Weather)
    offered: dict[str, Offered] = field(default_factory=dict)
    arrived: list[Arrived] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    _keys: set[str] = field(default_factory=set)
    _waiting: dict[str, deque[Offered]] = field(default_factory=dict)
    _later: list[Offered] = field(default_factory=list)  # acknowledged, and offered again some time
    _line: asyncio.StreamWriter | None = None
    _server: asyncio.Server | None = None
    _connections: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    async def open(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_unix_server(self._connected, self.socket, limit=wire.LINE_BYTES)

    async def close(self) -> None:
        """Go down for good."""
        await self.go_down()
        if self._server is not None:
            self._server.close()

    async def go_down(self) -> None:
        """Refuse connections, and hang up on everybody."""
        if self.socket.exists():
            self.socket.rename(self._away)  # who connects finds nobody; the server itself goes on
        for task, writer in self._connections.items():
            task.cancel()
            writer.transport.abort()
        for task, writer in list(self._connections.items()):
            await asyncio.gather(task, writer.wait_closed(), return_exceptions=True)

    def come_up(self) -> None:
        """Take connections again."""
        if self._away.exists():
            self._away.rename(self.socket)

    @property
    def _away(self) -> Path:
        return self.socket.with_suffix(".away")

    def say(self, event: Offered) -> None:
        """Somebody writes in a chat."""
        self.offered[event.id] = event
        queue = self._waiting.setdefault(event.chat, deque())
        queue.append(event)
        if len(queue) == 1:
            self._offer(event)

    @property
    def unacknowledged(self) -> int:
        """How many events the host has not acknowledged."""
        return sum(len(queue) for queue in self._waiting.values())

    def offer_again(self) -> None:
        """Offer what was not acknowledged for a while, and some of what was."""
        now = time.monotonic()
        for queue in self._waiting.values():
            if queue and now - queue[0].offered_at > _OFFER_AGAIN_SECONDS:
                self._offer(queue[0])
        again, self._later = self._later, []
        for event in again:
            self._offer(event)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name=f"a connection of {self.kind.name}")
        self._connections[task] = writer
        task.add_done_callback(self._disconnected)

    def _disconnected(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken.append(repr(error))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match await wire.take(reader):
            case {"events": True}:
                await self._tell_events(reader, writer)
            case {"send": dict(message)}:
                with suppress(OSError):  # the host died before it heard the answer
                    await self._answer(message, writer)

    async def _tell_events(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A host listens: offer everything that is open, then what comes, until it is gone."""
        self._line = writer
        try:
            for queue in self._waiting.values():
                if queue:
                    self._offer(queue[0])
            while (said := await wire.take(reader)) is not None:
                self._note_acknowledged(self.offered[said["acknowledged"]], said["messages"])
        finally:
            if self._line is writer:
                self._line = None

    def _offer(self, event: Offered) -> None:
        event.offered_at = time.monotonic()
        if self._line is None:
            return
        copies = 2 if self.source.random() < self.weather.offer_twice else 1
        for _ in range(copies):
            event.offers += 1
            self._line.write(wire.line(_as_sent(event)))

    def _note_acknowledged(self, event: Offered, messages: list[str]) -> None:
        if event.messages is not None:
            if messages != event.messages:
                self.happened["acknowledged as something else"] += 1
            return
        event.messages = messages
        queue = self._waiting[event.chat]
        assert queue.popleft() is event, "in a chat one event is offered at a time"
        if queue:
            self._offer(queue[0])
        if self.source.random() < self.weather.offer_twice:
            self._later.append(event)

    async def _answer(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """Take a message or not, and say so or not."""
        key, trouble = message["key"], self._draw()
        known = self.kind.idempotent and key in self._keys
        if trouble == "never" and (known or message["from_host"]):
            trouble = None  # what was taken stays taken, and people are told of failures
        if trouble is not None:
            self.happened[trouble] += 1
        if trouble == "later":
            return await wire.put(writer, {"later": self.source.uniform(0.1, 1.0)})
        if trouble == "never":
            return await wire.put(writer, {"never": "the platform does not like it"})
        if trouble == "hang_before":
            await asyncio.sleep(2 * DELIVERY_SECONDS)
        if trouble in ("hang_up_before", "hang_before"):
            return None
        self._take(message)
        if trouble == "hang_after":
            await asyncio.sleep(2 * DELIVERY_SECONDS)
        if trouble in ("hang_up_after", "hang_after"):
            return None
        if trouble == "error_after":
            return await wire.put(writer, {"error": 500})
        await wire.put(writer, {"taken": key})

    def _take(self, message: dict[str, Any]) -> None:
        if self.kind.idempotent and message["key"] in self._keys:
            self.happened["the same key again"] += 1
            return
        self._keys.add(message["key"])
        self.arrived.append(Arrived(at=time.monotonic(), **message))

    def _draw(self) -> str | None:
        chance = self.source.random()
        for name in ("later", "never", "hang_up_before", "hang_up_after", "hang_before", "hang_after", "error_after"):
            chance -= getattr(self.weather, name)
            if chance < 0:
                return name
        return None


def _as_sent(event: Offered) -> dict[str, Any]:
    return {
        "id": event.id,
        "chat": event.chat,
        "thread": event.thread,
        "sender": event.sender,
        "text": event.errand.text,
        "files": event.errand.files,
    }
