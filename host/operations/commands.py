"""Carries out the commands that people write in chats, and answers where they were written. No agent is woken for it.

What a command does, its answer and its outcome are one transaction: a crash anywhere neither loses a command nor does
it twice. Those of one conversation are carried out in their order, others meanwhile. What was left open is taken up at
the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from host.central import ingest, sessions
from host.central.audit import acting
from host.central.database import Queryable
from host.operations import command_answers as answers
from host.operations.command_order import Order
from host.operations.command_steps import carry_out
from host.routing.commands import parse
from host.services import Services
from shared_schema.errors import DumbwaiterError, FileTrouble
from shared_schema.rows import MessageInStatus

log = logging.getLogger(__name__)

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_CLOSE_SECONDS = 5.0


@asynccontextmanager
async def carrying_out(services: Services) -> AsyncIterator[None]:
    """Carry out commands until the block ends. The services have been started."""
    executor = Executor(services)
    await executor.start()
    try:
        yield
    finally:
        await executor.close()


class Executor:
    """Takes the commands of `services.dispatcher.commands`, one after the other on each route."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._last: dict[str, asyncio.Task[None]] = {}  # of each route
        self._taking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what an earlier host left, then each new command."""
        self._services.router.open_commands.is_served = True
        for row in await self._services.central.read(ingest.commands):
            await self._begin(row.message_id)
        self._taking = asyncio.create_task(self._take(), name="commands")

    async def close(self) -> None:
        """Finish what was begun, for a while; what was not is taken up by the next host."""
        self._services.router.open_commands.is_served = False
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
        begun = list(self._last.values())
        if begun:
            await asyncio.wait(begun, timeout=_CLOSE_SECONDS)
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)

    async def _take(self) -> None:
        while True:
            await self._begin(await self._services.dispatcher.commands.get())

    async def _begin(self, message_id: str) -> None:
        """Carry out a command, once those before it on its route are done."""
        route_id = await self._route_of(message_id)
        task = asyncio.create_task(self._after(self._last.get(route_id), message_id), name=f"command {message_id}")
        self._last[route_id] = task
        task.add_done_callback(lambda done: self._leave(route_id, done))

    async def _route_of(self, message_id: str) -> str:
        """The route of a command. While the ledger cannot be read, all that follow wait behind it.

        Without its route a command would be carried out beside others of its conversation, in any order.
        """
        wait = _FIRST_WAIT
        while True:
            try:
                return await self._services.central.read(_route_of, message_id)
            except FileTrouble as error:
                log.error("a command waits for the ledger", extra={"message_id": message_id, "error": str(error)})
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _leave(self, route_id: str, task: asyncio.Task[None]) -> None:
        if self._last.get(route_id) is task:
            del self._last[route_id]

    async def _after(self, before: asyncio.Task[None] | None, message_id: str) -> None:
        if before is not None:
            await asyncio.wait([before])
        wait = _FIRST_WAIT
        while True:
            try:
                await self._carry_out(message_id)
                self._services.router.open_commands.done(message_id)
                return
            except FileTrouble as error:
                log.error("a command waits for the ledger", extra={"message_id": message_id, "error": str(error)})
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _carry_out(self, message_id: str) -> None:
        """Carry out a command that has no outcome yet. Raises `FileTrouble` while the ledger cannot be used."""
        order = await self._services.central.read(lambda c: _order(self._services, c, message_id))
        if order is None:
            await self._services.central.write(ingest.finish_command, message_id, MessageInStatus.CANCELLED)
            return
        ids = {
            "message_id": message_id,
            "command": order.command.name,
            "session": order.session.id,
            "by": order.row.sender_id,
            "chat": f"{order.row.channel_type}:{order.row.platform_id}",
        }
        log.info("a command is carried out", extra=ids)
        try:
            with acting(order.actor):
                await carry_out(order)
        except FileTrouble as error:
            if await self._services.central.read(order.is_open):
                raise
            # It was done; what follows from it is for the next reconcile of its session.
            log.warning("after a command", extra={"message_id": message_id, "error": str(error)})
        except DumbwaiterError as error:
            refused = error.told
            await order.write(lambda c: order.finish(c, order.why_not(c) or refused))
        except Exception:  # the boundary of one command
            log.exception("a command failed", extra={"message_id": message_id, "command": order.command.name})
            await order.write(lambda c: order.finish(c, answers.BROKEN, MessageInStatus.FAILED))


def _route_of(connection: Queryable, message_id: str) -> str:
    row = ingest.get(connection, message_id)
    session = None if row is None or row.session_id is None else sessions.lookup(connection, row.session_id)
    return "" if session is None else session.route_id


def _order(services: Services, connection: Queryable, message_id: str) -> Order | None:
    """What is to be done for a command; None for one that is done, or whose conversation is gone."""
    row = ingest.get(connection, message_id)
    if row is None or row.status != MessageInStatus.PENDING or row.session_id is None:
        return None
    command = parse(ingest.text_of(row))
    session = sessions.lookup(connection, row.session_id)
    return None if command is None or session is None else Order(services, row, command, session)
