"""From `outbound.db` into the ledger: messages to deliver, outcomes of messages, turns. One transaction for each look.

The cursor moves in the same transaction as the copies are made, so every row is taken once. Everything is checked here;
what does not pass is recorded and skipped, and never holds up what follows it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from host.central import agent_groups, deliveries, ingest, sessions, turns
from host.central.database import Central
from host.delivery.address import address_of
from host.delivery.check import CheckedMessage, RowRefused, checked
from host.sessions.attachments import AttachmentRefused, FileLimits, take
from host.sessions.outbox import BadRow, Glimpse
from shared_schema.clock import Clock, from_text, to_text
from shared_schema.errors import DumbwaiterError, InvalidValue
from shared_schema.ids import Prefix, is_id, new_id
from shared_schema.layout import SessionLayout
from shared_schema.rows import AckStatus, Address, MessageInStatus, MessageOutKind, Turn, TurnStatus, encode

_MAX_ERROR = 500


@dataclass(frozen=True, slots=True)
class _Checked:
    message: CheckedMessage
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy changed: chats that have something to send, messages that got their outcome."""

    chats: tuple[tuple[str, str], ...]
    finished: tuple[str, ...]
    refused: tuple[BadRow, ...]


class Copier:
    """Takes over what agents wrote."""

    def __init__(self, central: Central, clock: Clock, *, file_limits: FileLimits, max_text: int) -> None:
        self._central = central
        self._clock = clock
        self._file_limits = file_limits
        self._max_text = max_text

    async def copy(self, session: sessions.Session, layout: SessionLayout, glimpse: Glimpse) -> Copied:
        """Check a glimpse and put it into the ledger. Raises `FileTrouble` when the ledger cannot be written."""
        messages, bad = await asyncio.to_thread(self._check, layout, glimpse) if glimpse.messages else ([], [])
        refused = [*glimpse.bad_rows, *bad]
        return await self._central.write(lambda c: self._store(c, session.id, glimpse, messages, refused))

    def _check(self, layout: SessionLayout, glimpse: Glimpse) -> tuple[list[_Checked], list[BadRow]]:
        messages, bad = [], []
        for row in glimpse.messages:
            try:
                message = checked(row, max_text=self._max_text)
                files = take(layout, message.id, message.files, self._file_limits) if message.files else []
            except (RowRefused, AttachmentRefused) as error:
                bad.append(BadRow(f"out-{row.seq}", str(error)))
            except DumbwaiterError as error:
                bad.append(BadRow(f"out-{row.seq}", error.what))
            else:
                messages.append(_Checked(message, tuple(files)))
        return messages, bad

    def _store(
        self,
        connection: sqlite3.Connection,
        session_id: str,
        glimpse: Glimpse,
        messages: Sequence[_Checked],
        refused: list[BadRow],
    ) -> Copied:
        now = to_text(self._clock.now())
        session = sessions.get(connection, session_id)
        chats: dict[tuple[str, str], None] = {}
        for turn in glimpse.turns:
            self._store_turn(connection, session, turn, refused)
        for item in messages:
            try:
                chat = self._store_message(connection, session, item, now)
            except RowRefused as error:
                refused.append(BadRow(f"out-{item.message.seq}", str(error)))
            else:
                if chat is not None:
                    chats[chat] = None
        finished = []
        for ack in glimpse.acks:
            if ack.status == AckStatus.COMPLETED:
                done = ingest.finish(connection, session.id, ack.message_id, MessageInStatus.COMPLETED, now=now)
            elif ack.status == AckStatus.FAILED:
                sentence = ack.error[:_MAX_ERROR] if isinstance(ack.error, str) and ack.error else "the turn failed"
                done, chat = fail_message(connection, session.id, ack.message_id, sentence, now)
                if chat is not None:
                    chats[chat] = None
            else:
                continue
            if done:
                finished.append(ack.message_id)
        for bad in refused:
            turns.refuse(connection, session.id, bad.what, bad.reason, now)
        sessions.advance(connection, session.id, glimpse.out_cursor, glimpse.turn_cursor)
        if chats or finished:
            sessions.touch(connection, session.id, now)
        return Copied(tuple(chats), tuple(finished), tuple(refused))

    def _store_message(
        self, connection: sqlite3.Connection, session: sessions.Session, item: _Checked, now: str
    ) -> tuple[str, str] | None:
        """Queue one message; its chat, or None when it is kept and not sent. Raises `RowRefused`."""
        message = item.message
        replied = None if message.in_reply_to is None else ingest.get(connection, message.in_reply_to)
        replies = {}
        if replied is not None and replied.session_id == session.id:
            replies[replied.message_id] = Address(replied.channel_type, replied.platform_id, replied.thread_id)
        address = address_of(
            message,
            replies=replies,
            routing=ingest.last_address(connection, session.id),
            destinations=agent_groups.destinations(connection, session.agent_group_id),
        )
        stale = session.status != "active" or message.generation != session.generation
        content: dict[str, object] = {"text": message.text}
        if item.files:
            content["files"] = [f"sent/{message.id}/{name}" for name in item.files]
        added = deliveries.add(
            connection,
            message_out_id=message.id,
            session_id=session.id,
            turn_id=message.turn_id,
            in_reply_to=message.in_reply_to,
            kind=message.kind,
            channel_type=address.channel_type,
            platform_id=address.platform_id,
            thread_id=address.thread_id,
            content=encode(content) if message.kind == MessageOutKind.CHAT else message.content,
            deliver_after=message.deliver_after,
            created_at=now,
            status="suppressed" if stale else "pending",
            error="the conversation was reset or ended before this was said" if stale else None,
        )
        return None if stale or not added else (address.channel_type, address.platform_id)

    def _store_turn(
        self, connection: sqlite3.Connection, session: sessions.Session, turn: Turn, refused: list[BadRow]
    ) -> None:
        problem = _turn_problem(turn)
        if problem is not None:
            refused.append(BadRow("a turn", problem))
            return
        turns.copy(connection, session.id, turn)
        sessions.keep_pointer(connection, session.id, turn.provider_session_id)


def fail_message(
    connection: sqlite3.Connection, session_id: str, message_id: str, sentence: str, now: str
) -> tuple[bool, tuple[str, str] | None]:
    """Give a message the outcome `failed` and tell the person who asked, once, in the same transaction.

    Whether it had no outcome before, and the chat that is told (context, which nobody asked, fails silently).
    """
    row = ingest.get(connection, message_id)
    if row is None or not ingest.finish(
        connection, session_id, message_id, MessageInStatus.FAILED, now=now, error=sentence
    ):
        return False, None
    if not row.trigger:
        return True, None
    deliveries.add(
        connection,
        message_out_id=new_id(Prefix.MESSAGE),
        session_id=session_id,
        kind=MessageOutKind.CHAT,
        from_host=True,
        in_reply_to=message_id,
        channel_type=row.channel_type,
        platform_id=row.platform_id,
        thread_id=row.thread_id,
        content=encode({"text": f"This message could not be answered: {sentence}"}),
        created_at=now,
    )
    return True, (row.channel_type, row.platform_id)


def _turn_problem(turn: Turn) -> str | None:
    """What is wrong with a turn's row, if anything."""
    if not is_id(turn.id, Prefix.TURN):
        return "its id is not a turn id"
    if not isinstance(turn.status, str) or turn.status not in set(TurnStatus):
        return "its status is unknown"
    for name in ("started_at", "finished_at"):
        value = getattr(turn, name)
        if value is None and name == "finished_at":
            continue
        try:
            from_text(value)
        except InvalidValue:
            return f"its {name} is not a time"
    for name in ("failure_reason", "provider", "model", "provider_session_id"):
        value = getattr(turn, name)
        if value is not None and (not isinstance(value, str) or len(value) > _MAX_ERROR):
            return f"its {name} is not a short text"
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cost_usd"):
        value = getattr(turn, name)
        if value is not None and (not isinstance(value, int | float) or not 0 <= value < 1e15):
            return f"its {name} is not a number that can be"
    return None
