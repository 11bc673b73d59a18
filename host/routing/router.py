"""From an event to accepted messages.

When `ingest` returns, the event is on disk for every agent group that takes it; only then may a channel tell its
platform "received". What follows from it (writing it into the session, carrying out a command, telling people) comes
after and can be repeated.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from host.central import approvals, messaging_groups, unread
from host.central.database import Central, Transaction
from host.routing import commands, moves, reactions, updates
from host.routing.acceptance import RoutingOutcome, Rules, accept
from host.routing.event import (
    ChatGone,
    ChatMoved,
    Clicked,
    Deleted,
    Edited,
    Event,
    Incoming,
    Joined,
    Reacted,
    ReadReceipt,
    Receipt,
)
from host.routing.open_commands import OpenCommands
from host.routing.text import truncate
from host.sessions.attachments import FileLimits, spool, spool_text
from shared_schema.clock import Clock
from shared_schema.ids import Prefix, new_id
from shared_schema.layout import DataLayout
from shared_schema.text import without_lone_surrogates

log = logging.getLogger(__name__)

WHOLE_TEXT = "message.txt"
"""The file in which a text comes that is too long for a message."""

_LONGEST_COMMAND = 1_000
"""Characters in which a command is recognised: what is longer than a message may be is none."""


Fetched = Callable[[Event], AbstractAsyncContextManager[Event]]
"""An event with the files that lie on its platform, for as long as the block lasts."""


class _Tried(Exception):
    """What accepting an event would come to; raised, so that nothing of it is kept."""

    def __init__(self, outcome: RoutingOutcome) -> None:
        super().__init__("tried")
        self.outcome = outcome


@asynccontextmanager
async def no_files(event: Event) -> AsyncIterator[Event]:
    """The event as it is: nothing is fetched."""
    yield event


class Router:
    """Takes events from channels."""

    def __init__(
        self,
        central: Central,
        layout: DataLayout,
        clock: Clock,
        rules: Rules,
        *,
        file_limits: FileLimits,
        fetched: Fetched = no_files,
    ) -> None:
        self._central = central
        self._layout = layout
        self._clock = clock
        self._rules = rules
        self._file_limits = file_limits
        self._fetched = fetched
        self._tasks: set[asyncio.Task[Receipt]] = set()
        self.open_commands = OpenCommands()

    async def ingest(self, event: Incoming) -> Receipt:
        """Accept an event, or note what else has happened in a chat: `host/routing/updates.py`.

        Raises `DumbwaiterError` when it could not be kept: then it must not be acknowledged.

        A caller that cancels does not stop it half-way: the event is kept, and comes again as a duplicate.
        """
        if isinstance(event, ReadReceipt):
            return await self._central.write(_note_read, event)
        if not isinstance(event, Event):
            return await self._update(event)
        task = asyncio.create_task(self._in_order(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _update(self, event: Incoming) -> Receipt:
        """What a person did beside writing. A button under a question says what its option says."""
        said = None
        match event:
            case Edited():
                # What was written before the change may still be on its way into the ledger, behind a command.
                await self.open_commands.passed((event.address.channel_type, event.address.platform_id))
                outcome = await self._central.write(updates.edited, event, self._rules)
            case Deleted():
                outcome = await self._central.write(updates.deleted, event)
            case Clicked():
                outcome, said = await self._central.write(updates.clicked, event)
            case Joined():
                outcome = await self._central.write(updates.joined, event)
            case Reacted():
                outcome, said = await self._central.write(reactions.reacted, event)
            case ChatMoved():
                outcome = await self._central.write(moves.moved, event)
                log.info("a chat has moved", extra={"chat": event.new_platform_id, "channel": event.channel})
            case ChatGone():
                chat = f"{event.address.channel_type}:{event.address.platform_id}"
                log.warning("a chat is gone", extra={"chat": chat, "reason": event.reason})
                await self._central.write(updates.gone, event)
                return Receipt(())
            case _:
                return Receipt(())
        self._follow(outcome)
        return outcome.receipt if said is None else await self.ingest(said)

    async def _in_order(self, event: Event) -> Receipt:
        """Take an event; what was written after a command, once that is done."""
        chat = (event.address.channel_type, event.address.platform_id)
        if event.attachments or event.remote_files or event.is_literal or commands.parse(event.text) is None:
            await self.open_commands.passed(chat)
            return await self._ingest(event)
        arrival, new = self.open_commands.arrive(chat), []
        try:
            receipt = await self._ingest(event)
            new = [accepted.message_id for accepted in receipt.accepted if not accepted.duplicate]
        finally:
            self.open_commands.accepted(arrival, new)
        return receipt

    async def _ingest(self, event: Event) -> Receipt:
        if event.remote_files and not await self._is_taken(event):
            return await self._keep(event)
        async with self._fetched(event) as with_files:
            return await self._keep(with_files)

    async def _is_taken(self, event: Event) -> bool:
        """Whether an agent takes or hears an event that is new, found out by accepting it and taking that back."""

        def attempt(tx: Transaction) -> None:
            # A file is content, and a command with a file is none: the name stands for the file.
            names = [file.name for file in event.remote_files]
            raise _Tried(accept(tx, event, self._rules, spool=None, names=names))

        try:
            await self._central.write(attempt)
        except _Tried as tried:
            taken = [each for each in tried.outcome.receipt.accepted if not each.duplicate]
            return bool(taken or tried.outcome.heard)
        return False

    async def _keep(self, event: Event) -> Receipt:
        event = dataclasses.replace(
            event,
            text=without_lone_surrogates(event.text),
            quote=None if event.quote is None else without_lone_surrogates(event.quote),
        )
        is_command = not event.is_literal and commands.parse(event.text[:_LONGEST_COMMAND]) is not None
        is_long = len(event.text) > self._rules.max_text and not is_command
        spool_name = new_id(Prefix.MESSAGE) if event.attachments or is_long else None
        names: list[str] = []
        size = 0
        if spool_name is not None:
            folder = self._layout.spool / spool_name
            event, names, size = await asyncio.to_thread(self._keep_files, event, folder, is_long)
        try:
            outcome = await self._central.write(accept, event, self._rules, spool=spool_name, names=names, size=size)
        except Exception:  # refused, and nothing else: an interrupted write may have been kept
            await self._drop_spool(spool_name)
            raise
        if all(accepted.duplicate for accepted in outcome.receipt.accepted) and not outcome.heard:
            # It may wait for a decision, with its files.
            waiting = {} if spool_name is None else await self._central.read(approvals.spools_waiting)
            if spool_name not in waiting:
                await self._drop_spool(spool_name)
        self._follow(outcome)
        return outcome.receipt

    def _keep_files(self, event: Event, folder: Path, is_long: bool) -> tuple[Event, list[str], int]:
        """Keep the files of an event, and a text that is too long for a message as one more of them. Blocks.

        The event as it is then, the names of the files, and how many bytes they have.
        """
        names = spool(event.attachments, folder, self._file_limits)
        if is_long:
            names.append(spool_text(event.text, WHOLE_TEXT, folder, names))
            event = dataclasses.replace(event, text=truncate(event.text, self._rules.max_text, names[-1]))
        return event, names, sum((folder / name).stat().st_size for name in names)

    def _follow(self, outcome: RoutingOutcome) -> None:
        for each in outcome.receipt.accepted:
            if not each.duplicate:
                what = "a command was accepted" if outcome.command else "a message was accepted"
                ids = {"message_id": each.message_id, "session_id": each.session_id, "agent_group": each.agent_group}
                log.info(what, extra=ids)
        if outcome.receipt.dropped is not None:
            log.info("a message was dropped", extra={"reason": outcome.receipt.dropped})

    async def _drop_spool(self, spool_name: str | None) -> None:
        if spool_name is not None:
            await asyncio.to_thread(shutil.rmtree, self._layout.spool / spool_name, ignore_errors=True)


def _note_read(tx: Transaction, receipt: ReadReceipt) -> Receipt:
    address = receipt.address
    group = messaging_groups.find(tx, address.channel_type, address.platform_id)
    if group is not None:
        unread.mark_read_in_chat(tx, group.id, address.thread_id)
    return Receipt(())
