"""Telling a collector what became of messages, from the rows of the ledger and never on a message's way.

The ledger is read once in a second, and only when the collector has taken what was read before: while it is away
nothing piles up but rows that are kept anyway, and they are told when it is back. What was not told when the host ends
is not told later.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from host.background import boundary, in_background
from host.central import ended
from host.central.database import Queryable
from host.central.ended import TRACED_DELIVERIES, TRACED_MESSAGES, EndedFeed
from host.services import Services
from host.telemetry import spans
from host.telemetry.spans import Span
from host.telemetry_settings import TelemetrySetting
from shared_schema.errors import DumbwaiterError
from shared_schema.provisions import how_to_install_extra

if TYPE_CHECKING:
    from host.telemetry.otlp import Collector

log = logging.getLogger(__name__)

EXTRA = "otel"
_LOOK_SECONDS = 1.0
_LONGEST_WAIT = 60.0
_AT_A_TIME = 512
_MOST_TRIES = 60
"""How often one part is offered, an hour and more, before it is left out for the sake of the others."""
_LAST_SECONDS = 2.0


class OtelExtraMissing(DumbwaiterError):
    """What traces need is not installed."""


class TraceFeed:
    """What is over since it was last asked."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._messages, self._deliveries = EndedFeed(TRACED_MESSAGES), EndedFeed(TRACED_DELIVERIES)

    async def take(self) -> list[Span]:
        """The spans of what is over and was not taken before; the first time, none of what ended earlier."""
        told = await self._services.central.read(self._read)
        calls = self._services.calls
        return told if calls is None else [*told, *(spans.of_call(each) for each in calls.take())]

    def _read(self, connection: Queryable) -> list[Span]:
        told: list[Span] = []
        for row in self._messages.read(connection)[0]:
            earlier = (
                ended.earlier_turns(connection, row["session_id"], row["began"], row["ended"])
                if row["tries"] and row["session_id"] is not None
                else ()
            )
            told += spans.of_message_row(row, earlier)
        for row in self._deliveries.read(connection)[0]:
            if (span := spans.of_delivery(row)) is not None:
                told.append(span)
        return told


@asynccontextmanager
async def tracing(services: Services) -> AsyncIterator[None]:
    """Do so until the block ends, where an endpoint is set. That it cannot be done stops no host."""
    if services.settings.telemetry.endpoint is None:
        yield
        return
    try:
        collector = open_collector(services.settings.telemetry)
    except OtelExtraMissing as error:
        log.warning("no traces are made", extra={"error": str(error)})
        yield
        return
    tracer = Tracer(TraceFeed(services), collector)
    await tracer.begin()
    try:
        async with in_background(tracer.run(), name="traces"):
            yield
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await tracer.last()
        collector.close()


def open_collector(setting: TelemetrySetting) -> Collector:
    """The collector of the settings. Raises `OtelExtraMissing`."""
    try:
        from host.telemetry.otlp import Collector
    except ImportError as error:
        hint = f"`{how_to_install_extra(EXTRA)}`, then restart the host"
        raise OtelExtraMissing("what traces need is not installed", hint=hint) from error
    return Collector(setting)


class Tracer:
    """Hands on what the feed has, in parts, each until the collector has taken it."""

    def __init__(self, feed: TraceFeed, collector: Collector) -> None:
        self._feed = feed
        self._collector = collector
        self._waiting: list[Span] = []
        self._refused = 0

    async def begin(self) -> None:
        """What is over by now is not told."""
        await self._feed.take()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(min(_LONGEST_WAIT, _LOOK_SECONDS * 2 ** min(self._refused, 10)))
            with boundary(log, "traces cannot be told"):
                await self._hand_on()

    async def last(self) -> None:
        """What is over when the host ends, as far as there is time."""
        self._refused = 0
        await self._hand_on()

    async def _hand_on(self) -> None:
        if not self._waiting:
            self._waiting = await self._feed.take()
        while self._waiting:
            part = self._waiting[:_AT_A_TIME]
            if not await _in_thread(partial(self._collector.send, part)):
                self._refused += 1
                if self._refused == 1:
                    log.warning("the collector does not take traces; they are told when it does")
                if self._refused % _MOST_TRIES == 0:
                    log.warning("traces are left out", extra={"spans": len(part)})
                    del self._waiting[:_AT_A_TIME]
                return
            if self._refused:
                log.info("the collector takes traces again")
                self._refused = 0
            del self._waiting[:_AT_A_TIME]


async def _in_thread(work: Callable[[], bool]) -> bool:
    """Do what blocks in a thread of its own, that no end of the process waits for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def settle(result: bool) -> None:
        if not done.done():
            done.set_result(result)

    def run() -> None:
        try:
            result = work()
        except Exception:  # of the library: it is as good as a refusal
            log.debug("traces cannot be sent", exc_info=True)
            result = False
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, name="traces", daemon=True).start()
    return await done
